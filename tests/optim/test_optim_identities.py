"""What the paper says of the step size, and what the optimizer tells of its steps."""

from __future__ import annotations

import pytest
import reference
import torch
from optim_cases import BASE, IMPLEMENTATIONS, SCALES, gradients_like, parameters
from torch import Tensor

from deltagclip_cli.optim import DeltaGClip, GClip

SCOPES = ["global", "group", "parameter"]
every_implementation = pytest.mark.parametrize(
    "implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys()
)
every_scope = pytest.mark.parametrize("norm_scope", SCOPES)


def run(make, loss_scale: float = 1.0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Weights after steps whose gradients go through all regimes."""
    params = parameters(dtype)
    optimizer = make(params)
    for t, scale in enumerate(SCALES):
        grads = gradients_like(params, scale, seed=t)
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad * loss_scale
        optimizer.step()
    return params


def assert_same(actual: list[Tensor], expected: list[Tensor], rtol: float = 0.0) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


@every_implementation
@every_scope
def test_delta_0_is_gclip(implementation, norm_scope):
    options = {"weight_decay": 0.1, "norm_scope": norm_scope, **implementation}
    ours = run(lambda params: DeltaGClip(params, 0.3, 1.0, 0.0, **options))
    assert_same(ours, run(lambda params: GClip(params, 0.3, 1.0, **options)))


@every_implementation
@every_scope
@pytest.mark.parametrize("gamma, delta", [(1.0, 1.0), (1.0, 7.0), (1e30, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_delta_1_or_a_huge_gamma_is_gradient_descent(
    implementation, norm_scope, gamma, delta, dtype
):
    options = {"norm_scope": norm_scope, **implementation}
    ours = run(lambda params: DeltaGClip(params, 0.3, gamma, delta, 0.1, **options), dtype=dtype)
    sgd = run(
        lambda params: torch.optim.SGD(params, lr=0.3, weight_decay=0.1, **implementation),
        dtype=dtype,
    )
    assert_same(ours, sgd, rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [2.0**-20, 1 / 3, 1024.0])
@every_scope
def test_scaling_the_loss_can_be_undone(scale, norm_scope):
    ours = run(lambda params: DeltaGClip(params, 0.3, 1.0, 0.05, norm_scope=norm_scope))
    scaled = run(
        lambda params: DeltaGClip(params, 0.3 / scale, scale, 0.05, norm_scope=norm_scope),
        loss_scale=scale,
    )
    assert_same(ours, scaled, rtol=1e-14)


@pytest.mark.parametrize("gamma", [0.3, 1 / 3, 0.1, 7.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_extreme_step_sizes_are_exact(gamma, dtype):
    """h is η in a plain step and ηδ in a floored one, to the last bit."""
    param = torch.zeros(1, dtype=dtype, requires_grad=True)
    optimizer = DeltaGClip([param], lr=0.7, gamma=gamma, delta=0.03)
    lr, delta = torch.tensor([0.7, 0.03], dtype=dtype).unbind()
    for norm, h in ((0.0, lr), (gamma / 2, lr), (gamma, lr), (gamma * 40, lr * delta)):
        param.grad = torch.full((1,), norm, dtype=dtype)
        optimizer.step()
        assert optimizer.step_size.tolist() == [h.item()]


@every_scope
def test_step_sizes_stay_between_their_bounds(norm_scope):
    params = parameters()
    optimizer = DeltaGClip(params, **BASE, norm_scope=norm_scope)
    lowest, highest = (torch.tensor([0.3]) * f for f in (0.05, 1.0))
    for exponent in range(-30, 31):
        for param, grad in zip(params, gradients_like(params, 2.0**exponent, 0), strict=True):
            param.grad = grad
        optimizer.step()
        assert (optimizer.step_size >= lowest).all() and (optimizer.step_size <= highest).all()


def test_regimes_are_counted():
    """γ = 1 and δ = 0.1: plain up to 1, floored from 10, clipped in between."""
    param = torch.zeros(1, requires_grad=True)
    optimizer = DeltaGClip([param], lr=1.0, gamma=1.0, delta=0.125)
    assert optimizer.regime_counts is None
    for norm in (0.0, 0.5, 1.0, 1.5, 7.5, 8.0, 100.0, float("inf")):
        param.grad = torch.tensor([norm])
        optimizer.step()
    assert optimizer.regime_counts.tolist() == [3, 2, 3]
    assert optimizer.regime_counts.dtype == torch.int64


@pytest.mark.parametrize("delta", [1.0, 1.5, 2.0, 1e9])
@pytest.mark.parametrize("norm_scope", ["global", "group", "parameter"])
def test_whole_steps_are_plain_whatever_the_gradient(delta, norm_scope):
    param = torch.zeros(1, requires_grad=True)
    optimizer = DeltaGClip([param], lr=0.25, gamma=1.0, delta=delta, norm_scope=norm_scope)
    for norm in (0.0, 0.5, 1.0, 2.0, 1e30, float("inf")):
        param.grad = torch.tensor([norm])
        optimizer.step()
        assert optimizer.step_size == 0.25
    assert optimizer.regime_counts.tolist() == [6, 0, 0]


@pytest.mark.parametrize("gamma", [5e-324, 1e-300, 1e-40, 1e300])
@pytest.mark.parametrize("norm", [0.0, 1e-10, 1.0])
def test_no_gamma_makes_weights_that_are_no_numbers(gamma, norm):
    param = torch.zeros(1, requires_grad=True)
    optimizer = DeltaGClip([param], lr=1.0, gamma=gamma, delta=0.5)
    param.grad = torch.tensor([norm])
    optimizer.step()
    regime = reference.regime(norm, gamma, 0.5)
    assert optimizer.regime_counts.tolist() == [regime == "plain", False, regime == "floored"]
    step = norm * (1.0 if regime == "plain" else 0.5)
    assert param.item() == pytest.approx(-step, rel=1e-6, abs=0)


@pytest.mark.parametrize("lr, norm", [(0.0, 1.0), (0.1, float("nan"))], ids=["lr 0", "NaN"])
def test_steps_that_lead_nowhere_are_not_counted(lr, norm):
    param = torch.zeros(1, requires_grad=True)
    param.grad = torch.tensor([norm])
    optimizer = DeltaGClip([param], lr=lr, gamma=1.0, delta=0.1)
    optimizer.step()
    assert optimizer.regime_counts.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "norm_scope, shape, blocks", [("global", (), 2), ("group", (2,), 2), ("parameter", (3,), 3)]
)
def test_a_step_tells_one_value_a_block(norm_scope, shape, blocks):
    params = [torch.ones(2, requires_grad=True) for _ in range(3)]
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.5}]
    optimizer = DeltaGClip(groups, lr=1.0, gamma=1.0, delta=0.1, norm_scope=norm_scope)
    assert optimizer.grad_norm is None and optimizer.step_size is None
    for param in params:
        param.grad = torch.ones(2)
    optimizer.step()
    assert optimizer.grad_norm.shape == shape
    assert optimizer.step_size.shape == (blocks,)
    assert optimizer.regime_counts.sum() == blocks


def test_an_infinite_gradient_is_floored_and_a_nan_spreads():
    weights = torch.zeros(2, requires_grad=True)
    optimizer = DeltaGClip([weights], lr=1.0, gamma=1.0, delta=0.5)
    weights.grad = torch.tensor([float("inf"), 1.0])
    optimizer.step()
    assert weights.tolist() == [-float("inf"), -0.5]
    weights.grad = torch.tensor([float("nan"), 1.0])
    optimizer.step()
    assert weights.isnan().all()
