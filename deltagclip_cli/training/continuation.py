"""The state of an optimizer in a checkpoint, and the promise that it goes on with the same bits.

A checkpoint is loaded without running any code, so it has tensors and plain values only. Queues,
members of enumerations, and objects that only hold such values, of classes of the optimizer's own
package, are written as dictionaries, and are themselves again in what the optimizer loads.
"""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deltagclip_cli.core import UsageError
from deltagclip_cli.training.chance import seed_streams

if TYPE_CHECKING:
    from deltagclip_cli.training.stepping import Stepper

_STANDS_FOR = "stands for"
"""The key of a dictionary that stands for something else.

Its value is the class of that, in the package of the optimizer: ``".module:Class"``.
"""


def check_continuation(
    part: str,
    network: nn.Module,
    make: Callable[[], Stepper],
    evaluate: Callable[[], Tensor],
    steps: int = 2,
) -> None:
    """Refuse an optimizer, or a network, that does not go on from a checkpoint with the same bits.

    Args:
        part: what it is called in the message.
        network: whose weights it changes, and which is left as it is then.
        make: makes the optimizer, and what steps it.
        evaluate: computes the gradients, and returns the loss.
        steps: before the checkpoint, and after it.
    """

    def begun() -> Stepper:
        stepper = make()
        stepper.train()
        return stepper

    first = _copied(network)

    def end(*, stops: bool) -> Tensor:
        network.load_state_dict(first)
        stepper = begun()
        for number in range(2 * steps):
            if number == steps:
                with stepper.evaluating():
                    pass
            if number == steps and stops:
                weights, state = _copied(network), stepper.state_dict()
                check_state(part, state["optimizer"])
                network.load_state_dict(first)
                stepper = begun()
                network.load_state_dict(weights)
                stepper.load_state_dict(reloaded(state))
            seed_streams(number)
            stepper.step(evaluate)
        return torch.cat([each.detach().flatten() for each in network.parameters()])

    undisturbed, stopped = end(stops=False), end(stops=True)
    if not bool(undisturbed.isfinite().all()) or torch.equal(undisturbed, stopped):
        return
    if not torch.equal(undisturbed, end(stops=False)):
        raise UsageError(
            f"a step depends on something that neither {type(network).__name__} has in its "
            f"buffers nor {part} in its state, so that an interrupted trial would end with other "
            "numbers.\n"
            "  Let the network keep it: self.register_buffer('count', torch.zeros(()))."
        )
    raise UsageError(
        f"{part} does not go on where it was: its state_dict() leaves out something that steps "
        "depend on, so that an interrupted trial would end with other numbers.\n"
        "  Keep it in self.state or in self.param_groups."
    )


def _copied(network: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def plain_state(optimizer: Optimizer) -> Any:
    """Return the state of an optimizer in tensors and plain values, as far as it can be."""
    state = optimizer.state_dict()
    if isinstance(state, dict) and "param_groups" in state:
        groups = [
            {name: each.value if isinstance(each, Enum) else each for name, each in group.items()}
            for group in state["param_groups"]
        ]
        state = {**state, "param_groups": groups}
    return _plain(state, _package(optimizer))


def _package(optimizer: Any) -> str:
    return type(optimizer).__module__.partition(".")[0]


def _plain(value: Any, package: str) -> Any:
    """Return a value with dictionaries for what is none itself."""
    kind = type(value)
    if kind is dict:
        return {key: _plain(each, package) for key, each in value.items()}
    if kind in (list, tuple):
        return kind(_plain(each, package) for each in value)
    if kind is deque:
        items = [_plain(each, package) for each in value]
        return {_STANDS_FOR: "deque", "items": items, "maxlen": value.maxlen}
    if kind.__module__.partition(".")[0] == package != "torch":
        name = f"{kind.__module__.removeprefix(package)}:{kind.__qualname__}"
        if isinstance(value, Enum) and _class(name, package) is kind:
            return {_STANDS_FOR: name, "value": value.value}
        if _only_holds(kind) and _class(name, package) is kind:
            return {_STANDS_FOR: name, "holds": _plain(vars(value), package)}
    return value


def _only_holds(kind: type) -> bool:
    """Return whether the objects of a class are no more than their attributes."""
    usual = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__")
    return (
        all(getattr(kind, name) is getattr(object, name) for name in usual)
        and not hasattr(kind, "__setstate__")
        and kind.__dictoffset__ != 0
        and not any("__slots__" in vars(each) for each in kind.__mro__)
    )


def _class(name: str, package: str) -> Any:
    """Return a class of a package by its name there, if that is imported; else None."""
    module, _, name = name.partition(":")
    try:
        kind = attrgetter(name)(sys.modules[package + module])
    except (KeyError, AttributeError):
        return None
    is_there = module[:1] in ("", ".") and getattr(kind, "__module__", "") == package + module
    return kind if is_there and isinstance(kind, type) else None


def _restored(value: Any, package: str) -> Any:
    """Return what :func:`_plain` was given."""
    if type(value) in (list, tuple):
        return type(value)(_restored(each, package) for each in value)
    if type(value) is not dict:
        return value
    values = {key: _restored(each, package) for key, each in value.items()}
    name = values.get(_STANDS_FOR)
    if name is None:
        return values
    if name == "deque":
        return deque(values["items"], values["maxlen"])
    kind = _class(name, package)
    if kind is None:
        raise LookupError(f"{package}{name}")
    if "value" in values:
        return kind(values["value"])
    made: Any = object.__new__(kind)
    vars(made).update(values["holds"])
    return made


def load_plain(optimizer: Optimizer, state: Any) -> None:
    """Load what :func:`plain_state` gave.

    torch gives numbers the precision of the weights, and queues no length; they get back theirs.
    """
    try:
        state = _restored(state, _package(optimizer))
    except LookupError as error:
        raise UsageError(
            f"the checkpoint has {error.args[0]} in it, which optimizer "
            f"{type(optimizer).__name__} does not have.\n"
            "  Install the version of its package that the trial was begun with, or start again "
            "with --force."
        ) from None
    kinds = [
        {k: type(value) for k, value in group.items() if isinstance(value, Enum)}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, of_group in zip(optimizer.param_groups, kinds, strict=True):
        group.update({name: kind(group[name]) for name, kind in of_group.items()})
    given = dict(leaves(state))
    loaded = optimizer.state_dict()
    for place, leaf in leaves(loaded):
        exact = given.get(place)
        if isinstance(leaf, Tensor) and isinstance(exact, Tensor) and leaf.dtype != exact.dtype:
            leaf.data = exact.to(leaf.device)
    _lengthen(loaded, state)


def _lengthen(loaded: Any, given: Any) -> None:
    """Give the queues of a loaded state the lengths that those of a given one have at most."""
    if not isinstance(loaded, dict) or not isinstance(given, dict):
        return
    for key, each in loaded.items():
        of_given = given.get(key)
        if isinstance(each, deque) and isinstance(of_given, deque):
            loaded[key] = deque(each, of_given.maxlen)
        else:
            _lengthen(each, of_given)


def check_state(part: str, state: Any) -> None:
    """Refuse what a part keeps in its ``state_dict`` if no checkpoint can hold it.

    Args:
        part: what it is called in the message.
    """
    known = {Tensor, nn.Parameter, bool, int, float, str, type(None)}
    for place, value in leaves(state, "state_dict()"):
        if type(value) in known or hasattr(value, "to_local"):
            continue
        try:
            reloaded(value)
        except Exception:
            raise UsageError(
                f"{part} keeps a {type(value).__qualname__} in {place}, which no checkpoint can "
                "hold: those are loaded without running any code.\n"
                "  Let its state_dict have tensors, numbers, words, and lists and dictionaries of "
                "them only."
            ) from None
        known.add(type(value))


def reloaded(value: Any) -> Any:
    """Return a value as it comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that dictionaries, lists and queues hold, their keys too, each with its place."""
    if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
        yield place, type(value)()
        for key, each in value.items():
            yield f"the keys of {place}", key
            yield from leaves(each, f"{place}[{key!r}]")
    elif type(value) in (list, tuple, deque):
        for number, each in enumerate(value):
            yield from leaves(each, f"{place}[{number}]")
    else:
        yield place, value
