"""Small full-batch trials, and ways to run them and to change what they recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.theory.certificate import Certificate, certificate_of
from deltagclip_cli.theory.verdict import Statement

if TYPE_CHECKING:  # which load torch
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.trainer import Ending

SMALL: dict[str, Any] = {
    "model": {"name": "wide_mlp", "width": 64},
    "data": {"name": "sphere", "points": 8, "dimension": 6, "radius": 2.0, "batch_size": "full"},
    "task": {"name": "classify", "loss": "squared", "reduction": "sum"},
    "precision": "fp64",
    "epochs": 60,
    "certificate": {"every": 10},
}
# Of these 60 steps some are floored, some clipped and some plain, and η stays below 1/β.
DELTA_GCLIP = {"name": "delta_gclip", "lr": 0.25, "gamma": 0.5, "delta": 0.25}
DESCENT = {"name": "sgd", "lr": 0.25}
GCLIP = {"name": "gclip", "lr": 0.25, "gamma": 0.5}
ADAM = {"name": "adam", "lr": 1e-3}


def trial_of(optimizer: Mapping[str, Any] = DELTA_GCLIP, **settings: Any) -> Trial:
    """A trial of the small experiment, some sections of which have other options."""
    written = {**SMALL, "optimizers": {"tested": optimizer}}
    for name, value in settings.items():
        is_section = isinstance(value, dict) and name in SMALL and "name" not in value
        written[name] = {**SMALL[name], **value} if is_section else value
    return make_trial("small", Experiment.model_validate(written), "tested", 0)


def parts_of(trial: Trial) -> Parts:
    """What a trial is made of, at its first weights."""
    import torch

    from deltagclip_cli.training.assembly import assemble

    return assemble(trial, Path("nowhere"), torch.device("cpu"))


def train(trial: Trial, runs: Path, stop: Callable[[], bool] = lambda: False) -> Ending:
    """Run a trial in this process."""
    from deltagclip_cli.training.worker import run_trial

    return run_trial(
        RunFolder.of(runs, trial),
        trial,
        data_dir=Path("nowhere"),
        device="cpu",
        should_stop=stop,
    )


def trained(trial: Trial, runs: Path) -> RunFolder:
    """The folder of a trial that was run to its end."""
    train(trial, runs)
    return RunFolder.of(runs, trial)


def records(folder: RunFolder) -> list[dict[str, Any]]:
    return list(folder.metrics())


def change(folder: RunFolder, step: int, **values: float | None) -> None:
    """Write other values into the record of a step; ``train__loss`` is ``train/loss``."""
    changed = records(folder)
    changed[step - 1] |= {name.replace("__", "/"): value for name, value in values.items()}
    folder.metrics_file.write_text("".join(json.dumps(each) + "\n" for each in changed))


def certified(folder: RunFolder) -> Certificate:
    (run,) = read_trials([folder.path]).runs
    return certificate_of(run)


def lines(folder: RunFolder) -> dict[str, Statement]:
    """The statements of a certificate by their names."""
    return {each.name: each for each in certified(folder).statements}


def verdicts(folder: RunFolder) -> dict[str, str]:
    """What each line came to."""
    return {name: str(line) for name, line in lines(folder).items()}
