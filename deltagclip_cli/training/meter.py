"""Measurements between evaluations, and averages of weights; no step waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from deltagclip_cli.core import REGIMES, UsageError, stopped
from deltagclip_cli.optim.delta_gclip import DeltaGClip
from deltagclip_cli.optim.update import gather_norms, local, on_host, whole_norms

# A norm is one more pass over all gradients. For optimizers that do not make it themselves, every
# tenth step tells the same story at a tenth of the price.
NORM_EVERY = 10

State = dict[str, dict[str, Any]]


class _Number(NamedTuple):
    """The value of a 0-dim tensor."""

    value: Any
    dtype: torch.dtype


_Kept: TypeAlias = Tensor | _Number


class Observer:
    """Reads an optimizer around each of its steps, without waiting for the device.

    Of any optimizer, the norm of its gradient is all that can be told. What is told is 0-dim.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def measures(self, batch: int) -> bool:
        """Return whether there is anything to tell before step ``batch``, from 0."""
        return batch % NORM_EVERY == 0

    def before(self, batch: int) -> dict[str, Tensor]:
        """Return what gradients tell before step ``batch``, which may overwrite them."""
        if not self.measures(batch):
            return {}
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients:
            return {}
        norms = gather_norms(whole_norms(gradients))
        # Of a gradient that can be differentiated itself, nothing may hold on to how it was made.
        return {"grad_norm": torch.linalg.vector_norm(norms).detach()}

    def after(self) -> dict[str, Tensor]:
        """Return what the step just made tells: ``step_size`` and ``grad_norm``, or less."""
        return {}

    def repeated(self) -> None:
        """Take notice of a step that a captured graph makes again, which calls nobody."""

    def regimes(self) -> Tensor | None:
        """Return how many steps so far were plain, clipped and floored, or None; int64."""
        return None


class PlainObserver(Observer):
    """Gradient descent without momentum: every step is plain, with h = η."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self._optimizer = optimizer  # whose groups are others after a restart
        self._steps = 0
        self._told: tuple[float, Tensor] | None = None

    def after(self) -> dict[str, Tensor]:
        self._steps += 1
        rate = self._optimizer.param_groups[0]["lr"]
        if isinstance(rate, Tensor):
            # In a new tensor each time, for a schedule changes it in place.
            return {"step_size": rate.clone()}
        if self._told is None or self._told[0] != rate:
            self._told = rate, torch.tensor(rate, dtype=torch.float64)
        return {"step_size": self._told[1]}

    def repeated(self) -> None:
        self._steps += 1

    def regimes(self) -> Tensor | None:
        return torch.tensor([self._steps, 0, 0])


class ClippingObserver(Observer):
    """δ-GClip and GClip, which know all of it themselves.

    Where several blocks of tensors have a step of their own, the norm is that of all together, the
    step size is the mean of theirs, and the regimes count a step for each of them.
    """

    def __init__(self, optimizer: DeltaGClip) -> None:
        self._optimizer = optimizer

    def measures(self, batch: int) -> bool:
        return False

    def after(self) -> dict[str, Tensor]:
        norm, step_size = self._optimizer.grad_norm, self._optimizer.step_size
        if norm is None or step_size is None:
            return {}
        whole = torch.linalg.vector_norm(norm) if norm.numel() > 1 else norm.reshape(())
        mean = step_size.mean() if step_size.numel() > 1 else step_size.reshape(())
        return {"grad_norm": whole, "step_size": mean}

    def regimes(self) -> Tensor | None:
        counts = self._optimizer.regime_counts
        return None if counts is None else counts.clone()


class SilentObserver(Observer):
    """Tells nothing: the norm is known to whoever clips the gradient of any optimizer."""

    def measures(self, batch: int) -> bool:
        return False


def observer(optimizer: Optimizer, *, is_clipped: bool = False) -> Observer:
    """Return the observer that tells most of ``optimizer``.

    Args:
        is_clipped: whether its gradients are clipped before it is given them, so that steps along
            them are no plain ones, and their norm is known.
    """
    if isinstance(optimizer, DeltaGClip):
        return ClippingObserver(optimizer)
    if is_clipped:
        return SilentObserver(optimizer)
    if type(optimizer) is SGD and all(not group["momentum"] for group in optimizer.param_groups):
        return PlainObserver(optimizer)
    return Observer(optimizer)


class Meter:
    """Collects the values of steps, of so many samples; computes nothing before it is asked."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._sums: dict[str, list[_Kept]] = {}
        self._observed: dict[str, dict[int, _Kept]] = {}  # by the number of the step

    def add(self, sums: Mapping[str, Tensor], observed: Mapping[str, Tensor]) -> None:
        """Take the next step's sums over its samples, and what its optimizer tells; all 0-dim."""
        step = len(self._sums.get("loss", ()))
        for name, value in sums.items():
            self._sums.setdefault(name, []).append(_kept(value))
        for name, value in observed.items():
            self._observed.setdefault(name, {})[step] = _kept(value)

    def first_not_finite(self) -> int | None:
        """Return the number of the first step, from 0, whose loss is not finite."""
        bad = ~torch.isfinite(_stacked(self._sums["loss"]))
        return int(bad.nonzero()[0]) if bool(bad.any()) else None

    def means(self, start: int = 0, last: Mapping[str, float | Tensor] | None = None) -> Means:
        """Begin to read the means of what was added from step ``start`` on.

        Args:
            last: what is told beside them, before what the optimizer tells of its steps.
        """
        sums = {name: column[start:] for name, column in self._sums.items()}
        told = {
            name: [value for step, value in column.items() if step >= start]
            for name, column in self._observed.items()
        }
        told = {name: values for name, values in told.items() if values}
        samples = sum(self._sizes[start : start + len(sums["loss"])])
        return Means(sums, told, samples, last or {})

    def state_dict(self) -> State:
        """Return what was added so far, exactly."""
        sums = {name: _stacked(column) for name, column in self._sums.items()}
        observed = {
            name: {"steps": torch.tensor(list(column)), "values": _stacked([*column.values()])}
            for name, column in self._observed.items()
        }
        return {"sums": sums, "observed": observed}

    def load_state_dict(self, state: State) -> None:
        self._sums = {
            name: [_kept(value) for value in column.unbind()]
            for name, column in state["sums"].items()
        }
        self._observed = {
            name: dict(
                zip(column["steps"].tolist(), map(_kept, column["values"].unbind()), strict=True)
            )
            for name, column in state["observed"].items()
        }


class Means:
    """Means that are on their way from the device; whoever asks for them waits for it."""

    def __init__(
        self,
        sums: Mapping[str, Sequence[_Kept]],
        told: Mapping[str, Sequence[_Kept]],
        samples: int,
        last: Mapping[str, float | Tensor],
    ) -> None:
        self._samples, self._last = samples, dict(last)
        parts = {"sums": sums, "told": told}
        tensors = {
            (p, k): _stacked(column) for p, each in parts.items() for k, column in each.items()
        }
        tensors |= {("last", k): each for k, each in last.items() if isinstance(each, Tensor)}
        self._copies = HostCopies(tensors)

    def are_there(self) -> bool:
        """Say whether nobody need wait for them."""
        return self._copies.are_there()

    def of_samples(self) -> dict[str, float]:
        """Return the means of sums over samples."""
        return {name: _total(column) / self._samples for name, column in self._part("sums")}

    def of_steps(self) -> dict[str, float]:
        """Return the means of what the optimizer told, over the steps after which it did."""
        last = {**self._last, **dict(self._part("last"))}
        told = {name: _total(column) / len(column) for name, column in self._part("told")}
        return {**{name: float(value) for name, value in last.items()}, **told}

    def _part(self, part: str) -> list[tuple[str, Tensor]]:
        return [(name, each) for (of, name), each in self._copies.wait().items() if of == part]


class HostCopies:
    """Copies of tensors in the host's memory, for which no step waits.

    What is there already is not copied. The tensors must not be written to any more.
    """

    def __init__(self, tensors: Mapping[tuple[str, str], Tensor]) -> None:
        self._copies = dict(tensors)
        self._event: torch.cuda.Event | None = None
        for key, tensor in tensors.items():
            if tensor.device.type == "cuda":
                copy = torch.empty_like(tensor, device="cpu", pin_memory=True)
                self._copies[key] = copy.copy_(tensor, non_blocking=True)
                self._event = torch.cuda.current_stream(tensor.device).record_event()

    def are_there(self) -> bool:
        """Say whether nobody need wait for them."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> Mapping[tuple[str, str], Tensor]:
        """Return them, once the device has come as far."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies


def _total(column: Tensor) -> float:
    # In float64, for the sum of 60,000 losses in float32 loses three digits.
    return float(column.double().sum())


def _kept(value: Tensor) -> _Kept:
    # A tensor that stays on the host lies where those of the next step would have lain. These find
    # other memory then, which no cache has: a tenth of an epoch of a small network.
    return _number(value) if on_host(value) else value


def _number(value: Tensor) -> _Number:
    return _Number(value.tolist(), value.dtype)


def _stacked(column: Sequence[_Kept]) -> Tensor:
    if not any(isinstance(each, _Number) for each in column):
        return torch.stack([*cast("Sequence[Tensor]", column)])
    # Some were measured on another device, before a restart.
    numbers = [_number(each.cpu()) if isinstance(each, Tensor) else each for each in column]
    return torch.tensor([each.value for each in numbers], dtype=numbers[0].dtype)


class RegimeCounter:
    """Steps per regime since the counter was made, and ``earlier`` ones, before a restart."""

    def __init__(self, observer: Observer, earlier: Tensor | None = None) -> None:
        self._observer = observer
        self._before = observer.regimes()
        self._earlier = earlier

    def counts(self) -> Tensor | None:
        """Return plain, clipped and floored steps (int64, on the CPU); None if unknown."""
        counts = self.state()
        return None if counts is None else counts.cpu()

    def state(self) -> Tensor | None:
        """Return the same where the optimizer keeps it, without waiting for that device."""
        now = self._observer.regimes()
        if now is None:
            return None
        counts = now if self._before is None else now - self._before
        if self._earlier is not None:
            self._earlier = self._earlier.to(counts.device)
            counts = counts + self._earlier
        return counts


def fractions(counts: Tensor | None) -> dict[str, float]:
    """Return the share of each regime, ``plain_fraction``, ...; nothing if none was counted."""
    if counts is None or not int(counts.sum()):
        return {}
    shares = (counts.double() / counts.sum()).tolist()
    return {f"{name}_fraction": share for name, share in zip(REGIMES, shares, strict=True)}


class AveragedWeights:
    """A copy of a model whose weights w̄ become ``decay`` w̄ + (1 - ``decay``) w after each step.

    After the first step they are w. What else a model keeps, such as the statistics of its batch
    norms, is copied: a mean of those would be of other weights than the mean of the weights.
    torch's ``AveragedModel`` does the same, and waits for a GPU at every step.

    Raises:
        UsageError: the model cannot be copied.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float,
        copied: Callable[[nn.Module], nn.Module] = deepcopy,
    ) -> None:
        try:
            self.module = copied(model)
        except Exception as error:
            raise UsageError(
                f"ema: {type(model).__name__} cannot be copied: {stopped(error)}\n"
                "  Leave ema out, or let copy.deepcopy(model) work."
            ) from None
        self._update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, model: nn.Module, *, is_first: bool) -> None:
        """Take the weights after a step into the mean."""
        ours, theirs = (
            [local(each) for each in module.parameters()] for module in (self.module, model)
        )
        if is_first:
            torch._foreach_copy_(ours, theirs)
        else:
            self._update(ours, theirs, None)
        for buffer, other in zip(self.module.buffers(), model.buffers(), strict=True):
            buffer.copy_(other)
