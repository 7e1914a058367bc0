"""Tests of how an optimizer is used: closures, scalers, hooks, compilers, its own switches."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
)
from deltagclip_cli.conformance.subject import (
    Subject,
    Weights,
    evaluating,
    fed,
    feeding,
    flat,
    gradients,
    need_close,
    need_finite,
    need_same,
    seeded,
    takes_closure,
    tensors_in,
    trained,
    weights_of,
)

if TYPE_CHECKING:
    from deltagclip_cli.training.stepping import Stepper

GROUP = "Use"


@conformance_test(GROUP, "a step", seconds=60.0)
def a_step(subject: Subject) -> str | None:
    """It is made for a small network, and its steps move the weights.

    Nothing else can be said of one that does not.
    """
    network = subject.network()
    before = weights_of(network)
    trained(subject.make(network), network, subject.steps(1))
    if torch.equal(weights_of(network), before):
        raise Broken(f"after {subject.idle + 1} steps all weights are where they were")
    told = [f"for matrices alone: {subject.refusal}"] if subject.refusal else []
    if subject.idle:
        told.append(f"idle steps at first: {subject.idle}")
    return "; ".join(told)


@conformance_test(GROUP, "a closure")
def a_closure(subject: Subject) -> None:
    """step(closure) calls it with gradients on, and returns its loss.

    Lightning and others hand a closure to every step, and log what comes back.
    """
    network = subject.network()
    stepper = subject.make(network)
    if not takes_closure(stepper.optimizer):
        raise InapplicableError("its step takes no closure; Lightning hands it one at every step")
    evaluate, losses, recording = evaluating(network, 0), [], []

    def closure() -> Tensor:
        recording.append(torch.is_grad_enabled())
        with torch.enable_grad():
            losses.append(evaluate())
        return losses[-1]

    evaluate()
    said: Any = stepper.optimizer.step(closure)  # type: ignore[arg-type]
    if not losses:
        raise Broken("the closure is never called")
    if not all(recording):
        raise Broken("the closure is called without gradients, so that its backward() fails")
    if said is None or not any(float(said) == float(each) for each in losses):
        raise Broken(f"the closure said {float(losses[0]):.6g}, and step() returned {said!r}")


@conformance_test(GROUP, "no closure")
def no_closure(subject: Subject) -> None:
    """step() without a closure makes the step of the gradients that are there.

    Otherwise an ordinary training loop trains nothing, or another way than Lightning.
    """
    if subject.needs_closure:
        raise InapplicableError("its step needs a closure")
    ends = []
    for closes in (False, True):
        network = subject.network()
        stepper = subject.make(network)
        evaluate = evaluating(network, 0)
        with seeded(3):
            trained(stepper, network, range(subject.idle))
            before = weights_of(network)
            evaluate()
            if closes and takes_closure(stepper.optimizer):
                stepper.optimizer.step(evaluate)  # type: ignore[arg-type]
            else:
                stepper.optimizer.step()
        ends.append(weights_of(network))
        if torch.equal(ends[-1], before):
            raise Broken("step() leaves all weights where they are")
    need_same(ends[0], ends[1], "after step(), and after step(closure)")


@conformance_test(GROUP, "zero_grad")
def zero_grad(subject: Subject) -> None:
    """zero_grad() sets all gradients to None, or to zero with set_to_none=False.

    Otherwise the gradients of all batches add up.
    """
    weights = Weights.drawn(subject.shapes)
    optimizer = subject.make(weights).optimizer
    for to_none in (False, True):
        feeding(weights, gradients(weights, 0))()
        try:
            optimizer.zero_grad(set_to_none=to_none)
        except TypeError as error:
            raise Broken(f"zero_grad(set_to_none={to_none}): {error}") from None
        for number, each in enumerate(weights.each):
            if to_none and each.grad is not None:
                raise Broken(f"the gradient of parameter {number} is there after zero_grad()")
            if not to_none and each.grad is not None and bool(each.grad.any()):
                raise Broken(f"the gradient of parameter {number} is not zero after zero_grad")


@conformance_test(GROUP, "GradScaler")
def grad_scaler(subject: Subject) -> None:
    """Under torch.amp.GradScaler it makes the steps that it makes without, and skips infinite ones.

    Otherwise fp16 training sees scaled gradients, or dies of the first overflow.
    """
    if subject.needs_closure:
        raise InapplicableError("its step needs a closure, which GradScaler does not hand on")
    ends = []
    for scaled in (False, True):
        weights = Weights.drawn(subject.shapes)
        stepper = subject.make(weights)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        with seeded(3):
            for step in range(3):
                given = gradients(weights, step)
                # Multiplied by the scale as backward() of a scaled loss does it: exactly
                feeding(weights, [each * scaler.get_scale() for each in given])()
                if scaled:
                    scaler.scale(torch.ones(()))
                scaler.step(stepper.optimizer)
                scaler.update()
        ends.append(flat(weights.values()))
    need_same(ends[1], ends[0], "under a scaler, and without")
    infinite = gradients(weights, 3)
    infinite[0].flatten()[0] = torch.inf
    feeding(weights, infinite)()
    scaler.step(stepper.optimizer)
    scaler.update()
    need_same(flat(weights.values()), ends[1], "after an infinite gradient, and before")


@conformance_test(GROUP, "torch.compile", seconds=40.0, compiles=True)
def compiled(subject: Subject) -> str:
    """torch.compile of step() makes the steps of step(); where it breaks the graph is told.

    Backend aot_eager, whose traces inductor compiles.
    """
    if subject.needs_closure:
        raise InapplicableError("its step needs a closure")
    ends = []
    torch._dynamo.reset()
    for compiles in (False, True):
        weights = Weights.drawn(subject.shapes)
        stepper = _with_tensor(subject, weights)
        step: Callable[[], Any] = stepper.optimizer.step
        if compiles:
            step = torch.compile(step, backend="aot_eager")
        with seeded(3), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in subject.steps(4):
                feeding(weights, gradients(weights, number))()
                step()
        ends.append(flat(weights.values()))
    need_close(ends[1], ends[0], "compiled, and as it is", subject.start())
    from torch._dynamo.utils import counters

    count = sum(counters["graph_break"].values())
    return "in one graph" if not count else f"in pieces: {count} graph breaks"


def _with_tensor(subject: Subject, weights: Weights) -> Stepper:
    """Make it with a rate that is a tensor if it takes one: else each rate is compiled anew."""
    if subject.rate and subject.takes("lr"):
        with suppress(Exception):
            tried = Weights(weights.values())
            made = subject.options(lr=torch.tensor(subject.rate)).make(tried)
            fed(made, tried, subject.steps(2))
            need_finite(tried.each, "with a tensor")
            return subject.options(lr=torch.tensor(subject.rate)).make(weights)
    return subject.make(weights)


@conformance_test(GROUP, "hooks")
def hooks(subject: Subject) -> None:
    """Hooks before and after a step are called once a step.

    Profilers, gradient clipping and FSDP hang on them.
    """
    subject.need_torch_optimizer()
    network = subject.network()
    stepper = subject.make(network)
    trained(stepper, network, [0])
    calls: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, *_: _note(calls, "global pre", o, stepper)),
        register_optimizer_step_post_hook(lambda o, *_: _note(calls, "global post", o, stepper)),
    ]
    try:
        stepper.optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
        stepper.optimizer.register_step_post_hook(lambda *_: calls.append("post"))
        trained(stepper, network, [1])
    finally:
        for handle in handles:
            handle.remove()
    if calls != ["global pre", "pre", "post", "global post"]:
        raise Broken(f"of global and own hooks before and after a step, these were called: {calls}")


def _note(calls: list[str], word: str, optimizer: Optimizer, stepper: Stepper) -> None:
    if optimizer is stepper.optimizer:  # and none of those that it holds
        calls.append(word)


@conformance_test(GROUP, "repr")
def printed(subject: Subject) -> None:
    """It can be printed, under its own name.

    Logs and notebooks print it.
    """
    optimizer = subject.make(subject.network()).optimizer
    said = repr(optimizer)
    if type(optimizer).__name__ not in said:
        raise Broken(f"repr() does not name {type(optimizer).__name__}: {said[:80]!r}")


@conformance_test(GROUP, "in place")
def in_place(subject: Subject) -> None:
    """The weights are changed where they lie, and stay leaves that need a gradient.

    Otherwise DDP's buckets, tied weights and CUDA graphs go on with the old ones.
    """
    network = subject.network()
    before = [(each, each.data_ptr()) for each in network.parameters()]
    trained(subject.make(network), network)
    for number, (each, (was, place)) in enumerate(zip(network.parameters(), before, strict=True)):
        if each is not was:
            raise Broken(f"parameter {number} of the network is another object after the step")
        if not each.is_leaf or not each.requires_grad:
            raise Broken(f"parameter {number} is no leaf that needs a gradient after the step")
        if each.data_ptr() != place:
            raise Broken(f"parameter {number} lies elsewhere in memory after the step")


@conformance_test(GROUP, "no graph kept")
def no_graph_kept(subject: Subject) -> None:
    """No tensor of the state hangs on a graph of autograd.

    Otherwise every step keeps all those before it in memory.
    """
    network = subject.network()
    stepper = subject.make(network)
    trained(stepper, network)
    for place, each in tensors_in(list(stepper.optimizer.state.values()), "state").items():
        if each.grad_fn is not None:
            raise Broken(f"{place} has a grad_fn: {each.grad_fn.name()}")


def _switched(subject: Subject, option: str, values: tuple[Any, Any]) -> list[Tensor]:
    if not subject.takes(option):
        raise InapplicableError(f"it has no option {option}")
    ends = []
    for value in values:
        weights = Weights.drawn(subject.shapes)
        try:
            stepper = subject.options(**{option: value}).make(weights)
            with seeded(3):
                fed(stepper, weights, subject.steps(3))
        except Exception as error:
            raise InapplicableError(
                f"it refuses {option}={value} here: {error.__cause__ or error}"
            ) from None
        ends.append(flat(weights.values()))
    return ends


@conformance_test(GROUP, "foreach")
def foreach(subject: Subject) -> None:
    """With foreach=True it makes the steps that it makes with foreach=False.

    It is what runs on a GPU by default, and what is tested on a CPU does not.
    """
    one, other = _switched(subject, "foreach", (True, False))
    need_close(one, other, "with foreach=True, and False", subject.start())


@conformance_test(GROUP, "fused")
def fused(subject: Subject) -> None:
    """With fused=True it makes the steps that it makes with fused=False.

    One of both is wrong otherwise, and which one runs hangs on the device.
    """
    one, other = _switched(subject, "fused", (True, False))
    need_close(one, other, "with fused=True, and False", subject.start())


@conformance_test(GROUP, "maximize")
def maximize(subject: Subject) -> None:
    """With maximize=True it makes the steps of the opposite gradients.

    Otherwise it goes up in part of its formula only, or not at all.
    """
    if not subject.takes("maximize"):
        raise InapplicableError("it has no option maximize")
    ends = []
    for sign, value in ((1.0, True), (-1.0, False)):
        weights = Weights.drawn(subject.shapes)
        stepper = subject.options(maximize=value).make(weights)
        with seeded(3):
            fed(stepper, weights, subject.steps(3), scale=sign)
        ends.append(flat(weights.values()))
    need_close(ends[0], ends[1], "going up, and down the opposite gradients", subject.start())


TESTS = (
    a_step,
    a_closure,
    no_closure,
    zero_grad,
    grad_scaler,
    compiled,
    hooks,
    printed,
    in_place,
    no_graph_kept,
    foreach,
    fused,
    maximize,
)
