"""Hands trials to Slurm: which of them go into which array, and what the arrays run."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deltagclip_cli.plan.planned import Planned
from deltagclip_cli.runs.folder import ENDED, State
from deltagclip_cli.slurm.client import SlurmError, UnansweredError, submit
from deltagclip_cli.slurm.refusals import explained
from deltagclip_cli.slurm.script import render
from deltagclip_cli.slurm.submission import Array, Entry, Head, Marks, new_submission
from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.slurm_settings import Resources


@dataclass(frozen=True)
class Batch:
    """Trials of one experiment that go into one array.

    Args:
        array: its files, which are not there yet.
        head: of the list of trials.
        resources: what all of them need.
        trials: those that one task runs follow each other.
        script: the text of the script.
    """

    array: Array
    head: Head
    resources: Resources
    trials: Sequence[Planned]
    script: str


@dataclass(frozen=True)
class Submitter:
    """Submits trials; in the jobs, the local launcher runs them.

    Args:
        spec: whose experiments they are of.
        runs: the runs folder, which the nodes must see too.
        data_dir: where data sets lie, likewise.
        overrides: resources that the command line asks for.
        threads: of the CPU, for each trial; None for as many as usual.
    """

    spec: Spec
    runs: Path
    data_dir: Path
    overrides: Resources
    threads: int | None = None

    def batches(self, todo: Sequence[Planned], largest: int) -> list[Batch]:
        """Put trials that need the same into arrays of at most ``largest`` tasks."""
        groups: dict[tuple[str, str], list[Planned]] = {}
        for each in todo:
            key = each.trial.experiment, self._resources(each).model_dump_json()
            groups.setdefault(key, []).append(each)
        folder, counts = new_submission(self.runs), Counter[str]()
        batches = []
        for (experiment, _), group in groups.items():
            resources = self._resources(group[0])
            size = largest * (resources.pack or 1)
            for start in range(0, len(group), size):
                array = Array(folder / f"{experiment}-{counts[experiment]}")
                counts[experiment] += 1
                batches.append(self._batch(array, resources, group[start : start + size]))
        return batches

    def submit(self, batch: Batch) -> str:
        """Submit an array, and return the number of its job.

        Raises:
            SlurmError: it is refused, and nothing of it is left; or Slurm does not answer.
        """
        entries = [_entry(each) for each in batch.trials]
        batch.array.write(batch.head, entries, batch.script)
        try:
            job = submit(batch.array.script)
        except SlurmError as error:
            if not isinstance(error, UnansweredError):  # a job that came to be needs its files
                batch.array.discard()
            first = batch.trials[0]
            experiment, label = first.trial.experiment, first.label
            raise explained(error, self.spec, experiment, label, self.overrides) from None
        batch.array.record_job(job)
        return job

    def _resources(self, planned: Planned) -> Resources:
        slurm = self.spec.experiments[planned.trial.experiment].slurm
        return slurm.of(planned.label, self.overrides)

    def _batch(self, array: Array, resources: Resources, trials: Sequence[Planned]) -> Batch:
        experiment = trials[0].trial.experiment
        head = Head(experiment, resources.pack or 1, time.time(), len(trials))
        script = render(array, head, resources, self._command(array, resources), Path.cwd())
        return Batch(array, head, resources, trials, script)

    def _command(self, array: Array, resources: Resources) -> list[str]:
        # Without -P, a file of the folder that is called like a module would be taken for it.
        words = [sys.executable, "-P", "-m", "deltagclip_cli", "job", str(array.list_file)]
        words += ["--data", str(self.data_dir.absolute())]
        if resources.gpus is not None:
            words += ["--gpus" if resources.gpus else "--no-gpus"]
        words += ["--threads", str(self.threads)] if self.threads else []
        if resources.local_data is not None:
            words += ["--local-data", resources.local_data]
        return words


def _entry(planned: Planned) -> Entry:
    before = Marks() if planned.state is State.NEW else Marks.of(planned.folder)
    if planned.state not in (*ENDED, State.PRUNED):  # it has ended since it was looked up
        before = replace(before, ended=None)
    return Entry(planned.trial.folder, planned.trial, _again(planned), before)


def _again(planned: Planned) -> str:
    if planned.afresh:
        return "all"
    return "failed" if planned.state is State.FAILED else ""
