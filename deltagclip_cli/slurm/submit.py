"""One ``sweep --launcher slurm``: what is submitted, what is printed, and the exit code."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import ExitCode, SpecError, check_writable, claimed, listed, plural
from deltagclip_cli.launch.launcher import Launcher, SweepRequest
from deltagclip_cli.launch.rehearsal import Stage, call_with_torch, check_parts, elsewhere
from deltagclip_cli.plan.planned import (
    Planned,
    QueueState,
    Unit,
    look_up,
    pending,
    said_of_units,
    units_of,
)
from deltagclip_cli.runs.environment import THREADS
from deltagclip_cli.runs.folder import ENDED, RunFolder, State
from deltagclip_cli.slurm.array import (
    Array,
    Head,
    ListedSlot,
    ListedTrial,
    Marks,
    new_submission,
    render,
)
from deltagclip_cli.slurm.awaited import FOLDER
from deltagclip_cli.slurm.client import (
    DEFAULT_MAX_ARRAY_SIZE,
    MissingError,
    SlurmError,
    UnansweredError,
    UnreachableError,
    largest_array,
    submit,
)
from deltagclip_cli.slurm.jobs import NO_JOBS, Jobs, close_finished, find_jobs
from deltagclip_cli.spec.slurm_settings import Resources, parse_overrides
from deltagclip_cli.terminal.console import counted, print_json, waiting

if TYPE_CHECKING:
    from deltagclip_cli.slurm.awaited import AwaitedTrial
    from deltagclip_cli.spec.trial import Trial

_PATIENCE_SECONDS = 120.0  # for another submission from this runs folder
_TOO_MANY = ("MaxSubmit", "Invalid job array")  # in what sbatch says of limits
_FEWER = (
    "So many jobs may not be submitted at once. Put trials together with --pack K, or submit fewer "
    "with\n  --optimizer LABEL or --seed N, and the rest once these are over."
)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_PARTS: Mapping[str, int] = MappingProxyType({})
_ELSEWHERE = "Run this on a login node, or leave out --launcher slurm."


@dataclass(frozen=True)
class Batch:
    """Trials of one experiment that go into one array, whose files are not there yet."""

    array: Array
    head: Head
    resources: Resources
    units: Sequence[Unit]
    command: Sequence[str]  # of its tasks
    # That must have ended before: numbers of jobs, and arrays of the same submission
    after: Sequence[str | Array] = ()
    # Of tasks that have no trials of their own; else they follow from the units
    entries: Sequence[ListedTrial | ListedSlot] = ()

    @property
    def trials(self) -> list[Planned]:
        return list(chain.from_iterable(self.units))

    @property
    def script(self) -> str:
        """The text for ``sbatch``, with the numbers of those jobs that are submitted by now."""
        after = self.awaited_jobs
        return render(self.array, self.head, self.resources, self.command, Path.cwd(), after)

    @property
    def awaited_jobs(self) -> list[str]:
        """The numbers of the jobs that must have ended before, or what stands for them."""
        return [
            each if isinstance(each, str) else each.job or f"<job of {each.path.name}>"
            for each in self.after
        ]


@dataclass(frozen=True, kw_only=True)
class PlannedSlot(Planned):
    """A slot, whose trial a stand-in takes the place of; its folder is none, but has its name."""

    awaited: AwaitedTrial


class SlurmLauncher(Launcher):
    """Submits trials as array jobs, in which the local launcher's workers run them."""

    takes = frozenset({"slurm", "pack"})
    instead = "Jobs ask for slurm: {cpus: N, gpus: N}, and --pack K puts K trials into each."

    def __init__(self, request: SweepRequest) -> None:
        super().__init__(request)
        self.overrides = parse_overrides(request.slurm)

    def show(
        self,
        trials: Sequence[Trial],
        later: Sequence[AwaitedTrial] = (),
        told: Mapping[str, Any] = _NOTHING,
        parts: Mapping[str, int] = _NO_PARTS,
    ) -> int:
        """Print the scripts, submit nothing, and return the exit code."""
        jobs = find_jobs(self.request.runs)
        planned = self._look_up(trials, later, jobs, parts)
        try:
            largest = largest_array()
        except SlurmError:  # a dry run works where there is no Slurm, too
            largest = DEFAULT_MAX_ARRAY_SIZE
        batches = self.batches(self._todo(planned), largest, jobs)
        if self.request.as_json:
            records = [{**record_of(batch), "script": batch.script} for batch in batches]
            self._print_json(planned, records, told, jobs.problem)
            return ExitCode.OK
        for batch in batches:
            print(f"# {batch.array.script}\n{batch.script}")
        sys.stdout.flush()
        self.warn_of(jobs)
        self.say(self._outline(planned, batches))
        return ExitCode.OK

    def run(
        self,
        trials: Sequence[Trial],
        later: Sequence[AwaitedTrial] = (),
        told: Mapping[str, Any] = _NOTHING,
        parts: Mapping[str, int] = _NO_PARTS,
    ) -> int:
        """Submit what is to be submitted, and return the exit code.

        Args:
            later: what is submitted with it, and begins when that has ended which it waits for.
            told: what else the answer for programs has.
            parts: after which trials pause, by their folders; all others train to their ends.
        """
        check_writable(self.request.runs / FOLDER)
        with self.alone():
            jobs = self.jobs()
            planned = self._look_up(trials, later, jobs, parts)
            todo = self._todo(planned)
            self.check_force(todo)
            self.check_parts(todo)
            batches = self.batches(todo, largest_array(), jobs) if todo else []
            self.say(self._outline(planned, batches))
            numbers = self.submit_all(batches)
            close_finished(self.request.runs, jobs)
        self._conclude(planned, batches, numbers, told)
        ended_badly = any(each.state in (State.FAILED, State.DIVERGED) for each in planned)
        return ExitCode.FAILED if ended_badly and not batches else ExitCode.OK

    def batches(self, todo: Sequence[Planned], largest: int, jobs: Jobs = NO_JOBS) -> list[Batch]:
        """Put trials that need the same into arrays of at most ``largest`` tasks.

        Slots are put behind all that they wait for, as far as that is not there yet.
        """
        groups: dict[tuple[str, str, frozenset[str]], list[Planned]] = {}
        for each in todo:
            needs = self.resources_of(each.trial).model_dump_json()
            groups.setdefault((each.trial.experiment, needs, _awaited(each)), []).append(each)
        folder, counts = new_submission(self.request.runs), Counter[str]()
        batches: list[Batch] = []
        arrays: dict[str, Array] = {}  # that have trials and slots, by their names
        for (experiment, _, awaited), group in groups.items():
            resources = self.resources_of(group[0].trial)
            pack, units = resources.pack or 1, units_of(group)
            found = dict.fromkeys(arrays.get(name) or jobs.job_of(name) for name in sorted(awaited))
            after = [each for each in found if each]
            if awaited and not after:  # what is waited for runs outside of Slurm
                continue
            for start in range(0, len(units), largest * pack):
                array = Array(folder / f"{experiment}-{counts[experiment]}")
                counts[experiment] += 1
                some = units[start : start + largest * pack]
                head, command = _head(experiment, pack, some), self.command_of(array, resources)
                batches.append(Batch(array, head, resources, some, command, after))
                arrays |= {_name(each): array for each in batches[-1].trials}
        return batches

    def submit(self, batch: Batch) -> str:
        """Submit an array, and return the number of its job; nothing is left of a refused one."""
        entries = batch.entries or [_entry(each) for each in batch.trials]
        batch.array.write(batch.head, entries, batch.script)
        try:
            job = submit(batch.array.script)
        except SlurmError as error:
            if not isinstance(error, UnansweredError):  # a job that came to be needs its files
                batch.array.discard()
            raise self._explained(error, batch) from None
        batch.array.record_job(job)
        return job

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Plan and submit while nobody else does, who would submit the same."""
        folder = self.request.runs / FOLDER
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
                with suppress(OSError):  # whoever waits for the lock makes the folders again
                    if [path.name for path in folder.iterdir()] == [".lock"]:
                        (folder / ".lock").unlink()
                        folder.rmdir()
                        folder.parent.rmdir()

    def jobs(self) -> Jobs:
        """Ask what waits and runs, without which nothing is submitted.

        Raises:
            SlurmError: Slurm does not say.
        """
        jobs = find_jobs(self.request.runs)
        if jobs.is_missing:
            raise MissingError(jobs.problem)
        if jobs.problem:
            raise SlurmError(f"{jobs.problem}\n  Nothing was submitted.")
        return jobs

    def _look_up(
        self,
        trials: Sequence[Trial],
        later: Sequence[AwaitedTrial],
        jobs: Jobs,
        parts: Mapping[str, int],
    ) -> list[Planned]:
        """Look up what has become of trials, and of slots, which may be known by now."""
        runs = self.request.runs
        known = [jobs.trial_of(each.stand_in.experiment, each.slot) for each in later]
        if jobs.slots is not None:
            parts = {**parts} | {
                trial.folder: jobs.slots.part_of(each.slot)
                for each, trial in zip(later, known, strict=True)
                if trial is not None
            }
        found = look_up([*trials, *filter(None, known)], runs, jobs)
        planned = [replace(each, part=parts.get(each.trial.folder, 1)) for each in found]
        for each in (each for each, trial in zip(later, known, strict=True) if trial is None):
            folder = RunFolder(runs / each.name)
            standing = jobs.standing(each.name, folder, State.NEW)
            standing = standing if standing.in_a_job else QueueState(State.NEW)
            planned.append(PlannedSlot(each.stand_in, folder, standing, "chosen", awaited=each))
        return planned

    def _todo(self, planned: Sequence[Planned]) -> list[Planned]:
        """Choose what is to be submitted: trials, the longest first, then slots as they come."""
        todo, _ = self.ordered([each for each in planned if not isinstance(each, PlannedSlot)])
        slots = pending([each for each in planned if isinstance(each, PlannedSlot)])
        return [each for each in (*todo, *slots) if each.state is not State.RUNNING]

    def check_parts(self, todo: Sequence[Planned]) -> None:
        """Find out here what would fail on the nodes, as far as that can be known."""
        if not todo:
            return
        asked, words = self.request, "loading torch and trying the parts out"
        with waiting(asked.console, words, quiet=asked.quiet):
            trials = [each.trial for each in todo]
            for remark in check_parts(asked.spec, trials, self._stage, asked.data, call_with_torch):
                self.say(remark)

    def submit_all(self, batches: Sequence[Batch]) -> list[str]:
        """Submit arrays, and return the numbers of their jobs."""
        numbers: list[str] = []
        for batch in batches:
            try:
                numbers.append(self.submit(batch))
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
        found = f"{plural(len(planned), 'trial')}: {states}." if planned else "All have ended."
        if not batches:
            return f"{found} There is nothing to submit."
        trials = sum(batch.head.count for batch in batches)
        how = said_of_units(chain.from_iterable(batch.units for batch in batches))
        tasks = plural(sum(batch.head.tasks for batch in batches), "task")
        arrays = plural(len(batches), "array")
        waiting = sum(isinstance(each, PlannedSlot) for batch in batches for each in batch.trials)
        later = f", {waiting} of them for the settings that others choose" if waiting else ""
        return f"{found} {trials} to submit{how}{later}: {tasks} in {arrays}."

    def _conclude(
        self,
        planned: Sequence[Planned],
        batches: Sequence[Batch],
        numbers: Sequence[str],
        told: Mapping[str, Any],
    ) -> None:
        if self.request.as_json:
            jobs = zip(batches, numbers, strict=True)
            records = [{**record_of(batch), "job": job} for batch, job in jobs]
            self._print_json(planned, records, told)
        elif not self.request.quiet:
            for batch, number in zip(batches, numbers, strict=True):
                self.say(told_of(batch, number))
            for line in self._next_commands(planned, batches):
                self.say(line)

    def _next_commands(self, planned: Sequence[Planned], batches: Sequence[Batch]) -> list[str]:
        lines = [f"how it goes   {self.status_command(planned)}"] if planned else []
        if batches:
            lines.append(f"scripts, logs {batches[0].array.path.parent}")
        if batches or any(each.standing.in_a_job for each in planned):
            experiments = dict.fromkeys(each.trial.experiment for each in planned)
            lines.append(f"end all       {self.command_for('cancel', experiments)}")
            again = "the same command submits what is neither finished nor queued"
            lines.append(f"go on         {again}")
        failed = sum(each.state is State.FAILED for each in planned)
        if failed and not self.request.retry_failed:
            lines.append(f"failed        {failed}: --retry-failed submits them again")
        return lines

    def _print_json(
        self,
        planned: Sequence[Planned],
        arrays: Sequence[dict[str, Any]],
        told: Mapping[str, Any],
        problem: str = "",
    ) -> None:
        trials = [
            {"folder": str(each.folder.path), "state": each.state, "reason": each.reason}
            for each in planned
        ]
        print_json({**told, "arrays": arrays, "trials": trials, "problem": problem or None})

    def _explained(self, error: SlurmError, batch: Batch) -> SlurmError:
        """Add to the words of ``sbatch`` what they are about, and what can be done."""
        words = "\n  ".join(line for line in str(error).splitlines() if line.strip())
        if isinstance(error, MissingError):
            return error
        if isinstance(error, UnreachableError):
            again = "The same command submits what is left, once Slurm answers."
            return SlurmError(f"{words}\n  {again}")
        if any(limit in words for limit in _TOO_MANY):
            return SlurmError(f"{words}\n  {_FEWER}")
        trial = batch.trials[0].trial
        own = self.request.spec.experiments[trial.experiment].slurm.optimizers
        keys = ["slurm", "optimizers", trial.label] if trial.label in own else ["slurm"]
        place = self.request.spec.place(trial.experiment, *keys)
        trail = " › ".join([trial.experiment, *keys])
        asked = f" with --slurm {' '.join(self.request.slurm)}" if self.request.slurm else ""
        return SlurmError(f"{place}: {trail}{asked}: sbatch refuses this.\n  {words}")

    def _stage(self, trial: Trial) -> Stage:
        return elsewhere(self.resources_of(trial))

    def resources_of(self, trial: Trial) -> Resources:
        """Return what a job with a trial asks for.

        Raises:
            SpecError: what was written contradicts the devices or nodes of the trial.
        """
        written = self.written_for(trial)
        if fault := written.ranks_fault(trial):
            key, why, hint = fault
            trail = f"{trial.experiment} › {trial.label}"
            raise SpecError(f"{self._place(trial, key)}: {trail}: {why}.\n  {hint}")
        threads = self.request.threads or THREADS
        return written.for_ranks(trial, threads) if trial.ranks > 1 else written

    def written_for(self, trial: Trial) -> Resources:
        """Return what was written of a job with a trial, in the spec and on the command line."""
        slurm = self.request.spec.experiments[trial.experiment].slurm
        return slurm.of(trial.label, self.overrides)

    def _place(self, trial: Trial, key: str) -> str:
        """Return where a key of a trial's resources was written."""
        if key in self.overrides.model_fields_set:
            return next(f"--slurm {each}" for each in self.request.slurm if each.startswith(key))
        spec, experiment = self.request.spec, trial.experiment
        own = spec.experiments[experiment].slurm.optimizers.get(trial.label)
        is_own = own is not None and key in own.model_fields_set
        keys = ("optimizers", trial.label, key) if is_own else (key,)
        return spec.place(experiment, "slurm", *keys)

    def command_of(self, array: Array, resources: Resources) -> list[str]:
        """Return the command of the tasks of an array."""
        # Without -P, a file of the folder that is called like a module would be taken for it.
        words = [sys.executable, "-P", "-m", "deltagclip_cli", "job", str(array.list_file)]
        words += ["--data", str(self.request.data.absolute())]
        if resources.gpus is not None:
            words += ["--gpus" if resources.gpus else "--no-gpus"]
        words += ["--threads", str(self.request.threads)] if self.request.threads else []
        if resources.local_data is not None:
            words += ["--local-data", resources.local_data]
        return words


def _head(experiment: str, pack: int, units: Sequence[Unit]) -> Head:
    count = sum(map(len, units))
    tasks = [units[start : start + pack] for start in range(0, len(units), pack)]
    sizes = tuple(sum(map(len, task)) for task in tasks) if count > len(units) else ()
    return Head(experiment, pack, time.time(), count, sizes)


def record_of(batch: Batch) -> dict[str, Any]:
    """Describe an array for programs."""
    return {
        "experiment": batch.head.experiment,
        "script_file": str(batch.array.script),
        "tasks": batch.head.tasks,
        "pack": batch.head.pack,
        "trials": [str(each.folder.path) for each in batch.trials],
        "units": [[str(each.folder.path) for each in unit] for unit in batch.units],
        "after": batch.awaited_jobs,
    }


def told_of(batch: Batch, number: str) -> str:
    """Say what was submitted, and what it asks for."""
    head, resources = batch.head, batch.resources
    asked = resources.model_dump(exclude_none=True, exclude={"setup", "sbatch"})
    words = " ".join([*(f"{name}={value}" for name, value in asked.items()), *resources.sbatch])
    size = f"{plural(head.count, 'trial')} in {plural(head.tasks, 'task')}"
    if batch.entries:
        what = batch.entries[0].folder.rpartition("-")[2]
        size = plural(head.tasks, what)
    if batch.after:
        size += f" after {listed(batch.awaited_jobs)}"
    return f"job {number:<9} {head.experiment}: {size}{f', {words}' if words else ''}"


def _awaited(planned: Planned) -> frozenset[str]:
    return planned.awaited.after if isinstance(planned, PlannedSlot) else frozenset()


def _name(planned: Planned) -> str:
    """The name of a trial's folder, or of a slot, relative to the runs folder."""
    return planned.awaited.name if isinstance(planned, PlannedSlot) else planned.trial.folder


def _entry(planned: Planned) -> ListedTrial | ListedSlot:
    if isinstance(planned, PlannedSlot):
        return ListedSlot(planned.awaited.name, planned.awaited.slot)
    before = Marks() if planned.state is State.NEW else Marks.of(planned.folder)
    if planned.state not in (*ENDED, State.PRUNED):  # it has ended since it was looked up
        before = replace(before, ended=None)
    again = "failed" if planned.state is State.FAILED else ""
    again = "all" if planned.afresh else again
    return ListedTrial(planned.trial.folder, planned.trial, again, before, planned.part)
