"""Torchvision's classical data sets, in torchvision's own file formats and folders."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.dataset import Dataset, Outline, Split, outlined
from deltagclip_cli.parts.datasets.staging import Download, reading

_NETWORK_TIMEOUT_S = 30
_UNREADABLE = (
    AssertionError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def _present(source: Any, root: Path, image_size: int | None) -> Sequence[str]:
    """The files of torchvision's class ``source``, relative to the root, where all are there."""
    return _download(source, root).present()


def _small_images(classes: int) -> Callable[..., Outline]:
    return lambda root, image_size: Outline((3, 32, 32), classes, 50_000, 10_000)


def _digits(root: Path, image_size: int | None) -> Outline:
    return Outline((1, 28, 28), 10, 60_000, 10_000)


@reading(partial(_present, datasets.CIFAR10))
@outlined(_small_images(10))
def cifar10(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images of 3 x 32 x 32, 10 classes.

    Args:
        root: folder of all data sets; the files are in ``cifar-10-batches-py``.
        image_size: not used here; batches are resized when they are made.
        download: fetch the files where they are missing; False for a launcher whose compute nodes
            have no network. A spec cannot set it.

    Raises:
        DataError: the files are missing and cannot be fetched, or are torn.
    """
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return _load(datasets.CIFAR10, root, download, 10, mean, std)


@reading(partial(_present, datasets.CIFAR100))
@outlined(_small_images(100))
def cifar100(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """CIFAR-100: 50,000 training and 10,000 test images of 3 x 32 x 32, 100 classes.

    Args:
        root: folder of all data sets; the files are in ``cifar-100-python``.
        image_size: not used here; batches are resized when they are made.
        download: fetch the files where they are missing; False for a launcher whose compute nodes
            have no network. A spec cannot set it.

    Raises:
        DataError: the files are missing and cannot be fetched, or are torn.
    """
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return _load(datasets.CIFAR100, root, download, 100, mean, std)


@reading(partial(_present, datasets.FashionMNIST))
@outlined(_digits)
def fashion_mnist(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of 1 x 28 x 28, 10 classes.

    Args:
        root: folder of all data sets; the files are in ``FashionMNIST/raw``.
        image_size: not used here; batches are resized when they are made.
        download: fetch the files where they are missing; False for a launcher whose compute nodes
            have no network. A spec cannot set it.

    Raises:
        DataError: the files are missing and cannot be fetched, or are torn.
    """
    return _load(datasets.FashionMNIST, root, download, 10, (0.2860,), (0.3530,))


@reading(partial(_present, datasets.MNIST))
@outlined(_digits)
def mnist(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of 1 x 28 x 28, 10 classes.

    Args:
        root: folder of all data sets; the files are in ``MNIST/raw``.
        image_size: not used here; batches are resized when they are made.
        download: fetch the files where they are missing; False for a launcher whose compute nodes
            have no network. A spec cannot set it.

    Raises:
        DataError: the files are missing and cannot be fetched, or are torn.
    """
    return _load(datasets.MNIST, root, download, 10, (0.1307,), (0.3081,))


def _load(
    source: Any,
    root: Path,
    download: bool,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Dataset:
    """Read both splits with torchvision's class ``source``, after a download if need be."""
    _download(source, root).ensure(download)
    train, test = _read(source, root, train=True), _read(source, root, train=False)
    return Dataset(train, test, classes, mean, std)


def _files(source: Any) -> dict[str, str | None]:
    """Every file that ``source`` reads, relative to the root, with its MD5 sum if it has one."""
    if issubclass(source, datasets.MNIST):
        raw = f"{source.__name__}/raw"
        return {f"{raw}/{name.removesuffix('.gz')}": None for name, _ in source.resources}
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return {f"{source.base_folder}/{name}": md5 for name, md5 in listed}


def _download(source: Any, root: Path) -> Download:
    def fetch(folder: Path) -> None:
        with _network_timeout():
            source(folder, download=True)

    return Download(source.__name__, root, list(_files(source)), fetch)


@contextmanager
def _network_timeout() -> Iterator[None]:
    # Torchvision sets none: behind a firewall that drops packets it would wait for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(source: Any, root: Path, *, train: bool) -> Split:
    try:
        data = source(root, train=train)
        targets = torch.as_tensor(data.targets, dtype=torch.int64)
        return Split(_channels_first(data.data), targets)
    except _UNREADABLE as error:
        raise _torn(source, root, error) from error


def _channels_first(data: Any) -> Tensor:
    """``(N, H, W)`` or ``(N, H, W, C)`` to ``(N, C, H, W)``."""
    images = torch.as_tensor(data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images.contiguous()


def _torn(source: Any, root: Path, error: BaseException) -> DataError:
    torn = [name for name, md5 in _files(source).items() if not check_integrity(root / name, md5)]
    folder = root / Path(next(iter(_files(source)))).parts[0]
    files = ", ".join(str(root / name) for name in torn) or f"a file in {folder}"
    return DataError(
        f"{files}: torn, or not a file of {source.__name__} ({error or type(error).__name__}).\n"
        f"  Delete {folder} and run this again, to download it anew."
    )
