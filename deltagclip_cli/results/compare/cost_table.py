"""What the settings of one comparison cost, and what the steps of optimizers that clip were."""

from __future__ import annotations

from collections.abc import Sequence

from deltagclip_cli.core import NOTHING, REGIMES, short
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.formatting import amount, share
from deltagclip_cli.results.compare.rows import Row
from deltagclip_cli.results.compare.text_table import Sheet, line


def cost_sheet(comparison: Comparison) -> Sheet | None:
    """The way to the target, the time of an epoch and the regimes; None if nothing is known."""
    rows, target = comparison.rows, comparison.target
    has_epochs = comparison.has_epochs
    has_regimes = any(row.regimes for row in rows)
    if not (target or has_regimes or any(row.epoch_seconds for row in rows)):
        return None
    columns = ["optimizer"]
    if target:
        columns += ["reached", *(["epochs"] if has_epochs else []), "steps", "seconds"]
    columns.append("s/epoch" if has_epochs else "s/step")
    columns += REGIMES if has_regimes else []
    lines = []
    for row in rows:
        texts = [row.group.name, *(_way(row, has_epochs) if target else [])]
        texts.append(short(row.epoch_seconds))
        texts += _shares(row) if has_regimes else []
        lines.append(line(texts, row.standing))
    title = f"{comparison.title}: cost" + (f" of {target}" if target else "")
    return Sheet(title, columns, lines, _notes(comparison, has_epochs))


def _way(row: Row, has_epochs: bool) -> list[str]:
    if row.reached is None or row.reached.median is None:
        return ["0 of 0", *[NOTHING] * (3 if has_epochs else 2)]
    median = row.reached.median
    return [
        f"{row.reached.count} of {row.reached.n}",
        *([amount(median.epochs)] if has_epochs else []),
        amount(median.steps),
        amount(median.seconds),
    ]


def _shares(row: Row) -> list[str]:
    return [share(row.regimes[each]) if row.regimes else "" for each in REGIMES]


def _notes(comparison: Comparison, has_epochs: bool) -> list[str]:
    notes = []
    if comparison.target:
        clock = "the epochs" if has_epochs else "the program's clock since its first file"
        notes.append(
            f"Until {comparison.target}: the median over seeds, ∞ for those that miss it; seconds"
            f" of {clock}."
        )
    if any(row.regimes for row in comparison.rows):
        notes.append("Shares of steps: plain at η, clipped at ηγ/‖g‖, floored at ηδ.")
    return notes + _note_on_floor(comparison.rows)


def _note_on_floor(rows: Sequence[Row]) -> list[str]:
    names = [row.group.name for row in rows if row.was_never_floored]
    if not names:
        return []
    return [
        f"No step was floored, so that δ was never active and it was GClip: {', '.join(names)}."
    ]
