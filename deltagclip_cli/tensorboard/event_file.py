"""Event files of our own making, as bytes: curves, and what else TensorBoard understands."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.results.read.run import Numbers

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

Points = Mapping[str, Numbers]
"""Values by tag, each (N,); those that are not finite are left out."""


def event_file(
    summaries: Iterable[Summary] = (),
    points: Points | None = None,
    steps: Numbers | None = None,
    times: Numbers | None = None,
) -> bytes:
    """The content of an event file.

    Args:
        summaries: written first, at step 0.
        points: curves.
        steps: of their points, (N,).
        times: of their points in seconds since 1970, (N,).
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    begin = 0.0 if times is None else float(times[0])
    events: list[Any] = [Event(wall_time=begin, file_version="brain.Event:2")]
    events += [Event(wall_time=begin, summary=summary) for summary in summaries]
    if points is not None and steps is not None and times is not None:
        # This file takes the place of an older one. TensorBoard's slow loader drops what that said
        # when it is told that a session starts; the fast one does when a step comes again.
        events.append(Event(wall_time=begin, session_log=SessionLog(status=SessionLog.START)))
        events += _scalars(points, steps, times)
    records = RecordWriter(file)
    for event in events:
        records.write(event.SerializeToString())
    return file.getvalue()


def _scalars(points: Points, steps: Numbers, times: Numbers) -> Iterable[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    tags = list(points)
    table = np.stack([points[tag] for tag in tags], axis=1)
    there = np.isfinite(table)
    for i, (step, time) in enumerate(zip(steps, times, strict=True)):
        values = [
            Summary.Value(tag=tags[j], simple_value=table[i, j]) for j in np.flatnonzero(there[i])
        ]
        if values:
            yield Event(wall_time=float(time), step=int(step), summary=Summary(value=values))
