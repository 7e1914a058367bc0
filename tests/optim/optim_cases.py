"""The table of optimizers that every property is tested over, and how they are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import reference
import torch
from torch import Tensor

from deltagclip_cli.optim import DeltaGClip

BASE: dict[str, Any] = {"lr": 0.3, "gamma": 1.0, "delta": 0.05}

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight-decay": {"weight_decay": 0.1},
    "maximize": {"maximize": True},
    "maximize-weight-decay": {"maximize": True, "weight_decay": 0.1},
    "delta-0": {"delta": 0.0},
    "delta-1": {"delta": 1.0},
    "delta-2": {"delta": 2.0},
    "by-group": {"norm_scope": "group", "weight_decay": 0.1},
    "by-parameter": {"norm_scope": "parameter", "weight_decay": 0.1},
    "capturable": {"capturable": True},
}
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.bfloat16: {"rtol": 2e-2, "atol": 2e-2},
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
}
# From far below γ to far above γ/δ, and back: every regime is met.
SCALES = (1e-2, 0.3, 3.0, 100.0, 0.7)


def parameters(
    dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0
) -> list[Tensor]:
    """A matrix, a vector, a number, an image filter and nothing at all."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (5,), (), (2, 3, 2, 2), (0, 3)]
    return [
        torch.nn.Parameter(torch.randn(s, generator=generator).to(device, dtype)) for s in shapes
    ]


def gradients_like(params: list[Tensor], scale: float, seed: int) -> list[Tensor]:
    """Gradients whose common norm is ``scale``, with the strides of their parameters."""
    generator = torch.Generator().manual_seed(seed)
    grads = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in params]
    norm = reference.norm_of(grads)
    return [
        torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device=p.device).copy_(
            g * (scale / norm)
        )
        for p, g in zip(params, grads, strict=True)
    ]


def twins(optimizer: DeltaGClip) -> list[reference.Twin]:
    return [
        reference.Twin(
            weights=reference.as_float64(group["params"]),
            lr=float(group["lr"]),
            **{name: group[name] for name in ("gamma", "delta", "weight_decay", "maximize")},
        )
        for group in optimizer.param_groups
    ]


def assert_follows_reference(
    optimizer: DeltaGClip,
    *,
    leave_out: Callable[[int, int], bool] = lambda step, index: False,
    tolerance: dict[str, float] | None = None,
) -> None:
    """Feed the same gradients to the optimizer and to its twin, and compare all that they say.

    ``leave_out(step, index)`` tells which parameters have no gradient at a step.
    """
    groups = twins(optimizer)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    tolerance = tolerance or TOLERANCES[params[0].dtype]
    for t, scale in enumerate(SCALES):
        grads = gradients_like(params, scale, seed=t)
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            param.grad = None if leave_out(t, i) else grad
        for twin in groups:
            twin.step_sizes.clear()
        seen = [reference.as_float64([p.grad for p in g["params"]]) for g in optimizer.param_groups]
        norms = reference.step(groups, seen, optimizer.param_groups[0]["norm_scope"])
        optimizer.step()
        assert_close(optimizer.grad_norm.reshape(-1), norms, rtol=1e-6)
        assert_close(optimizer.step_size, [h for twin in groups for h in twin.step_sizes], 1e-6)
        for group, twin in zip(optimizer.param_groups, groups, strict=True):
            for param, expected in zip(group["params"], twin.weights, strict=True):
                torch.testing.assert_close(
                    param.detach().double(), expected, **tolerance, check_device=False
                )
            if tolerance["rtol"] > 1e-4:  # rounding errors of half precision must not add up
                twin.weights = reference.as_float64(group["params"])
    counts = [sum(t.regimes.count(r) for t in groups) for r in ("plain", "clipped", "floored")]
    assert optimizer.regime_counts.tolist() == counts


def assert_close(actual: Tensor, expected: list[float], rtol: float) -> None:
    expected_tensor = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(
        actual.detach().double(), expected_tensor, rtol=rtol, atol=0, check_device=False
    )
