"""Steps that are captured once, and then repeated on the same memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from optim_cases import BASE, IMPLEMENTATIONS, gradients_like, parameters
from recorded_graph import RecordedGraph

from deltagclip_cli.optim import DeltaGClip

ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_GPU)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def captured(step: Callable[[], object], device: str) -> Callable[[], None]:
    if device == "cpu":
        step()  # the first makes what is made once
        graph = RecordedGraph()
        with graph:
            step()
        return graph.replay
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    on_gpu = torch.cuda.CUDAGraph()
    with torch.cuda.graph(on_gpu):
        step()
    return on_gpu.replay


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
@pytest.mark.parametrize("norm_scope", ["global", "group", "parameter"])
def test_a_captured_step_follows_the_schedule_and_counts_on(implementation, norm_scope, device):
    if device == "cpu" and not implementation:
        pytest.skip("on a CPU it reads the step size, as nothing waits there")
    params = parameters(device=device)
    options = {**BASE, "norm_scope": norm_scope, "capturable": True, **implementation}
    optimizer = DeltaGClip(params, **options)
    for param, grad in zip(params, gradients_like(params, 3.0, 0), strict=True):
        param.grad = grad
    replay = captured(optimizer.step, device)

    plain = DeltaGClip(copy.deepcopy(params), **{**options, "capturable": False})
    schedules = [torch.optim.lr_scheduler.StepLR(o, 1, 0.5) for o in (optimizer, plain)]
    counted = optimizer.regime_counts.clone()
    for t in range(1, 4):
        for p, q, g in zip(
            params, plain.param_groups[0]["params"], gradients_like(params, 3.0, t), strict=True
        ):
            p.grad.copy_(g)
            q.grad = g.clone()
        replay()
        with warnings.catch_warnings():
            # A replay is a step that the scheduler does not see.
            warnings.simplefilter("ignore", UserWarning)
            plain.step()
            for schedule in schedules:
                schedule.step()
        torch.testing.assert_close(params, plain.param_groups[0]["params"])
        torch.testing.assert_close(optimizer.step_size, plain.step_size)
    assert torch.equal(optimizer.regime_counts - counted, plain.regime_counts)
