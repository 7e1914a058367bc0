"""Kolmogorov-Arnold networks: every edge carries a learnt function, a spline and a base.

Source: Liu et al., KAN: Kolmogorov-Arnold Networks (arXiv 2404.19756). Base, scale and
initialisation are those of efficient-kan, from which nothing is imported.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models import check_widths

NOISE = 0.1  # times the spacing of knots over the grid's range, the width of the first splines


def kan(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: tuple[int, ...] = (64,),
    grid: int = 5,
    order: int = 3,
    grid_range: tuple[float, float] = (-1.0, 1.0),
) -> nn.Module:
    """Kolmogorov-Arnold network on the flattened input: splines on a uniform grid and a SiLU.

    784-64-10 with the defaults, 508,160 parameters for MNIST; ``grid + order + 2`` for each edge.
    The grid stays where it is: bring inputs into its range, as ``normalize`` of the data does.

    Args:
        hidden: widths of the hidden layers (default one of 64, as published).
        grid: into how many intervals the range is divided (default 5, as published).
        order: degree of the splines' polynomials (default 3, cubic, as published), from 1,
            piecewise linear, to 10, up to which float32 gives them with an error below 1e-6.
        grid_range: the lowest and the highest knot in use; outside, a spline falls to zero within
            ``order`` intervals and its base alone is left.

    Source: the KAN experiment of the δ-GClip paper's authors (arXiv 2404.08624).
    """
    check_widths("kan", hidden)
    low, high = grid_range
    if not low < high:
        raise UsageError(
            f"model kan: grid_range must go from low to high (got [{low:g}, {high:g}])."
        )
    layers = [
        SplineLayer(fan_in, fan_out, grid=grid, order=order, grid_range=grid_range)
        for fan_in, fan_out in pairwise((math.prod(shape), *hidden, classes))
    ]
    return nn.Sequential(nn.Flatten(), *layers)


class SplineLayer(nn.Module):
    """``y_o = Σ_i b_oi · silu(x_i) + s_oi · Σ_k w_oki · B_k(x_i)``, with b, s and w learnt.

    The scale s is efficient-kan's "standalone" one: it multiplies the whole spline of an edge. The
    inputs come last in w and in the basis, for a short last axis would slow each operation down.
    """

    centres: Tensor

    def __init__(
        self, fan_in: int, fan_out: int, *, grid: int, order: int, grid_range: tuple[float, float]
    ) -> None:
        super().__init__()
        splines = grid + order
        self.order = order
        self.middle = sum(grid_range) / 2
        self.spacing = (grid_range[1] - grid_range[0]) / grid
        self.base_weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.spline_scale = nn.Parameter(torch.empty(fan_out, fan_in))
        self.spline_weight = nn.Parameter(torch.empty(fan_out, splines, fan_in))
        centres = torch.arange(splines) - (splines - 1) / 2
        self.register_buffer("centres", centres, persistent=False)
        self._initialise(grid)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(..., fan_in)`` to ``(..., fan_out)``; the basis keeps full precision."""
        features = features.to(self.base_weight.dtype)
        positions = (features - self.middle) / self.spacing
        basis = spline_basis(positions, self.centres, self.order)
        weight = self.spline_weight * self.spline_scale[:, None]
        base = functional.linear(functional.silu(features), self.base_weight)
        return base + functional.linear(basis.flatten(-2), weight.flatten(1))

    @torch.no_grad()
    def _initialise(self, grid: int) -> None:
        """Base and scale by Kaiming's law; splines that fit a little noise at the grid's points.

        The fit is the least-squares one, of smallest norm: there are more splines than points.
        """
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.spline_scale, a=math.sqrt(5))
        points = torch.arange(grid + 1, dtype=torch.float64)[:, None] - grid / 2
        at_points = spline_basis(points, self.centres.double(), self.order)[..., 0]
        fan_out, splines, fan_in = self.spline_weight.shape
        noise = (torch.rand(grid + 1, fan_out * fan_in) - 0.5) * (NOISE / grid)
        fitted = torch.linalg.pinv(at_points).to(noise.dtype) @ noise
        self.spline_weight.copy_(fitted.view(splines, fan_out, fan_in).transpose(0, 1))


def spline_basis(positions: Tensor, centres: Tensor, order: int) -> Tensor:
    r"""B-splines of degree n on knots one apart, by their closed form instead of a recursion.

    .. math:: B_c(x) = \frac1{n!} \sum_{k=0}^{\lfloor n/2 \rfloor} (-1)^k \binom{n+1}{k}
        \left(\tfrac{n+1}2 - k - |x - c|\right)_+^n

    A uniform grid has one spline, moved from centre to centre, and a spline is even about its
    centre: that halves the terms, to two for cubic ones. Few operations on the large array, all
    of them elementwise and out of place, which is what ``torch.compile`` and ``torch.func`` like.

    Args:
        positions: where to evaluate them, ``(..., D)``, in units of the distance between knots.
        centres: of the K splines, ``(K,)``, in the same units.
        order: the degree n, at least 1.

    Returns:
        ``(..., K, D)``; each column sums to 1 wherever all n + 1 splines in reach are among the K.

    Source: Schoenberg, Contributions to the problem of approximation of equidistant data by
    analytic functions (1946): central B-splines as differences of truncated powers.
    """
    reach = (order + 1) / 2 - (positions.unsqueeze(-2) - centres[:, None]).abs()
    total = functional.relu(reach) ** order
    for k in range(1, order // 2 + 1):
        term = functional.relu(reach - k) ** order
        total = torch.add(total, term, alpha=(-1) ** k * math.comb(order + 1, k))
    return total / math.factorial(order)
