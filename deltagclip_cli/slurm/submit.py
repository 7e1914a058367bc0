"""One ``sweep --launcher slurm``: what is submitted, what is printed, and the exit code."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import ExitCode, check_writable, claimed, plural
from deltagclip_cli.launch.rehearsal.check import call_with_torch, check_parts
from deltagclip_cli.launch.rehearsal.refusals import Stage, elsewhere
from deltagclip_cli.launch.sweep_plan import Sweep
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.slurm.client import (
    DEFAULT_MAX_ARRAY_SIZE,
    MissingError,
    SlurmError,
    largest_array,
)
from deltagclip_cli.slurm.jobs import close_finished, find_jobs
from deltagclip_cli.slurm.planned_jobs import Batch, Submitter
from deltagclip_cli.slurm.submission import FOLDER
from deltagclip_cli.spec.slurm_settings import Resources
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.console import waiting
from deltagclip_cli.terminal.streams import print_json
from deltagclip_cli.terminal.sweep_tables import counted, titled_table

_PATIENCE_SECONDS = 120.0  # for another submission from this runs folder
_ELSEWHERE = "Run this on a login node, or leave out --launcher slurm."


@dataclass(frozen=True, kw_only=True)
class SlurmSession(Sweep):
    """How a sweep is submitted.

    Args:
        overrides: resources that the command line asks for.
    """

    overrides: Resources

    def show(self, trials: Sequence[Trial]) -> int:
        """Print the scripts, submit nothing, and return the exit code."""
        jobs = find_jobs(self.runs)
        planned = look_up(trials, self.runs, jobs)
        batches = self._submitter.batches(self._todo(planned), _largest_array())
        if self.as_json:
            records = [{**_record(batch), "script": batch.script} for batch in batches]
            self._print_json(planned, records, jobs.problem)
            return ExitCode.OK
        for batch in batches:
            print(f"# {batch.array.script}\n{batch.script}")
        sys.stdout.flush()
        self.warn_of(jobs)
        self.say(self._outline(planned, batches))
        return ExitCode.OK

    def run(self, trials: Sequence[Trial]) -> int:
        """Submit what is to be submitted, and return the exit code.

        Raises:
            SlurmError: Slurm cannot be asked, or refuses an array; those before it are submitted.
            UnwritableError: nothing can be written in the runs folder.
        """
        check_writable(self.runs / FOLDER)
        with self._alone():
            jobs = find_jobs(self.runs)
            if jobs.is_missing:
                raise MissingError(jobs.problem)
            if jobs.problem:
                raise SlurmError(f"{jobs.problem}\n  Nothing was submitted.")
            planned = look_up(trials, self.runs, jobs)
            todo = self._todo(planned)
            self.check_force(todo)
            self._check_parts(todo)
            batches = self._submitter.batches(todo, largest_array()) if todo else []
            self.say(self._outline(planned, batches))
            self.tell_of_threads(todo)
            numbers = self._submit(batches)
            close_finished(self.runs, jobs)
        self._conclude(planned, batches, numbers)
        ended_badly = any(each.state in (State.FAILED, State.DIVERGED) for each in planned)
        return ExitCode.FAILED if ended_badly and not batches else ExitCode.OK

    @property
    def _submitter(self) -> Submitter:
        return Submitter(self.spec, self.runs, self.data, self.overrides, self.threads)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Plan and submit while nobody else does, who would submit the same."""
        folder = self.runs / FOLDER
        message = (
            f"{folder}: another sweep has been submitting from here for {_PATIENCE_SECONDS:.0f} s."
            "\n  Wait for it, or end it, and run this again."
        )
        with claimed(folder / ".lock", message, _PATIENCE_SECONDS):
            try:
                yield
            except MissingError as error:
                raise SlurmError(f"{error}\n  Nothing was submitted. {_ELSEWHERE}") from None
            finally:
                _remove_if_unused(folder)

    def _todo(self, planned: Sequence[Planned]) -> list[Planned]:
        todo, _ = self.ordered(planned)
        return [each for each in todo if each.state is not State.RUNNING]

    def _check_parts(self, todo: Sequence[Planned]) -> None:
        """Find out here what would fail on the nodes, as far as that can be known."""

        def stage(trial: Trial) -> Stage:
            slurm = self.spec.experiments[trial.experiment].slurm
            return elsewhere(slurm.of(trial.label, self.overrides))

        if todo:
            trials = [each.trial for each in todo]
            words = "loading torch and trying the parts out"
            with waiting(self.console, words, quiet=self.quiet):
                check_parts(self.spec, trials, stage, self.data, call_with_torch)

    def _submit(self, batches: Sequence[Batch]) -> list[str]:
        numbers: list[str] = []
        for batch in batches:
            try:
                numbers.append(self._submitter.submit(batch))
            except SlurmError as error:
                if not numbers:
                    raise
                raise SlurmError(
                    f"{error}\n  Submitted before: {', '.join(numbers)}. "
                    "The same command submits what is left."
                ) from None
        return numbers

    def _outline(self, planned: Sequence[Planned], batches: Sequence[Batch]) -> str:
        states = counted(Counter(each.state for each in planned))
        found = f"{plural(len(planned), 'trial')}: {states}."
        if not batches:
            return f"{found} There is nothing to submit."
        trials = sum(len(batch.trials) for batch in batches)
        tasks = plural(sum(batch.head.tasks for batch in batches), "task")
        arrays = plural(len(batches), "array")
        return f"{found} {trials} to submit: {tasks} in {arrays}."

    def _conclude(
        self, planned: Sequence[Planned], batches: Sequence[Batch], numbers: Sequence[str]
    ) -> None:
        if self.as_json:
            jobs = zip(batches, numbers, strict=True)
            self._print_json(planned, [{**_record(batch), "job": job} for batch, job in jobs])
        elif not self.quiet:
            if batches:
                self.console.print(_table(batches, numbers))
            for line in self._next_commands(planned, batches):
                self.say(line)

    def _next_commands(self, planned: Sequence[Planned], batches: Sequence[Batch]) -> list[str]:
        experiments = list(dict.fromkeys(each.trial.experiment for each in planned))
        runs = ["--runs", str(self.runs)] if "--runs" in self.options else []
        lines = [
            f"how it goes   {shlex.join(['deltagclip', 'status', *experiments, *self.options])}"
        ]
        if batches:
            lines.append(f"scripts, logs {batches[0].array.path.parent}")
        if batches or any(each.in_a_job for each in planned):
            lines.append(
                f"end all       {shlex.join(['deltagclip', 'cancel', *experiments, *runs])}"
            )
            again = "the same command submits what is neither finished nor queued"
            lines.append(f"go on         {again}")
        failed = sum(each.state is State.FAILED for each in planned)
        if failed and not self.retry_failed:
            lines.append(f"failed        {failed}: --retry-failed submits them again")
        return lines

    def _print_json(
        self, planned: Sequence[Planned], arrays: Sequence[dict[str, Any]], problem: str = ""
    ) -> None:
        trials = [
            {"folder": str(each.folder.path), "state": each.state, "reason": each.reason}
            for each in planned
        ]
        print_json({"arrays": arrays, "trials": trials, "problem": problem or None})


def _remove_if_unused(folder: Path) -> None:
    """Delete the folder of submissions if there is none in it, and the runs folder if it is empty.

    Whoever waits for the lock makes them again.
    """
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
            folder.rmdir()
            folder.parent.rmdir()


def _largest_array() -> int:
    try:
        return largest_array()
    except SlurmError:  # a dry run works where there is no Slurm, too
        return DEFAULT_MAX_ARRAY_SIZE


def _record(batch: Batch) -> dict[str, Any]:
    return {
        "experiment": batch.head.experiment,
        "script_file": str(batch.array.script),
        "tasks": batch.head.tasks,
        "pack": batch.head.pack,
        "trials": [str(each.folder.path) for each in batch.trials],
    }


def _table(batches: Sequence[Batch], numbers: Sequence[str]) -> Table:
    table = titled_table("Submitted")
    for column in ("job", "experiment", "trials", "tasks"):
        table.add_column(column, no_wrap=True)
    table.add_column("resources")
    for batch, number in zip(batches, numbers, strict=True):
        asked = batch.resources.model_dump(exclude_none=True, exclude={"setup", "sbatch"})
        words = [f"{name}={value}" for name, value in asked.items()]
        table.add_row(
            number,
            batch.head.experiment,
            str(len(batch.trials)),
            str(batch.head.tasks),
            Text(" ".join([*words, *batch.resources.sbatch])),
        )
    return table
