"""The effort for each optimizer: its space and budget, and what became of its runs, in one table.

Who tries more settings finds better ones, and who drops what failed looks better than they are:
both stand side by side here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import NOTHING, by_size, duration, listed, plural, stopped
from deltagclip_cli.results.compare.tables import Column, Table, make_table
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.spec.axes import Choice, Distribution
from deltagclip_cli.spec.trial import in_a_word

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.account import Account
    from deltagclip_cli.results.compare.comparison import Comparison, Row
    from deltagclip_cli.tuning.lock import Lock

_MOST_VALUES = 3  # of a setting, that are named one by one


@dataclass(frozen=True)
class Effort:
    """The settings and runs of an optimizer, and the space that they are from."""

    optimizer: str  # its label
    # in words, from which its settings are: as it was planned, else what was tried; empty if
    # nothing varies
    space: str
    budget: int | None  # draws of each study; None without a plan
    settings: int  # that were run
    outcomes: Mapping[Outcome, int]  # of all runs, how many ended so
    seconds: float  # of their epochs, evaluation included
    devices: Sequence[str]  # that they were on, as far as they tell

    @property
    def runs(self) -> int:
        """The number of its runs."""
        return sum(self.outcomes.values())


def efforts(comparison: Comparison) -> list[Effort]:
    """Return that for each optimizer, the best one first."""
    account = comparison.account
    return [
        _effort(label, [row for row in comparison.rows if row.group.optimizer == label], account)
        for label in comparison.best
    ]


def _effort(label: str, rows: Sequence[Row], account: Account | None) -> Effort:
    runs = [run for row in rows for run in row.runs]
    devices = (run.circumstances.get("device") for run in runs)
    is_planned = account is not None and label in account.lock.tuning.labels
    return Effort(
        optimizer=label,
        space=space_in_words(account.lock, label) if account and is_planned else _tried(rows),
        budget=account.budget(label) if account and is_planned else None,
        settings=len(rows),
        outcomes=Counter(row.end_of(run) for row in rows for run in row.runs),
        seconds=sum(map(run_seconds, runs)),
        devices=sorted({each for each in devices if each}),
    )


def space_in_words(lock: Lock, label: str) -> str:
    """Return the space of an optimizer as it was planned, such as ``lr 0.001 to 1 (log)``."""
    if label in lock.tuning.fixed:
        return "as written"
    options = lock.tuning.search.space[label].items()
    return "; ".join(f"{option} {_limits(each)}" for option, each in options)


def _limits(distribution: Distribution) -> str:
    if isinstance(distribution, Choice):
        return ", ".join(map(in_a_word, distribution.values))
    ends = f"{in_a_word(distribution.low)} to {in_a_word(distribution.high)}"
    return f"{ends} (log)" if distribution.log else ends


def run_seconds(run: Run) -> float:
    """Return how long the epochs of a run took, evaluation included; NaN if nobody knows."""
    return max((float(curve.seconds[-1]) for curve in run.curves.values()), default=0.0)


def _tried(rows: Sequence[Row]) -> str:
    """Return what was tried of each setting that differs: all values, or how far they go."""
    parts = []
    for key in dict.fromkeys(key for row in rows for key in row.group.settings):
        words = {row.group.settings[key] for row in rows if key in row.group.settings}
        values = sorted(words, key=by_size)
        if len(values) > _MOST_VALUES:
            parts.append(f"{key} {values[0]} to {values[-1]} ({len(values)} values)")
        else:
            parts.append(f"{key} {', '.join(values)}")
    return "; ".join(parts)


def effort_columns(found: Sequence[Effort]) -> list[Column[Effort]]:
    """Return what is known of the effort for an optimizer."""

    def outcome(which: Outcome) -> Column[Effort]:
        return Column(
            "not finished" if which is Outcome.UNFINISHED else which.value,
            lambda each: str(each.outcomes.get(which, 0)),
            lambda each: {which.value: each.outcomes.get(which, 0)},
        )

    return [
        Column(
            "optimizer", lambda each: each.optimizer, lambda each: {"optimizer": each.optimizer}
        ),
        Column(
            "draws a study",
            lambda each: NOTHING if each.budget is None else str(each.budget),
            lambda each: {"budget": each.budget},
            is_shown=any(each.budget is not None for each in found),
        ),
        Column("settings", lambda each: str(each.settings), lambda e: {"settings": e.settings}),
        Column("runs", lambda each: str(each.runs), lambda each: {"runs": each.runs}),
        *map(outcome, Outcome),
        Column(
            "time",
            lambda each: duration(each.seconds),
            lambda each: {
                "seconds": each.seconds if math.isfinite(each.seconds) else None,
                "devices": each.devices,
            },
        ),
        Column("space", lambda each: each.space or NOTHING, lambda each: {"space": each.space}),
    ]


def effort_table(comparison: Comparison) -> Table | None:
    """Return a row for each optimizer.

    None without a plan if each has one setting, and all its runs finished.
    """
    found = efforts(comparison)
    is_plain = all(e.settings == 1 and e.runs == e.outcomes[Outcome.FINISHED] for e in found)
    if is_plain and comparison.account is None:
        return None
    title = f"{comparison.title}: what was tried, and what became of it"
    return make_table(title, effort_columns(found), found, _notes(comparison, found))


def _notes(comparison: Comparison, found: Sequence[Effort]) -> list[str]:
    devices = sorted({device for each in found for device in each.devices})
    on = f" on {listed(devices)}" if devices else ""
    notes = [
        "Runs by how they ended: diverged with a loss that was not finite, failed with an error."
        f" Time of their epochs{on}, evaluation included; of runs that share a device, each"
        " counts."
    ]
    if comparison.account is not None:
        return [*notes, *_on_the_plan(comparison.account)]
    most, least = (pick(found, key=lambda each: each.settings) for pick in (max, min))
    if most.settings > least.settings:
        notes.append(
            f"Unequal: {plural(most.settings, 'setting')} of {most.optimizer} tried,"
            f" {least.settings} of {least.optimizer}. Who tries more finds better ones."
        )
    return notes


def _on_the_plan(account: Account) -> list[str]:
    protocol = account.lock.tuning.protocol
    notes = []
    if protocol.unequal is not None:
        notes.append(f"Unequal budgets, as planned: {stopped(protocol.unequal)}")
    if account.added:
        notes.append(f"{plural(len(account.added), 'run')} added that the plan does not have.")
    return notes
