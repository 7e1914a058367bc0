"""The optimizer that is tested: made as ``train`` makes it, and fed with networks and gradients."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deltagclip_cli.conformance.conformance_test import Broken, InapplicableError, raised_by
from deltagclip_cli.parts.making import make
from deltagclip_cli.training.continuation import leaves
from deltagclip_cli.training.stepping import Stepper, make_optimizer

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

SHAPES: tuple[tuple[int, ...], ...] = ((6, 5), (7,), (4, 3, 3, 3))
"""A matrix, a vector and the filters of a convolution."""

MATRICES: tuple[tuple[int, ...], ...] = ((6, 5), (4, 7), (3, 3))
"""For optimizers that take nothing else."""

_MOST_IDLE = 12  # steps, of which RAdam has five

Gradients = Sequence[Tensor | None]


class Weights(nn.Module):
    """A module that is nothing but parameters, for gradients that are given."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.each = nn.ParameterList([nn.Parameter(each.detach().clone()) for each in tensors])

    @classmethod
    def drawn(
        cls, shapes: Iterable[tuple[int, ...]], dtype: torch.dtype = torch.float32
    ) -> Weights:
        """Return weights of a normal distribution, the same at every call."""
        generator = torch.Generator().manual_seed(1)
        tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        return cls(each.to(dtype) for each in tensors)

    def values(self) -> list[Tensor]:
        """Return copies of the weights as they are now."""
        return [each.detach().clone() for each in self.each]


def gradients(weights: Weights, step: int, scale: float = 1.0) -> list[Tensor]:
    """Return gradients of a normal distribution, others at every step."""
    generator = torch.Generator().manual_seed(1000 + step)
    drawn = (
        torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in weights.each
    )
    return [(scale * g).to(w.dtype) for g, w in zip(drawn, weights.each, strict=True)]


def feeding(weights: Weights, given: Gradients) -> Callable[[], Tensor]:
    """Return a closure that sets these gradients, of the loss that is linear with them."""

    def evaluate() -> Tensor:
        loss = torch.zeros((), dtype=torch.float64)
        for weight, gradient in zip(weights.each, given, strict=True):
            weight.grad = None if gradient is None else gradient.clone()
            if gradient is not None and gradient.numel() and not gradient.is_sparse:
                loss = loss + (weight.detach() * gradient.conj()).sum().real.double()
        return loss

    return evaluate


def fed(
    stepper: Stepper, weights: Weights, steps: Iterable[int] = range(3), scale: float = 1.0
) -> None:
    """Make steps with the gradients of these numbers."""
    for step in steps:
        stepper.step(feeding(weights, gradients(weights, step, scale)))


def batch_of(network: nn.Module, step: int) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of a step of :meth:`Subject.network`."""
    weight = next(network.parameters())
    generator = torch.Generator().manual_seed(step)
    drawn = (torch.randn(8, width, generator=generator, dtype=torch.float64) for width in (5, 3))
    inputs, targets = (each.to(weight.device, weight.dtype) for each in drawn)
    return inputs, targets


def evaluating(network: nn.Module, step: int, rows: slice = slice(None)) -> Callable[[], Tensor]:
    """Return a closure that computes the gradients of a step, and returns the loss."""
    inputs, targets = (each[rows] for each in batch_of(network, step))

    def evaluate() -> Tensor:
        network.zero_grad()
        loss: Tensor = (network(inputs) - targets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return evaluate


def trained(stepper: Stepper, network: nn.Module, steps: Iterable[int] = range(3)) -> None:
    """Make the steps of these numbers."""
    for step in steps:
        stepper.step(evaluating(network, step))


class Subject:
    """An optimizer of a spec with its options.

    Args:
        trial: whose optimizer it is; the rest of it only fills the place.
        before: the state of what is global, from before the optimizer was imported.
    """

    def __init__(self, trial: Trial, before: dict[str, Any] | None = None) -> None:
        self.trial = trial
        self.part = trial.optimizer
        self.before = before
        self.known: dict[str, Any] = {}

    def options(self, **changes: Any) -> Subject:
        """Return it with other options, which are not checked."""
        part = self.part.model_copy(update={"options": {**self.part.options, **changes}})
        other = Subject(self.trial.model_copy(update={"optimizer": part}), self.before)
        other.known = self.known
        return other

    def takes(self, option: str) -> bool:
        """Return whether there is such an option."""
        return option in self.part.legal()

    def make(self, network: nn.Module) -> Stepper:
        """Make it for a network, as ``train`` does, ready for the first step."""
        return self._ready(make_optimizer(self.trial, network, 10))

    def _ready(self, optimizer: Optimizer) -> Stepper:
        stepper = Stepper(optimizer)
        # What is known need not be tried, for what it raises would be taken for a wish.
        stepper.needs_closure = self.known.get("closure", stepper.needs_closure)
        stepper.train()
        return stepper

    def build(self, params: Any) -> Stepper:
        """Make it for whatever its first argument may be, such as groups.

        Raises:
            InapplicableError: its first argument is the model.
        """
        supplied: dict[str, Any] = {"model": None, "epochs": 1, "steps": 10}
        if self._first_argument in supplied:
            raise InapplicableError(f"its first argument is '{self._first_argument}'")
        supplied["model"] = Weights([])
        return self._ready(make(self.part, params, supplied=supplied))

    @cached_property
    def _first_argument(self) -> str | None:
        return next(iter(inspect.signature(self.part.load()).parameters), None)

    @property
    def refusal(self) -> str:
        """Its words on a network with vectors; empty if it takes all shapes."""
        if "refusal" not in self.known:
            said = self._tried(_network(bias=True))
            if said and (worse := self._tried(_network(bias=False))):
                raise Broken(worse)
            self.known["refusal"] = said
        refusal: str = self.known["refusal"]
        return refusal

    @property
    def needs_closure(self) -> bool:
        """True if its step needs a closure."""
        return bool(self.refusal is not None and self.known["closure"])

    @property
    def idle(self) -> int:
        """The first steps that move nothing, as those in which only statistics are gathered do."""
        idle: int = self.known["idle"] if self.refusal is not None else 0
        return idle

    def steps(self, number: int) -> range:
        """Return the numbers of so many steps that move something, and of the idle ones before."""
        return range(self.idle + number)

    def _tried(self, network: nn.Module) -> str:
        start = weights_of(network)
        self.known["idle"] = 0
        try:
            stepper = self.make(network)
            for step in range(_MOST_IDLE):
                trained(stepper, network, [step])
                if self.known["idle"] == step and torch.equal(weights_of(network), start):
                    self.known["idle"] = step + 1
                elif step > 0:
                    break
        except Exception as error:
            return raised_by(error.__cause__ or error)
        self.known["closure"] = bool(stepper.needs_closure)
        return ""

    def network(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Return a small network that it can train, the same at every call."""
        return _network(bias=not self.refusal, dtype=dtype)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of parameters that it takes."""
        return MATRICES if self.refusal else SHAPES

    def start(self) -> Tensor:
        """Return the numbers of :attr:`shapes` with which weights begin."""
        return flat(Weights.drawn(self.shapes).values())

    @cached_property
    def rate(self) -> float | None:
        """Its learning rate; None without one."""
        found = self.make(self.network()).rate()
        return None if found is None else float(found)

    def need_rate(self) -> float:
        """Return its learning rate.

        Raises:
            InapplicableError: it has none, or one of 0.
        """
        if not self.rate:
            raise InapplicableError("it has no learning rate in its param_groups")
        return self.rate

    def need_groups(self) -> None:
        """Raise InapplicableError if it takes one group of parameters only."""
        weights = Weights.drawn(self.shapes)
        first, *others = weights.each
        try:
            self.build([{"params": [first]}, {"params": others}])
        except InapplicableError:
            raise
        except Exception as error:
            raise InapplicableError(f"it takes no groups: {error.__cause__ or error}") from None

    def need_torch_optimizer(self) -> None:
        """Raise InapplicableError if it is no ``torch.optim.Optimizer``."""
        optimizer = self.make(self.network()).optimizer
        if not isinstance(optimizer, Optimizer):
            raise InapplicableError("it is no torch.optim.Optimizer")


def _network(bias: bool, dtype: torch.dtype = torch.float32) -> nn.Module:
    with seeded(0):
        layers = [nn.Linear(5, 7, bias), nn.Tanh(), nn.Linear(7, 3, bias)]
    return nn.Sequential(*layers).to(dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Begin all streams of random numbers at a seed, and put them back afterwards."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])


def tensors_in(state: Any, place: str = "") -> dict[str, Tensor]:
    """Return all tensors of a state by their places in it."""
    return {where: leaf for where, leaf in leaves(state, place) if isinstance(leaf, Tensor)}


def need_no_chance(subject: Subject, weights: Weights) -> None:
    """Raise InapplicableError if its steps draw random numbers."""
    stepper = subject.make(weights)
    with seeded(3):
        before = torch.get_rng_state()
        fed(stepper, weights, subject.steps(2))
        if not torch.equal(before, torch.get_rng_state()):
            raise InapplicableError("it draws random numbers, in the order of what it meets")


def takes_closure(optimizer: Optimizer) -> bool:
    """Return whether ``step`` has an argument for a closure."""
    taken = list(inspect.signature(type(optimizer).step).parameters.values())[1:]
    return any(each.kind <= each.VAR_POSITIONAL for each in taken)


def weights_of(network: nn.Module) -> Tensor:
    """Return copies of all numbers of a network in a row."""
    whole = (getattr(each, "full_tensor", lambda e=each: e)() for each in network.parameters())
    return torch.cat([each.detach().flatten() for each in whole])


def difference(one: Tensor, other: Tensor) -> str:
    """Say where two tensors differ most."""
    apart = (one - other).abs().flatten().double()
    apart = torch.where(apart.isnan(), torch.inf, apart)
    place = int(apart.argmax())
    count = int((one.flatten() != other.flatten()).sum())
    first, second = one.flatten()[place].item(), other.flatten()[place].item()
    return f"{count} of {one.numel()} numbers differ, most at {place}: {first!r} and {second!r}"


def need_same(one: Tensor, other: Tensor, words: str) -> None:
    """Raise Broken if two tensors are not the same bits; NaN is like NaN."""
    if one.dtype != other.dtype or not torch.equal(one.nan_to_num(1e30), other.nan_to_num(1e30)):
        raise Broken(f"{words}: {difference(one, other)}")


_ROUNDING = 1e-6  # of the largest weight


def need_close(one: Tensor, other: Tensor, words: str, start: Tensor, share: float = 0.02) -> None:
    """Raise Broken if two tensors are further apart than a share of the way from their start.

    That is wide enough for updates in bf16, as Muon computes its own.
    """
    way = float((other - start).abs().max())
    if not float((one - other).abs().max()) <= _ROUNDING * float(start.abs().max()) + share * way:
        raise Broken(f"{words}: {difference(one, other)}")


def need_finite(tensors: Iterable[Tensor], words: str) -> None:
    """Raise Broken if a tensor holds what is no finite number."""
    for number, each in enumerate(tensors):
        row = each.detach().flatten()
        bad = (~row.isfinite()).nonzero().flatten()
        if bad.numel():
            first = int(bad[0])
            raise Broken(
                f"{words}: parameter {number} of shape {tuple(each.shape)} has "
                f"{row[first].item()} at {first} ({bad.numel()} of {row.numel()} are not finite)"
            )


def flat(values: Iterable[Tensor]) -> Tensor:
    """Return numbers in a row."""
    return torch.cat([each.detach().flatten() for each in values])
