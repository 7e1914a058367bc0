"""``deltagclip data prepare``, and jobs that leave downloading to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from invocation import Invoke
from PIL import Image
from rich.console import Console
from tiny_data import write_mnist
from tiny_spec import trials_of

from deltagclip_cli.commands.data import prepare_data
from deltagclip_cli.launch import local
from deltagclip_cli.launch.local import LocalRunner
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.plan.planned import look_up
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import distinct_inputs

SPEC = """\
experiments:
  digits: &digits
    model: {name: mlp, hidden: [4]}
    data: {name: mnist, batch_size: 10}
    epochs: 1
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
    grid:
      data.batch_size: [5, 10, full]
  few-digits:
    <<: *digits
    data: {name: mnist, batch_size: 10, train_samples: 20, image_size: 8}
  pictures:
    <<: *digits
    data: {name: image_folder, path: pictures, batch_size: 2, image_size: 4}
    grid:
      data.image_size: [4, 6]
  made:
    <<: *digits
    data: {name: synthetic, batch_size: 2, size: 4, train: 8, test: 4}
    grid: {}
"""
PREPARE = ("data", "prepare", "--spec", "spec.yaml", "--data", "data")


@pytest.fixture
def downloads(deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The spec above, and a download of a small MNIST; lists where it was called."""
    Path("spec.yaml").write_text(SPEC)
    calls: list[Path] = []

    def download(self: Any) -> None:
        calls.append(Path(self.root))
        write_mnist(Path(self.root), "MNIST")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    return calls


@pytest.fixture
def unreachable(downloads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)


@pytest.fixture
def forbidden(downloads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Any) -> None:
        pytest.fail("a download was tried")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)


def draw_pictures() -> None:
    for split in ("train", "test"):
        for colour in ("blue", "red"):
            folder = Path("data/pictures", split, colour)
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(folder / "0.png")


def test_each_data_set_is_fetched_and_shown_once(
    deltagclip: Invoke, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    from deltagclip_cli.training import loaded as module  # which loads torch

    load_dataset = module.load_dataset

    def noted(data: Any, *arguments: Any, **options: Any) -> Any:
        loaded.append(f"{data.name} {data.image_size}")
        return load_dataset(data, *arguments, **options)

    monkeypatch.setattr(module, "load_dataset", noted)
    draw_pictures()
    done = deltagclip(*PREPARE)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "downloading MNIST to data",
        "mnist: 30 + 20 samples of 1 x 28 x 28, 39.6 kB in memory, in data/MNIST/raw",
        "decoding 4 images in data/pictures",
        "image_folder: 2 + 2 samples of 3 x 4 x 4, 224 bytes in memory, in data/pictures",
        "decoding 4 images in data/pictures",
        "image_folder: 2 + 2 samples of 3 x 6 x 6, 464 bytes in memory, in data/pictures",
        "synthetic: 8 + 4 samples of 3 x 4 x 4, 672 bytes in memory, made when they are used",
        "No job needs the network for these. Next: deltagclip sweep --spec spec.yaml --data data",
    ]
    assert loaded == [
        "mnist None",
        "mnist 8",
        "image_folder 4",
        "image_folder 6",
        "synthetic None",
    ]
    assert len(downloads) == 1
    assert len(list(Path("data/.decoded").iterdir())) == 2


def test_only_what_is_named_is_prepared(deltagclip: Invoke, downloads: list[Path]) -> None:
    done = deltagclip(*PREPARE, "made", "--set", "data.size=2")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "synthetic: 8 + 4 samples of 3 x 2 x 2, 240 bytes in memory, made when they are used",
        "No job needs the network for these. Next: deltagclip sweep made --spec spec.yaml "
        "--data data --set data.size=2",
    ]
    assert downloads == []
    assert not Path("data").exists()


def test_quiet_prepares_and_says_nothing(deltagclip: Invoke, downloads: list[Path]) -> None:
    done = deltagclip(*PREPARE, "digits", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert len(downloads) == 1


@pytest.mark.usefixtures("downloads")
def test_the_answer_for_programs_is_json_and_nothing_else(deltagclip: Invoke) -> None:
    done = deltagclip(*PREPARE, "few-digits", "digits", "made", "--json")
    mnist, synthetic = json.loads(done.stdout)
    assert mnist == {
        "name": "mnist",
        "experiments": ["few-digits", "digits"],
        "train": 30,
        "validation": 0,
        "test": 20,
        "shape": [1, 28, 28],
        "tokens": False,
        "classes": 10,
        "size_bytes": 50 * (28 * 28 + 8),
        "folder": "data/MNIST/raw",
    }
    assert (synthetic["name"], synthetic["folder"]) == ("synthetic", None)
    assert "downloading MNIST" in done.stderr


@pytest.mark.usefixtures("unreachable")
def test_all_faults_are_told_together_after_what_is_well(deltagclip: Invoke) -> None:
    done = deltagclip(*PREPARE)
    assert done.exit_code == 2
    assert "synthetic: 8 + 4 samples" in done.stdout
    assert "No job needs the network" not in done.output
    mnist, pictures = done.stderr.split("\n\n")
    assert mnist.startswith(
        "error: data mnist of experiments digits, few-digits: data: the files of MNIST are not "
        "there, and downloading failed: no route."
    )
    assert pictures.startswith(
        "data image_folder of experiment pictures: data/pictures/train: cannot be read"
    )


def test_an_unknown_experiment_is_refused(deltagclip: Invoke, downloads: list[Path]) -> None:
    done = deltagclip(*PREPARE, "digit")
    assert done.exit_code == 2
    assert "there is no experiment 'digit'" in done.stderr
    assert downloads == []


@pytest.mark.usefixtures("downloads")
def test_a_terminal_shows_what_is_being_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(force_terminal=True, width=200, record=True)
    waited: list[str] = []
    status = console.status

    def noted(words: str) -> Any:
        waited.append(words)
        return status(words)

    monkeypatch.setattr(console, "status", noted)
    prepare_data(trials_of(tmp_path), tmp_path, console)
    assert waited == ["Preparing synthetic"]
    assert "synthetic: 8 + 8 samples" in console.export_text()


# Jobs that download nothing


def worker_folder(text: str = SPEC.replace("digits:", "tiny:", 1)) -> str:
    (trial, *_) = trials_of(Path(), text=text)
    folder = RunFolder.of(Path("runs"), trial)
    create(folder, trial)
    return str(folder.path)


@pytest.fixture
def no_determinism(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of torch last longer than a test."""
    monkeypatch.setattr("deltagclip_cli.training.assembly.choose_kernels", lambda *_: None)


@pytest.mark.usefixtures("forbidden", "no_determinism")
def test_a_worker_without_download_says_what_to_run_and_then_finds_the_data(
    deltagclip: Invoke,
) -> None:
    words = ("worker", worker_folder(), "--data", "data", "--device", "cpu", "--no-download")
    failed = deltagclip(*words)
    assert failed.exit_code == 2
    assert "Run 'deltagclip data prepare EXPERIMENT --data data'" in failed.stderr
    write_mnist(Path("data"), "MNIST")
    assert deltagclip(*words).exit_code == 0
    assert (Path(words[1]) / "result.json").exists()


@pytest.mark.usefixtures("no_determinism")
def test_a_worker_downloads_unless_it_is_told_not_to(
    deltagclip: Invoke, downloads: list[Path]
) -> None:
    done = deltagclip("worker", worker_folder(), "--data", "data", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert len(downloads) == 1


@pytest.mark.parametrize("download", [True, False])
def test_a_local_launcher_passes_it_on(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    calls: list[tuple[Any, ...]] = []
    commands: list[list[str]] = []
    monkeypatch.setattr(local.ForkServer, "open", lambda self: None)
    monkeypatch.setattr(
        local.ForkServer, "call", lambda self, *call, should_stop: calls.append(call)
    )
    monkeypatch.setattr(
        local.ForkServer, "start", lambda self, words, *others: commands.append(words)
    )
    (trial, *_) = trials_of(Path())
    launcher = LocalRunner(Path("data"), lambda: False, jobs=1, download=download)
    inputs = distinct_inputs([trial])
    launcher.prepare(inputs)
    (planned,) = look_up([trial], Path("runs"))
    launcher._start((planned,), Slot("cpu", "cpu"))
    assert calls == [(local._load, *inputs, Path("data"), download)]
    assert ("--no-download" in commands[0]) is not download


@pytest.mark.usefixtures("forbidden")
def test_what_a_local_launcher_calls_tries_no_download_either() -> None:
    (trial, *_) = trials_of(Path(), text=SPEC.replace("digits:", "tiny:", 1))
    with pytest.raises(Exception, match=r"data mnist: .* nothing is downloaded here"):
        local._load(*distinct_inputs([trial]), Path("data"), False)
    write_mnist(Path("data"), "MNIST")
    local._load(*distinct_inputs([trial]), Path("data"), False)
    shutil.rmtree("data")
