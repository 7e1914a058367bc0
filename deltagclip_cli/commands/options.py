"""Options that several commands share, each described once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

Spec = Annotated[Path, typer.Option("--spec", metavar="FILE", help="The file of experiments.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting of the experiment, such as optimizers.adam.lr=1e-4. Repeatable.",
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Only experiments with this tag. Repeatable, for those that have all of them.",
    ),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders go.")]
Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", envvar="DELTAGCLIP_DATA", help="Where data sets lie."),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N", help="Where to train.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        metavar="N",
        help="Of the CPU, for each trial; one that was begun keeps its own.",
        show_default="1",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

SPEC = Path("experiments.yaml")
RUNS = Path("runs")
DATA = Path("~/.cache/deltagclip/data")


def said(
    spec: Path = SPEC, runs: Path = RUNS, data: Path = DATA, sets: Sequence[str] = ()
) -> list[str]:
    """What another command must be told to mean the same experiments, runs and data."""
    words: list[str] = []
    for option, path, default in (
        ("--spec", spec, SPEC),
        ("--runs", runs, RUNS),
        ("--data", data, DATA),
    ):
        words += [option, str(path)] if path != default else []
    return [*words, *(word for each in sets for word in ("--set", each))]
