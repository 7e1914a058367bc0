"""The trials that are running, a line each."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import duration, short
from deltagclip_cli.runs.heartbeat import Heartbeat

STALE_SECONDS = 30.0


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
