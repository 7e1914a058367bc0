"""Tests of the learning rate: read at every step, a tensor, under every schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import SGD, lr_scheduler

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
)
from deltagclip_cli.conformance.subject import (
    Subject,
    Weights,
    fed,
    flat,
    need_close,
    need_same,
    seeded,
    trained,
    weights_of,
)

if TYPE_CHECKING:
    from deltagclip_cli.training.stepping import Stepper

GROUP = "Learning rate"

SCHEDULES: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
    "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.9},
    "StepLR": {"step_size": 1},
    "MultiStepLR": {"milestones": [1, 2]},
    "ConstantLR": {"total_iters": 2},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.3, "cycle_momentum": False, "step_size_up": 2},
    "OneCycleLR": {"max_lr": 0.3, "total_steps": 10, "cycle_momentum": False},
    "ReduceLROnPlateau": {"patience": 0},
}
"""The schedules of torch that change the rates of one optimizer, with options."""

STEPS = 5


def _set(stepper: Stepper, rate: float) -> None:
    for group in stepper.optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@conformance_test(GROUP, "read at every step")
def read_at_every_step(subject: Subject) -> str | None:
    """A change of param_groups[…]["lr"] changes the next steps.

    Otherwise schedules do nothing, and warm-up and decay are only believed in.
    """
    rate = subject.need_rate()
    after: dict[float, list[Tensor]] = {}
    for factor in (1.0, 3.0):
        weights = Weights.drawn(subject.shapes)
        stepper, after[factor] = subject.make(weights), []
        with seeded(3):
            fed(stepper, weights, subject.steps(2))
            _set(stepper, factor * rate)
            for step in (20, 21):
                fed(stepper, weights, [step])
                after[factor].append(flat(weights.values()))
    if not torch.equal(after[1.0][0], after[3.0][0]):
        return None
    if torch.equal(after[1.0][1], after[3.0][1]):
        raise Broken(
            f"some steps with lr = {rate:g}, and two more with {rate:g} or with {3 * rate:g}, "
            "end with the same bits"
        )
    return "a change acts one step later"


@conformance_test(GROUP, "a rate of 0")
def rate_of_0(subject: Subject) -> None:
    """With lr = 0 a step leaves the weights as they are.

    Warm-up begins there, cosine ends there, and torch.distributed.checkpoint makes such a step to
    build the state before it loads one.
    """
    subject.need_rate()
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    fed(stepper, weights, subject.steps(2))
    if stepper.averages:
        raise InapplicableError("it averages its weights, which move without a step")
    _set(stepper, 0.0)
    fed(stepper, weights, [20])  # ASGD and its like read it one step late
    before = weights.values()
    fed(stepper, weights, [21])
    need_same(flat(weights.values()), flat(before), "after a step with lr = 0, and before")


@conformance_test(GROUP, "a tensor")
def a_tensor(subject: Subject) -> str | None:
    """lr = torch.tensor(…) makes the same steps as the number.

    torch.compile and CUDA graphs want it: with a number every change of the rate compiles anew.
    """
    rate = subject.need_rate()
    if not subject.takes("lr"):
        raise InapplicableError("it has no option lr")
    ends = []
    for lr in (rate, torch.tensor(rate)):
        weights = Weights.drawn(subject.shapes)
        made = subject.options(lr=lr)
        try:
            stepper = made.make(weights)
        except Exception as error:
            raise InapplicableError(f"it refuses one: {error.__cause__ or error}") from None
        with seeded(3):
            fed(stepper, weights, subject.steps(3))
        ends.append(flat(weights.values()))
    if not torch.is_tensor(lr) or float(lr) != torch.tensor(rate):
        raise Broken(f"the tensor was {rate:g} and is {float(lr):g} after some steps")
    need_close(ends[1], ends[0], "with a tensor, and with a number", subject.start())
    return None


def _schedule(name: str, stepper: Any) -> Any:
    return getattr(lr_scheduler, name)(stepper, **SCHEDULES[name])


@conformance_test(GROUP, "every LRScheduler")
def every_scheduler(subject: Subject) -> str:
    """Every schedule of torch.optim.lr_scheduler runs with it, and its rates stay what it says.

    Otherwise the optimizer is no torch.optim.Optimizer to a schedule, or overwrites its rates.
    """
    rate = subject.need_rate()
    for name in SCHEDULES:
        network = subject.network()
        stepper = subject.make(network)
        plain = SGD([torch.ones(1, requires_grad=True)], lr=rate)
        try:
            schedule = _schedule(name, stepper.optimizer)
        except TypeError as error:
            raise Broken(f"{name} refuses it: {error}") from None
        expected = _schedule(name, plain)
        for step in range(STEPS):
            trained(stepper, network, [step])
            plain.step()
            for each in (schedule, expected):
                each.step(*([1.0] if name == "ReduceLROnPlateau" else []))
            is_, should = (
                float(stepper.optimizer.param_groups[0]["lr"]),
                plain.param_groups[0]["lr"],
            )
            if abs(is_ - should) > 1e-6 * max(abs(should), rate):
                raise Broken(f"after {step + 1} steps of {name} lr should be {should} and is {is_}")
    return f"{len(SCHEDULES)} of them"


@conformance_test(GROUP, "a schedule resumed")
def schedule_resumed(subject: Subject) -> None:
    """Stopped in the middle of a schedule, it goes on at its rate and with the same bits.

    Otherwise a resumed training jumps back to the first rate.
    """
    subject.need_rate()
    ends, rates = [], []
    for stops in (False, True):
        network = subject.network()
        stepper = subject.make(network)
        schedule = _schedule("ExponentialLR", stepper.optimizer)
        for step in range(2 * STEPS):
            if stops and step == STEPS:
                saved = stepper.state_dict(), schedule.state_dict(), network.state_dict()
                kept = {name: each.clone() for name, each in saved[2].items()}
                network = subject.network()
                stepper = subject.make(network)
                schedule = _schedule("ExponentialLR", stepper.optimizer)
                network.load_state_dict(kept)
                stepper.load_state_dict(saved[0])
                schedule.load_state_dict(saved[1])
            with seeded(step):
                trained(stepper, network, [step])
            schedule.step()
        ends.append(weights_of(network))
        rates.append(float(stepper.optimizer.param_groups[0]["lr"]))
    if rates[0] != rates[1]:
        raise Broken(f"lr ends at {rates[0]}, and resumed at {rates[1]}")
    need_same(ends[1], ends[0], "resumed in the middle of a schedule, and undisturbed")


TESTS = (read_at_every_step, rate_of_0, a_tensor, every_scheduler, schedule_resumed)
