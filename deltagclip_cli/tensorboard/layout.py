"""The charts of TensorBoard's page Custom Scalars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

_SETS = ("train", "val", "test")
_MOST_OPEN = 3  # an open group asks for all its curves at once


@dataclass(frozen=True)
class Tags:
    """What the curves of a metric are called in the runs that are made for charts.

    TensorBoard's charts choose curves by their tags, never by their runs. So the tags of different
    experiments must differ, or each chart would show all of them.

    Args:
        title: of the experiment and its conditions, as the name of a folder.
        metric: the name of the metric.
    """

    title: str
    metric: str

    @property
    def mean(self) -> str:
        """The tag of the mean over seeds."""
        return _tag(self.title, self.metric)

    @property
    def lower(self) -> str:
        """The tag of the mean less its standard error."""
        return _tag(f"{self.title} ± standard error", f"{self.metric} lower")

    @property
    def upper(self) -> str:
        """The tag of the mean and its standard error."""
        return _tag(f"{self.title} ± standard error", f"{self.metric} upper")


def _tag(title: str, metric: str) -> str:
    # TensorBoard looks for the colour of a line behind the first bracket of its name.
    return f"{title}/{metric}".replace("(", "[").replace(")", "]")


@dataclass(frozen=True)
class Section:
    """The charts of an experiment under one set of conditions.

    Args:
        title: its title, as the name of a folder.
        heading: what its charts show.
        metrics: the names of all metrics, the compared one first.
    """

    title: str
    heading: str
    metrics: Sequence[str]

    def main(self) -> list[str]:
        """The metrics that matter: the compared one, then those of test, validation, training."""
        by_set = [m for each in reversed(_SETS) for m in self.metrics if _set_of(m) == each]
        return list(dict.fromkeys([*self.metrics[:1], *by_set]))


def layout(sections: Sequence[Section]) -> Summary:
    """The charts of all sections: the main metrics first, and a closed group with the others."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    content = layout_pb2.Layout(version=0)
    for number, section in enumerate(sections):
        main = section.main()
        others = [metric for metric in section.metrics if metric not in main]
        _add(content, section.heading, _main_charts(section, main), number >= _MOST_OPEN)
        rest = [(metric, [metric]) for metric in others]
        if rest:
            charts = [_lines(section, title, metrics) for title, metrics in rest]
            _add(content, f"{section.heading} · all else", charts, True)
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata.create_summary_metadata(),
        tensor=make_tensor_proto(content.SerializeToString()),
    )
    return Summary(value=[value])


def _add(content: Any, title: str, charts: Iterable[Any], closed: bool) -> None:
    content.category.add(title=title, chart=charts, closed=closed)


def _main_charts(section: Section, metrics: Sequence[str]) -> list[Any]:
    """For each quantity, such as the loss, one chart of all data sets; then a band for each set."""
    charts, bands = [], []
    for quantity in dict.fromkeys(map(_quantity, metrics)):
        alike = [metric for metric in metrics if _quantity(metric) == quantity]
        alike.sort(key=lambda metric: _SETS.index(_set_of(metric)) if _set_of(metric) else -1)
        sets = " and ".join(filter(None, map(_set_of, alike)))
        charts.append(_lines(section, f"{quantity}: {sets}" if sets else quantity, alike))
        bands += [_band(section, metric) for metric in reversed(alike)]
    return charts + bands[::-1]  # for TensorBoard shows those with margins last, in reverse


def _lines(section: Section, title: str, metrics: Sequence[str]) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    tags = [f"{re.escape(Tags(section.title, metric).mean)}$" for metric in metrics]
    return layout_pb2.Chart(
        title=f"{title}, mean over seeds", multiline=layout_pb2.MultilineChartContent(tag=tags)
    )


def _band(section: Section, metric: str) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    tags = Tags(section.title, metric)
    series = layout_pb2.MarginChartContent.Series(
        value=tags.mean, lower=tags.lower, upper=tags.upper
    )
    return layout_pb2.Chart(
        title=f"{metric}, mean ± standard error",
        # All optimizers have these tags. A second series here would make TensorBoard warn of each
        # run that lacks it.
        margin=layout_pb2.MarginChartContent(series=[series]),
    )


def _set_of(metric: str) -> str:
    """The data that a metric was measured on; empty if its name does not say so."""
    found = metric.partition("/")[0]
    return found if found in _SETS and "/" in metric else ""


def _quantity(metric: str) -> str:
    return metric.partition("/")[2] if _set_of(metric) else metric
