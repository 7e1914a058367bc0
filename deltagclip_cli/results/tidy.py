"""Runs as tidy rows: one for each run, or one for each time that a run was measured.

A row is a dictionary. All rows of one answer have the same keys, in the same order, and None where
a run has nothing to say::

    experiment, conditions, optimizer, settings, seed   tell runs apart, as in ``compare``
    identity                    SHA-256 of all that changes the numbers of a run; the same on every
                                machine, and None for other people's runs
    folder                      where the files of the run are
    state, reason               how it stands, and why it did not finish
    epoch, step                 how many passes over the data, and optimizer steps, were made
    seconds                     spent in epochs until then, evaluation included and waiting left out
    begun_at, ended_at, time    in seconds since 1970, as ``time.time()`` has it
    optimizer.lr, ...           settings, by their dotted names in a spec; those without a dot as
                                ``setting.epochs``, and lists as JSON
    circumstances.torch, ...    what else changes the bits of its numbers
    test/accuracy, ...          metrics: NaN where one was not finite
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from deltagclip_cli.core import EPOCH_SECONDS
from deltagclip_cli.results.read.run import Outcome, Run, in_words
from deltagclip_cli.runs.environment import read_starts
from deltagclip_cli.runs.folder import RunFolder, State, is_worked_on

Value = bool | int | float | str | None
"""What stands in a row."""

TidyRow = dict[str, Value]
"""Values by the names of the columns."""

Parts = tuple[TidyRow, ...]
"""The parts of a row, such as its settings and its metrics: columns of one part stand together."""

_TAKEN = {
    *("experiment", "conditions", "optimizer", "settings", "seed", "identity", "folder"),
    *("state", "reason", "epoch", "step", "seconds", "begun_at", "ended_at", "time"),
}


def result_rows(runs: Sequence[Run]) -> list[TidyRow]:
    """Return a row for each run: what it is, how it stands, its settings and its last metrics.

    Metrics of a run that has not ended are the last ones that there are so far; ``state`` tells.
    """
    return _aligned([_parts_of_result(run) for run in runs])


def result_row(run: Run) -> TidyRow:
    """Return the row of one run, under the keys that it has itself."""
    return _joined(_parts_of_result(run))


def metric_rows(runs: Sequence[Run]) -> list[TidyRow]:
    """Return a row for each record of each run, in the order in which they were made.

    With ``log_every``, there are records between evaluations as well: their metrics are those named
    ``step/...``, and all others are None there.
    """
    return _aligned([parts for run in runs for parts in _parts_of_records(run)])


def metric_rows_of(run: Run) -> Iterator[TidyRow]:
    """Yield the records of one run, under the keys that each has itself."""
    yield from map(_joined, _parts_of_records(run))


def state_of(run: Run) -> str:
    """Return how a run stands: in the words of ``status`` for ours, of ``compare`` for others.

    A run whose files are damaged is ``unfinished`` although it came to its end.
    """
    if run.trial is None or run.outcome is not Outcome.UNFINISHED:
        return str(run.outcome)
    folder = RunFolder(run.folder)
    if is_worked_on(folder):
        return str(State.RUNNING)
    state = folder.state
    return str(Outcome.UNFINISHED if state in (State.FINISHED, State.DIVERGED) else state)


def _who(run: Run) -> TidyRow:
    return {
        "experiment": run.group.experiment,
        "conditions": " ".join(in_words(run.group.conditions)),
        "optimizer": run.group.optimizer,
        "settings": " ".join(in_words(run.group.settings)),
        "seed": _seed(run.seed),
        "identity": None if run.trial is None else run.trial.identity,
        "folder": str(run.folder),
    }


def _parts_of_result(run: Run) -> Parts:
    begun, ended = _times(run)
    longest = max(run.curves.values(), key=lambda each: each.steps[-1], default=None)
    epoch = None if longest is None or not longest.has_epochs else _count(longest.epochs[-1])
    row: TidyRow = {
        **_who(run),
        "state": state_of(run),
        "reason": run.reason or None,
        "epoch": epoch,
        "step": None if longest is None else _count(longest.steps[-1]),
        "seconds": None if longest is None else _known(longest.seconds[-1]),
        "begun_at": begun,
        "ended_at": ended,
    }
    circumstances: TidyRow = {
        f"circumstances.{name}": word for name, word in run.circumstances.items()
    }
    last: TidyRow = {
        _metric(name): float(run.curves[name].values[-1]) for name in sorted(run.curves)
    }
    return row, _settings(run), circumstances, last


def _settings(run: Run) -> TidyRow:
    """Return all settings of our runs; of other people's, those that tell them apart."""
    if run.trial is None:
        return {f"setting.{name}": word for name, word in run.group.settings.items()}
    found = run.trial.flat_settings.items()
    return {
        name if "." in name else f"setting.{name}": each for name, each in found if name != "seed"
    }


def _times(run: Run) -> tuple[float | None, float | None]:
    """Return when a run was first begun, and when it ended; None if nobody knows."""
    if run.trial is None:
        return None, None
    folder, begun = RunFolder(run.folder), None
    with suppress(IndexError, KeyError, TypeError, ValueError):
        begun = datetime.fromisoformat(read_starts(folder)[0]["started"]).timestamp()
    return begun, folder.ended_at


def _parts_of_records(run: Run) -> Iterator[Parts]:
    who = _who(run)
    for times, metrics in _records_of(run) if run.trial is not None else _points_of(run):
        yield {**who, **times}, {_metric(name): value for name, value in metrics.items()}


def _records_of(run: Run) -> Iterator[tuple[TidyRow, TidyRow]]:
    """Yield when each line of ``metrics.jsonl`` was written, and its metrics."""
    seconds = 0.0
    for record in RunFolder(run.folder).metrics():
        spent = record.get(EPOCH_SECONDS)
        seconds += spent or 0.0
        times = {name: record[name] for name in ("epoch", "step", "time")}
        metrics = {
            name: float("nan") if value is None else value
            for name, value in record.items()
            if name not in times
        }
        yield {**times, "seconds": None if spent is None else seconds}, metrics


def _points_of(run: Run) -> Iterator[tuple[TidyRow, TidyRow]]:
    """Yield the points of all curves, those of one step together; a step may be there twice."""
    rows: dict[tuple[float, int], tuple[TidyRow, TidyRow]] = {}
    for name, curve in run.curves.items():
        before, repeated = None, 0
        for at, step in enumerate(curve.steps.tolist()):
            before, repeated = step, repeated + 1 if step == before else 0
            times: TidyRow = {
                "epoch": _count(curve.epochs[at]) if curve.has_epochs else None,
                "step": _count(step),
                "time": None,
                "seconds": _known(curve.seconds[at]),
            }
            _, metrics = rows.setdefault((step, repeated), (times, {}))
            metrics[name] = float(curve.values[at])
    return (rows[key] for key in sorted(rows))


def _metric(name: str) -> str:
    """Return the column of a metric: other programs log an ``epoch`` or a ``step``, too."""
    return f"metric/{name}" if name in _TAKEN else name


def _count(number: float) -> int | float:
    number = float(number)
    return int(number) if number.is_integer() else number


def _seed(seed: int | str | None) -> int | str | None:
    """Return a seed as a number where a name has one, so that it is equal to that of our runs."""
    if isinstance(seed, str) and seed.isascii() and seed.isdecimal() and seed == str(int(seed)):
        return int(seed)
    return seed


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


def _joined(parts: Parts) -> TidyRow:
    return {name: value for part in parts for name, value in part.items()}


def _aligned(rows: Sequence[Parts]) -> list[TidyRow]:
    """Return rows that all have the columns of all of them, those of each part together."""
    columns = dict.fromkeys(
        name
        for parts in zip(*rows, strict=True)
        for part in dict.fromkeys(map(tuple, parts))
        for name in part
    )
    blank: TidyRow = dict.fromkeys(columns)
    return [{**blank, **_joined(parts)} for parts in rows]
