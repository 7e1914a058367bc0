"""From the names in a trial to the objects that train it."""

from __future__ import annotations

import inspect
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deltagclip_cli.datasets.batches import Augmentation, Batches, place
from deltagclip_cli.datasets.dataset import Dataset
from deltagclip_cli.datasets.texts import TextDataset
from deltagclip_cli.datasets.token_batches import TokenBatches
from deltagclip_cli.errors import DataError, DeviceError, UsageError
from deltagclip_cli.landscape.landscape import Landscape
from deltagclip_cli.landscape.probe import CertificateProbe
from deltagclip_cli.memory import check_width, free_bytes
from deltagclip_cli.models import build as build_model
from deltagclip_cli.models import tokenizer
from deltagclip_cli.registry import load
from deltagclip_cli.schedules.driver import ScheduleDriver, build_schedule
from deltagclip_cli.seeds import derive_seed
from deltagclip_cli.spec.schema import Data, Model, Normalization
from deltagclip_cli.spec.theorem import wants_auto
from deltagclip_cli.tasks.outcome import Outcome
from deltagclip_cli.trials import Trial

Task = Callable[[nn.Module, Tensor, Tensor], Outcome]


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
    if trial.precision == "tf32" and device.type != "cuda":
        raise DeviceError(
            f"precision tf32 is a mode of CUDA devices, but the device is {device}.\n"
            "  Use --set precision=fp32, or another --device."
        )
    make_deterministic(trial.precision, device)
    dataset = load_dataset(trial.data, data_dir, model=trial.model, download=download)
    dtype = torch.float64 if trial.precision == "fp64" else torch.float32
    model = _model(trial, dataset, device, dtype)
    train = _batches(trial.data, dataset, True, device, dtype)
    test = _batches(trial.data, dataset, False, device, dtype)
    task = _build(trial.task.target, "task", trial.task.name, trial.task.options)
    _try_out(task, model, test)
    landscape = _landscape(trial, model, task, train)
    optimizer = _optimizer(trial, model, landscape)
    return Parts(
        model=model,
        task=task,
        optimizer=optimizer,
        schedule=_schedule(trial, optimizer, train.steps),
        train=train,
        test=test,
        device=device,
        fingerprint=_fingerprint(dataset),
        probes=_probes(trial, landscape),
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
    loader = load(data.target)
    takes_download = "download" in inspect.signature(loader).parameters
    supplied = {"download": download} if takes_download else {}
    loaded: Dataset | TextDataset = loader(data_dir, data.image_size, **supplied, **data.options)
    cutter = tokenizer(model.target, model.options, download=download) if model else None
    if isinstance(loaded, TextDataset):
        if cutter is None:
            raise UsageError(
                f"data {data.name} holds texts, which the model does not read.\n"
                "  Choose the model bert, or other data."
            )
        loaded = loaded.tokenized(cutter)
    elif cutter is not None:
        raise UsageError(
            f"the model reads texts, but data {data.name} has inputs of shape {loaded.shape}.\n"
            "  Choose data of texts, such as emotion, or another model."
        )
    return fitted(loaded, data)


def fitted(dataset: Dataset, data: Data) -> Dataset:
    """A whole data set cut to the samples that the settings want.

    Raises:
        DataError: it has fewer, or fewer than a batch.
    """
    dataset = dataset.limited(train_samples=data.train_samples, test_samples=data.test_samples)
    samples = len(dataset.train)
    if data.batch_size != "full" and data.batch_size > samples:
        raise DataError(
            f"data.batch_size is {data.batch_size}, but {data.name} has {samples} samples.\n"
            "  Use a smaller batch, or batch_size: full for all of them in one."
        )
    return dataset


def _model(trial: Trial, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> nn.Module:
    shape = dataset.shape
    size = trial.data.image_size
    if size is not None and len(shape) == 3:
        shape = (shape[0], size, size)
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


def _batches(
    data: Data, dataset: Dataset, training: bool, device: torch.device, dtype: torch.dtype
) -> Batches | TokenBatches:
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
        _build(each.target, "augmentation", each.name, each.options, size) for each in data.augment
    ]


def _fingerprint(dataset: Dataset) -> str:
    """Sizes and a checksum of the data, by which a restart knows that they are the same."""
    checksum = 0
    for split in (dataset.train, dataset.test):
        for tensor in (split.inputs, split.targets):
            checksum = zlib.crc32(tensor.contiguous().numpy().data, checksum)
    return f"{len(dataset.train)} + {len(dataset.test)} samples, checksum {checksum:08x}"


@torch.inference_mode()
def _try_out(task: Task, model: nn.Module, batches: Batches | TokenBatches) -> None:
    """Apply the task to two samples, so that parts that do not fit are found out at once."""
    inputs, targets = next(batches.iterate(None, None))
    try:
        task(model.eval(), inputs[:2], targets[:2])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"{type(model).__name__} cannot be applied to inputs of shape "
            f"{tuple(inputs.shape[1:])}: {error}.\n"
            "  Check that the model, the data and the task of the experiment fit together."
        ) from None


def _normalization(
    data: Data, dataset: Dataset
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if isinstance(data.normalize, Normalization):
        return tuple(data.normalize.mean), tuple(data.normalize.std)
    return (dataset.mean, dataset.std) if data.normalize == "dataset" else (None, None)


def _optimizer(trial: Trial, model: nn.Module, landscape: Landscape | None) -> Optimizer:
    options = {
        k: tuple(v) if isinstance(v, list) else v for k, v in trial.optimizer.options.items()
    }
    if wants_auto(trial.optimizer) and landscape is not None:
        options["lr"] = 1 / landscape.smoothness()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: Optimizer = _build(
        trial.optimizer.target, "optimizer", trial.optimizer.name, options, parameters
    )
    return optimizer


def _schedule(trial: Trial, optimizer: Optimizer, steps: int) -> ScheduleDriver:
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


def _build(target: str, kind: str, name: str, options: Mapping[str, Any], *supplied: object) -> Any:
    try:
        return load(target)(*supplied, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{kind} '{name}' refuses its options: {error}.") from None
