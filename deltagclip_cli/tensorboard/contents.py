"""Everything that TensorBoard shows of runs, under its names.

::

    <experiment · conditions>/<setting>/seed-N                    a run as it is, by links
    <experiment · conditions>/<setting>/mean                      over seeds, under the same tags
    <experiment · conditions>/<setting>                           what charts show of the best
                                                                  setting of each optimizer
    !layout-N                                                     the charts
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deltagclip_cli.core import MARK, printable
from deltagclip_cli.report.charts.lines import Band, band
from deltagclip_cli.results.compare.comparison import Comparison, Row, compare_runs
from deltagclip_cli.results.compare.question import (
    Moment,
    Question,
    known_direction,
    usual_metric,
)
from deltagclip_cli.results.read.events import event_files
from deltagclip_cli.results.read.run import Numbers, Outcome, Run
from deltagclip_cli.tensorboard.event_files import Points, Section, event_file, layout

MEAN = "mean"
_OUTCOMES = {Outcome.DIVERGED: " diverged", Outcome.FAILED: " failed"}
_MOST_BYTES = 180  # file systems allow 255; what tells equal names apart comes behind
# A slash would make a folder. TensorBoard looks for the run of a line behind the first bracket.
_REPLACED = str.maketrans({"/": "_", "\\": "_", "(": "[", ")": "]"})


@dataclass(frozen=True)
class Files:
    """The folder of one of TensorBoard's runs."""

    links: Sequence[Path] = ()  # event files of the run itself, wherever they lie
    written: bytes | None = None  # the content of one of ours; None for none


class Contents:
    """Says what is shown of the same runs, over and over as they grow.

    The first points of all means have the time at which TensorBoard was started, ``begin``.
    """

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._names = Names()
        self._layout = b""
        self._layouts = 0

    def of(self, runs: Sequence[Run]) -> dict[str, Files]:
        """Return what there is to show of some runs, by the paths of TensorBoard's runs."""
        comparisons = _comparisons(runs)
        sections = [self._section(each) for each in comparisons]
        found: dict[str, Files] = {}
        for section, comparison in zip(sections, comparisons, strict=True):
            best = list(comparison.best.values())
            for row in comparison.rows:
                path = self._names.path(section.title, row.group, row.group.name)
                bands = {m: each for m in section.metrics if (each := band(row.once, m))}
                if bands and row in best:
                    found[path] = self._chart(section, bands)
                if bands and len(row.once) > 1:
                    curves = {_tag(row, m): self._points(b, b.mean) for m, b in bands.items()}
                    name = self._names.path(path, MEAN, MEAN)
                    found[name] = Files(written=event_file((), curves))
                found |= self._runs(path, row)
        content = event_file([layout(sections)])
        # TensorBoard reads the charts of a run once: other ones need another run.
        self._layouts += content != self._layout
        self._layout = content
        return {f"!layout-{self._layouts}": Files(written=content), **found}

    def _section(self, comparison: Comparison) -> Section:
        key = (comparison.experiment, *comparison.conditions.values())
        title = self._names.path("", key, comparison.title)
        metric = comparison.question.metric
        names = dict.fromkeys(n for row in comparison.rows for r in row.runs for n in r.curves)
        metrics = sorted(names, key=lambda name: name != metric)
        heading = comparison.title
        if len(comparison.best) < len(comparison.rows):
            heading += f" · best setting of each by {comparison.question.chooser}"
        if comparison.choice is not None and comparison.choice.on == "test":
            heading += f", {MARK}"
        return Section(title, heading, metrics)

    def _chart(self, section: Section, bands: Mapping[str, Band]) -> Files:
        curves: dict[str, Points] = {}
        for metric, each in bands.items():
            curves[section.tag(metric)] = self._points(each, each.mean)
            if metric in section.main():
                error = np.nan_to_num(each.standard_error)  # all three at the same steps
                for edge, values in (("lower", each.mean - error), ("upper", each.mean + error)):
                    curves[section.tag(metric, edge)] = self._points(each, values)
        return Files(written=event_file((), curves))

    def _points(self, of: Band, values: Numbers) -> Points:
        return of.x, self._begin + np.nan_to_num(of.seconds), values

    def _runs(self, path: str, row: Row) -> dict[str, Files]:
        found = {}
        for run in row.runs:
            seed = run.folder.name if run.seed is None else f"seed-{run.seed}"
            text = seed + _OUTCOMES.get(run.outcome, "")
            name = self._names.path(path, (run.folder, text), text)
            found[name] = Files(_event_files(run.folder))
            for part in run.parts:  # whose tags may be those of another part
                below = f"{name}/{printable(part.relative_to(run.folder).as_posix())}"
                found[below] = Files(_event_files(part))
        return found


class Names:
    """Names of runs in TensorBoard, which are paths of folders, each of one thing only.

    A thing that comes again keeps its name, so that the folder of a run stays where it is while
    other runs appear.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[str, Hashable], str] = {}
        self._taken: set[str] = set()

    def path(self, parent: str, key: Hashable, text: str) -> str:
        """Return the path of what ``key`` tells from all others in ``parent``, and people call
        ``text``.
        """
        if (parent, key) not in self._given:
            # Some file systems know no capitals, and some only one form of an accent.
            number, name = 1, f"{parent}/{_safe(text)}".lstrip("/")
            free = name
            while free.casefold() in self._taken:
                number += 1
                free = f"{name} [{number}]"
            self._taken.add(free.casefold())
            self._given[parent, key] = free
        return self._given[parent, key]


def _safe(text: str) -> str:
    """A text as the name of a folder, wherever it came from: one that leads nowhere else."""
    name = printable(text).translate(_REPLACED).strip(". ")
    return name.encode()[:_MOST_BYTES].decode(errors="ignore").strip(". ") or "_"


def _comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """The runs by experiment and conditions, each judged by its usual metric or by its first."""
    by_experiment: dict[str, list[Run]] = {}
    for run in runs:
        by_experiment.setdefault(run.group.experiment, []).append(run)
    questions = {}
    for name, each in by_experiment.items():
        metric = usual_metric(each) or next((name for run in each for name in run.curves), "")
        questions[name] = Question(metric, bool(known_direction(metric, each)), Moment())
    return compare_runs(runs, questions)


def _tag(row: Row, metric: str) -> str:
    """The tag of a metric in the files of a setting, of the first run that has it."""
    curves = (run.curves[metric] for run in row.runs if metric in run.curves)
    return next((curve.tag for curve in curves), "") or metric


def _event_files(folder: Path) -> list[Path]:
    try:
        return [path.absolute() for path in event_files(folder)]
    except OSError:
        return []
