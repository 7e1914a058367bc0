"""What a step does to the weights, in every implementation of it."""

from __future__ import annotations

import math

import pytest
import torch
from optim_cases import (
    BASE,
    IMPLEMENTATIONS,
    OPTIONS,
    assert_follows_reference,
    gradients_like,
    parameters,
)
from torch import Tensor

from deltagclip_cli.optim import DeltaGClip

every_implementation = pytest.mark.parametrize(
    "implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys()
)
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
every_implementation_for_half = pytest.mark.parametrize(
    "implementation",
    [options for name, options in IMPLEMENTATIONS.items() if name != "fused"],
    ids=[name for name in IMPLEMENTATIONS if name != "fused"],
)
every_scope = pytest.mark.parametrize("norm_scope", ["global", "group", "parameter"])
HALF = (torch.float16, torch.bfloat16)


@every_implementation
@every_option
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_follows_the_formula(implementation, options, dtype):
    if implementation.get("fused") and dtype in HALF:
        pytest.skip("refused, see test_fused_says_why_it_cannot")
    assert_follows_reference(DeltaGClip(parameters(dtype), **{**BASE, **options, **implementation}))


@every_implementation
@every_scope
def test_every_group_has_its_own_hyper_parameters(implementation, norm_scope):
    first, second = parameters(), parameters(seed=1)
    groups = [
        {"params": first, "lr": 0.1, "gamma": 0.5},
        {"params": second, "delta": 0.5, "weight_decay": 0.3, "maximize": True},
    ]
    optimizer = DeltaGClip(groups, **BASE, norm_scope=norm_scope, **implementation)
    assert_follows_reference(optimizer)


@every_implementation
@every_scope
def test_parameters_without_a_gradient_stay(implementation, norm_scope):
    """One parameter is frozen, one misses every other gradient, and so does a whole group."""
    groups = [{"params": parameters()}, {"params": parameters(seed=1)[:2]}]
    optimizer = DeltaGClip(groups, **BASE, norm_scope=norm_scope, **implementation)
    frozen = optimizer.param_groups[0]["params"][0]
    before = frozen.detach().clone()

    def leave_out(step: int, index: int) -> bool:
        return index == 0 or (index in (1, 5, 6) and step % 2 == 1)

    assert_follows_reference(optimizer, leave_out=leave_out)
    assert torch.equal(frozen, before)


def with_layout(layout: str) -> Tensor:
    image = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(3))
    return {
        "channels-last": lambda: image.to(memory_format=torch.channels_last),
        "transposed": lambda: image[0, 0].t(),
        "with-gaps": lambda: image[:, ::2],
        "with-offset": lambda: image[1, 1:],
    }[layout]()


LAYOUTS = ["channels-last", "transposed", "with-gaps", "with-offset"]


@every_implementation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_does_not_matter(implementation, layout):
    param = with_layout(layout).detach().requires_grad_()
    if implementation.get("fused") and layout == "with-gaps":
        pytest.skip("refused, see test_fused_says_why_it_cannot")
    optimizer = DeltaGClip([param, *parameters()], **BASE, **implementation)
    assert_follows_reference(optimizer)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("implementation", ["default", "loop", "foreach"])
def test_gradient_strides_need_not_be_those_of_the_parameter(layout, implementation):
    """The fused kernel walks through memory and would pair the wrong numbers."""
    grad = with_layout(layout)
    param = torch.zeros(grad.shape, requires_grad=True)
    options = IMPLEMENTATIONS[implementation]
    param.grad = grad
    DeltaGClip([param], lr=1.0, gamma=1e9, delta=0.5, **options).step()
    torch.testing.assert_close(param.detach(), -grad, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_fused_refuses_half_precision_on_a_cpu(dtype):
    """The kernel of torch 2.6 is wrong by a quarter there."""
    param = torch.zeros(3, dtype=dtype, requires_grad=True)
    param.grad = torch.ones_like(param)
    with pytest.raises(RuntimeError, match=f"cannot update a {dtype} parameter on cpu"):
        DeltaGClip([param], **BASE, fused=True).step()


def test_fused_says_why_it_cannot():
    gaps = torch.zeros(4, 4)[:, ::2].requires_grad_()
    gaps.grad = torch.ones(4, 2)
    with pytest.raises(RuntimeError, match=r"without gaps.*\(4, 2\).*strides \(4, 2\).*\(2, 1\)"):
        DeltaGClip([gaps], **BASE, fused=True).step()
    whole = torch.zeros(2, device="meta", requires_grad=True)
    whole.grad = torch.ones(2, device="meta")
    with pytest.raises(RuntimeError, match=r"torch\.float32 parameter on meta"):
        DeltaGClip([whole], **BASE, fused=True).step()


@every_implementation
@every_scope
def test_complex_numbers_are_pairs_of_real_ones(implementation, norm_scope):
    weights = torch.view_as_complex(torch.randn(4, 2, generator=torch.manual_seed(0)))
    as_complex = weights.clone().requires_grad_()
    as_real = torch.view_as_real(weights.clone()).requires_grad_()
    options = {**BASE, "weight_decay": 0.1, "norm_scope": norm_scope, **implementation}
    for param in (as_complex, as_real):
        optimizer = DeltaGClip([param], **options)
        for scale in (0.1, 10.0):
            (grad,) = gradients_like([as_real], scale, seed=0)
            param.grad = torch.view_as_complex(grad) if param.is_complex() else grad
            optimizer.step()
    assert torch.equal(torch.view_as_real(as_complex), as_real)


@every_implementation
@pytest.mark.parametrize("shape", [(), (1,)], ids=["0-dim", "1-element"])
def test_a_tensor_is_as_good_a_rate_as_a_float(implementation, shape):
    results = []
    for lr in (0.3, torch.tensor(0.3, dtype=torch.float64).reshape(shape)):
        params = parameters()
        optimizer = DeltaGClip(params, **{**BASE, "lr": lr}, weight_decay=0.1, **implementation)
        for t in range(3):
            for param, grad in zip(params, gradients_like(params, 3.0, t), strict=True):
                param.grad = grad
            optimizer.step()
        assert optimizer.step_size.dtype == torch.float32
        results.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@every_implementation
@every_option
def test_gradients_are_left_alone(implementation, options):
    params = parameters()
    grads = gradients_like(params, 10.0, seed=0)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.clone()
    DeltaGClip(params, **{**BASE, **options, **implementation}).step()
    assert all(torch.equal(p.grad, g) for p, g in zip(params, grads, strict=True))


@every_implementation
@every_option
def test_goes_downhill_or_uphill(implementation, options):
    params = [torch.nn.Parameter(torch.full((3, 2), 2.0)), torch.nn.Parameter(torch.tensor(1.0))]
    optimizer = DeltaGClip(params, **{**BASE, "lr": 0.1, **options, **implementation})

    def loss() -> Tensor:
        return sum((p - 1).square().sum() for p in params)

    params[1].data.fill_(3.0)
    before = loss().item()
    for _ in range(5):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() > before if options.get("maximize") else loss().item() < before


@every_implementation_for_half
def test_the_norm_of_half_precision_gradients_is_right(implementation):
    """In float16 the norm of four gradients of 60000 would be infinite."""
    param = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    param.grad = torch.full((4,), 60000.0, dtype=torch.float16)
    optimizer = DeltaGClip([param], lr=1.0, gamma=120.0, delta=1e-9, **implementation)
    optimizer.step()
    assert optimizer.grad_norm.item() == 120_000
    assert param.tolist() == [-60.0] * 4

    param = torch.zeros(1000, dtype=torch.bfloat16, requires_grad=True)
    param.grad = torch.ones(1000, dtype=torch.bfloat16)
    optimizer = DeltaGClip([param], lr=1.0, gamma=1.0, delta=1e-9, **implementation)
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(math.sqrt(1000), rel=1e-6)


@every_implementation_for_half
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("shape", [(4,), ()], ids=["vector", "number"])
def test_a_tiny_step_size_is_not_rounded_to_half_precision(implementation, dtype, shape):
    """5e-9 is zero in float16, 5e-9 times 60000 is not."""
    param = torch.zeros(shape, dtype=dtype, requires_grad=True)
    param.grad = torch.full(shape, 60000.0, dtype=dtype)
    DeltaGClip([param], lr=5e-9, gamma=1e9, delta=1.0, **implementation).step()
    torch.testing.assert_close(param.detach().float(), torch.full(shape, -3e-4), rtol=1e-2, atol=0)


@every_implementation_for_half
def test_decay_does_not_overflow_half_precision(implementation):
    param = torch.full((2,), 60000.0, dtype=torch.float16).requires_grad_()
    param.grad = torch.full((2,), 60000.0, dtype=torch.float16)
    DeltaGClip([param], 0.25, 1e9, 1.0, weight_decay=1.0, **implementation).step()
    assert param.tolist() == [30000.0] * 2


@every_implementation_for_half
def test_decay_applies_where_the_gradient_is_nothing(implementation):
    param = torch.full((2,), 4.0).requires_grad_()
    param.grad = torch.zeros(2)
    optimizer = DeltaGClip([param], 0.25, 1.0, 1e-3, weight_decay=1.0, **implementation)
    optimizer.step()
    assert param.tolist() == [3.0] * 2
    assert optimizer.regime_counts.tolist() == [1, 0, 0]


@every_implementation_for_half
def test_dtypes_may_be_mixed(implementation):
    dtypes = (torch.float16, torch.float32, torch.float64)
    params = [torch.zeros(2, dtype=dtype, requires_grad=True) for dtype in dtypes]
    for param in params:
        param.grad = torch.full((2,), 2.0, dtype=param.dtype)
    optimizer = DeltaGClip(params, lr=1.0, gamma=1.0, delta=0.0, **implementation)
    optimizer.step()
    assert optimizer.grad_norm.dtype == torch.float64
    assert optimizer.grad_norm.item() == pytest.approx(math.sqrt(24))
    for param, accuracy in zip(params, (1e-3, 1e-7, 1e-7), strict=True):
        assert param.tolist() == pytest.approx([-2 / math.sqrt(24)] * 2, rel=accuracy)


@pytest.mark.parametrize("layout", ["contiguous", "channels-last", "with-gaps"])
def test_the_norm_of_a_large_tensor_is_accurate(layout):
    """A single float32 running sum over nine million squares would be wrong by 2e-4."""
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(2, 1024, 64, 72, generator=generator)
    param = torch.zeros_like(grad)
    if layout == "channels-last":
        grad = grad.to(memory_format=torch.channels_last)
    elif layout == "with-gaps":
        grad, param = grad[:, ::2], param[:, ::2]
    exact = math.sqrt(float(grad.double().square().sum()))
    param.requires_grad_().grad = grad
    optimizer = DeltaGClip([param], lr=0.0, gamma=1.0, delta=0.0)
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(exact, rel=5e-6)
