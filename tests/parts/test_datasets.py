"""Data sets: torchvision's files as they are on disk, made data, and balanced cuts."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy
import pytest
import torch
from tiny_data import idx_file, write_cifar, write_mnist
from torchvision import datasets as torchvision_datasets

from deltagclip_cli.core import DataError, claimed, load_target
from deltagclip_cli.parts.datasets import TABLE, staging, torchvision_sets
from deltagclip_cli.parts.datasets.dataset import Dataset, Split, channel_statistics
from deltagclip_cli.parts.datasets.sphere import sphere
from deltagclip_cli.parts.datasets.synthetic import synthetic
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.training.loaded import load_dataset


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_the_mnists_are_read_from_their_original_files(
    name: str, folder: str, tmp_path: Path
) -> None:
    content = write_mnist(tmp_path, folder)
    made = load_target(TABLE.entries[name])(tmp_path, None)
    assert made.shape == (1, 28, 28)
    assert made.train.inputs.dtype == torch.uint8
    assert made.classes == 10
    for split, prefix in ((made.train, "train"), (made.test, "t10k")):
        assert torch.equal(split.inputs[:, 0], torch.tensor(content[f"{prefix}-images-idx3"]))
        assert torch.equal(split.targets, torch.tensor(content[f"{prefix}-labels-idx1"]).long())


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_cifars_are_read_from_their_original_files(
    name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_cifar(tmp_path, getattr(torchvision_datasets, name.upper()), monkeypatch)
    made = load_target(TABLE.entries[name])(tmp_path, None)
    assert made.classes == classes
    assert made.shape == (3, 32, 32)
    pixels = numpy.concatenate([part["data"] for part in written]).reshape(-1, 3, 32, 32)
    assert torch.equal(made.train.inputs, torch.tensor(pixels[:-4]))
    assert torch.equal(made.test.inputs, torch.tensor(pixels[-4:]))
    assert made.train.inputs.is_contiguous()
    assert made.test.targets.tolist() == [3, 1, 0, 2]


def test_the_cifar10_figures_are_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path, torchvision_datasets.CIFAR10, monkeypatch)
    made = torchvision_sets.cifar10(tmp_path, None)
    assert (made.mean, made.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_a_changed_byte_of_cifar_names_the_file_and_what_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path, torchvision_datasets.CIFAR10, monkeypatch)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"/data_batch_3: torn.*\n  Delete .*cifar-10-batches-py "):
        torchvision_sets.cifar10(tmp_path, None)


@pytest.mark.parametrize("kept", [0, 3, 12, 500])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_torn_file_of_mnist_names_the_folder_to_delete(
    kept: int, name: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path, "MNIST")
    file = tmp_path / "MNIST" / "raw" / name
    file.write_bytes(file.read_bytes()[: min(kept, file.stat().st_size - 1)])
    with pytest.raises(DataError, match=r"torn, or not a file of MNIST.*\n  Delete .*/MNIST and"):
        torchvision_sets.mnist(tmp_path, None)


def test_labels_and_images_that_do_not_match_are_an_error(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST")
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_file(numpy.zeros(7, dtype=numpy.uint8)))
    with pytest.raises(DataError, match="torn"):
        torchvision_sets.mnist(tmp_path, None)


# Downloads


@pytest.fixture
def fake_download(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces MNIST's download by one that writes small files; lists where it was called."""
    calls: list[Path] = []

    def download(self: Any) -> None:
        calls.append(Path(self.root))
        write_mnist(Path(self.root), "MNIST")
        Path(self.raw_folder, "train-images-idx3-ubyte.gz").touch()

    monkeypatch.setattr(torchvision_datasets.MNIST, "download", download)
    return calls


def fail_download(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(self: Any) -> None:
        Path(self.root, "half-written").touch()
        raise error

    monkeypatch.setattr(torchvision_datasets.MNIST, "download", download)


def files_below(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def test_missing_files_are_downloaded_once(tmp_path: Path, fake_download: list[Path]) -> None:
    root = tmp_path / "new" / "data"
    assert len(torchvision_sets.mnist(root, None).train) == 30
    assert len(torchvision_sets.mnist(root, None).test) == 20
    assert len(fake_download) == 1
    assert files_below(root) == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]


def test_a_download_goes_to_a_folder_of_its_own_first(
    tmp_path: Path, fake_download: list[Path]
) -> None:
    torchvision_sets.mnist(tmp_path, None)
    assert fake_download[0].parent == tmp_path
    assert not fake_download[0].exists()


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("bad sum"), TimeoutError()])
def test_without_a_network_the_error_lists_the_files_and_the_next_step(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_download(monkeypatch, error)
    with pytest.raises(DataError) as caught:
        torchvision_sets.mnist(tmp_path, None)
    message = str(caught.value)
    for part in (str(tmp_path), "MNIST/raw/t10k-labels-idx1-ubyte", "--data", "$DELTAGCLIP_DATA"):
        assert part in message
    assert files_below(tmp_path) == []


def fail_to_load(root: Path) -> None:
    with pytest.raises(DataError, match="downloading failed"):
        torchvision_sets.mnist(root, None)


def test_an_interrupted_download_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(self: Any) -> None:
        Path(self.root, "half-written").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision_datasets.MNIST, "download", download)
    with pytest.raises(KeyboardInterrupt):
        torchvision_sets.mnist(tmp_path / "new", None)
    assert files_below(tmp_path) == []


def test_after_a_failed_download_the_next_try_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with monkeypatch.context() as patch:
        fail_download(patch, URLError("no route"))
        fail_to_load(tmp_path / "new")
    request.getfixturevalue("fake_download")
    assert len(torchvision_sets.mnist(tmp_path / "new", None).train) == 30


def test_download_false_does_not_try(tmp_path: Path, fake_download: list[Path]) -> None:
    with pytest.raises(DataError) as caught:
        torchvision_sets.mnist(tmp_path / "new", None, download=False)
    message = str(caught.value)
    for part in (
        f"{tmp_path}/new: the files of MNIST are not there, and nothing is downloaded here",
        "MNIST/raw/t10k-labels-idx1-ubyte",
        f"Run 'deltagclip data prepare EXPERIMENT --data {tmp_path}/new' where there is a network",
    ):
        assert part in message
    assert fake_download == []
    assert list(tmp_path.iterdir()) == []


def data_of(name: str, **settings: Any) -> Data:
    return Data.model_validate({"name": name, "batch_size": "full", **settings})


def test_loading_without_download_does_not_try_either(
    tmp_path: Path, fake_download: list[Path]
) -> None:
    with pytest.raises(DataError, match="nothing is downloaded here"):
        load_dataset(data_of("mnist"), tmp_path, download=False)
    assert fake_download == []
    assert len(load_dataset(data_of("mnist"), tmp_path).train) == 30
    assert len(load_dataset(data_of("mnist"), tmp_path, download=False).train) == 30
    assert len(fake_download) == 1


def test_data_that_are_made_take_no_notice_of_download(tmp_path: Path) -> None:
    assert len(load_dataset(data_of("synthetic", train=3), tmp_path, download=False).train) == 3


def test_torchvisions_progress_bar_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(self: Any) -> None:
        print("100%", file=sys.stderr)
        write_mnist(Path(self.root), "MNIST")

    monkeypatch.setattr(torchvision_datasets.MNIST, "download", download)
    torchvision_sets.mnist(tmp_path, None)
    assert "100%" not in capsys.readouterr().err


def test_an_unwritable_root_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="are not there, and downloading failed"):
        torchvision_sets.mnist(tmp_path / "file" / "data", None)


def test_a_process_waits_for_another_that_is_downloading(
    tmp_path: Path, fake_download: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    lock = ExitStack()
    lock.enter_context(claimed(tmp_path / ".MNIST.lock", ""))

    def finish() -> None:
        end = time.monotonic() + 60
        while "waiting for another process" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
        write_mnist(tmp_path, "MNIST")
        lock.close()

    other = threading.Thread(target=finish)
    with caplog.at_level(logging.INFO, logger="deltagclip_cli"):
        other.start()
        assert len(torchvision_sets.mnist(tmp_path, None).train) == 30
    other.join()
    assert fake_download == []
    assert "waiting for another process" in caplog.text


def test_waiting_for_a_download_ends(
    tmp_path: Path, fake_download: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PATIENCE_S", 0.1)
    with (
        claimed(tmp_path / ".MNIST.lock", ""),
        pytest.raises(DataError, match="another process has been downloading MNIST"),
    ):
        torchvision_sets.mnist(tmp_path, None)
    assert (tmp_path / ".MNIST.lock").exists()  # it is the other's


def test_the_real_mnist_is_read(real_data: Path) -> None:
    made = torchvision_sets.mnist(real_data, None, download=False)
    assert (len(made.train), len(made.test)) == (60_000, 10_000)
    mean, std = channel_statistics(made.train.inputs)
    assert mean == pytest.approx(made.mean, abs=1e-4)
    assert std == pytest.approx(made.std, abs=1e-4)
    cut = made.limited(train_samples=1000)
    assert torch.bincount(cut.train.targets).tolist() == [100] * 10


# Balanced cuts


def split_of(targets: list[int]) -> Split:
    return Split(torch.arange(len(targets))[:, None].float(), torch.tensor(targets))


def literal_cut(targets: list[int], samples: int) -> list[int]:
    """Rounds over the classes, each taking the first sample of the class that is left."""
    left = {label: [i for i, t in enumerate(targets) if t == label] for label in set(targets)}
    kept: list[int] = []
    while len(kept) < samples:
        for label in sorted(left):
            if left[label] and len(kept) < samples:
                kept.append(left[label].pop(0))
    return sorted(kept)


@pytest.mark.parametrize("samples", range(1, 13))
def test_a_cut_takes_the_first_samples_of_each_class_in_the_order_of_the_data(samples: int) -> None:
    targets = [2, 2, 0, 2, 1, 2, 2, 0, 2, 2, 1, 0]
    split = split_of(targets)
    cut = Dataset(split, split, 3, None, None).limited(train_samples=samples)
    assert cut.train.inputs[:, 0].long().tolist() == literal_cut(targets, samples)
    assert cut.train.targets.tolist() == [targets[i] for i in literal_cut(targets, samples)]
    assert cut.test is split


def test_a_class_without_samples_does_not_disturb_a_cut() -> None:
    split = split_of([3, 3, 1, 1])
    cut = Dataset(split, split, 5, None, None).limited(test_samples=2)
    assert cut.test.targets.tolist() == [3, 1]


@pytest.mark.parametrize("samples", [0, -1, 13])
def test_a_cut_of_more_than_there_is_names_the_option_and_the_limit(samples: int) -> None:
    split = split_of([0, 1] * 6)
    with pytest.raises(DataError, match=rf"test_samples is {samples}, .* 12 samples"):
        Dataset(split, split, 2, None, None).limited(test_samples=samples)


def test_channel_statistics_are_those_of_the_scaled_pixels() -> None:
    images = torch.randint(0, 256, (50, 3, 5, 7), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    scaled = images.double().transpose(0, 1).flatten(1) / 255
    assert mean == pytest.approx(scaled.mean(1).tolist(), rel=1e-12)
    assert std == pytest.approx(scaled.std(1, correction=0).tolist(), rel=1e-12)


def test_a_channel_of_one_value_is_not_scaled() -> None:
    assert channel_statistics(torch.full((4, 1, 2, 2), 255, dtype=torch.uint8)) == ((1.0,), (1.0,))


# Made data


def test_synthetic_images_are_the_same_on_every_machine() -> None:
    made = synthetic(Path(), None, classes=3, channels=1, size=6, train=5, test=4, data_seed=7)
    digest = hashlib.sha256(
        made.train.inputs.numpy().tobytes() + made.test.inputs.numpy().tobytes()
    )
    assert digest.hexdigest()[:16] == "a375ae13b00d9786"


def test_synthetic_images_have_the_shape_that_was_asked_for() -> None:
    made = synthetic(Path(), None, classes=5, channels=2, size=9, train=20, test=11)
    assert (made.shape, made.classes) == ((2, 9, 9), 5)
    assert (len(made.train), len(made.test)) == (20, 11)
    assert made.train.inputs.dtype == torch.uint8
    assert torch.bincount(made.train.targets).tolist() == [4] * 5


def test_synthetic_images_can_be_told_apart() -> None:
    made = synthetic(Path(), None)
    centres = torch.stack(
        [made.train.inputs[made.train.targets == label].float().mean(0) for label in range(10)]
    )
    distance = torch.cdist(made.test.inputs.float().flatten(1), centres.flatten(1))
    assert (distance.argmin(1) == made.test.targets).float().mean() > 0.95


@pytest.mark.parametrize("make", [synthetic, sphere])
def test_another_data_seed_makes_other_data(make: Callable[..., Dataset]) -> None:
    first, same, other = (make(Path(), None, data_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.inputs, same.train.inputs)
    assert torch.equal(first.test.targets, same.test.targets)
    assert not torch.equal(first.train.inputs, other.train.inputs)


def test_sphere_has_float64_points_of_norm_one_in_all_classes() -> None:
    made = sphere(Path(), None, points=200, dimension=5, classes=3, test=50)
    assert made.shape == (5,)
    assert made.train.inputs.dtype == torch.float64
    torch.testing.assert_close(made.train.inputs.norm(dim=1), torch.ones(200, dtype=torch.float64))
    assert torch.bincount(made.train.targets, minlength=3).min() > 10
    assert made.mean is None


def test_spheres_labels_vary_smoothly_with_the_point() -> None:
    made = sphere(Path(), None, points=4000, dimension=3)
    points, labels = made.train.inputs, made.train.targets
    nearest = (points @ points.T - 2 * torch.eye(4000)).argmax(1)
    assert (labels[nearest] == labels).double().mean() > 0.95
