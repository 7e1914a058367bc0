"""Event files of our own making, as bytes: curves and custom charts."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.results.read.run import Numbers, split_metric

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

Points = tuple[Numbers, Numbers, Numbers]
"""Steps, times in seconds since 1970 and values of a curve, each (N,); NaN is left out."""

_SETS = ("train", "val", "test")
_MOST_OPEN = 3  # an open group of charts asks for all its curves at once


def event_file(
    summaries: Iterable[Summary] = (), curves: Mapping[str, Points] | None = None
) -> bytes:
    """Return the content of an event file: summaries at step 0, then curves by tag."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    records = RecordWriter(file)
    # By the time of the first event TensorBoard orders runs, and so chooses their colours.
    begin = min((float(times[0]) for _, times, _ in (curves or {}).values()), default=0.0)
    records.write(Event(wall_time=begin, file_version="brain.Event:2").SerializeToString())
    for summary in summaries:
        records.write(Event(wall_time=begin, summary=summary).SerializeToString())
    if curves:
        # This file takes the place of an older one. TensorBoard's slow loader drops what that said
        # when it is told that a session starts; the fast one does when a step comes again.
        start = SessionLog(status=SessionLog.START)
        records.write(Event(wall_time=begin, session_log=start).SerializeToString())
    for tag, points in (curves or {}).items():
        for step, time, value in zip(*(each.tolist() for each in points), strict=True):
            if math.isfinite(value):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                event = Event(wall_time=time, step=int(step), summary=summary)
                records.write(event.SerializeToString())
    return file.getvalue()


@dataclass(frozen=True)
class Section:
    """The charts of an experiment under one set of conditions."""

    title: str
    heading: str  # what its charts show
    metrics: Sequence[str]  # the names of all metrics, the compared one first

    def main(self) -> list[str]:
        """Return the metrics that matter: the compared one, then test, validation, training."""
        by_set = [m for each in reversed(_SETS) for m in self.metrics if split_metric(m)[0] == each]
        return list(dict.fromkeys([*self.metrics[:1], *by_set]))

    def tag(self, metric: str, edge: str = "") -> str:
        """Return the tag of the mean of a metric, or of an ``edge`` of its band, in runs made for
        charts.

        TensorBoard's charts choose curves by their tags, never by their runs. So the tags of
        different experiments must differ, or each chart would show all of them.
        """
        tag = f"{self.title} ± standard error/{metric} {edge}" if edge else f"{self.title}/{metric}"
        # TensorBoard looks for the colour of a line behind the first bracket of its name.
        return tag.replace("(", "[").replace(")", "]")


def layout(sections: Sequence[Section]) -> Summary:
    """Return the charts of all sections: the main metrics, and a closed group with the others."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    content = layout_pb2.Layout(version=0)
    for number, section in enumerate(sections):
        charts = _main_charts(section)
        content.category.add(title=section.heading, chart=charts, closed=number >= _MOST_OPEN)
        others = [metric for metric in section.metrics if metric not in section.main()]
        if others:
            charts = [_lines(section, metric, [metric]) for metric in others]
            content.category.add(title=f"{section.heading} · all else", chart=charts, closed=True)
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        metadata=metadata.create_summary_metadata(),
        tensor=make_tensor_proto(content.SerializeToString()),
    )
    return Summary(value=[value])


def _main_charts(section: Section) -> list[Any]:
    """For each quantity, such as the loss, one chart of all data sets; then a band for each set."""
    metrics, charts, bands = section.main(), [], []
    for quantity in dict.fromkeys(split_metric(metric)[1] for metric in metrics):
        alike = [metric for metric in metrics if split_metric(metric)[1] == quantity]
        alike.sort(key=lambda metric: ("", *_SETS).index(split_metric(metric)[0]))
        sets = " and ".join(filter(None, (split_metric(metric)[0] for metric in alike)))
        charts.append(_lines(section, f"{quantity}: {sets}" if sets else quantity, alike))
        bands += [_band(section, metric) for metric in reversed(alike)]
    return charts + bands[::-1]  # for TensorBoard shows those with margins last, in reverse


def _lines(section: Section, title: str, metrics: Sequence[str]) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    tags = [f"{re.escape(section.tag(metric))}$" for metric in metrics]
    return layout_pb2.Chart(
        title=f"{title}, mean over seeds", multiline=layout_pb2.MultilineChartContent(tag=tags)
    )


def _band(section: Section, metric: str) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    # All optimizers have these tags. A second series would make TensorBoard warn of each run that
    # lacks it.
    series = layout_pb2.MarginChartContent.Series(
        value=section.tag(metric),
        lower=section.tag(metric, "lower"),
        upper=section.tag(metric, "upper"),
    )
    return layout_pb2.Chart(
        title=f"{metric}, mean ± standard error",
        margin=layout_pb2.MarginChartContent(series=[series]),
    )
