"""Tests of gradients: missing, zero, frozen, not finite, sparse, of parameters of all shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
    raised_by,
)
from deltagclip_cli.conformance.subject import (
    MATRICES,
    Subject,
    Weights,
    fed,
    feeding,
    flat,
    gradients,
    need_close,
    need_finite,
    need_no_chance,
    need_same,
    seeded,
)

GROUP = "Gradients"


def _masked(weights: Weights, step: int, without: set[int]) -> list[Tensor | None]:
    drawn = gradients(weights, step)
    return [None if number in without else each for number, each in enumerate(drawn)]


def _need_still(weights: Weights, number: int, before: Tensor, words: str) -> None:
    need_same(weights.each[number].detach(), before, words)


@conformance_test(GROUP, "one without")
def one_without(subject: Subject) -> None:
    """A parameter whose gradient is None stays as it is, and the others are trained.

    Layers that a batch does not use have none; decay and momentum must not move them.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    before = weights.values()
    for step in subject.steps(3):
        stepper.step(feeding(weights, _masked(weights, step, {1})))
    _need_still(weights, 1, before[1], "parameter 1, which never had a gradient, and before")
    for number in (0, 2):
        if torch.equal(weights.each[number].detach(), before[number]):
            raise Broken(f"parameter {number} has a gradient and stays where it is")


@conformance_test(GROUP, "one that comes late")
def one_that_comes_late(subject: Subject) -> None:
    """A gradient that first comes after some steps is taken like any other.

    State that is made at the first step alone is missing then.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    for step in range(4 + 2 * subject.idle):
        missing = {1} if step < 2 else {0}
        stepper.step(feeding(weights, _masked(weights, step, missing)))
    need_finite(weights.each, "after a gradient that came late")
    start = Weights.drawn(subject.shapes).values()
    if torch.equal(weights.each[1].detach(), start[1]):
        raise Broken("parameter 1 has a gradient from the third step on, and stays where it is")


@conformance_test(GROUP, "none at all")
def none_at_all(subject: Subject) -> None:
    """A step without any gradient does nothing.

    The first step after zero_grad(), a frozen network, and torch.distributed.checkpoint make one.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    if stepper.needs_closure:
        raise InapplicableError("its closure computes the gradients")
    before = weights.values()
    stepper.step(feeding(weights, [None] * len(before)))
    need_same(flat(weights.values()), flat(before), "after a step without gradients, and before")


@conformance_test(GROUP, "zeros")
def zeros(subject: Subject) -> None:
    """Gradients that are zero give no NaN, at the first step or later.

    Dead units, masked tokens and padded embeddings have them.
    """
    for first in (0, 2):
        weights = Weights.drawn(subject.shapes)
        stepper = subject.make(weights)
        fed(stepper, weights, range(first and first + subject.idle))
        for step in range(2):
            stepper.step(feeding(weights, [torch.zeros_like(each) for each in weights.each]))
            words = f"after {step + 1} zero gradients" + (f" that follow {first}" if first else "")
            need_finite(weights.each, words)


@conformance_test(GROUP, "frozen")
def frozen(subject: Subject) -> None:
    """A parameter that is frozen in the middle of the training stays as it is.

    Otherwise momentum goes on moving what is believed to stand still.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    fed(stepper, weights, subject.steps(2))
    weights.each[0].requires_grad_(False)
    before = weights.each[0].detach().clone()
    for step in (20, 21):
        stepper.step(feeding(weights, _masked(weights, step, {0})))
    _need_still(weights, 0, before, "parameter 0, frozen after some steps, and two steps later")


@conformance_test(GROUP, "left as they are")
def left_as_they_are(subject: Subject) -> str | None:
    """A step does not write to the gradients.

    Otherwise norms that are logged, accumulated gradients and a second optimizer see others.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    for step in subject.steps(2):
        given = gradients(weights, step)
        stepper.step(feeding(weights, given))
        for number, (each, was) in enumerate(zip(weights.each, given, strict=True)):
            if each.grad is None:
                return "it consumes them: they are None after the step"
            need_same(each.grad, was, f"the gradient of parameter {number} after the step")
    return None


@conformance_test(GROUP, "not finite", judges=False)
def not_finite(subject: Subject) -> str:
    """One NaN among the gradients: what becomes of the weights.

    GradScaler skips such steps; without it they are what a training dies of.
    """
    weights = Weights.drawn(subject.shapes)
    stepper = subject.make(weights)
    fed(stepper, weights, subject.steps(2))
    before, given = weights.values(), gradients(weights, 20)
    given[0].flatten()[3] = torch.nan
    try:
        stepper.step(feeding(weights, given))
    except Exception as error:
        return f"it raises {type(error).__name__}"
    if torch.equal(flat(weights.values()), flat(before)):
        return "it skips the step"
    hit = [number for number, each in enumerate(weights.each) if not bool(each.isfinite().all())]
    if not hit:
        return "all weights stay finite"
    if hit != [0]:
        return "it spreads to other parameters"
    spoilt = int((~weights.each[0].isfinite()).sum())
    return "one weight becomes NaN" if spoilt == 1 else "its parameter becomes NaN"


@conformance_test(GROUP, "sparse")
def sparse(subject: Subject) -> str:
    """Gradients of nn.Embedding(sparse=True) are followed, or refused with an error.

    Otherwise an embedding is not trained, or wrongly, without a word.
    """
    table = nn.Embedding(5, 4, sparse=True)
    weights = Weights([table.weight])
    table.weight = weights.each[0]
    before = weights.values()[0]
    stepper = subject.make(weights)

    def evaluate() -> Tensor:
        table.weight.grad = None
        loss: Tensor = table(torch.tensor([1, 3])).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    try:
        for _ in subject.steps(2):
            stepper.step(evaluate)
    except Exception as error:
        return f"refused: {raised_by(error.__cause__ or error)}"
    need_finite(weights.each, "after a sparse gradient")
    for row in (1, 3):
        if torch.equal(weights.each[0][row].detach(), before[row]):
            raise Broken(f"row {row} has a gradient and stays where it is, without an error")
    return "followed"


def _need_trained(subject: Subject, shapes: tuple[tuple[int, ...], ...]) -> None:
    weights = Weights.drawn(shapes)
    try:
        stepper = subject.make(weights)
    except Exception as error:
        raise InapplicableError(f"it refuses them: {error.__cause__ or error}") from None
    before = weights.values()
    fed(stepper, weights, subject.steps(3))
    need_finite(weights.each, "after some steps")
    for each, was in zip(weights.each, before, strict=True):
        if each.numel() and torch.equal(each.detach(), was):
            raise Broken(f"a parameter of shape {tuple(each.shape)} stays where it is")
        if each.shape != was.shape:
            raise Broken(f"a parameter of shape {tuple(was.shape)} has {tuple(each.shape)} now")


@conformance_test(GROUP, "all dimensions")
def all_dimensions(subject: Subject) -> str | None:
    """Vectors, matrices and filters of one to three dimensions, wide, tall and of one row, train.

    Every convolutional network and transformer has them.
    """
    if subject.refusal:
        _need_trained(subject, MATRICES)
        raise InapplicableError(f"it takes matrices only: {subject.refusal}")
    _need_trained(subject, ((6,), (4, 3), (3, 9), (1, 4), (4, 1), (2, 3, 3), (4, 3, 2, 2)))
    _need_trained(subject, ((3, 2), (3, 2, 2, 2, 2), (5, 1, 3, 3)))
    return None


@conformance_test(GROUP, "a single number")
def a_single_number(subject: Subject) -> None:
    """A parameter without dimensions trains, beside others.

    Temperatures, gates and scales are such.
    """
    if subject.refusal:
        raise InapplicableError("it takes matrices only")
    _need_trained(subject, ((4, 3), (), (1,)))


@conformance_test(GROUP, "an empty one")
def an_empty_one(subject: Subject) -> None:
    """A parameter without any numbers does no harm.

    Pruned layers and shards of FSDP are empty.
    """
    _need_trained(subject, ((4, 3), (0, 3) if subject.refusal else (0,), (3, 3)))


@conformance_test(GROUP, "strides")
def strides(subject: Subject) -> None:
    """Parameters that are transposed or channels_last make the steps of contiguous ones.

    A .view(-1) fails on them, and a fused update that ignores strides moves the wrong numbers.
    """
    need_no_chance(subject, Weights.drawn(subject.shapes))
    plain = Weights.drawn(subject.shapes)
    turned = Weights.drawn(subject.shapes)
    for number, each in enumerate(turned.each):
        if each.dim() == 4:
            turned.each[number] = nn.Parameter(
                each.detach().clone(memory_format=torch.channels_last)
            )
        elif each.dim() == 2:
            turned.each[number] = nn.Parameter(each.detach().t().contiguous().t())
    for weights in (plain, turned):
        with seeded(3):
            stepper = subject.make(weights)
            for step in subject.steps(3):
                given = gradients(weights, step)
                laid = [
                    torch.empty_like(each).copy_(g)
                    for each, g in zip(weights.each, given, strict=True)
                ]
                stepper.step(feeding(weights, laid))
    ends = flat(turned.values()), flat(plain.values())
    need_close(*ends, "not contiguous, and contiguous", subject.start())


TESTS = (
    one_without,
    one_that_comes_late,
    none_at_all,
    zeros,
    frozen,
    left_as_they_are,
    not_finite,
    sparse,
    all_dimensions,
    a_single_number,
    an_empty_one,
    strides,
)
