"""The launchers: each is handed what ``sweep`` was asked for, and has the trials run somewhere.

A launcher whose process stays until the trials have ended is a :class:`StayingLauncher`, which says
with what :class:`Runner` they are run; one that hands them to a queue is a :class:`Launcher`.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import typer
from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import (
    DeltaGClipError,
    DeviceError,
    ExitCode,
    check_writable,
    duration,
    plural,
)
from deltagclip_cli.launch.rehearsal import Stage, check_parts
from deltagclip_cli.launch.slots import check_room, devices_of, joined, slots_taken
from deltagclip_cli.launch.supervisor import PlannedQueue, Queue
from deltagclip_cli.launch.sweep_view import LiveView, PlainView, QuietView
from deltagclip_cli.plan.estimates import Estimates, Outlook, longest_first, spread
from deltagclip_cli.plan.planned import (
    Assignment,
    Elsewhere,
    Planned,
    Unit,
    look_up,
    pending,
    said_of_units,
    units_of,
)
from deltagclip_cli.runs.environment import read_starts, stack_of
from deltagclip_cli.runs.folder import ENDED, State
from deltagclip_cli.terminal.console import (
    counted,
    print_json,
    print_plan,
    summary_tables,
    waiting,
)
from deltagclip_cli.terminal.messages import shown_messages
from deltagclip_cli.training.process import StopRequest, check_started_alone

if TYPE_CHECKING:
    from deltagclip_cli.launch.forkserver import Call
    from deltagclip_cli.launch.slots import Slot
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of one ``sweep``; those not described here are as ``sweep --help`` has them."""

    spec: Spec
    runs: Path
    data: Path
    console: Console
    # Asks a queue, if there is one, which trials wait or run there
    elsewhere: Callable[[], Elsewhere] = Elsewhere
    # Of the command line, that other commands need to mean the same experiments
    words: Sequence[str] = ()
    threads: int | None = None
    jobs: int | None = None
    gpus: str | None = None
    trials_per_gpu: int | None = 1  # None for as many as fit
    fail_fast: bool = False
    # Keys of the spec's ``slurm`` with other values, ``KEY=VALUE``; also ``pack=K``
    slurm: Sequence[str] = ()
    every: int | None = None
    retry_failed: bool = False
    force: bool = False
    ask: bool = False  # ask before results are replaced
    as_json: bool = False
    quiet: bool = False


class Launcher(ABC):
    """Has trials run somewhere.

    Attributes:
        takes: the options that this launcher follows, of those that only some do.
        instead: what can be done in the place of others of these options, where there is something.
    """

    takes: ClassVar[Set[str]] = frozenset()
    instead: ClassVar[str] = ""

    def __init__(self, request: SweepRequest) -> None:
        self.request = request
        self.stop = StopRequest()

    @abstractmethod
    def show(self, trials: Sequence[Trial]) -> int:
        """Print what would be done, start nothing, and return the exit code."""

    @abstractmethod
    def run(self, trials: Sequence[Trial]) -> int:
        """Have those trials run that are to be run, and return the exit code."""

    def ordered(self, planned: Sequence[Planned]) -> tuple[list[Planned], Estimates]:
        """Choose the trials to run, in their order, and learn what is known of their times."""
        asked = self.request
        todo = pending(planned, retry_failed=asked.retry_failed, force=asked.force)
        estimates = Estimates(planned if todo else ())
        return longest_first(todo, estimates), estimates

    def check_force(self, todo: Sequence[Planned]) -> None:
        """Say how many results are replaced, and ask whoever can answer; exit if that is no."""
        results = sum(each.result is not None for each in todo)
        if results:
            self.say(f"--force replaces {plural(results, 'result')}.")
            if self.request.ask and not typer.confirm("Go on?", err=self.request.as_json):
                raise typer.Exit(ExitCode.FAILED)

    def warn_of(self, elsewhere: Elsewhere) -> None:
        """Say why the queue of a cluster could not be asked, if it could not."""
        if elsewhere.problem:
            self.say(f"Slurm cannot be asked what is queued: {elsewhere.problem}")

    def command_for(self, command: str, experiments: Iterable[str]) -> str:
        """Write another command for the same run folders."""
        runs = ["--runs", str(self.request.runs)] if "--runs" in self.request.words else []
        return shlex.join(["deltagclip", command, *experiments, *runs])

    def status_command(self, planned: Iterable[Planned]) -> str:
        """Write the command that shows how these trials stand."""
        experiments = dict.fromkeys(each.trial.experiment for each in planned)
        return shlex.join(["deltagclip", "status", *experiments, *self.request.words])

    def say(self, line: str) -> None:
        """Print a line for people."""
        if not self.request.quiet:
            self.request.console.print(Text(line), soft_wrap=True)


class Runner(Protocol):
    """Runs the trials of a queue somewhere."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The slots on which trials run."""

    @property
    def call(self) -> Call | None:
        """A way to call a function where torch is loaded; None if that is this process."""

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Make ready for trials, as their data, which workers need not all download or decode."""

    def run(self, queue: Queue, watcher: QuietView) -> None:
        """Run trials until there are none left, or until asked to stop."""


class StayingLauncher(Launcher):
    """Runs trials, and shows how they go on, in a process that stays until they have ended."""

    takes = frozenset({"every", "fail_fast"})

    @cached_property
    @abstractmethod
    def runner(self) -> Runner:
        """Runs the trials."""

    def show(self, trials: Sequence[Trial]) -> int:
        """Print the plan, start nothing, and return the exit code."""
        planned, todo, estimates = self._plan(trials)
        units = [(unit, estimates.of(unit)) for unit in units_of(todo)]
        slots = self.runner.slots
        if any(unit[0].trial.ranks > 1 for unit, _ in units):  # it has all slots of a device
            slots = [*chain.from_iterable(devices_of(slots).values())]
        chosen, _ = self._spread(units)
        places = {
            each.trial.folder: Assignment(n, bool(each.trial.stack), where, seconds)
            for n, ((unit, seconds), taken) in enumerate(zip(units, chosen, strict=True), 1)
            for where in [joined([slots[each] for each in taken]).name]
            for each in unit
        }
        if self.request.as_json:
            _print_json(planned, places)
            return ExitCode.OK
        print_plan(self.request.console, planned, places)
        self.say(self._outline(planned, units))
        return ExitCode.OK

    def run(self, trials: Sequence[Trial]) -> int:
        """Run what is to be run, and return the exit code."""
        planned, any_failed = self.finish(trials)
        self._conclude(planned)
        return self.exit_code({each.state for each in planned}, any_failed)

    def finish(
        self,
        trials: Sequence[Trial],
        make_queue: Callable[[Sequence[Planned]], PlannedQueue] = PlannedQueue,
    ) -> tuple[list[Planned], bool]:
        """Run what is to be run; return how all trials stand then, and whether one failed now."""
        planned, todo, estimates = self._plan(trials)
        queue = make_queue(todo)
        if todo:
            units = [(unit, estimates.of(unit)) for unit in units_of(todo)]
            self.say(self._outline(planned, units))
            self.check_force(todo)
            self.launch(queue, [each.trial for each in todo], estimates, may_stack=planned)
        return look_up(trials, self.request.runs, self.elsewhere), queue.any_failed

    def outline(self, trials: Sequence[Trial]) -> None:
        """Say how trials stand, how many of them are to run, and for how long."""
        planned, todo, estimates = self._plan(trials)
        units = [(unit, estimates.of(unit)) for unit in units_of(todo)]
        self.say(self._outline(planned, units))

    @cached_property
    def elsewhere(self) -> Elsewhere:
        """The answer of the queue of a cluster when it was first asked."""
        return self.request.elsewhere()

    def _plan(self, trials: Sequence[Trial]) -> tuple[list[Planned], list[Planned], Estimates]:
        self.warn_of(self.elsewhere)
        planned = look_up(trials, self.request.runs, self.elsewhere)
        todo, estimates = self.ordered(planned)
        if any(each.trial.ranks > 1 for each in todo):
            trials = [each.trial for each in todo]
            check_devices(self.request.spec, trials, self.runner.slots)
        return planned, todo, estimates

    def launch(
        self,
        queue: Queue,
        trials: Sequence[Trial],
        estimates: Estimates,
        tried: Iterable[Trial] = (),
        may_stack: Sequence[Planned] = (),
    ) -> None:
        """Run a queue, and show how it goes on.

        Args:
            trials: that it will hand out at most; where they are drawn later, others like them.
            tried: others whose parts are built before.
            may_stack: trials that are measured in stacks; where that is faster, it is said.
        """
        asked, runner = self.request, self.runner
        check_started_alone()
        check_devices(asked.spec, trials, runner.slots)
        stage = Stage(runner.slots[-1].device)  # which torch lacks if it sees too few GPUs
        messages = shown_messages(asked.console, quiet=asked.quiet, every=asked.every)
        with self.stop.listening(), messages:
            try:
                with waiting(asked.console, "Loading torch and the data", quiet=asked.quiet):
                    each = chain(trials, tried)
                    for remark in check_parts(
                        asked.spec, each, lambda trial: stage, asked.data, runner.call
                    ):
                        self.say(remark)
                    runner.prepare(trials)
                    for sentence in self._advice(may_stack):
                        self.say(sentence)
                if not self.stop():
                    check_writable(asked.runs)
                    with self._view(trials, estimates) as view:
                        runner.run(queue, view)
            except KeyboardInterrupt:
                self.say("The workers were killed.")

    def _advice(self, planned: Sequence[Planned]) -> list[str]:
        """Measure on a GPU which experiments would be faster in stacks."""
        device, call = self.runner.slots[0].device, self.runner.call
        if call is None or not device.startswith("cuda"):
            return []
        from deltagclip_cli.launch.rehearsal.stacking import advice, seconds_of

        ask = partial(call, seconds_of, should_stop=self.stop)

        def measure(trials: list[Trial]) -> float | None:
            with suppress(DeltaGClipError):  # it is only advice
                seconds: float | None = ask(trials, self.request.data, device)
                return seconds
            return None

        return list(advice(planned, len(self.runner.slots), measure))

    def _view(self, trials: Sequence[Trial], estimates: Estimates) -> QuietView:
        console, total = self.request.console, len(trials)
        if self.request.quiet:
            return QuietView(console, total)
        # A trial in this process says its lines itself.
        every = self.request.every if self.runner.call is not None else None
        if console.is_terminal:
            slots = self.runner.slots
            taken = partial(slots_taken, slots=slots)
            outlook = Outlook(trials, estimates, len(slots), taken)
            return LiveView(console, total, outlook, every)
        return PlainView(console, total, every)

    def _conclude(self, planned: Sequence[Planned]) -> None:
        if self.request.as_json:
            _print_json(planned, {})
        elif not self.request.quiet:
            self.request.console.print(*summary_tables(planned), sep="")
            for line in self.next_commands(planned):
                self.say(line)

    def exit_code(self, states: Set[State], any_failed: bool) -> int:
        """Return what the command ends with when its trials are in these states."""
        if self.stop():
            return self.stop.exit_code
        if any_failed or State.FAILED in states or State.DIVERGED in states:
            return ExitCode.FAILED
        return ExitCode.OK if states <= {State.FINISHED} else ExitCode.STOPPED

    def next_commands(self, planned: Sequence[Planned]) -> list[str]:
        """Say, a line each, what can be done with trials as they stand."""
        counts = Counter(each.state for each in planned)
        queued = sum(each.standing.in_a_job for each in planned)
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
            forced = self.request.force
            again = "the same command without --force" if forced else "the same command"
            lines.append(f"not finished  {left}: {again} goes on with them")
        if counts[State.FAILED]:
            lines.append(f"failed        {counts[State.FAILED]}: --retry-failed runs them again")
        if halved := [each for each in planned if _was_short_of_memory(each)]:
            words = "stacks computed fewer places at once; with fewer they take as long"
            lines.append(f"memory full   {len(halved)}: their {words}")
        if left or queued or counts[State.FAILED]:
            lines.append(f"why           {self.status_command(planned)}")
        return lines

    def _outline(
        self, planned: Sequence[Planned], units: Sequence[tuple[Unit, float | None]]
    ) -> str:
        states = counted(Counter(each.state for each in planned))
        slots = self.runner.slots
        where = slots[0].name if len(slots) == 1 else f"{len(slots)} slots"
        to_run = sum(len(unit) for unit, _ in units)
        how = said_of_units([unit for unit, _ in units])
        outline = f"{plural(len(planned), 'trial')}: {states}. {to_run} to run{how} on {where}"
        _, end = self._spread(units)
        if end is None:
            return f"{outline}."
        unknown = sum(len(unit) for unit, seconds in units if seconds is None)
        if not unknown:
            return f"{outline}, about {duration(end)}."
        known = to_run - unknown
        return f"{outline}: about {duration(end)} for {known}, unknown for {unknown}."

    def _spread(
        self, units: Sequence[tuple[Unit, float | None]]
    ) -> tuple[list[tuple[int, ...]], float | None]:
        slots = self.runner.slots
        wide = [(seconds, slots_taken(unit[0].trial, slots)) for unit, seconds in units]
        return spread(wide, len(slots))


def check_devices(spec: Spec, trials: Iterable[Trial], slots: Sequence[Slot]) -> None:
    """Refuse trials that train on more devices or nodes than there are.

    Raises:
        DeviceError: with the place in the spec.
    """
    for trial in {(each.experiment, each.ranks, each.nodes): each for each in trials}.values():
        try:
            check_room(trial, slots, "train on the CPU with --jobs N")
        except DeviceError as error:
            place = spec.place(trial.experiment, "nodes" if trial.nodes > 1 else "devices")
            raise DeviceError(f"{place}: {trial.experiment}: {error}") from None


def _was_short_of_memory(planned: Planned) -> bool:
    """Look whether fewer places of its stack were computed at once than there are."""
    places = planned.trial.stack
    if places is None or planned.state is State.NEW:
        return False
    told = stack_of(read_starts(planned.folder), places)
    return told is not None and told[1] < places


def _print_json(planned: Sequence[Planned], places: Mapping[str, Assignment]) -> None:
    trials = [
        {
            "folder": str(each.folder.path),
            "experiment": each.trial.experiment,
            "optimizer": each.trial.label,
            "settings": each.trial.optimizer.model_dump(mode="json"),
            "seed": each.trial.seed,
            "state": each.state,
            "reason": each.reason,
            "runs_on": place.slot if place else None,
            "unit": place.unit if place else None,
            "seconds": place.seconds if place else None,
            "last": each.result["last"] if each.result else None,
        }
        for each in planned
        for place in [places.get(each.trial.folder)]
    ]
    print_json({"trials": trials})
