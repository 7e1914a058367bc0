"""Event files as TensorBoard's own writers make them, and what was read from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from deltagclip_cli.results.read.log import Log

NAME = "events.out.tfevents.1700000000.host.1.0"
LATER = "events.out.tfevents.1700009999.host.1.0"


def version(number: int = 2, wall_time: float = 1.0) -> Event:
    """The first record of a file."""
    return Event(wall_time=wall_time, file_version=f"brain.Event:{number}")


def start(step: int) -> Event:
    """What a writer with a ``purge_step`` puts first."""
    return Event(step=step, wall_time=1.0, session_log=SessionLog(status=SessionLog.START))


def scalar(tag: str, step: int, value: float = 0.0, wall_time: float = 0.0) -> Event:
    """A scalar of the old form."""
    values = [Summary.Value(tag=tag, simple_value=value)]
    return Event(step=step, wall_time=wall_time, summary=Summary(value=values))


def tensor(tag: str, step: int, value: float, *, described: bool = True) -> Event:
    """A scalar of the new form; only the first of a file is described as one."""
    summary = scalar_pb(tag, value)
    if not described:
        summary.value[0].ClearField("metadata")
    return Event(step=step, wall_time=float(step), summary=summary)


def session(options: Mapping[str, bool | float | str]) -> Event:
    """What ``SummaryWriter.add_hparams`` writes of hyperparameters."""
    start_info = SessionStartInfo()
    for name, option in options.items():
        kind = {bool: "bool_value", str: "string_value"}.get(type(option), "number_value")
        setattr(start_info.hparams[name], kind, option)
    data = HParamsPluginData(session_start_info=start_info).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    metadata = SummaryMetadata(plugin_data=plugin)
    value = Summary.Value(tag="_hparams_/session_start_info", metadata=metadata)
    return Event(summary=Summary(value=[value]), wall_time=1.0)


def write(path: Path, *events: Event | bytes) -> Path:
    """Append events, or records as they are, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        records = RecordWriter(file)
        for event in events:
            records.write(event if isinstance(event, bytes) else event.SerializeToString())
    return path


def points(events: Log, tag: str = "loss") -> list[tuple[float, float]]:
    """Steps and values of a tag."""
    found = events.scalars[tag]
    return list(zip(found.steps.tolist(), found.values.tolist(), strict=True))


def steps(events: Log, tag: str = "loss") -> list[float]:
    """Steps of a tag; none if it is not there."""
    return events.scalars[tag].steps.tolist() if tag in events.scalars else []


def run_of(tag: str, numbers: Iterable[int], value: float = 0.0, begin: float = 0.0) -> list[Event]:
    """A scalar of the old form at each of these steps, a second for each step after the begin."""
    return [scalar(tag, step, value, wall_time=begin + step) for step in numbers]
