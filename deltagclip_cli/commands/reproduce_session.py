"""What was published beside what lies in a runs folder, on the terminal or for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.published import Figure, as_data, overview, reproduction_tables
from deltagclip_cli.results.read.run import Reading
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand
from deltagclip_cli.terminal.compare_view import print_tables
from deltagclip_cli.terminal.console import make_console, print_problems, shown_reading
from deltagclip_cli.terminal.streams import print_json


def show_reproduction(
    spec: Path, experiments: Sequence[str], runs: Path, *, as_json: bool, quiet: bool
) -> None:
    """Show each figure with its command, what was published of it, and ours.

    Args:
        spec: the file of experiments.
        experiments: names of some; all that repeat a figure if empty.
        runs: the runs folder; it need not exist.
        as_json: print JSON instead of tables.
        quiet: show no progress.

    Raises:
        UsageError: an experiment repeats no figure.
    """
    figures = _figures(spec, experiments)
    reading = _read(figures, runs, quiet=quiet)
    if as_json:
        print_json(as_data(figures, reading.runs))
    else:
        tables = [overview(figures, reading.runs), *reproduction_tables(figures, reading.runs)]
        print_tables(make_console(), tables)
    print_problems(reading.problems)


def _figures(spec: Path, experiments: Sequence[str]) -> list[Figure]:
    read = load_spec(spec, experiments).experiments
    for name in experiments:
        if not read[name].figure:
            raise UsageError(
                f"{name}: this experiment says no 'figure:' that it repeats.\n"
                "  deltagclip list shows which ones do."
            )
    having = {name: each for name, each in read.items() if each.figure}
    if not having:
        raise UsageError(f"no experiment in {spec} repeats a figure: none says 'figure:'.")
    return [
        Figure(name, each.figure, sum(1 for _ in expand(name, each)))
        for name, each in having.items()
    ]


def _read(figures: Sequence[Figure], runs: Path, *, quiet: bool) -> Reading:
    """The runs of the experiments that have some."""
    begun = [each.experiment for each in figures if any((runs / each.experiment).glob("*/*"))]
    return Place(begun, runs).read(shown_reading(quiet=quiet)) if begun else Reading([], [])
