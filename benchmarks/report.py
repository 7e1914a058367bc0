"""A report beside a comparison of the same runs, both from the start of the command to its end.

    python benchmarks/report.py [--runs 200] [--epochs 100]

The report is the whole of it: page, tables, and figures as PDF.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from command import measured
from machine import describe_machine
from reading_runs import prepare
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), arguments.runs, arguments.epochs)
        runs = str(Path(folder) / "runs")
        measured("compare", "--runs", runs)  # compiles, and fills the disk's cache
        compared = sorted(measured("compare", "--runs", runs)[0] for _ in range(3))[1]
        reports = sorted(measured("report", "--runs", runs) for _ in range(3))
        size = (Path(runs) / "report/report.html").stat().st_size / 1e6
    seconds, memory = reports[1]
    table = Table("what", "ratio", title=f"{arguments.runs} runs of {arguments.epochs} epochs")
    table.add_row("report / compare", f"{seconds / compared:.2f}")
    table.add_row("(report - 2 s) / compare", f"{(seconds - 2) / compared:.2f}")
    console = Console()
    console.print(table)
    console.print(f"{memory:.0f} MB at most; {seconds:.2f} s, compare {compared:.2f} s")
    console.print(f"the page has {size:.1f} MB")
    console.print(describe_machine())


if __name__ == "__main__":
    main()
