"""Tables of settings: what is planned, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import NOTHING, TEST_METRICS, duration, plural, ranges, with_error
from deltagclip_cli.plan.planned import Mean, Planned, SettingSummary, summarize
from deltagclip_cli.runs.folder import State

STYLES = {
    State.FINISHED: "green",
    State.DIVERGED: "magenta",
    State.FAILED: "red",
    State.INTERRUPTED: "yellow",
    State.NEW: "yellow",
    State.QUEUED: "blue",
    State.LOST: "red",
    State.RUNNING: "cyan",
    State.PRUNED: "dim",
}


def summary_tables(planned: Sequence[Planned]) -> list[Table]:
    """A table of each experiment: means over seeds, and how many trials ended how."""
    by_experiment: dict[str, list[SettingSummary]] = {}
    for setting in summarize(planned):
        by_experiment.setdefault(setting.experiment, []).append(setting)
    return [_summary_table(name, settings) for name, settings in by_experiment.items()]


def counted(states: Mapping[Any, int]) -> str:
    """``3 finished, 1 failed``."""
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _summary_table(experiment: str, settings: Sequence[SettingSummary]) -> Table:
    metrics = [name for name in TEST_METRICS if any(name in each.metrics for each in settings)]
    finished = sum(each.states.get(State.FINISHED, 0) for each in settings)
    total = sum(sum(each.states.values()) for each in settings)
    table = titled_table(
        f"{experiment}: {finished} of {plural(total, 'trial')} finished",
        caption="; ".join(["n finished trials; mean ± standard error", *_more(settings)]),
    )
    table.add_column("optimizer", no_wrap=True)
    table.add_column("n", justify="right")
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("others")
    for title, each in _named(settings[:MOST_ROWS]):
        if each is None:
            table.add_row(title)
            continue
        others = {state: n for state, n in each.states.items() if state is not State.FINISHED}
        table.add_row(
            title,
            str(each.states.get(State.FINISHED, 0)),
            *(_mean(each.metrics.get(name)) for name in metrics),
            counted(others),
        )
    return table


def _mean(found: Mean | None) -> str:
    return NOTHING if found is None else with_error(found.value, found.standard_error)


class _Named(Protocol):
    @property
    def label(self) -> str: ...

    @property
    def variant(self) -> str: ...


N = TypeVar("N", bound=_Named)
MOST_ROWS = 1_000
"""Of a table of settings; nobody reads more."""


def _more(settings: Sequence[object]) -> list[str]:
    """Return what stands below a table that has not all of its rows."""
    more = len(settings) - MOST_ROWS
    return [f"{plural(more, 'more setting')} not shown: --json has all"] if more > 0 else []


def _named(rows: Sequence[N]) -> Iterator[tuple[Text, N | None]]:
    """A name for each row; where an optimizer has several settings, below a row of its own."""
    before = None
    for row in rows:
        if row.variant and row.label != before:
            yield Text(row.label), None
        yield Text(f"  {row.variant}" if row.variant else row.label), row
        before = row.label


def print_plan(
    console: Console,
    planned: Sequence[Planned],
    where: dict[str, str],
    times: dict[str, float | None],
) -> None:
    """Print what a sweep would do, a row for each setting.

    Args:
        console: where to.
        planned: every trial.
        where: the slot of each trial that would be run, by its folder.
        times: how long each of these takes, as far as that is known.
    """
    by_experiment: dict[str, dict[str, list[Planned]]] = {}
    for each in planned:
        groups = by_experiment.setdefault(each.trial.experiment, {})
        groups.setdefault(each.trial.setting_hash, []).append(each)
    for experiment, groups in by_experiment.items():
        table = titled_table(experiment)
        table.add_column("optimizer", no_wrap=True)
        for column in ("seeds", "state", "runs on"):
            table.add_column(column)
        table.add_column("time", justify="right", no_wrap=True)
        firsts = [group[0] for group in groups.values()]
        for name, first in _named(firsts[:MOST_ROWS]):
            cells = _plan_cells(groups[first.trial.setting_hash], where, times) if first else []
            table.add_row(name, *cells)
        table.caption = "; ".join(_more(firsts)) or None
        console.print(table)


def _plan_cells(
    group: Sequence[Planned], where: dict[str, str], times: dict[str, float | None]
) -> list[Text]:
    folders = [each.trial.folder for each in group]
    known = [times[folder] for folder in folders if times.get(folder) is not None]
    counts = Counter(each.state for each in group)
    return [
        Text(ranges([each.trial.seed for each in group])),
        Text(counted(counts)),
        Text(", ".join(dict.fromkeys(where[folder] for folder in folders if folder in where))),
        Text(duration(sum(each for each in known if each is not None)) if known else ""),
    ]


def titled_table(title: str, caption: str | None = None) -> Table:
    """An empty table with its title above and its caption below."""
    return Table(
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        title=Text(title, style="bold"),
        title_justify="left",
        min_width=max(len(title), len(caption or "")),  # else they would be wrapped
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
