"""Builds the parts of trials on their real shapes, and tells what refuses them."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import SGD, Optimizer

from deltagclip_cli.core import UsageError, load_target
from deltagclip_cli.launch.rehearsal import Refusal, Stage
from deltagclip_cli.parts.datasets.dataset import Outline
from deltagclip_cli.parts.models import build, reads_texts
from deltagclip_cli.spec.component import Component
from deltagclip_cli.spec.schema import wants_auto
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import (
    check_batch_size,
    check_precision,
    check_reading,
    find_device,
    input_shape,
    make_batches,
    make_optimizer,
    make_schedule,
    make_task,
    parameter_dtype,
    total_bytes,
    try_out,
)

Made = TypeVar("Made")


class Refused(Exception):
    """A part of a trial refuses it, for a reason in words; an option alone may be to blame."""

    def __init__(self, part: str, reason: str, option: str = "") -> None:
        super().__init__(reason)
        self.part, self.option = part, option


def tried(part: str, trial: Trial, attempt: Callable[[Trial], Made]) -> Made:
    """What an attempt gives.

    Raises:
        Refused: it failed; with the option that is to blame, if that is clear.
    """
    try:
        return attempt(trial)
    except Exception as error:
        component: Component = getattr(trial, part)
        options = dict(component.simpler())
        words = str(error)
        if not isinstance(error, UsageError):
            words = f"{part} '{component.name}' cannot be used: {said_by(error)}."
        named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", words)]
        advised = "\n" in words  # and then by us, who know the option
        if advised and len(named) == 1:
            raise Refused(part, words, named[0]) from None
        for option, other in options.items():
            if other is not None and _succeeds(attempt, trial.model_copy(update={part: other})):
                hint = "" if advised else f"\n  It is accepted without '{option}'."
                raise Refused(part, words + hint, option) from None
        hint = "" if advised else f"\n  Change its options, or choose another {part}."
        raise Refused(part, words + hint, named[0] if len(named) == 1 else "") from None


def _succeeds(attempt: Callable[[Trial], Any], trial: Trial) -> bool:
    try:
        attempt(trial)
    except Exception:
        return False
    return True


def said_by(error: Exception) -> str:
    """What an error says, and its name where that is needed to understand it."""
    words = str(error).strip().rstrip(".")
    expected = isinstance(error, (ValueError, RuntimeError)) and words
    return words if expected else f"{type(error).__name__}: {words}"


_STEPS = 2  # of an optimizer: the second meets the state that the first has made
_RATE = 0.1  # in the place of one that is not a number yet
_MOST_PERIODS = 1_000_000  # of a schedule, which take some seconds
_MOST_BYTES = 2**42  # 4 TiB, more than one machine has
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class NetworkOutline:
    """What an optimizer sees of a network.

    Args:
        dimensions: of its parameters, each number once.
        numbers: how many it has to learn.
    """

    dimensions: tuple[int, ...] = (2, 1)  # as of nearly every one
    numbers: int = 0


@dataclass
class Rehearsal:
    """Builds the parts of trials, and each but once.

    Args:
        stage: where they are to be trained.
        data_dir: where data sets lie.
    """

    stage: Stage
    data_dir: Path
    _known: dict[str, Any] = field(default_factory=dict)
    _periods: int = 5 * _MOST_PERIODS

    def __post_init__(self) -> None:
        here = self.stage.here
        self._device = find_device(self.stage.device) if here else _CPU
        self._on_gpu = self._device.type == "cuda" if here else self.stage.device != "cpu"

    def refusals(self, trial: Trial) -> list[Refused]:
        """Everything that refuses a trial."""
        found: list[Refused] = []
        known = partial(self._known_or_made, found, trial)
        data, model, precision = trial.data, trial.model, trial.precision
        known(self._check_precision, precision)
        outline = known(self._outline, data, model, precision)
        network = None
        if outline is not None:
            make = partial(self._network, outline=outline)
            network = known(make, data, model, trial.task, precision)
        step = partial(self._optimizer, network=network or NetworkOutline())
        known(step, trial.optimizer, precision, network)
        walk = partial(self._schedule, outline=outline, network=network or NetworkOutline())
        known(walk, trial.schedule, trial.optimizer.name, trial.epochs, data, network)
        return found

    def _known_or_made(
        self, found: list[Refused], trial: Trial, make: Callable[[Trial], Any], *used: object
    ) -> Any:
        """What ``make`` gives, which hangs on nothing else that is used; None if it is refused."""
        name = getattr(make, "func", make).__name__
        key = json.dumps([name, *used], default=_plain)
        if key not in self._known:
            try:
                self._known[key] = make(trial)
            except Refused as refused:
                self._known[key] = refused
        if isinstance(self._known[key], Refused):
            found.append(self._known[key])
            return None
        return self._known[key]

    def _check_precision(self, trial: Trial) -> None:
        try:
            check_precision(trial.precision, torch.device("cuda") if self._on_gpu else _CPU)
        except UsageError as error:
            raise Refused("precision", str(error)) from None

    def _outline(self, trial: Trial) -> Outline | None:
        """The sizes of the data, as far as they are known before the data are there."""

        def attempt(trial: Trial) -> Outline | None:
            data = trial.data
            outline = getattr(load_target(data.target), "outline", None)
            found = outline(self.data_dir, data.image_size, **data.options) if outline else None
            if not isinstance(found, Outline):
                return None
            shape = None if found.texts else found.shape
            check_reading(data, shape, reads_texts=reads_texts(trial.model.target))
            self._check_room(found.nbytes, f"data {data.name}: its samples take", _CPU)
            found = found.limited(train_samples=data.train_samples, test_samples=data.test_samples)
            check_batch_size(data, found.train)
            sizes = [data.batch_size, data.evaluation_batch_size]
            largest = max(
                min(samples, samples if size == "full" else size)
                for samples, size in zip((found.train, found.test), sizes, strict=True)
            )
            numbers = largest * math.prod(input_shape(data, found.shape))
            needed = numbers * parameter_dtype(trial.precision).itemsize
            self._check_room(needed, f"data {data.name}: a batch takes", self._device)
            return found

        return tried("data", trial, attempt)

    def _network(self, trial: Trial, outline: Outline) -> NetworkOutline:
        """The network on the meta device, to which the task has been applied."""
        if outline.texts:  # it is read from files, which need not be there yet
            return NetworkOutline()
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        dtype = parameter_dtype(trial.precision)

        def batches(trial: Trial) -> Any:
            with mode:
                dataset = outline.stand_in()
                train = make_batches(trial.data, dataset, True, _CPU, dtype)
                next(train.iterate(None, torch.Generator()))
                return make_batches(trial.data, dataset, False, _CPU, dtype)

        def built(trial: Trial) -> nn.Module:
            model = _on_meta(trial, outline)
            numbers = sum(each.numel() for each in model.parameters())
            said = f"model {trial.model.name}: its {numbers:,} parameters and their gradients take"
            self._check_room(2 * numbers * dtype.itemsize, said, self._device)
            return model

        def applied(trial: Trial) -> None:
            with mode:
                _lose_memory(model, dtype)
                try_out(make_task(trial), model, test)

        test = tried("data", trial, batches)
        model = tried("model", trial, built)
        parameters = [each for each in model.parameters() if each.requires_grad]
        dimensions = sorted({each.ndim for each in parameters}, reverse=True)
        network = NetworkOutline(tuple(dimensions), sum(each.numel() for each in parameters))
        tried("task", trial, applied)
        size = outline.train if trial.data.batch_size == "full" else trial.data.batch_size
        if outline.train % size == 1 or size == 1:
            with mode:
                _train_with_one(trial, model, test)
        return network

    def _check_room(self, needed: int, said: str, device: torch.device) -> None:
        has = total_bytes(device) if self.stage.here else None
        if needed > (_MOST_BYTES if has is None else has):
            owner = "no machine has so much" if has is None else f"there are {has / 1e9:,.1f} GB"
            raise UsageError(f"{said} at least {needed / 1e9:,.1f} GB, and {owner}.")

    def _optimizer(self, trial: Trial, network: NetworkOutline) -> None:
        """Make steps with small parameters of the network's kinds."""

        def stepped(trial: Trial) -> None:
            parameters = self._parameters(network.dimensions, trial)
            optimizer = self._made(trial, parameters)
            _step(optimizer, parameters, trial.optimizer.name)
            copies = 2 + min(_copies(optimizer, each) for each in parameters)
            needed = copies * network.numbers * parameter_dtype(trial.precision).itemsize
            said = f"optimizer '{trial.optimizer.name}': {network.numbers:,} parameters, "
            said += "their gradients and what it keeps of each take"
            self._check_room(needed, said, self._device)

        tried("optimizer", trial, stepped)

    def _parameters(self, dimensions: Sequence[int], trial: Trial) -> list[nn.Parameter]:
        dtype, device = parameter_dtype(trial.precision), self._device
        return [
            nn.Parameter(torch.ones((2,) * number, dtype=dtype, device=device))
            for number in dimensions
        ]

    def _made(self, trial: Trial, parameters: Sequence[Tensor]) -> Optimizer:
        if self._on_gpu and self._device.type == "cpu":  # what a CPU alone refuses says nothing
            options = {k: v for k, v in trial.optimizer.options.items() if k != "capturable"}
            other = trial.optimizer.model_copy(update={"options": options})
            trial = trial.model_copy(update={"optimizer": other})
        return make_optimizer(trial, parameters, _RATE if wants_auto(trial.optimizer) else None)

    def _schedule(self, trial: Trial, outline: Outline | None, network: NetworkOutline) -> None:
        """Go through all periods of a schedule, with the groups that the optimizer makes."""
        schedule = trial.schedule
        if schedule is None or (schedule.unit == "step" and outline is None):
            return
        size = trial.data.batch_size
        steps = 1 if size == "full" or outline is None else -(-outline.train // size)

        def walked(trial: Trial) -> None:
            parameters = self._parameters(network.dimensions, trial)
            try:
                optimizer = self._made(trial, parameters)
            except UsageError:  # which is told of elsewhere
                optimizer = SGD(parameters, _RATE, momentum=0.9)
            self._walk(trial, optimizer, steps)

        tried("schedule", trial, walked)

    def _walk(self, trial: Trial, optimizer: Optimizer, steps: int) -> None:
        driver = make_schedule(trial, optimizer, steps)
        assert trial.schedule is not None, "a trial without one is not brought here"
        name, unit = trial.schedule.name, trial.schedule.unit
        periods = trial.epochs * (steps if unit == "step" else 1)
        walked = min(periods, _MOST_PERIODS, max(self._periods, _MOST_PERIODS // 100))
        self._periods -= walked
        for period in range(1, walked + 1):
            for rate in (float(group["lr"]) for group in optimizer.param_groups):
                if not math.isfinite(rate) or rate < 0:
                    raise UsageError(
                        f"schedule '{name}': the learning rate of {unit} {period} would be "
                        f"{rate:g}.\n  Learning rates are finite and not negative."
                    )
            try:
                if unit == "step":
                    driver.after_step()
                else:
                    driver.after_epoch(1.0)
            except Exception as error:
                raise UsageError(
                    f"schedule '{name}' fails after {unit} {period} of {periods}: {said_by(error)}."
                ) from None


def rehearse(
    trials: Sequence[Trial], stage: Stage, data_dir: Path, begun: Callable[[int], None]
) -> list[Refusal]:
    """Build the parts of trials.

    Args:
        trials: to build.
        stage: where they are to be trained.
        data_dir: where data sets lie.
        begun: is told the number of each trial when its turn comes.

    Returns:
        All that refuses them.

    Raises:
        DeviceError: there is no such device here.
    """
    rehearsal = Rehearsal(stage, data_dir)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given when the trial is run
        for number, trial in enumerate(trials):
            begun(number)
            for refused in rehearsal.refusals(trial):
                found.append(Refusal(number, refused.part, refused.option, str(refused)))
    return found


def _on_meta(trial: Trial, outline: Outline) -> nn.Module:
    """The network of a trial, as large as it is and without memory."""
    shape = input_shape(trial.data, outline.shape)
    make = partial(build, trial.model.target, shape, outline.classes, trial.model.options)
    try:
        with torch.device("meta"):
            return make()
    except NotImplementedError:  # it looks at values, which tensors there do not have
        return make()


def _lose_memory(model: nn.Module, dtype: torch.dtype) -> None:
    """Put a model on the CPU, in a mode in which tensors there have no memory."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    kept = dtype if tensor.is_floating_point() else tensor.dtype
                    tensors[name] = torch.empty_like(tensor, device=_CPU, dtype=kept)  # type: ignore[assignment]


def _train_with_one(trial: Trial, model: nn.Module, batches: Any) -> None:
    """Apply the task in training to one sample, which some networks cannot normalize."""
    task = make_task(trial)
    inputs, targets = next(batches.iterate(None, None))
    try:
        task(model.train(), inputs[:1], targets[:1])
    except (RuntimeError, ValueError) as error:
        reason = said_by(error)
    else:
        return
    try:
        task(model, torch.cat([inputs[:1]] * 2), torch.cat([targets[:1]] * 2))
    except Exception:  # so that it is not their number that it is about
        return
    said = f"batch_size {trial.data.batch_size} leaves a batch of one sample, on which model "
    said += f"'{trial.model.name}' cannot be trained: {reason}.\n"
    raise Refused("data", f"{said}  Choose another, or other numbers of samples.", "batch_size")


def _step(optimizer: Optimizer, parameters: Sequence[Tensor], name: str) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.stack([each.square().sum() for each in parameters]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    try:
        for _ in range(_STEPS):
            optimizer.step(closure)  # type: ignore[arg-type]
    except Exception as error:
        raise UsageError(f"optimizer '{name}' fails when it steps: {said_by(error)}.") from None


def _copies(optimizer: Optimizer, parameter: Tensor) -> int:
    """How many numbers an optimizer keeps for each of a parameter."""
    kept = optimizer.state.get(parameter, {}).values()
    return sum(isinstance(each, Tensor) and each.shape == parameter.shape for each in kept)


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Component) else repr(value)
