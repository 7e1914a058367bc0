"""Tests of parameters and their groups."""

from __future__ import annotations

import torch
from torch import Tensor

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
    flat,
    gradients,
    need_close,
    need_no_chance,
    need_same,
    seeded,
)

GROUP = "Parameter groups"


def _in_two(weights: Weights, **of_second: float) -> list[dict[str, object]]:
    first, *others = weights.each
    return [{"params": [first]}, {"params": others, **of_second}]


def _stepped(subject: Subject, **of_second: float) -> list[Tensor]:
    weights = Weights.drawn(subject.shapes)
    with seeded(3):
        fed(subject.build(_in_two(weights, **of_second)), weights, subject.steps(3))
    return weights.values()


def _need_honoured(subject: Subject, option: str, values: tuple[float, float]) -> None:
    ends = []
    for value in values:
        try:
            ends.append(_stepped(subject, **{option: value}))
        except Exception as error:
            raise InapplicableError(
                f"it refuses another {option} for a group: {error.__cause__ or error}"
            ) from None
    if torch.equal(flat(ends[0][1:]), flat(ends[1][1:])):
        raise Broken(
            f"with {option} = {values[0]:g} and {values[1]:g} in the second of two groups, its "
            "weights end with the same bits"
        )


@conformance_test(GROUP, "a rate for each")
def rate_for_each(subject: Subject) -> None:
    """Two groups with different learning rates are trained with different learning rates.

    Otherwise fine-tuning moves the body as fast as the head.
    """
    rate = subject.need_rate()
    subject.need_groups()
    _need_honoured(subject, "lr", (rate, 3 * rate))


@conformance_test(GROUP, "a decay for each")
def decay_for_each(subject: Subject) -> None:
    """weight_decay of a group is that group's.

    Otherwise biases and norms decay, which everybody believes to have switched off.
    """
    subject.need_groups()
    weights = Weights.drawn(subject.shapes)
    group = subject.build(_in_two(weights)).optimizer.param_groups[1]
    if "weight_decay" not in group:
        raise InapplicableError("it has no weight_decay in its param_groups")
    _need_honoured(subject, "weight_decay", (0.0, 1.0))


@conformance_test(GROUP, "split in two")
def split_in_two(subject: Subject) -> None:
    """Two groups with the same options make the steps of one.

    Otherwise something is counted, averaged or normed once a group instead of once a step.
    """
    subject.need_groups()
    weights = Weights.drawn(subject.shapes)
    with seeded(3):
        fed(subject.build(list(weights.each)), weights, subject.steps(3))
    need_close(
        flat(_stepped(subject)),
        flat(weights.values()),
        "after three steps, as two and as one",
        subject.start(),
    )


@conformance_test(GROUP, "added later")
def added_later(subject: Subject) -> None:
    """add_param_group() after some steps: what was added is trained from then on.

    Otherwise layers that are unfrozen later stay where they are.
    """
    subject.need_groups()
    weights = Weights.drawn(subject.shapes)
    first, *others = weights.each
    stepper = subject.build([first])
    fed(stepper, weights, subject.steps(2))
    before = [each.detach().clone() for each in others]
    stepper.optimizer.add_param_group({"params": others})
    stepper.weights += others
    fed(stepper, weights, range(20, 23 + subject.idle))
    for number, (each, was) in enumerate(zip(others, before, strict=True), 1):
        if torch.equal(each.detach(), was):
            raise Broken(f"parameter {number} was added after some steps, and stays where it is")


@conformance_test(GROUP, "a generator")
def a_generator(subject: Subject) -> None:
    """Parameters may come from a generator, as model.parameters() gives them.

    What walks through them twice finds nothing the second time, and trains nothing.
    """
    ends = []
    for lazily in (False, True):
        weights = Weights.drawn(subject.shapes)
        params = (each for each in weights.each) if lazily else list(weights.each)
        with seeded(3):
            fed(subject.build(params), weights, subject.steps(3))
        ends.append(flat(weights.values()))
    need_same(ends[1], ends[0], "given by a generator, and in a list")


@conformance_test(GROUP, "named parameters")
def named_parameters(subject: Subject) -> None:
    """model.named_parameters() makes the steps of model.parameters().

    torch's optimizers take both, and keep the names in the state.
    """
    ends = []
    for named in (False, True):
        weights = Weights.drawn(subject.shapes)
        params = list(weights.each.named_parameters() if named else weights.each.parameters())
        try:
            stepper = subject.build(params)
        except InapplicableError:
            raise
        except Exception as error:
            raise InapplicableError(f"it refuses them: {error.__cause__ or error}") from None
        with seeded(3):
            fed(stepper, weights, subject.steps(3))
        ends.append(flat(weights.values()))
    need_same(ends[1], ends[0], "with names, and without")


@conformance_test(GROUP, "wrong parameters")
def wrong_parameters(subject: Subject) -> str | None:
    """No parameters at all, and one that is there twice, are refused.

    Otherwise nothing is trained, or a weight is moved twice a step, and nobody is told.
    """
    weight = Weights.drawn(subject.shapes[:1]).each[0]
    for given, words in (
        ([], "an empty list of parameters"),
        ([{"params": [weight]}, {"params": [weight]}], "a parameter that is in two groups"),
    ):
        try:
            subject.build(given)
        except InapplicableError:
            raise
        except Exception:
            continue
        raise Broken(f"{words} is taken without a word")
    return None


@conformance_test(GROUP, "order of parameters")
def order_of_parameters(subject: Subject) -> None:
    """The order of the parameters makes no difference beyond rounding.

    Otherwise the state of one is used for another, or the last one decides for all.
    """
    need_no_chance(subject, Weights.drawn(subject.shapes))
    ends = []
    for reverse in (False, True):
        weights = Weights.drawn(subject.shapes)
        params = list(weights.each)
        stepper = subject.build(params[::-1] if reverse else params)
        with seeded(3):
            for step in subject.steps(3):
                stepper.step(feeding(weights, gradients(weights, step)))
        ends.append(flat(weights.values()))
    need_close(ends[1], ends[0], "in the other order, and in the first", subject.start())


TESTS = (
    rate_for_each,
    decay_for_each,
    split_in_two,
    added_later,
    a_generator,
    named_parameters,
    wrong_parameters,
    order_of_parameters,
)
