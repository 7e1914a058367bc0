"""The records for TensorBoard: one run, its hyper-parameters included."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams

from deltagclip_cli.training.sinks import STEP_PREFIX, Beginning, Record, Sink

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFile, HeldFolder


class TensorBoardEvents(Sink):
    """Writes a file of events, with the epoch as axis, or the step for records between epochs.

    Where the training is told of in steps, it is the step for all.

    At each start the file is made anew from the records that stay, so that readers which know
    nothing of restarts find every step once. It is not torch's ``SummaryWriter``, whose thread
    meets a full disk where nobody can catch it.
    """

    def __init__(self, held: HeldFolder) -> None:
        self._held = held
        self._file: HeldFile | None = None

    def begin(self, beginning: Beginning) -> None:
        folder, self._axis = self._held.folder, beginning.course.clock
        self._held.remove(*folder.event_files())
        # An open TensorBoard goes on to a file whose name is new and sorts behind the others.
        now = f"{time.time():.6f}"
        name = f"events.out.tfevents.{now}.{socket.gethostname()}.{os.getpid()}"
        self._file = self._held.append(folder.path / name)
        self._write([Event(wall_time=time.time(), file_version="brain.Event:2")])
        # SummaryWriter.add_hparams would make a second run, named by the time; these are its
        # records in the run itself. The first, which describes the experiment, is left out:
        # TensorBoard takes one run's for all, and would not show what other optimizers have.
        _, *summaries = hparams(beginning.hyper_parameters, {})  # type: ignore[no-untyped-call]
        self._write(Event(wall_time=time.time(), summary=each) for each in summaries)
        self._write(event for record in beginning.records for event in self._events(record))

    def step(self, record: Record) -> None:
        self._write(self._events(record))

    epoch = step

    def end(self, result: Mapping[str, Any] | None) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, events: Iterable[Event]) -> None:
        assert self._file is not None, "begin() comes first"
        framed = BytesIO()
        writer = RecordWriter(framed)
        for event in events:
            writer.write(event.SerializeToString())
        self._file.write(framed.getvalue())

    def _events(self, record: Record) -> Iterable[Event]:
        for name, value in record.items():
            if "/" in name and value is not None:
                axis = "step" if name.startswith(STEP_PREFIX) else self._axis
                summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                yield Event(wall_time=record["time"], step=record[axis], summary=summary)
