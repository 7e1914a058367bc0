"""``deltagclip reproduce``: the paper's figures, and what came of repeating them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import UsageError

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.published import Figure


def reproduce(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Experiments of the spec.",
            show_default="all that repeat a figure",
            autocompletion=options.offer_experiments,
        ),
    ] = None,
    spec: options.Spec = options.SPEC,
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show the paper's figures beside what came out here.

    How to run each, and what was published. Runs nothing: what was not run is said to be so, with
    the command that does.
    """
    from deltagclip_cli.results.compare.published import as_data, overview, reproduction_tables
    from deltagclip_cli.results.read.run import Reading
    from deltagclip_cli.results.read.tree import Place
    from deltagclip_cli.terminal.compare_view import print_tables
    from deltagclip_cli.terminal.console import (
        make_console,
        print_json,
        print_problems,
        read_shown,
    )

    figures = _figures(spec, experiments or ())
    begun = [each.experiment for each in figures if any((runs / each.experiment).glob("*/*"))]
    reading = Reading([], [])
    if begun:
        reading = read_shown(Place(begun, runs), quiet=quiet)
    if as_json:
        print_json(as_data(figures, reading.runs))
    else:
        tables = [overview(figures, reading.runs), *reproduction_tables(figures, reading.runs)]
        print_tables(make_console(), tables)
    print_problems(reading.problems)


def _figures(spec: Path, experiments: Sequence[str]) -> list[Figure]:
    """Return those that some experiments repeat, or all experiments that repeat one."""
    from deltagclip_cli.results.compare.published import Figure
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.spec.trial import expand

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
