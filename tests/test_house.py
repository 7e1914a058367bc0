"""Limits for the figures of ``scripts/house.py``: how the package is built gets no worse."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deltagclip_cli.commands.app import COMMANDS

ROOT = Path(__file__).parents[1]

# By the labels of the table; to be lowered whenever the package has become better.
LIMITS = {
    "loose modules": 0,
    # each file of conformance tests needs the test and its subject; what makes a step (a program, a
    # stack, exact kernels) needs most of what a training consists of; each section of a spec has a
    # file, which the spec needs; a search or a protocol, here or in jobs, needs the plan, the run
    # folders, the launcher, the queue and what is printed; a page needs all that it shows
    "imports per file": 3.23,
    "module lines, largest": 500,
    "docstrings that begin with What, How, ...": 0,
    "function lines, median": 7,
    "function lines, 95 %": 27,  # steps that are taken once stand where they are taken
    # with the rehearsal, checkpoints, how a step is made, its kernels, sections of the spec, ranks,
    # words of metrics, messages, and what a notebook does as well
    "train: files": 64,
    "train: frames": 18,  # what the command and a notebook have in common is one of them
}
EXECUTED = [label for label in LIMITS if ": " in label]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "scripts" / "house.py")
    assert spec is not None and spec.loader is not None
    sys.modules["house"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def house(script: ModuleType) -> Any:
    return script.House(ROOT)


@pytest.fixture(scope="module")
def source(house: Any) -> dict[str, float]:
    return house.source()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def executed(house: Any) -> dict[str, float]:
    (trace,) = house.traces(["train"]).values()
    return {f"train: {label}": figure for label, figure in trace.figures.items()}


@pytest.mark.parametrize("label", [label for label in LIMITS if label not in EXECUTED])
def test_the_source_keeps_its_limits(label: str, source: dict[str, float]) -> None:
    assert 0 <= source[label] <= LIMITS[label]


@pytest.mark.slow
@pytest.mark.parametrize("label", EXECUTED)
def test_what_a_command_executes_keeps_its_limits(label: str, executed: dict[str, float]) -> None:
    assert 0 < executed[label] <= LIMITS[label]


def repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def test_no_public_class_has_the_name_of_another(house: Any) -> None:
    classes = [
        node.name
        for module in house.modules.values()
        for node in module.nodes
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert len(classes) > 100
    assert repeated(classes) == set()


def test_no_module_has_the_name_of_another(house: Any) -> None:
    """But for a command, which is called what the room or the file that it calls is called."""
    names = [name.split(".")[1:] for name in house.modules]
    found = [parts[-1] for parts in names if parts and parts[0] != "commands"]
    commands = [parts[-1] for parts in names if len(parts) > 1 and parts[0] == "commands"]
    assert len(found) > 100
    assert repeated(found) == set()
    assert repeated(commands) == set()
    assert set(commands) & set(found) <= set(COMMANDS)
