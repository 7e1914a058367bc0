"""Builds the parts of trials on their real shapes, and tells what refuses them."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import SGD

from deltagclip_cli.core import UsageError, load_target
from deltagclip_cli.launch.rehearsal import (
    Attempt,
    Finding,
    Inexact,
    NetworkOutline,
    Refusal,
    Refused,
    Stage,
    refused_by,
    words_of,
)
from deltagclip_cli.launch.rehearsal.own_code import OwnCode, batches_in
from deltagclip_cli.parts.datasets.dataset import Outline
from deltagclip_cli.parts.datasets.validation import asked_of, outline_with_validation
from deltagclip_cli.parts.models import build, reads_texts
from deltagclip_cli.spec.component import Component
from deltagclip_cli.training.assembly import (
    check_accumulation,
    find_device,
    first_samples,
    make_batches,
    make_task,
    total_bytes,
)
from deltagclip_cli.training.exactness import (
    check_precision,
    kernels_of,
    parameter_dtype,
    try_out,
)
from deltagclip_cli.training.loaded import check_batch_size, check_reading, input_shape
from deltagclip_cli.training.stepping import (
    Stepper,
    make_optimizer,
    make_schedule,
    members,
)

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

_STEPS = 2  # of an optimizer: the second meets the state that the first has made
_RATE = 0.1  # in the place of one that is not a number yet
_MOST_PERIODS = 1_000_000  # of a schedule, which take some seconds
_MOST_BYTES = 2**42  # 4 TiB, more than one machine has
_CPU = torch.device("cpu")


class FewParameters(nn.Module):
    """Parameters by the names that they have in a network, which is not there."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self._few = dict(parameters)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield all of them."""
        yield from self._few.items()


class Rehearsal:
    """Builds the parts of trials, and each but once."""

    def __init__(self, stage: Stage, data_dir: Path) -> None:
        self._here, self._data_dir = stage.here, data_dir
        self._device = find_device(stage.device) if stage.here else _CPU
        self._on_gpu = self._device.type == "cuda" if stage.here else stage.device != "cpu"
        self._known: dict[str, Any] = {}
        self._operations: dict[str, set[str]] = {}  # that were met on the way to what is known
        self._inexact: set[str] = set()  # those of the trial whose turn it is
        self._periods = 5 * _MOST_PERIODS
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def findings(self, trials: Sequence[Trial], begun: Callable[[int], None]) -> list[Finding]:
        """Return all that refuses trials, and operations of their own code that are not exact.

        ``begun`` is told the number of each trial in its turn.
        """
        found: list[Finding] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are given when the trial is run
            for number, trial in enumerate(trials):
                begun(number)
                self._inexact = set()
                for refused in self._refusals(trial):
                    found.append(Refusal(number, refused.part, refused.option, str(refused)))
                found += [Inexact(number, each, self._device.type) for each in self._inexact]
        return found

    def _refusals(self, trial: Trial) -> list[Refused]:
        found: list[Refused] = []
        tried = partial(self._tried, found, trial)
        data, model, precision = trial.data, trial.model, trial.precision
        try:
            check_precision(precision, torch.device("cuda") if self._on_gpu else _CPU)
        except UsageError as error:
            found.append(Refused("precision", str(error)))
        outline = None
        if not data.is_own:
            outline = tried("data", self._outline, data, model, precision)
        if trial.code is not None:
            return [*found, *self._refusals_of_own(trial, outline)]
        network = NetworkOutline()
        if outline is not None and not outline.texts:  # whose model is read from files
            batches = tried("data", partial(self._batches, outline), data, precision)
            built = tried("model", partial(self._network, outline), data, model, precision)
            if batches is not None and built is not None:
                model_on_meta, network = built
                apply = partial(self._apply, outline, batches, model_on_meta)
                tried("task", apply, data, model, trial.task, precision)
        groups = trial.optimizer.groups
        if network.is_known and groups:
            grouped = partial(_check_groups, [name for name, _ in network.parameters])
            tried("optimizer", grouped, groups, data, model)
        network = network.few(groups)
        if not (found and found[-1].option == "groups"):
            tried("optimizer", partial(self._step, network), trial.optimizer, precision, network)
        size, steps = data.batch_size, None
        if outline is not None:
            steps = _steps(found, trial, batches_in(outline, size))
        walk, length = partial(self._walk, steps, network), (trial.length, trial.unit)
        name = trial.optimizer.name
        tried("schedule", walk, trial.schedule, name, groups, *length, data, network)
        return found

    def _refusals_of_own(self, trial: Trial, outline: Outline | None) -> list[Refused]:
        """Return what refuses a trial with code of one's own, used as it will be."""
        found: list[Refused] = []
        own, tried = OwnCode(self._data_dir, self._device), partial(self._tried, found, trial)
        used: tuple[object, ...] = (trial.data, trial.precision, trial.code)
        samples = tried("data", partial(own.samples, outline), *used)
        if samples is not None:
            used = (*used, trial.model)
            network = tried("model", partial(own.network, samples), *used)
            if network is not None:
                task = partial(own.task, samples, network)
                tried("task", task, *used, trial.task)
                names = [name for name, each in network.named_parameters() if each.requires_grad]
                grouped = partial(_check_groups, names)
                tried("optimizer", grouped, *used, trial.optimizer.groups)
                if not found:
                    step = partial(own.optimizer, samples, network)
                    tried("optimizer", step, *used, trial.task, trial.optimizer)
        if not found:
            steps = None if samples is None else _steps(found, trial, samples.batches)
            walk = partial(self._walk, steps, NetworkOutline())
            used = (*used, trial.optimizer, trial.length, trial.unit)
            tried("schedule", walk, trial.schedule, *used)
        return found

    def _tried(
        self, found: list[Refused], trial: Trial, part: str, attempt: Attempt, *used: object
    ) -> Any:
        """Return what an attempt gives, made once for all that is used; None if it is refused."""
        name = getattr(attempt, "func", attempt).__name__
        key = json.dumps([name, trial.determinism, *used], default=_plain)
        if key not in self._known:
            is_used = trial.code is not None and (self._here or not self._on_gpu)
            with kernels_of(trial, self._device, is_used=is_used) as operations:
                try:
                    self._known[key] = attempt(trial)
                except Refused as refused:
                    self._known[key] = refused
                except (Exception, SystemExit) as error:
                    self._known[key] = refused_by(error, part, trial, attempt)
            self._operations[key] = operations
        self._inexact |= self._operations[key]
        if isinstance(self._known[key], Refused):
            found.append(self._known[key])
            return None
        return self._known[key]

    def _outline(self, trial: Trial) -> Outline | None:
        """Return the sizes of the data, as far as they are known before the data are there."""
        data = trial.data
        loader = load_target(data.target)
        outline, asked = getattr(loader, "outline", None), asked_of(loader, data)
        found = outline(self._data_dir, data.image_size, **asked) if outline else None
        if not isinstance(found, Outline):
            return None
        shape = None if found.texts else found.shape
        check_reading(data, shape, reads_texts=reads_texts(trial.model))
        self._check_room(found.nbytes, f"data {data.name}: its samples take", _CPU)
        if data.validation is not None:
            found = outline_with_validation(found, data.validation, data.name)
        found = found.limited(train_samples=data.train_samples, test_samples=data.test_samples)
        check_batch_size(data, found.train)
        sizes = [data.batch_size, data.evaluation_batch_size]
        evaluated = max(found.test, found.validation)
        largest = max(
            min(samples, samples if size == "full" else size)
            for samples, size in zip((found.train, evaluated), sizes, strict=True)
        )
        numbers = largest * math.prod(input_shape(data, found.shape))
        needed = numbers * parameter_dtype(trial.precision).itemsize
        self._check_room(needed, f"data {data.name}: a batch takes", self._device)
        return found

    def _batches(self, outline: Outline, trial: Trial) -> Any:
        """Return batches of the test set, in a mode in which tensors have no memory."""
        dtype = parameter_dtype(trial.precision)
        with self._mode:
            dataset = outline.stand_in()
            train = make_batches(trial.data, dataset, "train", _CPU, dtype)
            next(train.iterate(None, torch.Generator()))
            return make_batches(trial.data, dataset, "test", _CPU, dtype)

    def _network(self, outline: Outline, trial: Trial) -> tuple[nn.Module, NetworkOutline]:
        """Return the network, as large as it is and without memory, and its outline."""
        shape = input_shape(trial.data, outline.shape)
        sizes = (shape, outline.classes, outline.targets_shape, outline.vocabulary)
        try:
            with torch.device("meta"):
                model = build(trial.model, *sizes)
        except NotImplementedError:  # it looks at values, which tensors there do not have
            model = build(trial.model, *sizes)
        numbers = sum(each.numel() for each in model.parameters())
        said = f"model {trial.model.name}: its {numbers:,} parameters and their gradients take"
        needed = 2 * numbers * parameter_dtype(trial.precision).itemsize
        self._check_room(needed, said, self._device)
        named = model.named_parameters()
        parameters = [(name, each) for name, each in named if each.requires_grad]
        outlined = tuple((name, each.ndim) for name, each in parameters)
        learned = sum(each.numel() for _, each in parameters)
        return model, NetworkOutline(outlined, learned, is_known=True)

    def _apply(self, outline: Outline, batches: Any, model: nn.Module, trial: Trial) -> None:
        """Apply the task to the network, and to one sample if there is such a batch."""
        dtype, size = parameter_dtype(trial.precision), trial.data.batch_size
        with self._mode:
            for module in model.modules():  # which are put on the CPU, where nothing has memory
                for tensors in (module._parameters, module._buffers):
                    for name, tensor in tensors.items():
                        if tensor is not None:
                            kept = dtype if tensor.is_floating_point() else tensor.dtype
                            tensors[name] = torch.empty_like(tensor, device=_CPU, dtype=kept)  # type: ignore[assignment]
            try_out(make_task(trial), model, *first_samples(batches, 2))
            if size == 1 or (size != "full" and outline.train % size == 1) or outline.train == 1:
                _train_with_one(trial, model, batches)

    def _check_room(self, needed: int, said: str, device: torch.device) -> None:
        has = total_bytes(device) if self._here else None
        if needed > (_MOST_BYTES if has is None else has):
            owner = "no machine has so much" if has is None else f"there are {has / 1e9:,.1f} GB"
            raise UsageError(f"{said} at least {needed / 1e9:,.1f} GB, and {owner}.")

    def _step(self, network: NetworkOutline, trial: Trial) -> None:
        """Make steps with small parameters of the network's kinds."""
        name, model = trial.optimizer.name, self._parameters(network, trial)
        optimizer = make_optimizer(self._tunable(network, trial), model, 1, _rate(trial))
        parameters = list(model.parameters())

        def evaluate() -> Tensor:
            optimizer.zero_grad()
            loss = torch.stack([each.square().sum() for each in parameters]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        stepper = Stepper(optimizer, trial.optimizer.clip_grad_norm)
        try:
            for _ in range(_STEPS):
                stepper.step(evaluate)
        except Exception as error:
            raise UsageError(
                f"optimizer '{name}' fails when it steps: {words_of(error)}."
            ) from None
        kept = [optimizer.state.get(each, {}).values() for each in parameters]
        copies = 2 + min(
            sum(isinstance(value, Tensor) and value.shape == each.shape for value in values)
            for each, values in zip(parameters, kept, strict=True)
        )
        needed = copies * network.numbers * parameter_dtype(trial.precision).itemsize
        said = f"optimizer '{name}': {network.numbers:,} parameters, their gradients and what it "
        self._check_room(needed, f"{said}keeps of each take", self._device)

    def _parameters(self, network: NetworkOutline, trial: Trial) -> FewParameters:
        dtype, device = parameter_dtype(trial.precision), self._device
        return FewParameters(
            {
                name: nn.Parameter(torch.ones((2,) * number, dtype=dtype, device=device))
                for name, number in network.parameters
            }
        )

    def _tunable(self, network: NetworkOutline, trial: Trial) -> Trial:
        """Return a trial without what a CPU alone refuses, if it is meant for a GPU elsewhere.

        Without groups as well, if nobody knows yet the names that they are of.
        """
        update: dict[str, Any] = {}
        if self._on_gpu and self._device.type == "cpu":
            options = trial.optimizer.options
            update["options"] = {k: v for k, v in options.items() if k != "capturable"}
        if not network.is_known:
            update["groups"] = None
        other = trial.optimizer.model_copy(update=update)
        return trial.model_copy(update={"optimizer": other})

    def _walk(self, known_steps: int | None, network: NetworkOutline, trial: Trial) -> None:
        """Go through all periods of a schedule, with the groups that the optimizer makes.

        ``known_steps`` is how many an epoch has; None if that is not known yet.
        """
        schedule, steps = trial.schedule, known_steps or 1
        if schedule is None or (known_steps is None and schedule.unit != trial.unit):
            return
        parameters = self._parameters(network, trial)
        try:
            tunable = self._tunable(network, trial)
            optimizer = make_optimizer(tunable, parameters, steps, _rate(trial))
        except UsageError:  # which is told of elsewhere
            optimizer = SGD(parameters.parameters(), _RATE, momentum=0.9)
        driver, name, unit = make_schedule(trial, optimizer, steps), schedule.name, schedule.unit
        course = trial.course(steps)
        periods = course.steps if unit == "step" else course.pass_of(course.steps)
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
                    driver.after_epoch()
                    driver.after_evaluation(1.0)
            except Exception as error:
                raise UsageError(
                    f"schedule '{name}' fails after {unit} {period} of {periods}: "
                    f"{words_of(error)}."
                ) from None


def _steps(found: list[Refused], trial: Trial, batches: int) -> int:
    """Return how many steps an epoch of so many batches has."""
    try:
        check_accumulation(trial, batches)
    except UsageError as error:
        found.append(Refused("accumulate", str(error)))
    return -(-batches // (trial.accumulate or 1))


def _check_groups(names: Sequence[str], trial: Trial) -> None:
    """Refuse groups of parameters that do not fit the names of those that are trained."""
    try:
        members(trial.optimizer.groups or {}, names)
    except UsageError as error:
        raise Refused("optimizer", str(error), "groups") from None


def _rate(trial: Trial) -> float | None:
    return _RATE if trial.optimizer.wants_auto else None


def _train_with_one(trial: Trial, model: nn.Module, batches: Any) -> None:
    """Apply the task in training to one sample, which some networks cannot normalize."""
    task = make_task(trial)
    inputs, targets = next(batches.iterate(None, None))
    try:
        task(model.train(), inputs[:1], targets[:1])
    except (RuntimeError, ValueError) as error:
        reason = words_of(error)
    else:
        return
    try:
        task(model, torch.cat([inputs[:1]] * 2), torch.cat([targets[:1]] * 2))
    except Exception:  # so that it is not their number that it is about
        return
    said = f"batch_size {trial.data.batch_size} leaves a batch of one sample, on which model "
    said += f"'{trial.model.name}' cannot be trained: {reason}.\n"
    raise Refused("data", f"{said}  Choose another, or other numbers of samples.", "batch_size")


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Component) else repr(value)
