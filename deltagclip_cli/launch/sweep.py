"""One ``sweep`` in a terminal: what is asked, run and printed, and which exit code comes of it."""

from __future__ import annotations

import shlex
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import ExitCode, check_writable, duration, load_target, plural
from deltagclip_cli.launch.launcher import Launch, Launcher
from deltagclip_cli.launch.queue import PlannedQueue, Queue
from deltagclip_cli.launch.rehearsal.check import check_parts
from deltagclip_cli.launch.rehearsal.refusals import Stage
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.sweep_view import LiveView, PlainView, QuietView, View
from deltagclip_cli.plan.planned import (
    NOBODY,
    Elsewhere,
    Estimates,
    Outlook,
    Planned,
    longest_first,
    look_up,
    pending,
    spread,
)
from deltagclip_cli.runs.folder import ENDED, State
from deltagclip_cli.runs.hold import tidy
from deltagclip_cli.runs.starts import THREADS, read_starts, threads_of
from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.trial import Trial, distinct_inputs
from deltagclip_cli.terminal.console import shown_messages, waiting
from deltagclip_cli.terminal.progress import shown_progress
from deltagclip_cli.terminal.streams import print_json
from deltagclip_cli.terminal.summary import print_summary
from deltagclip_cli.terminal.sweep_tables import counted, print_plan, summary_tables
from deltagclip_cli.training.stopping import StopRequest


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A wish for trials to be run.

    Args:
        spec: whose experiments these are.
        runs: where run folders go.
        data: where data sets lie.
        threads: of the CPU, for each trial; None for as many as usual.
        console: where everything for people goes.
        retry_failed: run failed trials again.
        force: run all trials again.
        ask: ask before results are replaced.
        as_json: print the answer as JSON on stdout.
        quiet: print warnings and errors only.
        options: of the command line, that other commands need to mean the same experiments.
    """

    spec: Spec
    runs: Path
    data: Path
    console: Console
    threads: int | None = None
    retry_failed: bool = False
    force: bool = False
    ask: bool = False
    as_json: bool = False
    quiet: bool = False
    options: Sequence[str] = ()

    def ordered(self, planned: Sequence[Planned]) -> tuple[list[Planned], Estimates]:
        """The trials to run, in their order, and what is known of their times."""
        todo = pending(planned, retry_failed=self.retry_failed, force=self.force)
        estimates = Estimates(planned if todo else ())
        return longest_first(todo, estimates), estimates

    def check_force(self, todo: Sequence[Planned]) -> None:
        """Say how many results are replaced, and ask whoever can answer.

        Raises:
            typer.Exit: the answer was no.
        """
        results = sum(each.result is not None for each in todo)
        if results:
            self.say(f"--force replaces {plural(results, 'result')}.")
            if self.ask and not typer.confirm("Go on?", err=self.as_json):
                raise typer.Exit(ExitCode.FAILED)

    def tell_of_threads(self, todo: Sequence[Planned]) -> None:
        """Say which trials go on with other threads than those that are begun now."""
        wanted = self.threads or THREADS
        begun = (each for each in todo if each.state is not State.NEW and not each.afresh)
        kept = [threads_of(read_starts(each.folder)) for each in begun]
        for threads, count in Counter(each for each in kept if each not in (None, wanted)).items():
            self.say(
                f"Begun with {plural(threads, 'thread')}, and going on with as many: {count} of "
                f"{plural(len(todo), 'trial')}. New ones get {wanted}, or --threads N."
            )

    def warn_of(self, elsewhere: Elsewhere) -> None:
        """Say why the queue of a cluster could not be asked, if it could not."""
        if elsewhere.problem:
            self.say(f"Slurm cannot be asked what is queued: {elsewhere.problem}")

    def say(self, line: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            self.console.print(Text(line), soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class SweepSession(Sweep):
    """How a sweep is run and shown by a process that stays with it.

    Args:
        launcher: the target of its class.
        resources: ``jobs``, ``gpus`` and ``trials_per_gpu`` for the launcher.
        elsewhere: knows which trials wait or run in jobs, to which they are left.
        fail_fast: stop after the first trial that does not finish.
        stop: remembers the signal that ended it.
    """

    launcher: str
    resources: dict[str, Any]
    elsewhere: Elsewhere = NOBODY
    fail_fast: bool = False
    stop: StopRequest = field(default_factory=StopRequest)

    def show(self, trials: Sequence[Trial]) -> int:
        """Print the plan, start nothing, and return the exit code."""
        self.warn_of(self.elsewhere)
        planned = look_up(trials, self.runs, self.elsewhere)
        todo, estimates = self.ordered(planned)
        slots = self._launcher.slots
        seconds_of_each = [estimates.seconds(each.trial) for each in todo]
        chosen, _ = spread(seconds_of_each, len(slots))
        folders = [each.trial.folder for each in todo]
        times = dict(zip(folders, seconds_of_each, strict=True))
        where = {folder: slots[n].name for folder, n in zip(folders, chosen, strict=True)}
        if self.as_json:
            self._print_json(planned, where, times)
            return ExitCode.OK
        print_plan(self.console, planned, where, times)
        self.say(self._outline(planned, seconds_of_each))
        self.tell_of_threads(todo)
        return ExitCode.OK

    def run(self, trials: Sequence[Trial]) -> int:
        """Run what is to be run, and return the exit code."""
        self.warn_of(self.elsewhere)
        planned = look_up(trials, self.runs, self.elsewhere)
        todo, estimates = self.ordered(planned)
        queue = PlannedQueue(todo)
        if todo:
            trials_to_run = [each.trial for each in todo]
            self.say(self._outline(planned, list(map(estimates.seconds, trials_to_run))))
            self.tell_of_threads(todo)
            self.check_force(todo)
            self.launch(queue, trials_to_run, estimates)
        planned = look_up(trials, self.runs, self.elsewhere)
        for each in planned:
            if each.result is not None:
                tidy(each.folder)
        self._conclude(planned)
        return self._exit_code({each.state for each in planned}, queue.any_failed)

    @cached_property
    def _launcher(self) -> Launcher:
        launch = Launch(
            data_dir=self.data,
            should_stop=self.stop,
            fail_fast=self.fail_fast,
            threads=self.threads,
            work=self._work,
            **self.resources,
        )
        launcher: Launcher = load_target(self.launcher)(launch)
        return launcher

    def _work(self, planned: Planned, give_up: Callable[[], bool]) -> int:
        """Run a trial in this process, and show it."""
        with shown_progress(self.console, quiet=self.quiet) as watchers:
            from deltagclip_cli.training.worker import work  # which loads torch

            code = work(
                planned.folder,
                data_dir=self.data,
                device="auto",
                threads=self.threads,
                force=planned.afresh,
                stop=self.stop,
                give_up=give_up,
                watchers=watchers,
            )
        result = planned.folder.result()
        if result is not None and code in (ExitCode.OK, ExitCode.FAILED) and not self.quiet:
            print_summary(self.console, planned.trial, planned.folder, result, self.runs)
        return code

    @property
    def slots(self) -> Sequence[Slot]:
        """Where trials run.

        Raises:
            DeviceError: what was asked for is not there.
        """
        return self._launcher.slots

    def launch(
        self,
        queue: Queue,
        trials: Sequence[Trial],
        estimates: Estimates,
        tried: Iterable[Trial] = (),
    ) -> None:
        """Run a queue, and show how it goes on.

        Args:
            queue: what to run.
            trials: that it will hand out at most; where they are drawn later, others like them.
            estimates: of their times.
            tried: others whose parts are built before.

        Raises:
            SpecError: a part refuses its options.
            UsageError: data are missing or broken.
        """
        stage = Stage(self.slots[0].device)
        with self.stop.listening(), shown_messages(self.console, quiet=self.quiet):
            try:
                with waiting(self.console, "Loading torch and the data", quiet=self.quiet):
                    each = chain(trials, tried)
                    call = self._launcher.call
                    check_parts(self.spec, each, lambda trial: stage, self.data, call)
                    self._launcher.prepare(distinct_inputs(trials))
                if not self.stop():
                    check_writable(self.runs)
                    with self._view(trials, estimates) as view:
                        self._launcher.run(queue, view)
            except KeyboardInterrupt:
                self.say("The workers were killed.")

    def _view(self, trials: Sequence[Trial], estimates: Estimates) -> View:
        if not self.quiet and self.console.is_terminal:
            outlook = Outlook(trials, estimates, len(self.slots))
            return LiveView(self.console, len(trials), outlook)
        return (QuietView if self.quiet else PlainView)(self.console, len(trials))

    def _conclude(self, planned: Sequence[Planned]) -> None:
        if self.as_json:
            self._print_json(planned, {}, {})
        elif not self.quiet:
            self.console.print(*summary_tables(planned), sep="")
            for line in self._next_commands(planned):
                self.say(line)

    def _exit_code(self, states: Set[State], any_failed: bool) -> int:
        if self.stop.signal == signal.SIGINT:
            return ExitCode.INTERRUPTED
        if self.stop.signal is not None:
            return ExitCode.STOPPED
        if any_failed or State.FAILED in states or State.DIVERGED in states:
            return ExitCode.FAILED
        return ExitCode.OK if states <= {State.FINISHED} else ExitCode.STOPPED

    def command_for(self, command: str, experiments: Iterable[str]) -> str:
        """How to look at what was run."""
        runs = ["--runs", str(self.runs)] if "--runs" in self.options else []
        return shlex.join(["deltagclip", command, *experiments, *runs])

    def _next_commands(self, planned: Sequence[Planned]) -> list[str]:
        counts = Counter(each.state for each in planned)
        queued = sum(each.in_a_job for each in planned)
        left = sum(counts[state] for state in counts if state not in ENDED) - queued
        experiments = dict.fromkeys(each.trial.experiment for each in planned)
        lines = [
            f"{command:14}{self.command_for(command, experiments)}"
            for command in ("compare", "report", "tensorboard")
            if counts[State.FINISHED] or counts[State.DIVERGED]
        ]
        if queued:
            lines.append(f"in Slurm      {queued}: left to the jobs that were submitted for them")
        if left:
            again = "the same command without --force" if self.force else "the same command"
            lines.append(f"not finished  {left}: {again} goes on with them")
        if counts[State.FAILED]:
            lines.append(f"failed        {counts[State.FAILED]}: --retry-failed runs them again")
        if left or queued or counts[State.FAILED]:
            words = ["deltagclip", "status", *experiments, *self.options]
            lines.append(f"why           {shlex.join(words)}")
        return lines

    def _outline(self, planned: Sequence[Planned], times: Sequence[float | None]) -> str:
        states = counted(Counter(each.state for each in planned))
        slots = self._launcher.slots
        where = slots[0].name if len(slots) == 1 else f"{len(slots)} slots"
        outline = f"{plural(len(planned), 'trial')}: {states}. {len(times)} to run on {where}"
        _, end = spread(times, len(slots))
        if end is None:
            return f"{outline}."
        unknown = sum(each is None for each in times)
        if not unknown:
            return f"{outline}, about {duration(end)}."
        known = len(times) - unknown
        return f"{outline}: about {duration(end)} for {known}, unknown for {unknown}."

    def _print_json(
        self,
        planned: Sequence[Planned],
        where: Mapping[str, str],
        times: Mapping[str, float | None],
    ) -> None:
        trials = [
            {
                "folder": str(each.folder.path),
                "experiment": each.trial.experiment,
                "optimizer": each.trial.label,
                "settings": each.trial.optimizer.model_dump(mode="json"),
                "seed": each.trial.seed,
                "state": each.state,
                "reason": each.reason,
                "runs_on": where.get(each.trial.folder),
                "seconds": times.get(each.trial.folder),
                "last": each.result["last"] if each.result else None,
            }
            for each in planned
        ]
        print_json({"trials": trials})
