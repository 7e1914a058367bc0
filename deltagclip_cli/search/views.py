"""Tables of a search: its space, and what it has come to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import with_error
from deltagclip_cli.search.problem import Subject
from deltagclip_cli.terminal.sweep_tables import titled_table

if TYPE_CHECKING:
    from deltagclip_cli.search.leaderboard import Placed, Standing
    from deltagclip_cli.search.study import Tried

BEST_SHOWN = 5
ENDS = ("finished", "pruned", "diverged", "failed", "not finished")


def space_table(name: str, rows: Sequence[tuple[Subject, Sequence[Tried]]], settings: int) -> Table:
    """What is searched, how many settings were tried so far, and how many are to be in all."""
    table = titled_table(f"{name}: {_aim(rows[0][0])}")
    for column in ("optimizer", "space", "seeds", "settings so far", "in all"):
        table.add_column(column, justify="left" if column in ("optimizer", "space") else "right")
    for subject, tried in rows:
        space = "\n".join(
            f"{option}: {_limits(written)}" for option, written in subject.premises["space"].items()
        )
        table.add_row(
            Text(subject.label),
            Text(space),
            str(len(subject.seeds)),
            str(len(tried)),
            str(max(settings, len(tried))),
        )
    return table


def _aim(subject: Subject) -> str:
    extreme = "lowest" if subject.minimizes else "highest"
    return f"search for the {extreme} {subject.search.metric}"


def _limits(written: Mapping[str, Any]) -> str:
    ((word, values),) = written.items()
    return f"{word} {json.dumps(values, ensure_ascii=False, default=str)}"


def best_table(name: str, standings: Sequence[Standing]) -> Table:
    """The best setting of each optimizer, and how many settings ended how."""
    metric = standings[0].subject.search.metric
    ends = [end for end in ENDS if any(each.counts[end] for each in standings)]
    table = titled_table(
        f"{name}: {_aim(standings[0].subject)}",
        caption="Values that chose a setting flatter it: confirm it on other seeds.",
    )
    table.add_column("optimizer")
    table.add_column("best setting")
    for column in (f"{metric} ± s.e.", "n", *ends):
        table.add_column(column, justify="right")
    for each in standings:
        best = each.ranking[0] if each.ranking else None
        counts = [str(each.counts[end]) if each.counts[end] else "" for end in ends]
        table.add_row(Text(each.subject.label), *_cells(metric, best), *counts)
    return table


def top_table(standing: Standing) -> Table:
    """The best settings of one optimizer."""
    subject, metric = standing.subject, standing.subject.search.metric
    best = standing.ranking[:BEST_SHOWN]
    table = titled_table(f"{subject.label}: the best {len(best)} of {len(standing.settings)}")
    for column in ("setting", f"{metric} ± s.e.", "n"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for each in best:
        table.add_row(*_cells(metric, each))
    return table


def _cells(metric: str, placed: Placed | None) -> list[Text]:
    """A setting, its mean and how many seeds that is of."""
    from deltagclip_cli.search.candidate import described

    if placed is None or placed.result is None:
        return [Text("–"), Text("–"), Text("0")]
    shown = with_error(placed.result.value, placed.result.standard_error)
    return [Text(described(placed.options)), Text(shown), Text(str(placed.result.n))]
