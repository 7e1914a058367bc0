"""What can only be seen on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator

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

from deltagclip_cli.optim import DeltaGClip

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
every_implementation = pytest.mark.parametrize(
    "implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys()
)
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


@pytest.fixture
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@every_implementation
@every_option
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
def test_follows_the_formula(implementation, options, dtype):
    if implementation.get("fused") and dtype == torch.float64:
        pytest.skip("refused, see test_fused_refuses_float64")
    assert_follows_reference(
        DeltaGClip(parameters(dtype, "cuda"), **{**BASE, **options, **implementation})
    )


def test_fused_refuses_float64():
    """The kernel reads the step size as a float32."""
    (param, *_) = parameters(torch.float64, "cuda")
    param.grad = torch.ones_like(param)
    with pytest.raises(RuntimeError, match=r"torch\.float64 parameter on cuda"):
        DeltaGClip([param], **BASE, fused=True).step()


@every_implementation
@every_option
@pytest.mark.parametrize("tensor_rate", [False, True])
def test_the_host_never_waits(implementation, options, tensor_rate, request):
    params = parameters(device="cuda")
    lr = torch.tensor(0.3, device="cuda") if tensor_rate else 0.3
    groups = [{"params": params[:2]}, {"params": params[2:], "gamma": 0.5}]
    optimizer = DeltaGClip(groups, **{**BASE, **options, **implementation, "lr": lr})
    for param, grad in zip(params, gradients_like(params, 3.0, 0), strict=True):
        param.grad = grad
    request.getfixturevalue("no_waiting")
    optimizer.step()
    optimizer.step()


def test_capture_without_capturable_is_refused():
    params = parameters(device="cuda")
    optimizer = DeltaGClip(params, **BASE)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    with (
        pytest.raises(RuntimeError, match="capturable is False"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        optimizer.step()


def test_devices_may_be_mixed():
    """One norm over the CPU and the GPU, on the device of the first gradient."""
    params = [*parameters(device="cuda"), *parameters(seed=1)]
    optimizer = DeltaGClip(params, **BASE)
    assert_follows_reference(optimizer)
    assert optimizer.grad_norm.is_cuda
