"""Reading the scalars of TensorBoard runs, against TensorBoard's own reader.

    python benchmarks/event_files.py [FOLDER] [--rounds 7]

Every folder below FOLDER that holds event files is a run. ``EventAccumulator`` is told to keep all
points, and they are taken out of it. Each round reads all runs in each way, one way after the
other, and gives a ratio of the times; the table has the median of the rounds and their extremes.
The files are in memory each time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from machine import describe_machine
from rich.console import Console
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from deltagclip_cli.results.read.events import Events, read_events

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "vit-tiny"
BASELINE = "EventAccumulator"


def accumulate(run: Path) -> int:
    """Take all scalars out of TensorBoard's reader; returns their number."""
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    count = 0
    for tag in reader.Tags()["scalars"]:
        count += len([(e.step, e.wall_time, e.value) for e in reader.Scalars(tag)])
    for tag in reader.Tags()["tensors"]:
        if reader.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            points = reader.Tensors(tag)
            count += len([(e.step, e.wall_time, make_ndarray(e.tensor_proto)) for e in points])
    return count


def count(events: Events) -> int:
    """The number of points."""
    return sum(len(scalars.steps) for scalars in events.scalars.values())


def seconds(read: Callable[[Path], int], runs: list[Path]) -> tuple[float, int]:
    """The time to read all runs, and the number of points in them."""
    begin = time.perf_counter()
    points = sum(map(read, runs))
    return time.perf_counter() - begin, points


def one_round(runs: list[Path]) -> dict[str, tuple[float, int]]:
    """The times and points of all ways to read."""
    return {
        BASELINE: seconds(accumulate, runs),
        "read_events": seconds(lambda run: count(read_events(run)), runs),
    }


def table(rounds: list[Mapping[str, tuple[float, int]]], runs: int) -> Table:
    """A line for each way: how often it is as fast as the first, and milliseconds a run."""
    found = Table("reader", "times as fast", "least", "most", "ms a run", "points")
    for way, (_, points) in rounds[-1].items():
        ratios = [each[BASELINE][0] / each[way][0] for each in rounds]
        milliseconds = 1000 * statistics.median(each[way][0] for each in rounds) / runs
        figures = (
            f"{value:.1f}" for value in (statistics.median(ratios), min(ratios), max(ratios))
        )
        found.add_row(way, *figures, f"{milliseconds:.3f}", str(points))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=REFERENCE)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    runs = sorted({path.parent for path in arguments.folder.rglob("*tfevents*") if path.is_file()})
    if not runs:
        parser.error(f"{arguments.folder} holds no event files; name a folder that does")
    one_round(runs[:1])  # imports
    rounds = [one_round(runs) for _ in range(arguments.rounds)]
    console = Console()
    console.print(describe_machine())
    console.print(f"{len(runs)} runs, {arguments.rounds} rounds")
    console.print(table(rounds, len(runs)))


if __name__ == "__main__":
    main()
