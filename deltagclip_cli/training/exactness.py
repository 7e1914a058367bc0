"""Kernels that give the same bits each time, where a device has them, or the fastest.

An operation that has no such kernel raises an error. Most often that is in a step with copies of
the parts, before the training. From then on it is allowed, and the log names it.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from deltagclip_cli.core import DeltaGClipError, DeviceError, UsageError, stopped
from deltagclip_cli.parts.making import own_lines, said_by
from deltagclip_cli.parts.nested import outlined, shapes
from deltagclip_cli.training.chance import streams_kept
from deltagclip_cli.training.meter import observer
from deltagclip_cli.training.program import Eager
from deltagclip_cli.training.stepping import Stepper, make_optimizer

if TYPE_CHECKING:
    from torch import nn

    from deltagclip_cli.parts.nested import Tree
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts, Task

_RATE = 1e-3  # in the place of one that is not found out yet; such a step is thrown away
_WARNED = re.compile(r"([^:\n]*\S) does not have a deterministic implementation")
_RAISED = re.compile(_WARNED.pattern + r"|Deterministic (backward for \w+)|it uses (CuBLAS)")


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not have."""
    if precision == "tf32" and device.type != "cuda":
        raise DeviceError(
            f"precision tf32 is a mode of CUDA devices, but the device is {device}.\n"
            "  Use --set precision=fp32, or another --device."
        )


def parameter_dtype(precision: str) -> torch.dtype:
    """Return what weights are kept in; narrower products are made of them as they are needed."""
    return torch.float64 if precision == "fp64" else torch.float32


def choose_kernels(determinism: str, precision: str, device: torch.device) -> None:
    """Ask torch for the same bits each time, or only for speed; set the precision of products.

    Where the same bits are wanted, an operation that has no kernel for them raises an error.

    Args:
        determinism: ``exact``; or ``fast``, for any kernels, of which cuDNN takes what a short
            measurement shows to be the fastest.
        precision: of a trial; only ``tf32`` makes products of float32 less precise.
    """
    is_exact = determinism == "exact"
    torch.use_deterministic_algorithms(is_exact)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not is_exact
    if is_exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device.type == "cuda":
        _use_fused_attention(True)  # whose gradients are deterministic where nothing else may be
        torch.backends.cuda.enable_cudnn_sdp(not is_exact)
        is_narrow = precision == "tf32"
        torch.set_float32_matmul_precision("high" if is_narrow else "highest")
        torch.backends.cudnn.allow_tf32 = is_narrow


def _use_fused_attention(enabled: bool) -> None:
    torch.backends.cuda.enable_flash_sdp(enabled)
    torch.backends.cuda.enable_mem_efficient_sdp(enabled)


@contextmanager
def torch_left_as_it_was(device: torch.device) -> Iterator[None]:
    """Set back afterwards what a training sets: threads, kernels and streams of random numbers.

    For a process that does more than train.
    """
    threads, cuda, cudnn = torch.get_num_threads(), torch.backends.cuda, torch.backends.cudnn
    is_exact = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    tries, narrow, products = (
        cudnn.benchmark,
        cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
    )
    attention = cuda.flash_sdp_enabled(), cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    try:
        with streams_kept(device):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_exact, warn_only=only_warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        cudnn.benchmark = tries
        if device.type == "cuda":
            _use_fused_attention(attention[0])
            cuda.enable_cudnn_sdp(attention[1])
            torch.set_float32_matmul_precision(products)
            cudnn.allow_tf32 = narrow


def inexact_operation(error: BaseException) -> str | None:
    """Return the operation for whose want of a deterministic kernel an error was raised, if so."""
    found = _RAISED.search(str(error))
    return None if found is None else next(name.strip() for name in found.groups() if name)


def allow(device: torch.device) -> None:
    """Allow what has no deterministic kernel, beside exact attention.

    Flash and memory-efficient attention would now take other gradients, which are not
    deterministic: attention takes its plain kernel.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    if device.type == "cuda":
        _use_fused_attention(False)


@contextmanager
def allowed(device: torch.device, known: Iterable[str] = ()) -> Iterator[set[str]]:
    """:func:`allow`, from now on, and gather the names of what it is for within the context.

    Of what was found, and of what is ``known``, torch does not warn again.
    """
    allow(device)
    found = set(known)
    with _every_warning(), warnings.catch_warnings():
        warnings.filterwarnings("always", message=_WARNED.pattern)
        show = warnings.showwarning

        def gather(message: Warning | str, *place: Any, **more: Any) -> None:
            named = _WARNED.match(str(message))
            if named is None:
                show(message, *place, **more)
            else:
                found.add(named[1])

        warnings.showwarning = gather
        yield found
    for name in found:
        warnings.filterwarnings("ignore", message=re.escape(name) + " does not have")


@contextmanager
def kernels_of(trial: Trial, device: torch.device, *, is_used: bool) -> Iterator[set[str]]:
    """Try something of a trial with its kernels; gather those that are not exact but should be.

    Nothing is gathered where it is not ``is_used`` as it will be in the training.
    """
    if not is_used:
        yield set()
        return
    choose_kernels(trial.determinism, trial.precision, device)
    if trial.determinism == "fast":
        yield set()
        return
    with allowed(device) as found:
        yield found


@torch.inference_mode()
def try_out(task: Task, model: nn.Module, inputs: Tree, targets: Tree) -> None:
    """Apply the task to a few samples, so that parts that do not fit are found out at once."""
    try:
        task(model.eval(), inputs, targets)
    except (torch.OutOfMemoryError, DeltaGClipError):
        raise
    except Exception as error:
        what, hint = _unfit(model, inputs, targets)
        said = f"{stopped(said_by(error))}{own_lines(error)}"
        raise UsageError(f"{what}: {said}\n  {hint}") from None


def _unfit(model: nn.Module, inputs: Tree, targets: Tree) -> tuple[str, str]:
    """Return what does not fit where a task fails, and what to do: inputs, outputs or targets."""
    name = type(model).__name__
    hint = "Check that the model, the data and the task of the experiment fit together."
    try:
        there = f"the outputs of {name} are {outlined(model(inputs))}, the targets "
        there += outlined(targets)
    except Exception:  # the inputs do not fit, or what is returned has no shape
        return f"{name} cannot be applied to inputs of shape {shapes(inputs)}", hint
    if isinstance(targets, torch.Tensor) and not targets.is_floating_point():
        hint = (
            "Classes are numbers from 0, one for each sample. Where each token has one, "
            "the task is language_model."
        )
    return there, hint


def try_step(trial: Trial, parts: Parts, samples: tuple[Tree, Tree]) -> None:
    """Make a step with copies of the parts, on few samples, for what no evaluation comes to.

    The parts and all random streams are left as they were. What it raises is left to the training,
    which meets it again with all samples of a batch; it knows of more than two.

    Raises:
        RuntimeError: an operation has no deterministic kernel.
    """
    rate = _RATE if trial.optimizer.wants_auto else None
    with streams_kept(parts.device), _every_warning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given in the training
        warnings.filterwarnings("always", message=_WARNED.pattern)
        try:
            model, task = deepcopy((parts.model, parts.task))
            optimizer = make_optimizer(trial, model, len(parts.steps), rate)
            copies = replace(parts, model=model, task=task, optimizer=optimizer)
            stepper = Stepper(optimizer, trial.optimizer.clip_grad_norm)
            observed = observer(optimizer, is_clipped=stepper.most_norm is not None)
            stepper.train()
            model.train()
            Eager(trial, copies, stepper, observed).step([samples], 0)
        except (Exception, SystemExit) as error:
            if inexact_operation(error) is not None:
                raise


@contextmanager
def _every_warning() -> Iterator[None]:
    """Let torch give each time what it warns of once in a process, which so is not lost."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)
