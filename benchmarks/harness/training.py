"""Trials that train one epoch at a time, recorded as ``deltagclip train`` records them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.assembly import Parts
from deltagclip_cli.training.sinks import Beginning, make_recording
from deltagclip_cli.training.trainer import Trainer


def trials_of(spec: Path) -> Iterator[Trial]:
    """The setting of each optimizer of each experiment in a file, with seed 0."""
    for name, experiment in load_spec(spec).experiments.items():
        for label in experiment.optimizers:
            yield make_trial(name, experiment, label, 0)


class Runner:
    """A trial in a run folder, whose epochs are called one by one.

    It writes no checkpoint, whose time is that of the disk.
    """

    def __init__(self, trial: Trial, parts: Parts, runs: Path) -> None:
        run = RunFolder.of(runs, trial)
        create(run, trial)
        self.recording = make_recording(HeldFolder(run), (), lambda state: None)
        self.trainer = Trainer(trial, parts, self.recording, self._is_epoch_over)
        self.recording.begin(Beginning(trial, str(parts.device), self.trainer.course))

    def epoch(self) -> None:
        """Train and evaluate once more."""
        self.trainer.train()

    def _is_epoch_over(self) -> bool:
        return self.trainer.batch == 0


@contextmanager
def runner(trial: Trial, parts: Parts, runs: Path) -> Iterator[Runner]:
    """A trial that is ended behind its epochs."""
    made = Runner(trial, parts, runs)
    try:
        yield made
    finally:
        made.recording.end(None)
