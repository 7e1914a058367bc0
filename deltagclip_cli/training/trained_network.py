"""The network of a trial that was trained, for programs that go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deltagclip_cli.core import UsageError
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.checkpoints import Checkpoints
from deltagclip_cli.training.exactness import torch_left_as_it_was
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.sinks import Recording
from deltagclip_cli.training.trainer import Trainer

if TYPE_CHECKING:
    from torch import nn


def trained_network(folder: RunFolder, data_dir: Path, *, averaged: bool = False) -> nn.Module:
    """Return the network of a trial on the CPU, with the weights of its last evaluation.

    The data are loaded, as they say how many inputs and classes there are, and as some networks
    measure their batch norms by them.

    Args:
        averaged: those that the trial averages besides.

    Raises:
        UsageError: there are no such weights; the data cannot be used.
        ClaimedError: another process trains in the folder.
    """
    trial = folder.trial_to_run()
    if averaged and trial.ema is None:
        raise UsageError(f"{folder.path}: this trial averages no weights; its spec has no ema.")
    if folder.state is State.DIVERGED:
        raise UsageError(f"{folder.path}: it has diverged, and weights of before that are not its.")
    with hold(folder) as held:
        found = next(Checkpoints(held, trial.identity).newest_first(), None)
        if found is None:
            raise UsageError(
                f"{folder.path}: there is no checkpoint with weights.\n"
                "  Train it again with force=True, and let its spec keep the last one."
            )
        state = Ranks().loaded(found, folder)
    device = torch.device("cpu")
    with torch_left_as_it_was(device):
        parts = assemble(trial, data_dir, device)
        trainer = Trainer(trial, parts, Recording((), lambda state: None), lambda: False)
        parts.model.load_state_dict(state["model"])
        trainer.stepper.load_state_dict(state)
        trainer.step = state["step"]
        if trainer.average is not None:
            trainer.average.module.load_state_dict(state["average"])
        with trainer.evaluated(averaged=averaged) as model:
            weights = {name: each.clone() for name, each in model.state_dict().items()}
        parts.close()
    model.load_state_dict(weights)
    return model.eval()
