"""Logs without times: what takes seconds is a dash, and the rest is as of any others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    """Two folders of CSV files, of which a script wrote each long ago."""
    folders = [tmp_path / "digits", tmp_path / "words"]
    for folder in folders:
        folder.mkdir()
        for name, best in (("adam", 0.9), ("sgd", 0.8)):
            for seed in range(3):
                rows = [f"{n},{best - (1 + seed / 10) / (n + 2)}" for n in range(1, 9)]
                path = folder / f"{name}_seed{seed}.csv"
                path.write_text("\n".join(["step,val_acc", *rows, ""]))
                os.utime(path, (1.7e9, 1.7e9))
    return [*map(str, folders)]


def run(*words: str) -> str:
    done = CliRunner().invoke(app, [*words], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


TARGET = ("--target", "val/accuracy=0.7", "--baseline", "sgd")


def rows_of(text: str, title: str) -> list[list[str]]:
    lines = text.partition(title)[2].splitlines()[3:]
    return [line.lstrip("•≈ ").split() for line in lines[: lines.index("")]]


def test_costs_are_told_in_steps(logs: list[str]) -> None:
    text = run("compare", *logs, *TARGET)
    adam, sgd, *_ = rows_of(text, "digits: cost of val/accuracy ≥ 0.7")
    assert adam == ["adam", "3", "of", "3", "4", "–", "–"]
    assert sgd == ["sgd", "1", "of", "3", "∞", "–", "–"]
    scores = rows_of(text, "2 experiments together")[0]
    assert scores[:5] == ["adam", "1.00", "1.000", "1.000", "–"]


def test_for_programs_there_are_none(logs: list[str]) -> None:
    found: Any = json.loads(run("compare", *logs, *TARGET, "--json"))
    (first, *_) = found["experiments"]
    assert first["settings"][0]["epoch_seconds"] is None


@pytest.mark.slow
def test_a_report_draws_them_over_steps(logs: list[str], tmp_path: Path) -> None:
    page = tmp_path / "report" / "report.html"
    run("report", *logs, *TARGET, "--output", str(page.parent))
    assert "val/accuracy" in page.read_text()
    assert "numbers of 12 runs" in run("verify", str(page.parent))
