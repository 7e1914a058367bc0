"""Scalars of event files that others have written, beside TensorBoard's own reader.

Every folder of ``../shared/reference/vit-tiny`` that holds event files is a run, and where that is
not there, some that are written here by TensorBoard's writer. EventAccumulator is told to keep all
points, and they are taken out of it. The files are in memory each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.tensorboard import SummaryWriter

from benchmarks.harness import Figure, Session
from deltagclip_cli.results.read.events import read_events

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "vit-tiny"
RIVAL = "EventAccumulator"


def measure(session: Session) -> Iterator[Figure]:
    runs = sorted({file.parent for file in REFERENCE.rglob("*tfevents*") if file.is_file()})
    runs = runs or list(written(session.folder))
    if session.quick:
        runs = runs[:3]
    assert read(runs) == accumulate(runs)
    readers = {"ours": partial(read, runs), RIVAL: partial(accumulate, runs)}
    times = session.turns(readers, 3 if session.quick else 7)
    yield times.as_fast("reading event files of others", "ours", RIVAL)


def written(folder: Path, runs: int = 10, steps: int = 1_000) -> Iterator[Path]:
    """Runs of a few scalars each."""
    for number in range(runs):
        run = folder / f"run-{number}"
        with SummaryWriter(run) as writer:
            for step in range(steps):
                for name in ("loss", "accuracy", "rate"):
                    writer.add_scalar(name, step / steps, step)
        yield run


def read(runs: list[Path]) -> int:
    """Read all points; returns their number."""
    return sum(len(scalars.steps) for run in runs for scalars in read_events(run).scalars.values())


def accumulate(runs: list[Path]) -> int:
    """Take all points out of TensorBoard's reader; returns their number."""
    return sum(map(_accumulate, runs))


def _accumulate(run: Path) -> int:
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    count = 0
    for tag in reader.Tags()["scalars"]:
        count += len([(e.step, e.wall_time, e.value) for e in reader.Scalars(tag)])
    for tag in reader.Tags()["tensors"]:
        if reader.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            points = reader.Tensors(tag)
            count += len([(e.step, e.wall_time, make_ndarray(e.tensor_proto)) for e in points])
    return count
