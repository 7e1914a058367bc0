"""Figures that others published, beside ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from deltagclip_cli.core import NOTHING, with_error
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.rows import Row
from deltagclip_cli.results.compare.text_table import Sheet, line
from deltagclip_cli.results.compare.value_table import ends_of
from deltagclip_cli.spec.document import parse


@dataclass(frozen=True)
class Published:
    """What somebody published of one setting.

    Args:
        title: the setting in words.
        optimizer: its options; empty if they were not told.
        runs: a regular expression for the names of the runs in the authors' own logs, if known.
        n: how many seeds.
        epoch: after which the metric was read.
        mean: of the metric.
        standard_error: as published; None for a single seed.
    """

    title: str
    optimizer: Mapping[str, Any]
    runs: str | None
    n: int
    epoch: int
    mean: float
    standard_error: float | None

    def ours(self, rows: Sequence[Row]) -> Row | None:
        """Our setting, or the authors' own runs, of that name and with these options."""
        return next((row for row in rows if row.summary and self._is(row)), None)

    def _is(self, row: Row) -> bool:
        if not row.group.is_ours:
            return self.runs is not None and bool(re.search(self.runs, row.group.name))
        told = self.optimizer.items()
        return bool(told) and all(row.group.options.get(key) == value for key, value in told)


def published(experiment: str, metric: str) -> list[Published]:
    """What there is of a metric of an experiment."""
    return [
        Published(
            figure["title"],
            figure.get("optimizer", {}),
            figure.get("runs"),
            figure["n"],
            figure["epoch"],
            *figure["metrics"][metric],
        )
        for figure in _figures(experiment)
        if metric in figure["metrics"]
    ]


def metrics(experiment: str) -> list[str]:
    """The metrics of which something was published of an experiment, those of test first."""
    names = dict.fromkeys(name for figure in _figures(experiment) for name in figure["metrics"])
    return sorted(names, key=lambda name: not name.startswith("test/"))


def caveats(experiment: str) -> list[str]:
    """What to know of the figures of an experiment, their source first."""
    names = {figure["experiment"] for figure in _figures(experiment)}
    content = _content()
    fitting = [each["says"] for each in content["caveats"] if names & set(each["about"])]
    return [f"Source: {content['source']}.", *fitting] if names else []


def experiments() -> list[str]:
    """The experiments of which there are figures."""
    return list(dict.fromkeys(figure["experiment"] for figure in _content()["figures"]))


def published_sheets(comparisons: Sequence[Comparison]) -> Iterator[Sheet]:
    """A sheet for each comparison of which something was published, our means beside it."""
    for comparison in comparisons:
        metric = comparison.question.metric
        figures = published(comparison.experiment, metric)
        if figures:
            yield Sheet(
                title=f"{comparison.title}: {metric}, published",
                columns=["setting", "epoch", "n", "published", "our epoch", "our n", "ours"],
                lines=[line(_texts(figure, comparison)) for figure in figures],
                notes=caveats(comparison.experiment),
            )


def _texts(figure: Published, comparison: Comparison) -> list[str]:
    texts = [
        figure.title,
        str(figure.epoch),
        str(figure.n),
        with_error(figure.mean, figure.standard_error),
    ]
    ours = figure.ours(comparison.rows)
    if ours is None or ours.summary is None:
        return [*texts, *[NOTHING] * 3]
    at = comparison.question.moment.at
    epochs = {float(at)} if at is not None else ends_of(ours, comparison)
    return [
        *texts,
        f"{max(epochs, default=0):.0f}",
        str(ours.summary.n),
        with_error(ours.summary.mean, ours.summary.standard_error),
    ]


def _figures(experiment: str) -> list[Mapping[str, Any]]:
    return [
        figure
        for figure in _content()["figures"]
        if experiment in (figure["experiment"], *figure.get("folders", ()))
    ]


@cache
def _content() -> dict[str, Any]:
    text = files(__package__).joinpath("published.yaml").read_text("utf-8")
    content: dict[str, Any] = parse(text)
    return content
