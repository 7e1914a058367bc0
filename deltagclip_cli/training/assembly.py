"""From the names in a trial to the objects that train it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deltagclip_cli.core import DataError, DeviceError, UsageError, load_target, stopped
from deltagclip_cli.parts.datasets.batches import Batches
from deltagclip_cli.parts.datasets.dataset import Augmentation, Dataset, place
from deltagclip_cli.parts.datasets.fetched import FetchedBatches, Items
from deltagclip_cli.parts.datasets.texts import TokenBatches
from deltagclip_cli.parts.making import own_lines
from deltagclip_cli.parts.models import build as build_model
from deltagclip_cli.parts.nested import Tree, map_tree
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.parts.tasks.outcome import CheckedTask, OwnTask, check_task
from deltagclip_cli.source.loading import call
from deltagclip_cli.spec.data_settings import Data, Normalization
from deltagclip_cli.spec.schema import Model
from deltagclip_cli.theory.landscape import Landscape
from deltagclip_cli.theory.probe import CertificateProbe
from deltagclip_cli.training.chance import seed_streams
from deltagclip_cli.training.exactness import (
    allowed,
    check_precision,
    choose_kernels,
    inexact_operation,
    parameter_dtype,
    try_out,
    try_step,
)
from deltagclip_cli.training.loaded import Loaded, fingerprint, input_shape, load_dataset
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.ranks.shares import SharedBatches
from deltagclip_cli.training.stepping import ScheduleDriver, make_optimizer, make_schedule

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

Task = Callable[[nn.Module, Tree, Tree], Loss]
AnyBatches = Batches | TokenBatches | FetchedBatches | SharedBatches


class AccumulatedBatches:
    """The batches of the steps of a pass: of each step one, or several whose gradients add up.

    Args:
        batches: of the training data.
        count: of batches in a step; the last step of a pass has what is left.
    """

    def __init__(self, batches: AnyBatches, count: int = 1) -> None:
        self._batches, self._count = batches, count
        self.samples = batches.samples
        # of each step
        self.sizes = [sum(batches.sizes[n : n + count]) for n in range(0, batches.steps, count)]

    def __len__(self) -> int:
        return len(self.sizes)

    def over(self, batches: AnyBatches) -> AccumulatedBatches:
        """Return the same of other batches."""
        return AccumulatedBatches(batches, self._count)

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[list[tuple[Tree, Tree]]]:
        """Yield inputs and targets of each batch of a step, from step ``start`` on."""
        batches = self._batches.iterate(order, generator, start=start * self._count)
        while batch := list(islice(batches, self._count)):
            yield batch


@dataclass(frozen=True)
class Parts:
    """The parts that a trainer works with, on the device that it works on."""

    model: nn.Module
    task: Task
    optimizer: Optimizer
    schedule: ScheduleDriver
    train: AnyBatches
    steps: AccumulatedBatches  # of a pass over them
    evaluated: Mapping[str, AnyBatches]  # ``test``, and ``validation`` if there is one
    device: torch.device
    fingerprint: str  # of the data
    probes: Sequence[CertificateProbe] = ()
    ranks: Ranks = field(default_factory=Ranks)  # the processes that train the trial
    # operations without a deterministic kernel, which are allowed, and the lines of a user's own
    # files that are known to use them, each behind a line break
    inexact: Mapping[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """End the processes that fetch data."""
        for batches in (self.train, *self.evaluated.values()):
            batches.close()


def find_device(name: str, number: int = 0) -> torch.device:
    """Return the device called ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N``.

    Of several processes that share the GPUs here, each says its ``number``.

    A GPU with a number becomes the current one of this process, on which torch pins memory and
    captures graphs: else it would take room on the first one for that.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and number:
        name = f"cuda:{number}"
    try:
        device = torch.device(name)
        is_known = device.type in ("cpu", "cuda")
    except RuntimeError:
        is_known = False
    if not is_known:
        raise DeviceError(f"--device {name}: expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here.\n"
            "  Use --device cpu (sweep: --jobs N), or check nvidia-smi and CUDA_VISIBLE_DEVICES."
        )
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def assemble(
    trial: Trial,
    data_dir: Path,
    device: torch.device,
    *,
    download: bool = True,
    loaded: Loaded | None = None,
    inexact: Mapping[str, str] | None = None,
) -> Parts:
    """Load the data and build the model, the task, the optimizer and the schedule of a trial.

    They are tried out: with a step, and in an evaluation, on two samples. What has no deterministic
    kernel is allowed from then on, if the trial is to be exact.

    Args:
        download: fetches data, and what a model was pretrained as, if they are missing.
        loaded: data that are loaded already, and are not loaded again.
        inexact: operations of the trial that are known to have no deterministic kernel, as those
            of :class:`Parts`.

    Raises:
        UsageError: the data are missing or do not fit, a part refuses its options, or the device
            lacks the precision.
    """
    check_precision(trial.precision, device)
    choose_kernels(trial.determinism, trial.precision, device)
    build = partial(_assemble, trial, data_dir, device, download=download, loaded=loaded)
    if not inexact:
        try:
            return build()
        except Exception as error:
            operation = inexact_operation(error)
            if operation is None:
                raise
            inexact = {operation: own_lines(error)}
    with allowed(device, inexact) as found:
        parts = build()
    return replace(parts, inexact={name: inexact.get(name, "") for name in sorted(found)})


def _assemble(
    trial: Trial, data_dir: Path, device: torch.device, *, download: bool, loaded: Loaded | None
) -> Parts:
    if loaded is None:
        dataset = load_dataset(trial.data, data_dir, model=trial.model, download=download)
    else:
        dataset = loaded.dataset
    dtype = parameter_dtype(trial.precision)
    shape = input_shape(trial.data, dataset.shape)
    build = partial(
        build_model,
        shape=shape,
        classes=dataset.classes or None,
        targets_shape=dataset.targets_shape,
        vocabulary=dataset.vocabulary,
        padding=dataset.padding,
    )
    needs_landscape = trial.certificate is not None or trial.optimizer.wants_auto
    # Weights, gradients and what an optimizer keeps, in a guess; and for the numbers of the
    # theorem, in float64, the first weights, those before the step, three vectors of Lanczos, a
    # product and its parts.
    copies = (4 + (trial.ema is not None)) * dtype.itemsize
    copies += 7 * torch.float64.itemsize * needs_landscape
    _check_width(trial.model, build, copies, device)
    seed_streams(trial.seed, "init")
    model = build(trial.model).to(device=device, dtype=dtype)
    if sum(isinstance(each, nn.Conv2d) for each in model.modules()) > 1:  # not in one layer alone
        model = model.to(memory_format=torch.channels_last)
    train, *others = (
        make_batches(trial.data, dataset, name, device, dtype) for name in dataset.splits
    )
    evaluated = dict(zip(list(dataset.splits)[1:], others, strict=True))
    task = make_task(trial, dataset.target_scale)
    few = [first_samples(batches, 2) for batches in others]
    for inputs, targets in few:
        try_out(task, model, inputs, targets)
    if isinstance(task, CheckedTask):
        check_task(task, model, partial(first_samples, others[0]), trial.task.name)
    elif (check := getattr(task, "check", None)) is not None:
        check(model, *few[0])
    rate, probes = None, []
    if needs_landscape:
        (whole,) = train.iterate(None, None)  # which the spec has seen to
        landscape = Landscape(model, task, *whole)
        rate = 1 / landscape.smoothness() if trial.optimizer.wants_auto else None
        if trial.certificate is not None:
            every, epochs, precision = trial.certificate.every, trial.length, trial.precision
            probe = CertificateProbe(landscape, every=every, epochs=epochs, precision=precision)
            probes.append(probe)
    check_accumulation(trial, train.steps)
    steps = AccumulatedBatches(train, trial.accumulate or 1)
    optimizer = make_optimizer(trial, model, len(steps), rate)
    schedule = make_schedule(trial, optimizer, len(steps))
    data = fingerprint(dataset) if loaded is None else loaded.fingerprint
    parts = Parts(model, task, optimizer, schedule, train, steps, evaluated, device, data, probes)
    if trial.parallel == "ddp":  # the other is for networks of which there is no room for copies
        try_step(trial, parts, few[0])
    return parts


def check_accumulation(trial: Trial, batches: int) -> None:
    """Refuse more batches in a step than there are."""
    count = trial.accumulate or 1
    if count > 1 and trial.data.batch_size == "full":
        raise UsageError(
            f"accumulate is {count}, but with batch_size: full one batch has all samples.\n"
            "  Write data.batch_size as a number, or leave accumulate out."
        )
    if count > batches:
        raise UsageError(
            f"accumulate is {count}, but {trial.data.name} has {batches} "
            f"{'batch' if batches == 1 else 'batches'} of {trial.data.batch_size}.\n"
            f"  Use accumulate: {batches} at most, or smaller batches."
        )


def make_task(trial: Trial, target_scale: float = 1.0) -> Task:
    """Make what is minimised and measured, of targets of which 1 is so much in their own unit."""
    name = trial.task.name
    with _refused_by("task", name):
        made = trial.task.load()
        options = trial.task.loaded_options()
        if not trial.task.is_own or isinstance(made, type):
            supplied = {} if trial.task.is_own else {"target_scale": target_scale}
            made = call(made, supplied=supplied, options=options)
            options = {}
    if not trial.task.is_own:
        task: Task = made
        return task
    function = partial(made, **call(dict, supplied={}, options=options))
    return OwnTask(function, name, getattr(made, "derived", None))


@contextmanager
def _refused_by(kind: str, name: str) -> Iterator[None]:
    """Say that a part refuses its options, where it does."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{kind} '{name}' refuses its options: {stopped(error)}") from None


def first_samples(
    batches: AnyBatches,
    count: int,
    generator: torch.Generator | None = None,
    order: Tensor | None = None,
) -> tuple[Tree, Tree]:
    """Return inputs and targets of so many samples, or of as many as one batch has.

    Args:
        generator: on the device, to augment them by.
        order: in which they are the first, of what is not fetched; by default that of the data.
    """
    if isinstance(batches, FetchedBatches):
        return batches.first(count)
    inputs, targets = next(batches.iterate(order, generator))
    few: tuple[Tree, Tree] = map_tree(lambda leaf: leaf[:count], (inputs, targets))
    return few


def make_batches(
    data: Data, dataset: Dataset, name: str, device: torch.device, dtype: torch.dtype
) -> AnyBatches:
    """Make the batches of the split with this name."""
    training = name == "train"
    split = dataset.splits[name]
    wanted = data.batch_size if training else data.evaluation_batch_size
    batch_size = len(split) if wanted == "full" else wanted
    if isinstance(split, Items):
        return _fetched(data, split, batch_size, device, dtype)
    split = place(split, device)
    if dataset.padding is not None:
        if data.augment:
            raise DataError(f"augment is for images, but {data.name} holds texts.\n  Remove it.")
        return TokenBatches(split, batch_size=batch_size, device=device, padding=dataset.padding)
    mean, std = (dataset.mean, dataset.std) if data.normalize == "dataset" else (None, None)
    if isinstance(data.normalize, Normalization):
        mean, std = tuple(data.normalize.mean), tuple(data.normalize.std)
    augmentations: list[Augmentation] = []
    for each in data.augment if training else ():
        with _refused_by("augmentation", each.name):
            make = load_target(each.target)
            augmentations.append(make(data.image_size or dataset.shape[-1], **each.options))
    return Batches(
        split,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        mean=mean,
        std=std,
        image_size=data.image_size,
        augmentations=augmentations,
    )


def _fetched(
    data: Data, items: Items, batch_size: int, device: torch.device, dtype: torch.dtype
) -> FetchedBatches:
    if data.augment or data.image_size is not None:
        raise DataError(
            f"augment and image_size are for images in memory, but {data.name} fetches its samples "
            "one by one.\n  Remove both, and change images in its __getitem__."
        )
    workers = data.workers or 0
    return FetchedBatches(items, batch_size=batch_size, device=device, dtype=dtype, workers=workers)


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device; None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _memory("MemAvailable", lambda limit, used: max(0, limit - used))


def total_bytes(device: torch.device) -> int | None:
    """Return the memory that a device has; None where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return _memory("MemTotal", lambda limit, used: limit)


def _memory(name: str, of_container: Callable[[int, int], int]) -> int | None:
    """Return what Linux says it has, or what a container has if that is less."""
    known = []
    with suppress(OSError):
        found = re.search(rf"^{name}: +(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
        known += [int(found[1]) * 1024] if found else []
    with suppress(OSError, ValueError):  # there is no container, or it has no limit
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        known.append(of_container(limit, used))
    return min(known, default=None)


def _check_width(
    model: Model, build: Callable[[Model], nn.Module], copy_bytes: int, device: torch.device
) -> None:
    """Refuse a network with a width that has no room, before it fills the memory."""
    width, free = model.options.get("width"), free_bytes(device)
    if not isinstance(width, int) or free is None:
        return

    def parameters(width: int) -> int:
        other = model.model_copy(update={"options": {**model.options, "width": width}})
        with torch.device("meta"):
            return sum(each.numel() for each in build(other).parameters())

    try:
        needed = parameters(width) * copy_bytes
    except Exception:  # it looks at values, which tensors there do not have, or fails on them
        return
    if needed <= free:
        return
    fits, too_wide = 0, width
    while too_wide - fits > max(1, fits // 100):  # to a hundredth, for memory comes and goes
        middle = (fits + too_wide) // 2
        if parameters(middle) * copy_bytes <= free:
            fits = middle
        else:
            too_wide = middle
    raise DeviceError(
        f"model.width is {width}: training its {parameters(width):,} parameters takes about "
        f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.\n"
        f"  A width of {fits} would fit: --set model.width={fits}"
    )
