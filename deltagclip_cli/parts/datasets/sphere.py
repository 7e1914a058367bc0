"""Points on a sphere, the data of the theorem's experiments."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deltagclip_cli.parts.datasets.dataset import Dataset, Outline, Split, described

_TEACHER_WIDTH = 32


def _outline(
    root: Path,
    image_size: int | None,
    *,
    points: int,
    dimension: int,
    classes: int,
    test: int,
    **others: float,
) -> Outline:
    outputs = (points + test) * (2 * dimension + classes)
    making = torch.float64.itemsize * (outputs + _TEACHER_WIDTH * (dimension + classes))
    return Outline((dimension,), classes, points, test, torch.float64, making)


@described(_outline)
def sphere(
    root: Path,
    image_size: int | None,
    *,
    points: int = 64,
    dimension: int = 16,
    classes: int = 2,
    test: int = 256,
    radius: float = 1.0,
    data_seed: int = 0,
) -> Dataset:
    """Points drawn evenly from a sphere, labelled by a fixed random smooth network.

    Inputs are float64 ``(N, dimension)`` of one norm, which is what the tangent kernel of a wide
    network is studied on: no two points are parallel, so the kernel is positive definite.

    Args:
        points: number of training points.
        dimension: of the space around the sphere.
        classes: a label is the largest of this many outputs of a two-layer tanh network.
        test: number of test points.
        radius: the norm of every point. With √dimension, the first layer of a network in the NTK
            parametrisation has pre-activations of variance 1 instead of 1/dimension, and the
            tangent kernel's least eigenvalue is larger by orders of magnitude.
        data_seed: of points and labelling network, the same whatever the trial's seed.
    """
    generator = torch.Generator().manual_seed(data_seed)
    inner = _normal(_TEACHER_WIDTH, dimension, generator)
    outer = _normal(classes, _TEACHER_WIDTH, generator)
    splits = []
    for samples in (points, test):
        drawn = _normal(samples, dimension, generator)
        inputs = drawn / drawn.norm(dim=1, keepdim=True)
        targets = (torch.tanh(inputs @ inner.T) @ outer.T).argmax(dim=1)
        splits.append(Split(radius * inputs, targets))
    return Dataset(splits[0], splits[1], classes, None, None)


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator)
