"""Figures of what an optimizer costs: memory, waits for the device, time."""

from __future__ import annotations

import time

import torch

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
)
from deltagclip_cli.conformance.subject import (
    Subject,
    Weights,
    fed,
    feeding,
    gradients,
    tensors_in,
)

GROUP = "Cost"
_SIDE = 64  # of matrices whose state is weighed
_LARGE = ((1024, 1024), (1024,), (256, 64, 3, 3))  # what is timed
_LARGE_MATRICES = ((1024, 1024), (1024, 256))
_TIMES = 7
_SLOW = 4.0  # seconds of steps, after which there are enough


@conformance_test(GROUP, "memory", judges=False)
def memory(subject: Subject) -> str:
    """Bytes of state for each float32 weight, which has 4 itself.

    AdamW has 8: a model of 7 billion weights needs 56 GB for them.
    """
    weights = Weights.drawn([(_SIDE, _SIDE)] * 3)
    stepper = subject.make(weights)
    fed(stepper, weights, range(2))
    seen: dict[int, int] = {}
    for each in tensors_in([stepper.state_dict(), *stepper.optimizer.state.values()]).values():
        storage = each.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    numbers = sum(each.numel() for each in weights.each)
    return f"{sum(seen.values()) / numbers:.3g} bytes a weight"


@conformance_test(GROUP, "waits")
def waits(subject: Subject) -> None:
    """A step does not wait for the GPU.

    A value that is read back at each step, such as a norm, keeps the GPU idle in between.
    """
    if not torch.cuda.is_available():
        raise InapplicableError("there is no GPU here")
    weights = Weights.drawn(subject.shapes).cuda()
    stepper = subject.make(weights)
    given = [[each.cuda() for each in gradients(weights, step)] for step in range(4)]
    for each in given[:3]:
        stepper.step(feeding(weights, each))
    if stepper.needs_closure:
        raise InapplicableError("its step needs a closure")
    for weight, gradient in zip(weights.each, given[3], strict=True):
        weight.grad = gradient
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.optimizer.step()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise Broken(f"a step waits for the GPU: {error}") from None
    finally:
        torch.cuda.set_sync_debug_mode("default")


@conformance_test(GROUP, "speed", seconds=30.0, judges=False)
def speed(subject: Subject) -> str:
    """The time of a step, in passes over the memory: w.add_(g), which reads two and writes one.

    Below 10 it hardly shows beside backward(); matrices that are factorised take hundreds.
    """
    weights = Weights.drawn(_LARGE_MATRICES if subject.refusal else _LARGE)
    stepper = subject.make(weights)
    evaluate = feeding(weights, gradients(weights, 0))
    own: list[float] = []
    floor = []
    for turn in range(_TIMES + 1):
        evaluate()
        start = time.perf_counter()
        if subject.needs_closure:
            stepper.step(evaluate)
        else:
            stepper.optimizer.step()
        end = time.perf_counter()
        with torch.no_grad():
            for each in weights.each:
                if each.grad is not None:
                    each.add_(each.grad, alpha=-1e-9)
        if turn or end - start > _SLOW:
            own.append(end - start)
            floor.append(time.perf_counter() - end)
        if sum(own) > _SLOW:
            break
    ratio = min(own) / max(min(floor), 1e-9)
    return f"{ratio:.2g} passes over the memory"


TESTS = (memory, waits, speed)
