"""Tests of the state: saved, loaded, copied, gone on with."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.conformance.conformance_test import (
    Broken,
    InapplicableError,
    conformance_test,
)
from deltagclip_cli.conformance.subject import (
    Subject,
    evaluating,
    need_close,
    need_same,
    seeded,
    takes_closure,
    trained,
    weights_of,
)
from deltagclip_cli.core import UsageError
from deltagclip_cli.training.continuation import check_continuation, check_state, leaves
from deltagclip_cli.training.stepping import Stepper

GROUP = "State"


def _begun(subject: Subject, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Stepper]:
    network = subject.network(dtype)
    stepper = subject.make(network)
    with seeded(3):
        trained(stepper, network, subject.steps(3))
    return network, stepper


def _through_a_file(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@conformance_test(GROUP, "plain values")
def plain_values(subject: Subject) -> None:
    """state_dict() loads with weights_only=True: it holds tensors, numbers, words, lists, dicts.

    Otherwise a checkpoint cannot be read without running code, and 'train' refuses to promise
    a resume.
    """
    _, stepper = _begun(subject)
    try:
        check_state("it", stepper.state_dict()["optimizer"])
        _through_a_file(stepper.state_dict())
    except UsageError as error:
        raise Broken(str(error)) from None


@conformance_test(GROUP, "resume")
def resume(subject: Subject) -> None:
    """Stopped in the middle and resumed from its state, it ends with the same bits.

    Otherwise every preempted job reports other numbers, as with pytorch_optimizer#326 and #363.
    """
    network = subject.network()
    evaluate = evaluating(network, 0)
    try:
        steps = 3 + subject.idle
        check_continuation(
            "it", network, lambda: Stepper(subject.make(network).optimizer), evaluate, steps
        )
    except UsageError as error:
        raise Broken(str(error)) from None


@conformance_test(GROUP, "round trip")
def round_trip(subject: Subject) -> None:
    """load_state_dict() gives what state_dict() said: the same keys and the same bits.

    Otherwise what was saved is not what goes on, and nobody is told.
    """
    network, stepper = _begun(subject)
    saved = _through_a_file(stepper.optimizer.state_dict())
    other = subject.make(copy.deepcopy(network))
    other.optimizer.load_state_dict(copy.deepcopy(saved))
    _need_equal(other.optimizer.state_dict(), saved)


def _need_equal(loaded: Any, saved: Any) -> None:
    there, was = dict(leaves(loaded, "state_dict()")), dict(leaves(saved, "state_dict()"))
    if lost := [place for place in was if place not in there]:
        raise Broken(f"{lost[0]} is gone after loading ({len(lost)} in all)")
    if more := [place for place in there if place not in was]:
        raise Broken(f"{more[0]} is there after loading and was not saved ({len(more)} in all)")
    for place, before in was.items():
        after = there[place]
        if isinstance(before, Tensor) and isinstance(after, Tensor):
            if before.shape != after.shape or before.dtype != after.dtype:
                said = [f"{each.dtype} {tuple(each.shape)}" for each in (before, after)]
                raise Broken(f"{place} was {said[0]} and is {said[1]} after loading")
            need_same(after, before, f"{place} after loading and before")
        elif type(before) is not type(after) or before != after:
            raise Broken(f"{place} was {before!r} and is {after!r} after loading")


@conformance_test(GROUP, "options of groups")
def options_of_groups(subject: Subject) -> None:
    """A learning rate that was changed during the training comes back with the state.

    Otherwise a training that is resumed in the middle of a schedule goes on at its first rate.
    """
    rate = subject.need_rate()
    network, stepper = _begun(subject)
    for group in stepper.optimizer.param_groups:
        group["lr"] = rate / 4
    saved = _through_a_file(stepper.optimizer.state_dict())
    other = subject.make(copy.deepcopy(network))
    other.optimizer.load_state_dict(saved)
    for number, group in enumerate(other.optimizer.param_groups):
        if float(group["lr"]) != rate / 4:
            raise Broken(
                f"param_groups[{number}]['lr'] was {rate / 4} and is {group['lr']} after loading"
            )


@conformance_test(GROUP, "before a step")
def before_a_step(subject: Subject) -> None:
    """A state that was saved before the first step can be loaded, and training begins from it.

    Otherwise a job that is stopped early cannot be resumed: lazily made state is missing.
    """
    network = subject.network()
    saved = _through_a_file(subject.make(network).state_dict())
    ends = []
    for loads in (False, True):
        network = subject.network()
        stepper = subject.make(network)
        if loads:
            stepper.load_state_dict(saved)
        with seeded(3):
            trained(stepper, network, subject.steps(3))
        ends.append(weights_of(network))
    need_same(ends[1], ends[0], "three steps after loading, and without")


@conformance_test(GROUP, "dtype of state")
def dtype_of_state(subject: Subject) -> str | None:
    """With bf16 weights, loading keeps every tensor of the state in the precision that it had.

    torch's load_state_dict gives floating point state the dtype of the weight, so that statistics
    kept in float32 lose their last 16 bits at every resume.
    """
    try:
        network, stepper = _begun(subject, torch.bfloat16)
    except Exception as error:
        raise InapplicableError(f"it cannot train bf16 weights: {error}") from error
    saved = _through_a_file(stepper.optimizer.state_dict())
    other = subject.make(copy.deepcopy(network))
    other.optimizer.load_state_dict(copy.deepcopy(saved))
    was, now = (
        dict(leaves(saved, "state_dict()")),
        dict(leaves(other.optimizer.state_dict(), "state_dict()")),
    )
    for place, before in was.items():
        after = now.get(place)
        if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
            continue
        if before.dtype != after.dtype and not torch.equal(after.to(before.dtype), before):
            raise Broken(
                f"{place} was {_name(before)} and is {_name(after)} after loading, as another "
                f"number: {difference_of(before, after.to(before.dtype))}"
            )
    return None


def difference_of(before: Tensor, after: Tensor) -> str:
    """Return the numbers of two tensors that differ most, in words."""
    place = int((before - after).abs().flatten().argmax())
    return f"{before.flatten()[place].item()!r} and {after.flatten()[place].item()!r}"


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@conformance_test(GROUP, "deepcopy")
def deep_copy(subject: Subject) -> None:
    """A copy.deepcopy of network and optimizer goes the same way, and leaves the first alone.

    Otherwise look-ahead, population training and averaging of weights train something else.
    """
    _copied(subject, copy.deepcopy)


@conformance_test(GROUP, "pickle")
def pickled(subject: Subject) -> None:
    """Pickled together with its network, it goes the same way.

    Otherwise it cannot be sent to another process, or saved whole by torch.save.
    """
    _copied(subject, lambda both: pickle.loads(pickle.dumps(both)))


def _copied(subject: Subject, copied: Callable[[Any], Any]) -> None:
    network, stepper = _begun(subject)
    other_network, other = copied((network, stepper.optimizer))
    other_stepper = Stepper(other)
    other_stepper.needs_closure = subject.needs_closure
    before = weights_of(network)
    for each, of in ((other_stepper, other_network), (stepper, network)):
        if each is stepper:
            need_same(weights_of(network), before, "the first network, while its copy trained")
        with seeded(4):
            trained(each, of, range(20, 23))
    need_same(weights_of(other_network), weights_of(network), "the copy and the first")


@conformance_test(GROUP, "keys of state")
def keys_of_state(subject: Subject) -> None:
    """optimizer.state is keyed by the parameters of its groups.

    Otherwise state_dict() cannot number it, and FSDP and torch.distributed.checkpoint lose it.
    """
    network, stepper = _begun(subject)
    own = {id(each) for each in network.parameters()}
    for key in getattr(stepper.optimizer, "state", {}):
        if not isinstance(key, Tensor):
            raise Broken(f"optimizer.state has the key {key!r}, which is no parameter")
        if id(key) not in own:
            raise Broken(
                f"optimizer.state has a tensor of shape {tuple(key.shape)}, which is no "
                "parameter of its groups, for a key"
            )


@conformance_test(GROUP, "distributed checkpoint")
def distributed_checkpoint(subject: Subject) -> None:
    """torch.distributed.checkpoint saves and restores it, to the same bits.

    torchtitan, Lightning and Accelerate save in this way; it makes a step with a rate of 0 first.
    """
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    subject.need_torch_optimizer()
    network, stepper = _begun(subject)
    if stepper.needs_closure:
        raise InapplicableError("its step needs a closure, and torch hands it none there")
    if not takes_closure(stepper.optimizer):
        raise InapplicableError("its step takes no closure, and torch names that argument there")
    if "inner" in stepper.state_dict():
        raise InapplicableError("it holds other optimizers, whose state torch does not see there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = _through_a_file(get_optimizer_state_dict(network, stepper.optimizer))
        other_network = copy.deepcopy(network)
        other = subject.make(other_network)
        set_optimizer_state_dict(other_network, other.optimizer, saved)
    need_same(weights_of(other_network), weights_of(network), "the weights after loading")
    for each, of in ((stepper, network), (other, other_network)):
        each.train()
        with seeded(4):
            trained(each, of, range(20, 23))
    need_same(weights_of(other_network), weights_of(network), "restored, and undisturbed")


def _need_modes(stepper: Stepper) -> None:
    if not stepper.averages:
        raise InapplicableError("it has no train() and eval()")


@conformance_test(GROUP, "train and eval")
def modes(subject: Subject) -> None:
    """eval() and train() lead there and back: the weights are what they were.

    Otherwise every evaluation moves the training.
    """
    network, stepper = _begun(subject)
    _need_modes(stepper)
    before = weights_of(network)
    for _ in range(2):  # where it is already, nothing must happen
        stepper.optimizer.eval()  # type: ignore[attr-defined]
    stepper.optimizer.train()  # type: ignore[attr-defined]
    need_close(
        weights_of(network),
        before,
        "after eval() and train(), and before",
        weights_of(subject.network()),
        1e-4,
    )


@conformance_test(GROUP, "saved in eval")
def saved_in_eval(subject: Subject) -> None:
    """Saved at the averaged weights of eval(), and loaded, it goes on as if nothing had been.

    Many scripts evaluate and then save; the mode must be part of the state (schedule_free#32).
    """
    network, stepper = _begun(subject)
    _need_modes(stepper)
    stepper.optimizer.eval()  # type: ignore[attr-defined]
    weights, saved = weights_of(network), _through_a_file(stepper.state_dict())
    averaged = copy.deepcopy(network.state_dict())
    stepper.train()
    with seeded(4):
        trained(stepper, network, range(20, 23))
    other_network = subject.network()
    other = subject.make(other_network)
    other_network.load_state_dict(averaged)
    other.load_state_dict(saved)
    need_same(weights_of(other_network), weights, "the averaged weights, once they are loaded")
    other.train()
    with seeded(4):
        trained(other, other_network, range(20, 23))
    ends = weights_of(other_network), weights_of(network)
    need_close(*ends, "resumed, and undisturbed", weights_of(subject.network()), 1e-4)


TESTS = (
    plain_values,
    round_trip,
    resume,
    before_a_step,
    options_of_groups,
    dtype_of_state,
    keys_of_state,
    deep_copy,
    pickled,
    distributed_checkpoint,
    modes,
    saved_in_eval,
)
