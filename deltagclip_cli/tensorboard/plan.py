"""Which runs TensorBoard is to show, and what is in them.

::

    <experiment · conditions>/<setting>/seed-N                    a run as it is, by links
    <experiment · conditions>/<setting>/mean                      over seeds, under the same tags
    <experiment · conditions>/<setting>/mean ± standard error     likewise, one with +, one with -,
                                                                  of the best of each optimizer
    <experiment · conditions>/<setting>                           what charts show of the best
                                                                  setting of each optimizer
    !layout-<digest>                                              the charts, the HParams table
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deltagclip_cli.core import more_is_better, printable
from deltagclip_cli.report.bands import band
from deltagclip_cli.results.compare.comparison import Comparison, Row, compare_runs
from deltagclip_cli.results.compare.question import Moment, Question, usual_metric
from deltagclip_cli.results.read.events import event_files
from deltagclip_cli.results.read.run import Numbers, Outcome, Reading, Run
from deltagclip_cli.tensorboard.event_file import event_file
from deltagclip_cli.tensorboard.hyperparameters import (
    MEAN,
    Settings,
    columns,
    session,
    settings_of,
)
from deltagclip_cli.tensorboard.layout import Section, Tags, layout
from deltagclip_cli.tensorboard.run_names import Names

_OUTCOMES = {Outcome.DIVERGED: " diverged", Outcome.FAILED: " failed"}

TagOf = Callable[[Run, str], str]
"""Says how the files of a run name a metric."""


@dataclass(frozen=True)
class Files:
    """What is in the folder of one of TensorBoard's runs.

    Args:
        links: event files of the run itself, wherever they lie.
        written: the content of one of ours; None for none.
    """

    links: Sequence[Path] = ()
    written: bytes | None = None

    @property
    def count(self) -> int:
        """How many files these are."""
        return len(self.links) + (self.written is not None)

    @property
    def room(self) -> int:
        """How many these may come to: one of ours that was replaced stays open for a while."""
        return self.count + (self.written is not None)


@dataclass(frozen=True)
class Plan:
    """What TensorBoard is to show.

    Args:
        runs: by their paths, first those that matter most.
        metrics: the tags of the metrics that matter, first the compared one.
    """

    runs: Mapping[str, Files]
    metrics: Sequence[str]

    @property
    def count(self) -> int:
        """How many files this takes."""
        return sum(files.count for files in self.runs.values())

    def within(self, most: int) -> Plan:
        """As much of it as a number of files can hold; TensorBoard keeps every file open.

        What we say of single runs goes first, for their curves are in their own files.
        """
        runs = self.runs
        if sum(files.room for files in runs.values()) > most:
            runs = {
                path: replace(files, written=None) if files.links else files
                for path, files in runs.items()
            }
        kept: dict[str, Files] = {}
        for path, files in runs.items():
            most -= files.room
            if most >= 0:
                kept[path] = files
        return replace(self, runs=kept)


class Planner:
    """Makes plans of the same runs, over and over as they grow.

    Args:
        begin: when TensorBoard was started, in seconds since 1970; the time of the first points of
            all means.
        tag_of: how the files of a run name a metric.
    """

    def __init__(self, begin: float, tag_of: TagOf) -> None:
        self._begin = begin
        self._tag_of = tag_of
        self._names = Names()

    def plan(self, reading: Reading) -> Plan:
        """What there is to show of some runs."""
        comparisons = _comparisons(reading.runs)
        sections = [self._section(each) for each in comparisons]
        rows = [row for comparison in comparisons for row in comparison.rows]
        settings = dict(
            zip((row.group for row in rows), settings_of([row.group for row in rows]), strict=True)
        )
        charts: dict[str, Files] = {}
        means: dict[str, Files] = {}
        runs: dict[str, Files] = {}
        bands: dict[str, Files] = {}
        for section, comparison in zip(sections, comparisons, strict=True):
            best = _best_of_each(comparison)
            for row in comparison.rows:
                path = self._names.path(section.title, row.group, row.group.name)
                spread = _spread(row, section.metrics)
                if spread is not None and row in best:
                    charts[path] = self._chart(section, spread)
                if spread is not None and len(row.once) > 1:
                    means |= self._mean(path, row, spread, settings[row.group])
                    bands |= self._edges(path, row, section, spread) if row in best else {}
                runs |= self._runs(path, row, settings[row.group])
        metrics = self._main_tags(sections, comparisons)
        first = self._layout(comparisons, sections, list(settings.values()), metrics)
        return Plan({**first, **charts, **means, **runs, **bands}, metrics)

    def _title(self, comparison: Comparison) -> str:
        key = (comparison.experiment, *comparison.conditions.values())
        return self._names.path("", key, comparison.title)

    def _chart(self, section: Section, spread: _Spread) -> Files:
        points: dict[str, Numbers] = {}
        for metric, (mean, error) in spread.values.items():
            tags = Tags(section.title, metric)
            points[tags.mean] = mean
            if metric in section.main():
                error = np.nan_to_num(error)  # TensorBoard wants all three at the same steps
                points[tags.lower], points[tags.upper] = mean - error, mean + error
        return Files(written=self._curves(points, spread))

    def _mean(self, path: str, row: Row, spread: _Spread, settings: Settings) -> dict[str, Files]:
        points = {self._tag(row, m): mean for m, (mean, _) in spread.values.items()}
        name = self._names.path(path, MEAN, MEAN)
        summary = session(name, settings, MEAN)
        times = self._begin + spread.seconds
        return {name: Files(written=event_file([summary], points, spread.epochs, times))}

    def _edges(self, path: str, row: Row, section: Section, spread: _Spread) -> dict[str, Files]:
        main = {m: band for m, band in spread.values.items() if m in section.main()}
        found: dict[str, Files] = {}
        for sign, word in ((1, "+"), (-1, "-")) if main else ():
            points = {self._tag(row, m): mean + sign * error for m, (mean, error) in main.items()}
            text = f"{MEAN} {word} standard error"
            name = self._names.path(path, text, text)
            found[name] = Files(written=self._curves(points, spread))
        return found

    def _curves(self, points: Mapping[str, Numbers], spread: _Spread) -> bytes:
        return event_file((), points, spread.epochs, self._begin + spread.seconds)

    def _tag(self, row: Row, metric: str) -> str:
        """What the files of a setting call a metric, of the first run that has it."""
        having = (run for run in row.runs if metric in run.curves)
        return self._tag_of(next(having, row.runs[0]), metric)

    def _runs(self, path: str, row: Row, settings: Settings) -> dict[str, Files]:
        found = {}
        for run in row.runs:
            # A run that has diverged since the last time gets another name, and so another session.
            name = self._names.path(path, (run.folder, _name(run)), _name(run))
            summary = session(name, settings, _seed(run))
            found[name] = Files(_event_files(run.folder), event_file([summary]))
            for part in run.parts:  # whose tags may be those of another part
                below = f"{name}/{printable(part.relative_to(run.folder).as_posix())}"
                found[below] = Files(_event_files(part))
        return found

    def _section(self, comparison: Comparison) -> Section:
        return Section(self._title(comparison), _heading(comparison), _metrics(comparison))

    def _main_tags(
        self, sections: Sequence[Section], comparisons: Sequence[Comparison]
    ) -> list[str]:
        tags = dict.fromkeys(
            self._tag(row, metric)
            for section, comparison in zip(sections, comparisons, strict=True)
            for metric in section.main()
            for row in comparison.rows
            if any(metric in run.curves for run in row.runs)
        )
        return list(tags)

    def _layout(
        self,
        comparisons: Sequence[Comparison],
        sections: Sequence[Section],
        settings: Sequence[Settings],
        metrics: Sequence[str],
    ) -> dict[str, Files]:
        seeds = [_seed(run) for each in comparisons for row in each.rows for run in row.runs]
        summaries = [layout(sections), columns(settings, [*seeds, MEAN], metrics)]
        content = event_file(summaries)
        # TensorBoard reads the columns of a run once: other ones need another run. It takes those
        # of the first run that has some, and people's own runs may.
        name = f"!layout-{hashlib.sha256(content).hexdigest()[:8]}"
        return {name: Files(written=content)}


@dataclass(frozen=True, eq=False)
class _Spread:
    """The means and standard errors of several metrics, all at the same epochs, (N,)."""

    epochs: Numbers
    seconds: Numbers
    values: Mapping[str, tuple[Numbers, Numbers]]


def _spread(row: Row, metrics: Sequence[str]) -> _Spread | None:
    """What there is of a setting; None if it has none of the metrics."""
    bands = {metric: found for metric in metrics if (found := band(row.once, metric)) is not None}
    if not bands:
        return None
    epochs = np.unique(np.concatenate([each.epochs for each in bands.values()]))
    seconds = np.zeros(len(epochs))
    values = {}
    for metric, each in bands.items():
        places = np.searchsorted(epochs, each.epochs)
        mean, error = np.full((2, len(epochs)), np.nan)
        mean[places], error[places] = each.mean, each.standard_error
        seconds[places] = np.nan_to_num(each.seconds)
        values[metric] = (mean, error)
    return _Spread(epochs, seconds, values)


def _comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """The runs by experiment and conditions, each judged by its usual metric or by its first."""
    by_experiment: dict[str, list[Run]] = {}
    for run in runs:
        by_experiment.setdefault(run.group.experiment, []).append(run)
    return compare_runs(runs, {name: _question(each) for name, each in by_experiment.items()})


def _question(runs: Sequence[Run]) -> Question:
    names = [name for run in runs for name in run.curves]
    metric = usual_metric(runs) or next(iter(names), "")
    return Question(metric, bool(more_is_better(metric)), Moment())


def _metrics(comparison: Comparison) -> list[str]:
    """The names of all metrics, the compared one first."""
    names = dict.fromkeys(name for row in comparison.rows for r in row.runs for name in r.curves)
    metric = comparison.question.metric
    return [*([metric] if metric in names else []), *(name for name in names if name != metric)]


def _best_of_each(comparison: Comparison) -> list[Row]:
    """The best setting of each optimizer; rows come in that order."""
    best: dict[str, Row] = {}
    for row in comparison.rows:
        best.setdefault(row.group.optimizer, row)
    return list(best.values())


def _heading(comparison: Comparison) -> str:
    has_several = len(_best_of_each(comparison)) < len(comparison.rows)
    if not has_several:
        return comparison.title
    return f"{comparison.title} · best setting of each by {comparison.question.metric}"


def _seed(run: Run) -> str:
    return printable(run.folder.name if run.seed is None else str(run.seed))


def _name(run: Run) -> str:
    seed = run.folder.name if run.seed is None else f"seed-{run.seed}"
    return f"{seed}{_OUTCOMES.get(run.outcome, '')}"


def _event_files(folder: Path) -> list[Path]:
    try:
        return [path.absolute() for path in event_files(folder)]
    except OSError:
        return []
