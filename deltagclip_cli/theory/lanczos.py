"""Extreme eigenvalues of symmetric maps that are known by their products with vectors alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Product = Callable[[Tensor], Tensor]

TOLERANCE = 1e-8
"""Relative: two digits more than anybody compares."""

_ROUNDING = float(np.finfo(np.float64).eps)


class Estimate(NamedTuple):
    """An eigenvalue, known to within an error.

    There is one so near to the value. That it is the first or the last, too, is sure enough when
    the error has become small; a search that was cut short may have stopped at another.
    """

    value: float
    error: float


def largest_eigenvalue(product: Product, start: Tensor, *, steps: int = 300) -> Estimate:
    """The largest eigenvalue of a symmetric map.

    Args:
        product: of the map with a vector of the shape of ``start``.
        start: any vector (P,) that is not orthogonal to the eigenvector, float64.
        steps: the most products.
    """
    top = Estimate(math.nan, math.nan)
    for found in _ritz(product, start, steps):
        top = _end(found.values[::-1], found.residuals[::-1])
        if top.error <= TOLERANCE * abs(top.value):
            break
    return top


def extreme_eigenvalues(
    product: Product, start: Tensor, *, steps: int = 1000
) -> tuple[Estimate, Estimate]:
    """The least and the largest eigenvalue of a symmetric map; see :func:`largest_eigenvalue`.

    The least one is found last where many lie close to it, and an error is left then.
    """
    low = top = Estimate(math.nan, math.nan)
    for found in _ritz(product, start, steps):
        low, top = (_end(each.values, each.residuals) for each in (found, found.reversed()))
        resolved = TOLERANCE * abs(low.value) + _ROUNDING * len(start) * abs(top.value)
        if low.error <= resolved and top.error <= TOLERANCE * abs(top.value):
            break
    return low, top


class _Ritz(NamedTuple):
    """Approximations of eigenvalues in ascending order, and the norms of their residuals."""

    values: NDArray[np.float64]
    residuals: NDArray[np.float64]

    def reversed(self) -> _Ritz:
        return _Ritz(self.values[::-1], self.residuals[::-1])


def _ritz(product: Product, start: Tensor, steps: int) -> Iterator[_Ritz]:
    """Lanczos' method: better and better approximations, until none are to be had.

    Not ARPACK, which would keep twenty vectors as long as all weights, and on the host. Nothing is
    made orthogonal again here, so three vectors do: what rounding then adds are copies of
    eigenvalues that were found, which does no harm at the ends (Paige 1980).
    """
    diagonal: list[float] = []
    beside: list[float] = []
    vector, before = start / start.norm(), torch.zeros_like(start)
    due = 1
    for step in range(1, steps + 1):
        image = product(vector)
        if beside:
            image = image - beside[-1] * before
        diagonal.append(float(image @ vector))
        image = image - diagonal[-1] * vector
        norm = float(image.norm())
        if not math.isfinite(norm):
            return
        is_whole = norm <= _ROUNDING * max(map(abs, diagonal))  # the space holds no more
        if step >= due or is_whole or step == steps:
            due = step + max(1, step // 10)
            values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
            yield _Ritz(values, norm * np.abs(vectors[-1]))
        if is_whole:
            return
        beside.append(norm)
        vector, before = image / norm, vector


def _end(values: NDArray[np.float64], residuals: NDArray[np.float64]) -> Estimate:
    """The first value, with the better of two bounds of its error: |r|, and Kato's |r|²/gap."""
    residual = float(residuals[0])
    if len(values) == 1:
        return Estimate(float(values[0]), residual)
    gap = abs(float(values[0] - values[1])) - float(residuals[1])
    return Estimate(float(values[0]), min(residual, residual**2 / gap) if gap > 0 else residual)
