"""Torchvision's classical data sets, in torchvision's own file formats and folders."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.dataset import Dataset, Loader, Outline, Split, described
from deltagclip_cli.parts.datasets.staging import Download

_NETWORK_TIMEOUT_S = 30


def _of(source: Any, outline: Outline) -> Callable[[Loader], Loader]:
    """Say what is in the data set of torchvision's class ``source``."""
    return described(
        lambda root, image_size: outline, lambda root, image_size: _download(source, root).present()
    )


@_of(datasets.CIFAR10, Outline((3, 32, 32), 10, 50_000, 10_000))
def cifar10(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images of 3 x 32 x 32, 10 classes."""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return _load(datasets.CIFAR10, root, download, 10, mean, std)


@_of(datasets.CIFAR100, Outline((3, 32, 32), 100, 50_000, 10_000))
def cifar100(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """CIFAR-100: 50,000 training and 10,000 test images of 3 x 32 x 32, 100 classes."""
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return _load(datasets.CIFAR100, root, download, 100, mean, std)


@_of(datasets.FashionMNIST, Outline((1, 28, 28), 10, 60_000, 10_000))
def fashion_mnist(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of 1 x 28 x 28, 10 classes."""
    return _load(datasets.FashionMNIST, root, download, 10, (0.2860,), (0.3530,))


@_of(datasets.MNIST, Outline((1, 28, 28), 10, 60_000, 10_000))
def mnist(root: Path, image_size: int | None, *, download: bool = True) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of 1 x 28 x 28, 10 classes."""
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
    try:
        train, test = (_split(source(root, train=training)) for training in (True, False))
    except Exception as error:  # torchvision has no class of its own for a bad file
        raise _torn(source, root, error) from error
    return Dataset(train, test, classes, mean, std)


def _split(data: Any) -> Split:
    """Images ``(N, H, W)`` or ``(N, H, W, C)`` as ``(N, C, H, W)``."""
    images = torch.as_tensor(data.data)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return Split(images.contiguous(), torch.as_tensor(data.targets, dtype=torch.int64))


def _files(source: Any) -> dict[str, str | None]:
    """Every file that ``source`` reads, relative to the root, with its MD5 sum if it has one."""
    if issubclass(source, datasets.MNIST):
        raw = f"{source.__name__}/raw"
        return {f"{raw}/{name.removesuffix('.gz')}": None for name, _ in source.resources}
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return {f"{source.base_folder}/{name}": md5 for name, md5 in listed}


def _download(source: Any, root: Path) -> Download:
    def fetch(folder: Path) -> None:
        # Torchvision sets none: behind a firewall that drops packets it would wait for ever.
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
        try:
            source(folder, download=True)
        finally:
            socket.setdefaulttimeout(before)

    return Download(source.__name__, root, list(_files(source)), fetch)


def _torn(source: Any, root: Path, error: BaseException) -> DataError:
    torn = [name for name, md5 in _files(source).items() if not check_integrity(root / name, md5)]
    folder = root / Path(next(iter(_files(source)))).parts[0]
    files = ", ".join(str(root / name) for name in torn) or f"a file in {folder}"
    return DataError(
        f"{files}: torn, or not a file of {source.__name__} ({error or type(error).__name__}).\n"
        f"  Delete {folder} and run this again, to download it anew."
    )
