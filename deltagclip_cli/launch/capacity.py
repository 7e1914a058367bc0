"""The number of trials that a GPU has room for, by a short training of each kind of them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from deltagclip_cli.spec.trial import Trial

_STEPS = 2  # in the first an optimizer makes what it keeps
_MOST_CONTEXT = 2**30  # bytes; what more is taken of a GPU is other processes'
_SHARE = 0.9  # of the free memory is given away
_MARGIN = 1.1  # each may take so many times what was measured: batches and kernels differ


@dataclass(frozen=True)
class Memory:
    """The memory of GPUs in bytes."""

    needed: int  # by a process that trains the largest trial, all it takes of a GPU included
    free: int  # of the fullest GPU, before

    @property
    def trials(self) -> int:
        """The number of such trials that fit, at least one."""
        return max(1, int(_SHARE * self.free / (_MARGIN * self.needed)))


def kinds(trials: Sequence[Trial]) -> list[Trial]:
    """Choose one trial of each experiment and kind of optimizer, whose memory is alike."""
    return list({(each.experiment, each.optimizer.name): each for each in trials}.values())


def measure(trials: Sequence[Trial], data_dir: Path, devices: Sequence[str]) -> Memory:
    """Train each trial for a moment on the first of some GPUs, in this process, and look."""
    import torch

    device, most = torch.device(devices[0]), 0
    for trial in trials:
        torch.cuda.reset_peak_memory_stats(device)
        train_a_little(trial, data_dir, device)
        peak = torch.cuda.max_memory_reserved(device)
        most = max(most, peak * (trial.stack or 1))
        gc.collect()
        torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    context = min(total - free - torch.cuda.memory_reserved(device), _MOST_CONTEXT)
    frees = [free + context, *(torch.cuda.mem_get_info(each)[0] for each in devices[1:])]
    return Memory(most + context, min(frees))


def train_a_little(trial: Trial, data_dir: Path, device: torch.device) -> None:
    """Make two steps and evaluate one batch of each split, which takes all that a trial will."""
    import torch

    from deltagclip_cli.training.assembly import assemble
    from deltagclip_cli.training.meter import AveragedWeights, observer
    from deltagclip_cli.training.program import Eager
    from deltagclip_cli.training.stepping import Stepper

    parts = assemble(trial, data_dir, device)
    stepper = Stepper(parts.optimizer, trial.optimizer.clip_grad_norm)
    watched = observer(parts.optimizer, is_clipped=stepper.most_norm is not None)
    program = Eager(trial, parts, stepper, watched)
    average = None if trial.ema is None else AveragedWeights(parts.model, trial.ema)
    parts.model.train()
    stepper.train()
    steps = parts.steps.iterate(None, torch.Generator(device))
    for number, batches in enumerate(islice(steps, _STEPS)):
        program.step(batches, number)
    with torch.inference_mode():
        for model in (parts.model, *([] if average is None else [average.module])):
            model.eval()
            for split in parts.evaluated.values():
                program.forward(model, *next(split.iterate(None, None)))
    parts.close()
