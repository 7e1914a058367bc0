"""A sweep as it goes on: live on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

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
from deltagclip_cli.terminal.console import STYLES, running_table

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


class PlainView(QuietView):
    """A line when a trial starts and one when it ends, for files and pipes."""

    _says_all = True
    _waiting = False

    def started(self, unit: Unit, slot: Slot) -> None:
        width = 2 * len(str(self._total)) + 3
        together = f", one of {len(unit)} in a stack" if len(unit) > 1 else ""
        for each in unit:
            line = Text(f"{'':{width}} started {each.name} on {slot.name}{together}")
            self._console.print(line, soft_wrap=True)

    def looked(self, running: Sequence[tuple[Unit, Slot]]) -> None:
        """Say once why nothing happens."""
        if not running and not self._waiting:
            self._console.print(_WAITING)
        self._waiting = not running


class LiveView(QuietView):
    """Shows the whole, each running trial, and every failure."""

    def __init__(self, console: Console, total: int, outlook: Outlook) -> None:
        super().__init__(console, total)
        self._outlook = outlook
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

    def ended(self, planned: Planned, end: End) -> None:
        """Keep a failure in sight, and learn how long trials take."""
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
        body = running_table(rows) if rows or not self._waiting else _WAITING
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
