"""Reading a table as data, beside pandas and pyarrow on the same file.

    python benchmarks/tables.py [--rows 1000000] [--columns 10] [--repeats 5]

The file has so many rows of real numbers. Pandas and pyarrow make a table of their own of it, and
the line below makes of that of pandas what the data set ``csv`` makes: tensors, divided and
standardised. ``csv`` does so from the file and from what it keeps. The repeats go round; the least
time of each counts.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pyarrow
import torch
from machine import describe_machine
from pyarrow import csv as arrow_csv
from rich.console import Console
from rich.table import Table

from deltagclip_cli.parts.datasets.tabular import csv

NAME = "table.csv"


def write_table(folder: Path, rows: int, columns: int) -> None:
    """A file of random numbers in six digits, named a, b, … and y."""
    draw = np.random.default_rng(0)
    names = [f"x{number}" for number in range(columns - 1)]
    values = [pyarrow.array(draw.normal(size=rows).round(6)) for _ in range(columns)]
    arrow_csv.write_csv(pyarrow.table(dict(zip([*names, "y"], values, strict=True))), folder / NAME)


def readers(folder: Path) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""

    def read() -> object:
        shutil.rmtree(folder / ".tables", ignore_errors=True)
        return kept()

    def kept() -> object:
        return csv(folder, None, path=NAME, target="y")

    others: dict[str, Callable[[], object]] = {
        "pyarrow": lambda: arrow_csv.read_csv(str(folder / NAME))
    }
    others["pandas"] = lambda: pandas.read_csv(folder / NAME)
    others["pandas, to tensors"] = lambda: as_tensors(pandas.read_csv(folder / NAME))
    return {**others, "csv, read": read, "csv, kept": kept}


def as_tensors(table: pandas.DataFrame) -> list[torch.Tensor]:
    """A fifth of the rows, and the others, standardised by these."""
    order = np.random.default_rng(0).permutation(len(table))
    values = table.to_numpy()
    test, train = np.split(values[order], [len(table) // 5])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return [torch.from_numpy((each - mean) / deviation) for each in (train, test)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder, asked.rows, asked.columns)
        size = (folder / NAME).stat().st_size
        measured = readers(folder)
        seconds = {each: float("inf") for each in measured}
        for _ in range(asked.repeats):
            for each, function in measured.items():
                started = time.perf_counter()
                function()
                seconds[each] = min(seconds[each], time.perf_counter() - started)
    table = Table(title=f"{asked.rows:,} rows of {asked.columns} columns, {size / 1e6:.0f} MB")
    for heading in ("reader", "seconds", "/ pyarrow", "/ pandas"):
        table.add_column(heading, justify="left" if heading == "reader" else "right")
    for each, value in seconds.items():
        ratios = (f"{value / seconds[other]:.2f}" for other in ("pyarrow", "pandas"))
        table.add_row(each, f"{value:.2f}", *ratios)
    console = Console()
    console.print(describe_machine())
    console.print(table)


if __name__ == "__main__":
    main()
