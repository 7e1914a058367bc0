"""The start of ``deltagclip --help`` beside an empty program of Typer and rich."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip

EMPTY = """
import typer, rich.console
app = typer.Typer(help="Nothing.")
@app.command()
def one(): "One."
@app.command()
def two(): "Two."
app()
"""
AGAINST = "an empty program of Typer and rich"


def measure(session: Session) -> Iterator[Figure]:
    programs = {
        AGAINST: command([sys.executable, "-c", EMPTY, "--help"]),
        "ours": command(deltagclip("--help")),
    }
    times = session.turns(programs, 3 if session.quick else 15)
    yield times.as_long("deltagclip --help", "ours", AGAINST)
