"""Copies of data sets: the same bits, once for each node, and whatever may happen on the way."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_data import write_cifar, write_mnist
from torchvision import datasets as torchvision_datasets

from deltagclip_cli.core import DataError, load_target
from deltagclip_cli.parts.datasets import TABLE, image_folder
from deltagclip_cli.parts.datasets import staging as copies
from deltagclip_cli.parts.datasets.staging import copied, folder_of
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.training.loaded import fingerprint, load_dataset

RAW = Path("MNIST/raw")
IMAGES = RAW / "train-images-idx3-ubyte"


def data_of(name: str, **settings: Any) -> Data:
    return Data.model_validate({"name": name, "batch_size": "full", **settings})


MNIST = data_of("mnist")
PICTURES = data_of("image_folder", path="some/pictures")


def fingerprint_of(data: Data, root: Path) -> str:
    return fingerprint(load_dataset(data, root, download=False))


def draw_pictures(root: Path, path: str = "some/pictures", *, red: int = 200) -> None:
    for split in ("train", "test"):
        for number, colour in enumerate(("blue", "red")):
            folder = root / path / split / colour
            folder.mkdir(parents=True)
            for image in range(3):
                Image.new("RGB", (4, 4), (red * number, image, 9)).save(folder / f"{image}.png")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """When every file was changed, and the time it has: what was written again differs."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ctime_ns, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def temporary(folder: Path) -> list[Path]:
    return list(folder.rglob("*.copying"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data folder with a small MNIST."""
    write_mnist(tmp_path / "source", "MNIST")
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder that is not there."""
    return tmp_path / "node" / "local"


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Any) -> None:
        pytest.fail("a download was tried")

    for source in (torchvision_datasets.MNIST, torchvision_datasets.CIFAR10):
        monkeypatch.setattr(source, "download", download)


# What is copied


@pytest.mark.usefixtures("no_download")
def test_a_copy_gives_the_same_data(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(source, "FashionMNIST")
    for name in ("CIFAR10", "CIFAR100"):
        write_cifar(source, getattr(torchvision_datasets, name), monkeypatch)
    sets = [data_of(name) for name in ("mnist", "fashion_mnist", "cifar10", "cifar100")]
    expected = [fingerprint_of(each, source) for each in sets]
    assert copied(sets, source, target) == target
    assert state(target).keys() == state(source).keys()
    shutil.rmtree(source)
    assert [fingerprint_of(each, target) for each in sets] == expected


def test_only_what_is_asked_for_is_copied(source: Path, target: Path) -> None:
    write_mnist(source, "FashionMNIST")
    (source / RAW / "train-images-idx3-ubyte.gz").touch()
    copied([MNIST, data_of("synthetic"), data_of("mnist", train_samples=3)], source, target)
    assert {Path(name).parent for name in state(target)} == {RAW}
    assert len(state(target)) == 4


def test_every_data_set_says_what_it_reads_or_needs_no_folder(tmp_path: Path) -> None:
    """One that is forgotten would be looked for in a folder that it was not copied to."""
    unmarked = {name for name, entry in TABLE.entries.items() if not load_target(entry).files}
    assert {"sphere", "synthetic"} <= unmarked
    for name in unmarked:
        assert len(load_dataset(data_of(name), tmp_path / "nowhere").train) > 0


def test_data_that_are_made_need_no_copy(source: Path, target: Path) -> None:
    assert copied([data_of("synthetic"), data_of("sphere")], source, target) == target
    assert not target.exists()


def test_a_data_folder_is_not_copied_to_itself(source: Path, tmp_path: Path) -> None:
    before = state(source)
    (tmp_path / "link").symlink_to(source)
    assert copied([MNIST], source, tmp_path / "link") == tmp_path / "link"
    assert state(source) == before
    assert not (source / ".copying.lock").exists()


@pytest.mark.usefixtures("no_download")
def test_what_is_missing_in_the_source_says_how_to_get_it(tmp_path: Path, target: Path) -> None:
    with pytest.raises(DataError, match=f"deltagclip data prepare EXPERIMENT --data {tmp_path}/no"):
        copied([MNIST], tmp_path / "no", target)
    assert not target.exists()


def test_the_folder_of_a_data_set_is_known(source: Path) -> None:
    draw_pictures(source)
    assert folder_of(MNIST, source) == source / RAW
    assert folder_of(PICTURES, source) == source / "some/pictures"
    assert folder_of(data_of("sphere"), source) is None


# Folders of images


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    files: list[Path] = []
    decode: Callable[..., Any] = image_folder._decode

    def noted(file: Path, *others: Any) -> Any:
        files.append(file)
        return decode(file, *others)

    monkeypatch.setattr(image_folder, "_decode", noted)
    return files


def test_of_a_folder_of_images_only_the_decoded_ones_are_copied(
    tmp_path: Path, target: Path, decoded: list[Path]
) -> None:
    draw_pictures(tmp_path)
    expected = fingerprint_of(PICTURES, tmp_path)
    copied([PICTURES], tmp_path, target)
    decoded.clear()
    assert fingerprint_of(PICTURES, target) == expected
    assert decoded == []
    assert (target / "some/pictures").is_symlink()
    files = [path.name for path in target.rglob("*") if path.is_file()]
    assert sorted(files) == [".copying.lock", *os.listdir(tmp_path / ".decoded")]


def test_images_that_were_not_decoded_before_are_decoded_into_the_copy(
    tmp_path: Path, target: Path, decoded: list[Path]
) -> None:
    draw_pictures(tmp_path)
    copied([PICTURES], tmp_path, target)
    first = fingerprint_of(PICTURES, target)
    assert decoded
    decoded.clear()
    assert fingerprint_of(PICTURES, target) == first
    assert decoded == []
    assert not (tmp_path / ".decoded").exists()


def test_images_that_change_after_they_were_copied_are_noticed(
    tmp_path: Path, target: Path
) -> None:
    draw_pictures(tmp_path)
    old = fingerprint_of(PICTURES, tmp_path)
    copied([PICTURES], tmp_path, target)
    shutil.rmtree(tmp_path / "some")
    draw_pictures(tmp_path, red=90)
    copied([PICTURES], tmp_path, target)
    assert old != fingerprint_of(PICTURES, target) == fingerprint_of(PICTURES, tmp_path)


def test_a_link_to_another_data_folder_is_replaced(tmp_path: Path, target: Path) -> None:
    for name, red in (("old", 90), ("new", 200)):
        draw_pictures(tmp_path / name, red=red)
        copied([PICTURES], tmp_path / name, target)
        assert fingerprint_of(PICTURES, target) == fingerprint_of(PICTURES, tmp_path / name)
    shutil.rmtree(tmp_path / "new")
    copied([PICTURES], tmp_path / "old", target)  # in place of a link that leads nowhere
    assert fingerprint_of(PICTURES, target) == fingerprint_of(PICTURES, tmp_path / "old")


def test_other_images_in_the_target_are_not_taken_for_these(tmp_path: Path, target: Path) -> None:
    draw_pictures(tmp_path)
    draw_pictures(target, red=90)
    before = state(target)
    with pytest.raises(DataError, match=r"pictures: cannot be .* is there already.\n.*anoth"):
        copied([PICTURES], tmp_path, target)
    assert state(target) == before
    assert temporary(target) == []


# Again, at once, and after an accident


def test_what_is_there_is_not_copied_again(source: Path, target: Path) -> None:
    copied([MNIST], source, target)
    before = state(target)
    copied([MNIST], source, target)
    assert state(target) == before


def cut(file: Path) -> None:
    status = file.stat()
    file.write_bytes(file.read_bytes()[:100])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(file: Path) -> None:
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("change", [cut, touch, Path.unlink])
def test_what_differs_from_the_original_is_copied_again_and_nothing_else(
    change: Callable[[Path], None], source: Path, target: Path
) -> None:
    copied([MNIST], source, target)
    before = state(target)
    change(target / IMAGES)
    copied([MNIST], source, target)
    after = state(target)
    assert (target / IMAGES).stat().st_mtime_ns == (source / IMAGES).stat().st_mtime_ns
    assert (target / IMAGES).read_bytes() == (source / IMAGES).read_bytes()
    assert {name for name in after if after[name] != before[name]} == {str(IMAGES)}


def test_several_at_once_copy_each_file_once(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, written = shutil.copy2, []

    def slow(original: Path, copied_to: Path) -> None:
        written.append(original)
        time.sleep(0.02)
        copy(original, copied_to)

    monkeypatch.setattr(shutil, "copy2", slow)
    threads = [threading.Thread(target=copied, args=([MNIST], source, target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == len(set(written)) == 4
    assert fingerprint_of(MNIST, target) == fingerprint_of(MNIST, source)


# Writes half a file and stays there, with the lock in its hands.
HALF = """
import shutil, sys, time
from pathlib import Path
from deltagclip_cli.parts.datasets.staging import copied
from deltagclip_cli.spec.data_settings import Data

def half(original, copy):
    copy.write_bytes(original.read_bytes()[:1000])
    print("half", flush=True)
    time.sleep(600)

shutil.copy2 = half
data = Data.model_validate({"name": "mnist", "batch_size": "full"})
copied([data], Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_process_that_is_killed_half_way_is_waited_for_and_its_work_repaired(
    source: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="deltagclip_cli")
    command = [sys.executable, "-c", HALF, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        other = threading.Thread(target=copied, args=([MNIST], source, target))
        other.start()
        while "waiting for another process that is copying" not in caplog.text:
            assert other.is_alive()
            time.sleep(0.01)
        assert len(temporary(target)) == 1
        assert state(target).keys() == {str(temporary(target)[0].relative_to(target))}
        process.send_signal(signal.SIGKILL)
    other.join()
    assert temporary(target) == []
    assert fingerprint_of(MNIST, target) == fingerprint_of(MNIST, source)


def test_waiting_for_another_process_ends(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_PATIENCE_S", 0.1)
    target.mkdir(parents=True)
    with (
        copies.locked(target / ".copying.lock", ""),
        pytest.raises(DataError, match="another process has been copying data there"),
    ):
        copied([MNIST], source, target)


# Where nothing can be written


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do_and_keeps_what_is_whole(
    number: int, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copy2

    def fill(original: Path, written: Path) -> None:
        if "train" in original.name:
            written.write_bytes(b"half")
            raise OSError(number, os.strerror(number))
        copy(original, written)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", fill)
        with pytest.raises(DataError) as caught:
            copied([MNIST], source, target)
    message = str(caught.value)
    assert message.startswith(f"{target / IMAGES}: cannot be copied there from {source}: ")
    for part in (os.strerror(number), "Free space", "leave out local_data"):
        assert part in message
    assert [name for name in state(target) if "t10k" not in name] == []
    copied([MNIST], source, target)
    assert fingerprint_of(MNIST, target) == fingerprint_of(MNIST, source)


def test_an_interrupt_leaves_nothing_half_written(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(original: Path, written: Path) -> None:
        written.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copy2", interrupt)
    with pytest.raises(KeyboardInterrupt):
        copied([MNIST], source, target)
    assert state(target) == {}


def test_a_target_that_cannot_be_a_folder_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/local: cannot be copied there from .* Not a direct"):
        copied([MNIST], source, tmp_path / "file" / "local")


Mount = Callable[[str], None]


@pytest.fixture
def mount(target: Path) -> Iterator[Mount]:
    """Mounts a small file system as the target, or changes the one there."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")

    def mount(options: str) -> None:
        target.mkdir(parents=True, exist_ok=True)
        kind = "remount," if target.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", kind + options, "tmpfs", str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")

    yield mount
    if target.is_mount():
        subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_disk_that_is_really_full(source: Path, target: Path, mount: Mount) -> None:
    mount("size=24k")
    with pytest.raises(DataError, match=r"No space left on device.*\n  Free space there"):
        copied([MNIST], source, target)
    assert temporary(target) == []
    mount("size=1m")
    copied([MNIST], source, target)
    assert fingerprint_of(MNIST, target) == fingerprint_of(MNIST, source)


def test_a_disk_that_is_read_only(source: Path, target: Path, mount: Mount) -> None:
    mount("size=1m,ro")
    with pytest.raises(DataError, match=r"Read-only file system.*\n.*leave out local_data"):
        copied([MNIST], source, target)


def test_the_folder_of_data_of_ones_own_is_linked_to(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "own").mkdir(parents=True)
    (source / "own" / "rows.csv").write_text("1,2\n")
    mine = Data.model_construct(name="tables.py:own", options={}, image_size=None)
    other = Data.model_construct(name="tables.py:other", options={}, image_size=None)
    assert copied([mine, other], source, target) == target
    assert (target / "own" / "rows.csv").read_text() == "1,2\n"
    assert (target / "own").is_symlink() and not (target / "other").exists()
