"""Live lines for trials that are being trained, here or in other processes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import duration, short
from deltagclip_cli.runs.heartbeat import Heartbeat, Start

SECONDS_BETWEEN_UPDATES = 0.1
STALE_SECONDS = 30.0


class ProgressWatcher:
    """Shows epoch, loss, accuracy, samples per second and the time that is left.

    The losses shown are those of the last whole epoch: reading the current one would make the
    trainer wait for the device.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[metrics]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            expand=True,
            transient=True,  # what is said at the end takes its place
        )
        words = "loading torch and the data"
        self._task = self._progress.add_task(words, total=None, metrics="", speed="")

    def __enter__(self) -> ProgressWatcher:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, start: Start) -> None:
        """Show a trial from where it begins."""
        self._steps, self._epochs = start.steps, start.epochs
        self._progress.reset(
            self._task,
            description=self._epoch(min(start.epoch + 1, self._epochs)),
            total=self._epochs * self._steps,
            completed=start.epoch * self._steps + start.batch,
        )
        self._shown_at = time.monotonic()
        self._samples = 0

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch}/{self._epochs}"

    def advanced(self, epoch: int, batch: int, samples: int) -> None:
        self._samples += samples
        now = time.monotonic()
        elapsed = now - self._shown_at
        if elapsed < SECONDS_BETWEEN_UPDATES:
            return
        self._progress.update(
            self._task,
            description=self._epoch(epoch),
            completed=(epoch - 1) * self._steps + batch,
            speed=f"{self._samples / elapsed:,.0f}/s",
        )
        self._shown_at, self._samples = now, 0

    def finished_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._progress.update(
            self._task,
            description=self._epoch(epoch),
            completed=epoch * self._steps,
            metrics=_shown(metrics),
            speed=f"{metrics['perf/samples_per_second']:,.0f}/s",
        )
        self._shown_at, self._samples = time.monotonic(), 0


@contextmanager
def shown_progress(console: Console, *, quiet: bool = False) -> Iterator[Sequence[ProgressWatcher]]:
    """Give the watchers of a trial that this terminal wants; none where there is no terminal."""
    if quiet or not console.is_terminal:
        yield []
    else:
        with ProgressWatcher(console) as watcher:
            yield [watcher]


def _shown(metrics: Mapping[str, float]) -> str:
    # Of constant width, so that the bar beside it keeps its length.
    loss = f"loss {metrics['train/loss']:<9.4g}"
    if "test/loss" in metrics:
        loss += f" test {metrics['test/loss']:<9.4g}"
    return loss + (f" acc {metrics['test/accuracy']:<6.4g}" if "test/accuracy" in metrics else "")


def running_table(rows: Iterable[tuple[str, str, Heartbeat | None]]) -> Table:
    """Where each trial runs, its name, and how far it is; None if that is not known yet."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for _ in range(5):
        table.add_column(no_wrap=True, justify="right")
    for where, name, beat in rows:
        table.add_row(Text(where, "cyan"), Text(name), *_cells(beat))
    return table


def _cells(beat: Heartbeat | None) -> list[Text]:
    if beat is None:
        return [Text("starting", "dim")]
    loss, accuracy = beat.metrics.get("train/loss"), _accuracy(beat)
    cells = [
        f"{beat.epoch}/{beat.epochs}",
        "" if loss is None else f"loss {short(loss)}",
        "" if accuracy is None else short(accuracy),
    ]
    if beat.age_seconds > STALE_SECONDS:
        return [*map(Text, cells), Text("silent for", "yellow"), Text(duration(beat.age_seconds))]
    speed, left = beat.samples_per_second, beat.seconds_left
    cells.append("" if speed is None else f"{speed:,.0f}/s")
    cells.append("" if left is None else duration(left))
    return [*map(Text, cells)]


def _accuracy(beat: Heartbeat) -> float | None:
    return beat.metrics.get("test/accuracy", beat.metrics.get("train/accuracy"))
