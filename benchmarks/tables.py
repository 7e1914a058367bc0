"""A table read as data, beside pandas and pyarrow on the same file.

The file has columns of real numbers. Pandas and pyarrow make a table of their own of it, and *to
tensors* makes of that of pandas what the data set ``csv`` makes: tensors, divided and standardised.
``csv`` does so from the file and from what it keeps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas
import pyarrow
import torch
from pyarrow import csv as arrow_csv

from benchmarks.harness import Figure, Session
from deltagclip_cli.parts.datasets.tabular import csv

NAME = "table.csv"


def measure(session: Session) -> Iterator[Figure]:
    rows, columns = (100_000 if session.quick else 1_000_000), 10
    write_table(session.folder, rows, columns)
    times = session.turns(readers(session.folder), 2 if session.quick else 5)
    for ours in ("csv, read", "csv, kept"):
        for rival in ("pyarrow", "pandas", "pandas, to tensors"):
            yield times.as_long(f"{ours}, {rows:,} rows of {columns}", ours, rival)


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
