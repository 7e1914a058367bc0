"""Limits for the figures of ``benchmarks/house.py``: how the package is built gets no worse."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

# By the labels of the table; to be lowered whenever the package has become better.
LIMITS = {
    "loose modules": 0,
    "imports per file": 3.8,
    "module names of several files": 14,
    "module lines, largest": 500,
    "function lines, median": 7,
    "function lines, 95 %": 26,
    "public class names of several classes": 13,
    "train: files": 75,
    "train: frames": 23,
}
EXECUTED = [label for label in LIMITS if ": " in label]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    assert spec is not None and spec.loader is not None
    sys.modules["house"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(script: ModuleType) -> dict[str, float]:
    return script.House(ROOT).source()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def executed(script: ModuleType) -> dict[str, float]:
    (trace,) = script.House(ROOT).traces(["train"]).values()
    return {f"train: {label}": figure for label, figure in trace.figures.items()}


@pytest.mark.parametrize("label", [label for label in LIMITS if label not in EXECUTED])
def test_the_source_keeps_its_limits(label: str, source: dict[str, float]) -> None:
    assert 0 <= source[label] <= LIMITS[label]


@pytest.mark.slow
@pytest.mark.parametrize("label", EXECUTED)
def test_what_a_command_executes_keeps_its_limits(label: str, executed: dict[str, float]) -> None:
    assert 0 < executed[label] <= LIMITS[label]
