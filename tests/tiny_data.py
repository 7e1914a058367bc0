"""The files of torchvision's data sets, small but in the original formats."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest


def idx_file(values: numpy.ndarray[Any, Any]) -> bytes:
    """One array as the MNISTs store it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def write_mnist(root: Path, folder: str) -> dict[str, numpy.ndarray[Any, Any]]:
    """Files as MNIST has them: 30 training and 20 test images."""
    draw, content = numpy.random.default_rng(0), {}
    (root / folder / "raw").mkdir(parents=True)
    for split, samples in (("train", 30), ("t10k", 20)):
        content[f"{split}-images-idx3"] = draw.integers(0, 256, (samples, 28, 28), numpy.uint8)
        content[f"{split}-labels-idx1"] = numpy.arange(samples, dtype=numpy.uint8) % 10
    for name, values in content.items():
        (root / folder / "raw" / f"{name}-ubyte").write_bytes(idx_file(values))
    return content


def write_cifar(root: Path, source: Any, patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Files as CIFAR has them, 4 images each; torchvision is told their sums."""
    draw, written = numpy.random.default_rng(0), []
    key = "labels" if source.__name__ == "CIFAR10" else "fine_labels"
    (root / source.base_folder).mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> tuple[str, str]:
        data = pickle.dumps(content)
        (root / source.base_folder / name).write_bytes(data)
        return name, hashlib.md5(data).hexdigest()

    for listed in ("train_list", "test_list"):
        sums = []
        for name, _ in getattr(source, listed):
            pixels = draw.integers(0, 256, (4, 3072), numpy.uint8)
            written.append({"data": pixels, key: [3, 1, 0, 2]})
            sums.append(write(name, written[-1]))
        patch.setattr(source, listed, sums)
    name, md5 = write(source.meta["filename"], {source.meta["key"]: ["a", "b", "c", "d"]})
    patch.setattr(source, "meta", {**source.meta, "md5": md5})
    return written
