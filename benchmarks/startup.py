"""The start of ``deltagclip --help`` against an empty Typer + rich program.

    python benchmarks/startup.py [--rounds 15]

Each is started as a process of its own, in turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from machine import describe_machine
from rich.console import Console
from rich.table import Table

EMPTY = """
import typer, rich.console
app = typer.Typer(help="Nothing.")
@app.command()
def one(): "One."
@app.command()
def two(): "Two."
app()
"""
PROGRAMS = {
    "empty": [sys.executable, "-c", EMPTY, "--help"],
    "deltagclip": [sys.executable, "-m", "deltagclip_cli", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, command in PROGRAMS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - started)
    ratio = statistics.median(times["deltagclip"]) / statistics.median(times["empty"])
    console = Console()
    console.print(describe_machine())
    table = Table("program", "deltagclip --help / empty Typer + rich program")
    table.add_row("--help", f"{ratio:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
