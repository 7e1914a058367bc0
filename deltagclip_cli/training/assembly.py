"""From the names in a trial to the objects that train it."""

from __future__ import annotations

import inspect
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deltagclip_cli.core import (
    DataError,
    DeviceError,
    UsageError,
    derive_seed,
    load_target,
    stopped,
)
from deltagclip_cli.parts.datasets.dataset import (
    Augmentation,
    Batches,
    Dataset,
    TokenBatches,
    place,
)
from deltagclip_cli.parts.datasets.texts import TextDataset
from deltagclip_cli.parts.models import build as build_model
from deltagclip_cli.parts.models import tokenizer
from deltagclip_cli.parts.schedules.driver import ScheduleDriver, build_schedule
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.spec.schema import Data, Model, Normalization, wants_auto
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.theory.landscape import Landscape
from deltagclip_cli.theory.probe import CertificateProbe

Task = Callable[[nn.Module, Tensor, Tensor], Loss]


@dataclass(frozen=True)
class Parts:
    """What a trainer works with, on the device that it works on."""

    model: nn.Module
    task: Task
    optimizer: Optimizer
    schedule: ScheduleDriver
    train: Batches | TokenBatches
    test: Batches | TokenBatches
    device: torch.device
    fingerprint: str  # of the data
    probes: Sequence[CertificateProbe] = ()
    rank: int = 0  # of this process among those that train the trial


def find_device(name: str) -> torch.device:
    """The device called ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DeviceError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"--device {name}: expected auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"--device {name}: expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here.\n"
            "  Use --device cpu, or check the driver with nvidia-smi and CUDA_VISIBLE_DEVICES."
        )
    return device


def make_deterministic(precision: str, device: torch.device) -> None:
    """Ask torch for the same bits each time, and set the precision of float32 products.

    What has no deterministic kernel warns and runs all the same; the warning is in the log.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        # The fused attentions take their deterministic backward only where nothing else may warn.
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        fast = precision == "tf32"
        torch.set_float32_matmul_precision("high" if fast else "highest")
        torch.backends.cudnn.allow_tf32 = fast


def assemble(trial: Trial, data_dir: Path, device: torch.device, *, download: bool = True) -> Parts:
    """Load the data and build the model, the task, the optimizer and the schedule of a trial.

    Args:
        trial: what is to be trained.
        data_dir: where data sets lie.
        device: to train on.
        download: fetch data, and what a model was pretrained as, if they are missing.

    Raises:
        UsageError: the data are missing or do not fit, a part refuses its options, or the device
            lacks the precision.
    """
    check_precision(trial.precision, device)
    make_deterministic(trial.precision, device)
    dataset = load_dataset(trial.data, data_dir, model=trial.model, download=download)
    dtype = parameter_dtype(trial.precision)
    model = _model(trial, dataset, device, dtype)
    train = make_batches(trial.data, dataset, True, device, dtype)
    test = make_batches(trial.data, dataset, False, device, dtype)
    task = make_task(trial)
    try_out(task, model, test)
    landscape = _landscape(trial, model, task, train)
    rate = 1 / landscape.smoothness() if landscape and wants_auto(trial.optimizer) else None
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(trial, parameters, rate)
    return Parts(
        model=model,
        task=task,
        optimizer=optimizer,
        schedule=make_schedule(trial, optimizer, train.steps),
        train=train,
        test=test,
        device=device,
        fingerprint=fingerprint(dataset),
        probes=_probes(trial, landscape),
    )


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        DeviceError: it does not.
    """
    if precision == "tf32" and device.type != "cuda":
        raise DeviceError(
            f"precision tf32 is a mode of CUDA devices, but the device is {device}.\n"
            "  Use --set precision=fp32, or another --device."
        )


def parameter_dtype(precision: str) -> torch.dtype:
    """What the weights are kept in; narrower products are made of them as they are needed."""
    return torch.float64 if precision == "fp64" else torch.float32


def _model(trial: Trial, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> nn.Module:
    shape = input_shape(trial.data, dataset.shape)
    build = partial(build_model, trial.model.target, shape, dataset.classes)
    _check_room(trial, build, device, dtype)
    torch.manual_seed(derive_seed(trial.seed, "init"))
    model = build(trial.model.options)
    model = model.to(device=device, dtype=dtype)
    if _is_convolutional(model):
        model = model.to(memory_format=torch.channels_last)
    return model


def _check_room(
    trial: Trial,
    build: Callable[[Mapping[str, Any]], nn.Module],
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Refuse a width that has no room, before it fills the memory."""
    free = free_bytes(device)
    width = trial.model.options.get("width")
    if width is None or free is None:
        return

    def parameters(width: int) -> int:
        with torch.device("meta"):
            model = build({**trial.model.options, "width": width})
        return sum(each.numel() for each in model.parameters())

    # Weights, gradients and what an optimizer keeps, in a guess; and for the numbers of the
    # theorem, in float64, the first weights, those before the step, three vectors of Lanczos, a
    # product and its parts.
    copies = 4 * dtype.itemsize + 7 * torch.float64.itemsize * _needs_landscape(trial)
    check_width(width, parameters, copies, free)


def _needs_landscape(trial: Trial) -> bool:
    return trial.certificate is not None or wants_auto(trial.optimizer)


def _landscape(
    trial: Trial, model: nn.Module, task: Task, train: Batches | TokenBatches
) -> Landscape | None:
    """The loss around the first weights; None if nothing of it is asked."""
    if not _needs_landscape(trial):
        return None
    (whole,) = train.iterate(None, None)  # which the spec has seen to
    return Landscape(model, task, *whole)


def _probes(trial: Trial, landscape: Landscape | None) -> list[CertificateProbe]:
    if trial.certificate is None or landscape is None:
        return []
    every, epochs = trial.certificate.every, trial.epochs
    return [CertificateProbe(landscape, every=every, epochs=epochs, precision=trial.precision)]


def _is_convolutional(model: nn.Module) -> bool:
    """Whether convolutions are the body of the network, not only its first layer."""
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 1


def make_task(trial: Trial) -> Task:
    """What is minimised and measured."""
    task: Task = built(trial.task.target, "task", trial.task.name, trial.task.options)
    return task


@torch.inference_mode()
def try_out(task: Task, model: nn.Module, batches: Batches | TokenBatches) -> None:
    """Apply the task to two samples, so that parts that do not fit are found out at once."""
    inputs, targets = next(batches.iterate(None, None))
    try:
        task(model.eval(), inputs[:2], targets[:2])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise UsageError(
            f"{type(model).__name__} cannot be applied to inputs of shape "
            f"{tuple(inputs.shape[1:])}: {stopped(error)}\n"
            "  Check that the model, the data and the task of the experiment fit together."
        ) from None


def make_optimizer(
    trial: Trial, parameters: Sequence[Tensor], rate: float | None = None
) -> Optimizer:
    """The optimizer of a trial.

    Args:
        trial: whose it is.
        parameters: what it changes.
        rate: in the place of a learning rate that is to be found out.

    Raises:
        UsageError: it refuses its options, or the parameters.
    """
    options = {
        k: tuple(v) if isinstance(v, list) else v for k, v in trial.optimizer.options.items()
    }
    if rate is not None:
        options["lr"] = rate
    optimizer: Optimizer = built(
        trial.optimizer.target, "optimizer", trial.optimizer.name, options, parameters
    )
    return optimizer


def make_schedule(trial: Trial, optimizer: Optimizer, steps: int) -> ScheduleDriver:
    """The schedule of a trial, of so many steps in an epoch.

    Raises:
        UsageError: it refuses its options, or the length of the training.
    """
    schedule = trial.schedule
    if schedule is None:
        return ScheduleDriver(None)
    return build_schedule(
        schedule.name,
        schedule.options,
        optimizer,
        periods=trial.epochs * (steps if schedule.unit == "step" else 1),
        warmup=schedule.warmup,
        unit=schedule.unit,
    )


def load_dataset(
    data: Data, data_dir: Path, *, model: Model | None = None, download: bool = True
) -> Dataset:
    """Load a data set, which is downloaded and decoded, or cut into tokens, if it never was.

    Args:
        data: its settings.
        data_dir: where data sets lie.
        model: whose tokenizer cuts texts; None for one that reads no texts.
        download: False for a node without a network: what is missing is an error at once.

    Raises:
        DataError: it is missing or broken, or does not fit the settings.
        UsageError: the model is of texts and the data are not, or the other way round; or what it
            was pretrained as is missing.
    """
    loader = load_target(data.target)
    takes_download = "download" in inspect.signature(loader).parameters
    supplied = {"download": download} if takes_download else {}
    loaded: Dataset | TextDataset = loader(data_dir, data.image_size, **supplied, **data.options)
    cutter = tokenizer(model.target, model.options, download=download) if model else None
    shape = None if isinstance(loaded, TextDataset) else loaded.shape
    check_reading(data, shape, reads_texts=cutter is not None)
    if isinstance(loaded, TextDataset):
        assert cutter is not None, "as was just checked"
        loaded = loaded.tokenized(cutter)
    return fitted(loaded, data)


def check_reading(data: Data, shape: tuple[int, ...] | None, *, reads_texts: bool) -> None:
    """Refuse texts for a model that reads none, and the other way round.

    Args:
        data: settings of the data.
        shape: of the inputs; None for texts.
        reads_texts: whether the model reads texts.

    Raises:
        UsageError: they do not go together.
    """
    if shape is None and not reads_texts:
        raise UsageError(
            f"data {data.name} holds texts, which the model does not read.\n"
            "  Choose the model bert, or other data."
        )
    if shape is not None and reads_texts:
        raise UsageError(
            f"the model reads texts, but data {data.name} has inputs of shape {shape}.\n"
            "  Choose data of texts, such as emotion, or another model."
        )


def fitted(dataset: Dataset, data: Data) -> Dataset:
    """A whole data set cut to the samples that the settings want.

    Raises:
        DataError: it has fewer, or fewer than a batch.
    """
    dataset = dataset.limited(train_samples=data.train_samples, test_samples=data.test_samples)
    check_batch_size(data, len(dataset.train))
    return dataset


def check_batch_size(data: Data, samples: int) -> None:
    """Refuse a batch of more samples than there are.

    Raises:
        DataError: it has more.
    """
    if data.batch_size != "full" and data.batch_size > samples:
        raise DataError(
            f"data.batch_size is {data.batch_size}, but {data.name} has {samples} samples.\n"
            "  Use a smaller batch, or batch_size: full for all of them in one."
        )


def input_shape(data: Data, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a model is given, of inputs that are stored in another."""
    if data.image_size is None or len(stored) != 3:
        return stored
    return (stored[0], data.image_size, data.image_size)


def make_batches(
    data: Data, dataset: Dataset, training: bool, device: torch.device, dtype: torch.dtype
) -> Batches | TokenBatches:
    """The batches of one split.

    Raises:
        UsageError: the data do not go with their augmentation, or it refuses its options.
    """
    split = place(dataset.train if training else dataset.test, device)
    wanted = data.batch_size if training else data.evaluation_batch_size
    batch_size = len(split) if wanted == "full" else wanted
    if dataset.padding is not None:
        if data.augment:
            raise DataError(f"augment is for images, but {data.name} holds texts.\n  Remove it.")
        return TokenBatches(split, batch_size=batch_size, device=device, padding=dataset.padding)
    mean, std = _normalization(data, dataset)
    return Batches(
        split,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        mean=mean,
        std=std,
        image_size=data.image_size,
        augmentations=_augmentations(data, dataset) if training else [],
    )


def _augmentations(data: Data, dataset: Dataset) -> list[Augmentation]:
    size = data.image_size or dataset.shape[-1]
    return [
        built(each.target, "augmentation", each.name, each.options, size) for each in data.augment
    ]


def _normalization(
    data: Data, dataset: Dataset
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if isinstance(data.normalize, Normalization):
        return tuple(data.normalize.mean), tuple(data.normalize.std)
    return (dataset.mean, dataset.std) if data.normalize == "dataset" else (None, None)


def fingerprint(dataset: Dataset) -> str:
    """Sizes and a checksum of the data, by which a restart knows that they are the same."""
    checksum = 0
    for split in (dataset.train, dataset.test):
        for tensor in (split.inputs, split.targets):
            checksum = zlib.crc32(tensor.contiguous().numpy().data, checksum)
    return f"{len(dataset.train)} + {len(dataset.test)} samples, checksum {checksum:08x}"


def built(target: str, kind: str, name: str, options: Mapping[str, Any], *supplied: object) -> Any:
    """What a target makes of its options.

    Raises:
        UsageError: it refuses them.
    """
    try:
        return load_target(target)(*supplied, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{kind} '{name}' refuses its options: {stopped(error)}") from None


def free_bytes(device: torch.device) -> int | None:
    """The memory that is free on a device; None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [_of_system("MemAvailable"), _of_container(lambda limit, used: max(0, limit - used))]
    return min((each for each in known if each is not None), default=None)


def total_bytes(device: torch.device) -> int | None:
    """The memory that a device has; None where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    known = [_of_system("MemTotal"), _of_container(lambda limit, used: limit)]
    return min((each for each in known if each is not None), default=None)


def _of_system(name: str) -> int | None:
    """What Linux says it has, or could give without swapping."""
    with suppress(OSError):
        found = re.search(rf"^{name}: +(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def _of_container(figure: Callable[[int, int], int]) -> int | None:
    """A figure of a container's limit and of what is used of it, if it has a limit."""
    with suppress(OSError, ValueError):
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        return figure(limit, used)
    return None


_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def check_width(width: int, parameters: Callable[[int], int], copy_bytes: int, free: int) -> None:
    """Check that a network of some width fits.

    Args:
        width: of its layers.
        parameters: how many it has for any width; grows with it.
        copy_bytes: what training takes for each of them.
        free: memory in bytes.

    Raises:
        DeviceError: it does not; the message says which width would.
    """
    needed = parameters(width) * copy_bytes
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
