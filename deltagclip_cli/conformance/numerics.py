"""Tests of numbers: precisions, descent, the same bits, and what is global."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
    raised_by,
)
from deltagclip_cli.conformance.subject import (
    Subject,
    Weights,
    fed,
    need_finite,
    need_same,
    seeded,
    tensors_in,
    trained,
    weights_of,
)

if TYPE_CHECKING:
    from deltagclip_cli.training.stepping import Stepper

GROUP = "Numbers"
_DESCENT = 50  # steps

STATES: Mapping[str, Callable[[], Any]] = {
    "torch's default dtype": torch.get_default_dtype,
    "whether gradients are recorded": torch.is_grad_enabled,
    "whether autograd looks for anomalies": torch.is_anomaly_enabled,
    "use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
    "the number of threads": torch.get_num_threads,
    "the precision of float32 products": torch.get_float32_matmul_precision,
    "cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
    "cudnn.deterministic": lambda: torch.backends.cudnn.deterministic,
}
"""The settings that are global in a process, and how each is read."""


def global_state() -> dict[str, Any]:
    """Return the state of what is global."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: read() for name, read in STATES.items()}


@conformance_test(GROUP, "descends")
def descends(subject: Subject) -> str:
    """On a quadratic bowl the loss falls within fifty steps.

    Otherwise the sign, the rate or the state is wrong.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)

    def evaluate() -> Tensor:
        weights.zero_grad()
        loss = sum((each.square().sum() / 2 for each in weights.each), torch.zeros(()))
        loss.backward()
        return loss.detach()

    first = float(evaluate())
    with seeded(3):
        for _ in range(_DESCENT):
            stepper.step(evaluate)
    with stepper.evaluating():
        last = float(evaluate())
    if not last < first:
        raise Broken(f"the loss was {first:.6g} and is {last:.6g} after {_DESCENT} steps")
    return f"from {first:.3g} to {last:.3g}"


def _run(subject: Subject, dtype: torch.dtype) -> tuple[Weights, Stepper]:
    weights = Weights.drawn(subject.shapes, dtype)
    stepper = subject.make(weights)
    with seeded(3):
        fed(stepper, weights, subject.steps(4))
    need_finite(weights.each, f"after some steps in {dtype}")
    for each in weights.each:
        if each.dtype != dtype:
            raise Broken(f"the weights were {dtype} and are {each.dtype}")
    return weights, stepper


@conformance_test(GROUP, "fp64")
def fp64(subject: Subject) -> None:
    """For float64 weights the state of each weight is kept in float64.

    Otherwise what is trained in double precision is exact to seven digits only.
    """
    _, stepper = _run(subject, torch.float64)
    _, of_single = _run(subject, torch.float32)
    usual = tensors_in(of_single.state_dict(), "state_dict()")
    for place, each in tensors_in(stepper.state_dict(), "state_dict()").items():
        if not each.is_floating_point() or each.numel() <= 1:
            continue
        if place in usual and usual[place].dtype.itemsize < torch.float32.itemsize:
            raise InapplicableError(f"{place} is {each.dtype} whatever the weights are")
        if each.dtype != torch.float64:
            raise Broken(f"{place} is {each.dtype} where the weights are torch.float64")


@conformance_test(GROUP, "bf16")
def bf16(subject: Subject) -> None:
    """bfloat16 weights are trained, stay bfloat16 and finite.

    Large models are trained so.
    """
    _run(subject, torch.bfloat16)


@conformance_test(GROUP, "fp16", judges=False)
def fp16(subject: Subject) -> str:
    """float16 weights with gradients of ordinary size: what becomes of them.

    An eps of 1e-8 is 0 there, and so are squares of small gradients: many divide by zero. That is
    what float32 weights under autocast and GradScaler are for.
    """
    try:
        _run(subject, torch.float16)
    except Broken as error:
        return str(error)
    except Exception as error:
        return f"it raises {type(error.__cause__ or error).__name__}"
    return "finite"


@conformance_test(GROUP, "complex")
def complex_numbers(subject: Subject) -> None:
    """Complex weights go down in both parts, or are refused.

    Otherwise imaginary parts are dropped, in networks of Fourier layers.
    """
    weights = Weights.drawn(subject.shapes, torch.complex64)
    generator = torch.Generator().manual_seed(5)
    for each in weights.each:
        each.data.imag.copy_(torch.randn(each.shape, generator=generator))

    def evaluate() -> Tensor:
        weights.zero_grad()
        loss = sum((each.abs().square().sum() / 2 for each in weights.each), torch.zeros(()))
        loss.backward()
        return loss.detach()

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stepper = subject.make(weights)
            before = weights.values()
            for _ in subject.steps(3):
                stepper.step(evaluate)
    except Exception as error:
        raise InapplicableError(f"it refuses them: {raised_by(error.__cause__ or error)}") from None
    need_finite((torch.view_as_real(each.detach()) for each in weights.each), "after some steps")
    for part in ("real", "imag"):
        sizes = [
            sum(float(getattr(each, part).double().abs().sum()) for each in values)
            for values in (before, weights.values())
        ]
        if not sizes[1] < sizes[0]:
            name = {"real": "real", "imag": "imaginary"}[part]
            raise Broken(
                f"the {name} parts of a bowl's weights had the sum {sizes[0]:.6g}, and have "
                f"{sizes[1]:.6g} after some steps"
            )


@conformance_test(GROUP, "the same twice")
def same_twice(subject: Subject) -> None:
    """Two trainings from the same seed end with the same bits.

    Otherwise nothing can be repeated; state shared between instances is a cause.
    """
    ends = []
    for _ in range(2):
        network = subject.network()
        with seeded(3):
            trained(subject.make(network), network, subject.steps(4))
        ends.append(weights_of(network))
    need_same(ends[1], ends[0], "the second time, and the first")


@conformance_test(GROUP, "random numbers")
def random_numbers(subject: Subject) -> str | None:
    """It does not seed the global streams of random numbers.

    Otherwise the order of samples, dropout and augmentation are the same for every seed.
    """
    seen: list[Mapping[str, Any]] = []
    for seed in (11, 12):
        with seeded(seed):
            before = _streams()
            network = subject.network()
            stepper = subject.make(network)
            trained(stepper, network, subject.steps(2))
            seen.append({name: (before[name], after) for name, after in _streams().items()})
    drawn = []
    for name in seen[0]:
        (first, then), (other, after) = seen[0][name], seen[1][name]
        if first != other and then == after:
            raise Broken(f"two different states of {name} are the same one after three steps")
        if first != then:
            drawn.append(name)
    return f"it draws from {' and '.join(drawn)}" if drawn else None


def _streams() -> dict[str, bytes]:
    of_numpy: Any = np.random.get_state()
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "Python's random": repr(random.getstate()).encode(),
        "numpy.random": repr([*of_numpy[1].tolist(), of_numpy[2]]).encode(),
    }


@conformance_test(GROUP, "what is global")
def what_is_global(subject: Subject) -> None:
    """Imported, made and stepped, it changes no setting of the process.

    Otherwise the network and everything else compute otherwise, as soon as it is imported.
    """
    before = subject.before or global_state()
    network = subject.network()
    trained(subject.make(network), network)
    for name, was in before.items():
        if (now := STATES[name]()) != was:
            raise Broken(f"{name} was {was} and is {now}")


TESTS = (
    descends,
    same_twice,
    fp64,
    bf16,
    fp16,
    complex_numbers,
    random_numbers,
    what_is_global,
)
