"""A sweep as it goes on: live on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from deltagclip_cli.core import (
    MOST_METRICS,
    TEST_METRICS,
    duration,
    measured_on,
    plural,
    short,
    shown_metrics,
)
from deltagclip_cli.plan.planned import Unit, name_of
from deltagclip_cli.runs.folder import State, read_heartbeat
from deltagclip_cli.runs.growing import GrowingRecords
from deltagclip_cli.terminal.console import STYLES, running_table
from deltagclip_cli.training.sinks import in_words, is_among

if TYPE_CHECKING:
    from deltagclip_cli.launch.slots import Slot
    from deltagclip_cli.launch.supervisor import End
    from deltagclip_cli.plan.estimates import Outlook
    from deltagclip_cli.plan.planned import Planned

_WAITING = Text("Waiting for trials that other processes run.", "dim")


class QuietView:
    """Shows only what went wrong, of ``total`` trials.

    Attributes:
        as_hoped: the ends of which nothing is said.
    """

    as_hoped: Collection[State] = (State.FINISHED, State.PRUNED)
    _says_all = False

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0

    def __enter__(self) -> QuietView:
        return self

    def __exit__(self, *error: object) -> None: ...

    def started(self, unit: Unit, slot: Slot) -> None:
        """Be told that trials were started in one worker, and say nothing."""

    def ended(self, planned: Planned, end: End) -> None:
        """Be told that a trial ended, here or in another process; say it if it did not finish."""
        self._done += not end.elsewhere and end.state is not State.INTERRUPTED
        is_as_hoped = end.paused or end.state in self.as_hoped
        if not end.elsewhere and (self._says_all or not is_as_hoped):
            width = len(str(self._total))
            line = Text(f"[{self._done:{width}}/{self._total}] ")
            line.append(f"{planned.name}: ").append_text(_outcome(planned, end))
            self._console.print(line, soft_wrap=True)

    def looked(self, running: Sequence[tuple[Unit, Slot]]) -> None:
        """Be told, again and again, which trials are running, and show nothing."""


class _Epochs:
    """Reads the records of the epochs of running trials, and tells some of them in lines."""

    def __init__(self, console: Console, total: int, every: int | None) -> None:
        self._console, self._every = console, every
        self._indent = " " * _width(total)
        self._records: dict[Path, GrowingRecords] = {}
        self._begun_at: dict[Path, float] = {}
        self._untold: dict[Path, str] = {}  # the last line, where it was not among those to tell

    def begin(self, planned: Planned) -> None:
        """Begin to tell of a trial: of epochs that it makes from now on."""
        self._begun_at[planned.folder.path] = time.time()

    def read(self, planned: Planned) -> list[float | None]:
        """Read on, tell what is to be told, and return the losses so far."""
        path = planned.folder.path
        records = self._records.setdefault(path, GrowingRecords(planned.folder))
        new = records.look()
        for number, record in enumerate(new, len(records.epochs) - len(new) + 1):
            if self._every and record["time"] >= self._begun_at.get(path, 0.0):
                self._tell_one(planned, number, record)
        return [each.get("train/loss") for each in records.epochs]

    def end(self, planned: Planned) -> None:
        """Tell the last epoch of a trial, whatever its number."""
        self.tell(planned)
        for told in (self._records, self._begun_at):
            told.pop(planned.folder.path, None)
        if line := self._untold.pop(planned.folder.path, ""):
            self._print(line)

    def tell(self, planned: Planned) -> None:
        """Read on where epochs are to be told."""
        if self._every:
            self.read(planned)

    def _tell_one(self, planned: Planned, number: int, record: Mapping[str, Any]) -> None:
        trial, path = planned.trial, planned.folder.path
        at = f"{trial.clock} {record[trial.clock]:,}"
        of = f"/{trial.length:,}" if trial.unit == trial.clock else ""
        line = f"{planned.name}: {at}{of}  {in_words(record)}"
        if is_among(number, 0, self._every):
            self._untold.pop(path, None)
            self._print(line)
        else:
            self._untold[path] = line

    def _print(self, line: str) -> None:
        self._console.print(Text(f"{self._indent} {line}"), soft_wrap=True)


def _width(total: int) -> int:
    """The width of ``[3/12]``, of so many trials."""
    return 2 * len(str(total)) + 3


class PlainView(QuietView):
    """A line when a trial starts and one when it ends, for files and pipes.

    Args:
        every: tell each so-manieth epoch as well.
    """

    _says_all = True
    _waiting = False

    def __init__(self, console: Console, total: int, every: int | None = None) -> None:
        super().__init__(console, total)
        self._epochs = _Epochs(console, total, every)

    def started(self, unit: Unit, slot: Slot) -> None:
        together = f", one of {len(unit)} in a stack" if len(unit) > 1 else ""
        for each in unit:
            line = Text(f"{'':{_width(self._total)}} started {each.name} on {slot.name}{together}")
            self._console.print(line, soft_wrap=True)
            self._epochs.begin(each)

    def ended(self, planned: Planned, end: End) -> None:
        """Tell its last epoch before its end."""
        self._epochs.end(planned)
        super().ended(planned, end)

    def looked(self, running: Sequence[tuple[Unit, Slot]]) -> None:
        """Tell of epochs, if asked for, and say once why nothing happens."""
        for each in chain.from_iterable(unit for unit, _ in running):
            self._epochs.tell(each)
        if not running and not self._waiting:
            self._console.print(_WAITING)
        self._waiting = not running


class LiveView(QuietView):
    """Shows the whole, each running trial, and every failure."""

    def __init__(
        self, console: Console, total: int, outlook: Outlook, every: int | None = None
    ) -> None:
        super().__init__(console, total)
        self._outlook = outlook
        self._epochs = _Epochs(console, total, every)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", style="cyan"),
            expand=True,
            console=console,
        )
        self._task = self._progress.add_task(self._count(), total=total, left="")
        self._running: Sequence[tuple[Unit, Slot]] = ()
        self._waiting = False
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=5)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._running = ()
        self._live.stop()

    def started(self, unit: Unit, slot: Slot) -> None:
        for each in unit:
            self._epochs.begin(each)

    def ended(self, planned: Planned, end: End) -> None:
        """Keep a failure in sight, and learn how long trials take."""
        self._epochs.end(planned)
        super().ended(planned, end)
        if not end.elsewhere and end.state is not State.INTERRUPTED:
            self._outlook.ended(planned.trial, planned.folder.result())
        self._progress.update(self._task, description=self._count())

    def looked(self, running: Sequence[tuple[Unit, Slot]]) -> None:
        self._running, self._waiting = [each for each in running if each[0]], not running

    def _count(self) -> str:
        return f"{self._done}/{plural(self._total, 'trial')}"

    def render(self) -> RenderableType:
        """Draw what is on the screen now."""
        running = [
            (unit, slot, [beat for each in unit if (beat := read_heartbeat(each.folder))])
            for unit, slot in self._running
        ]
        part = sum(beat.done for *_, beats in running for beat in beats)
        # Of a stack, the one that is furthest behind says how long it will take.
        told = [min(beats, key=lambda beat: beat.done, default=None) for *_, beats in running]
        left = self._outlook.seconds(
            [
                ([each.trial for each in unit], beat.seconds_left if beat else None)
                for (unit, *_), beat in zip(running, told, strict=True)
            ]
        )
        words = "" if left is None else f"{duration(left)} left"
        self._progress.update(self._task, completed=self._done + part, left=words)
        rows = [
            (slot.name, name_of(unit), beat)
            for (unit, slot, _), beat in zip(running, told, strict=True)
        ]
        losses = [self._epochs.read(unit[0]) for unit, *_ in running]
        columns = max(6, self._console.width // 10)
        body = running_table(rows, losses, columns) if rows or not self._waiting else _WAITING
        return Group(self._progress, body)


def _outcome(planned: Planned, end: End) -> Text:
    """Say how a trial ended, in a line."""
    if end.paused:
        return Text(end.reason)
    text = Text().append(str(end.state), STYLES[end.state])
    result = planned.folder.result()
    if result is None or end.reason:
        return text.append(f": {end.reason}" if end.reason else "")
    words = [f" in {duration(result['seconds']['epochs'])}"]
    last = result["last"]
    # What a validation split says is for the eye, then, and the test set for the end.
    metrics = [name for name in last if measured_on(name) == "validation"]
    metrics = metrics or shown_metrics(last, TEST_METRICS, "test", "test_ema")
    metrics = metrics[:MOST_METRICS]
    words += [f"{each} {short(last[each])}" for each in metrics if last[each] is not None]
    return text.append(", ".join(words))
