"""Projects from measured epochs how long all experiments of the paper take on one GPU.

    python -m benchmarks.paper_time [--results DIR] [--device cuda] [--records FILE]

For each experiment of ``experiments.yaml`` that repeats the paper: its trials × their epochs × the
seconds of an epoch as ``paper_epochs`` has measured them; once one trial after the other, and once
as trials share a GPU, in stacks or as processes, for those networks of which that was measured.
What was not measured is unknown, and so is every sum that it belongs to.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import paper_epochs
from benchmarks.harness import results
from benchmarks.harness.figures import Figure
from benchmarks.paper_models import EXPERIMENTS, NAMES
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, expand, stacks_with

PAPER = "paper"  # the tag of its experiments
UNKNOWN = float("nan")
VARIANTS = ("", ", bf16")  # of those that ``paper_epochs`` measures


@dataclass(frozen=True)
class Shared:
    """How trials of one network share a GPU.

    Args:
        trials: at a time.
        seconds: of an epoch of all of them, in those of an epoch of one.
        stacked: whether they must belong to one experiment and may differ in numbers alone.
    """

    trials: int
    seconds: float
    stacked: bool


@dataclass(frozen=True)
class Measured:
    """What is known of the networks, by their names."""

    epochs: Mapping[str, float]  # seconds
    shared: Mapping[str, Shared]


@dataclass(frozen=True)
class Cost:
    """Hours of one experiment, NaN where they are unknown."""

    experiment: str
    network: str
    trials: int
    epochs: int  # of all of them
    alone: float
    shared: float

    @property
    def least(self) -> float:
        """The hours in the better way of those that are known."""
        known = [each for each in (self.alone, self.shared) if not math.isnan(each)]
        return min(known, default=UNKNOWN)


def cost(name: str, experiment: Experiment, measured: Measured, seeds: Sequence[int]) -> Cost:
    """Project one experiment; with its own seeds if there are none given."""
    trials = list(expand(name, experiment, seeds))
    network = networks()[trials[0].model.name]
    second = measured.epochs.get(network, UNKNOWN)
    epochs = sum(each.length for each in trials)
    sharing = measured.shared.get(network)
    rounds = UNKNOWN if sharing is None else shared_epochs(trials, sharing)
    alone, shared = (each * second / 3600 for each in (epochs, rounds))
    return Cost(name, network, len(trials), epochs, alone, shared)


@cache
def networks() -> dict[str, str]:
    """The names that figures have of networks, by those of the models."""
    return {experiments()[each].model.name: name for name, each in NAMES.items()}


def shared_epochs(trials: Iterable[Trial], sharing: Shared) -> float:
    """How long trials take together, in epochs of one alone."""
    together: Counter[object] = Counter()
    for trial in trials:
        placed = trial.model_copy(update={"stack": sharing.trials})
        together[(trial.length, stacks_with(placed) if sharing.stacked else None)] += 1
    return sum(
        math.ceil(count / sharing.trials) * sharing.seconds * length
        for (length, _), count in together.items()  # type: ignore[misc]
    )


@cache
def experiments() -> Mapping[str, Experiment]:
    """Those of the paper."""
    return load_spec(EXPERIMENTS, tags=[PAPER]).experiments


def costs(measured: Measured, seeds: Sequence[int] = ()) -> list[Cost]:
    """Project all experiments of the paper."""
    return [cost(name, each, measured, seeds) for name, each in experiments().items()]


def figures(measured: Measured, variant: str) -> list[Figure]:
    """The hours of each experiment, and of all of them, as far as they are known."""
    found = []
    for seeds, words in (((), "all seeds"), ((0,), "one seed")):
        rows = costs(measured, seeds)
        if not seeds:
            found += [(f"{row.experiment}{variant}", row.least) for row in rows]
        found += [
            (f"all of the paper{variant}, {words}, one after the other", total(rows, "alone")),
            (f"all of the paper{variant}, {words}", total(rows, "least")),
        ]
    return [Figure(name, hours, unit="h") for name, hours in found if not math.isnan(hours)]


def total(rows: Iterable[Cost], way: str) -> float:
    """The hours of several experiments; NaN if those of one are unknown."""
    return float(sum(getattr(row, way) for row in rows))


def read(folder: Path, device: str, variant: str) -> Measured:
    """What files of results say of the networks, as experiments have them or in a variant."""
    of_epochs = results.figures(results.read("paper_epochs", device, folder))
    seconds = {figure.name: figure.value for figure in of_epochs}
    gains = paper_epochs.VARIANTS[variant.strip(", ")][1]  # the others stay as they are written
    epochs = {
        name: seconds[key]
        for name in NAMES
        if (key := f"{name}{variant if name in gains else ''}: epoch") in seconds
    }
    return Measured(
        epochs, {**stacks(folder, device, variant, epochs), **processes(folder, device)}
    )


def stacks(
    folder: Path, device: str, variant: str, epochs: Mapping[str, float]
) -> dict[str, Shared]:
    """How trials stack, by the seconds of an epoch of a whole stack."""
    found = {}
    for figure in results.figures(results.read("paper_stacks", device, folder)):
        called, _, words = figure.name.partition(": ")
        name, _, precision = called.partition(", ")
        if precision == variant.strip(", ") and name in epochs:
            places = next(int(word) for word in words.split() if word.isdecimal())
            found[name] = Shared(places, figure.value / epochs[name], stacked=True)
    return found


def processes(folder: Path, device: str) -> dict[str, Shared]:
    """How trials share a GPU as processes, by the speed of all of them beside that of one."""
    found = {}
    for figure in results.figures(results.read("shared_gpu", device, folder)):
        trials, _, name = figure.name.partition(" trials with MPS, ")
        if name == "ResNet-18" and figure.against == "one alone":
            found[name] = Shared(int(trials), int(trials) / figure.value, stacked=False)
    return found


def shown(measured: Measured, variant: str) -> Table:
    """The projection as a table."""
    table = Table(title=f"One GPU, {variant.strip(', ') or 'as the experiments are written'}")
    for heading in ("experiment", "network", "trials", "epochs", "one by one", "shared"):
        table.add_column(heading, justify="left" if heading[0] in "en" else "right")
    rows = costs(measured)
    for row in rows:
        table.add_row(
            row.experiment, row.network, str(row.trials), f"{row.epochs:,}",
            hours(row.alone), hours(row.shared),
        )  # fmt: skip
    for seeds, words in (((), "all seeds"), ((0,), "one seed")):
        rows = costs(measured, seeds)
        table.add_row(
            f"all of the paper, {words}", "", str(sum(row.trials for row in rows)),
            f"{sum(row.epochs for row in rows):,}", hours(total(rows, "alone")),
            hours(total(rows, "least")),
        )  # fmt: skip
    return table


def hours(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f} h"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=results.STORED)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--records", type=Path, help="for the figures, a line of JSON each")
    options = parser.parse_args()
    console = Console(width=110)
    found: list[Figure] = []
    for variant in VARIANTS:
        measured = read(options.results, options.device, variant)
        console.print(shown(measured, variant))
        found += figures(measured, variant)
        for name, sharing in measured.shared.items():
            if sharing.stacked:
                words = f"{sharing.trials} seeds stacked, {name}{variant}"
                found.append(Figure.as_long(words, [sharing.seconds], "one"))
    if options.records is not None:
        lines = [json.dumps({"figure": asdict(figure)}) + "\n" for figure in found]
        options.records.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
