"""The pages of ``docs/reference``, which are made from the program."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from deltagclip_cli.spec.axes import DISTRIBUTIONS, WORDS
from deltagclip_cli.spec.component import Component, SpecSection

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None and spec.loader is not None
    sys.modules["reference"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_says_what_the_program_does_today(script: ModuleType) -> None:
    made = script.pages()
    assert {path.name for path in PAGES.glob("*.md")} == made.keys()
    for name, text in made.items():
        there = (PAGES / name).read_text(encoding="utf-8")
        assert there == text, f"{name} is stale: python scripts/reference.py writes it anew"


def classes_in(annotation: Any) -> Iterator[type[Any]]:
    """Yield the classes that an annotation names."""
    if inspect.isclass(annotation) and not get_args(annotation):
        yield annotation
    for each in get_args(annotation):
        yield from classes_in(each)


def test_the_reference_has_every_section_of_a_spec(script: ModuleType) -> None:
    sections = {each for each, _ in script.SECTIONS.values()}
    assert not {
        kind
        for owner in (script.Experiment, *sections)
        for field in owner.model_fields.values()
        for kind in classes_in(field.annotation)
        if issubclass(kind, (Component, SpecSection))
        and set(kind.model_fields) - {"name", "options"}
        and kind not in sections
        and kind is not script.Slurm.__mro__[1]  # the keys of a label, which are those above it
    }
    assert {words.partition(":")[0] for words in DISTRIBUTIONS} == set(WORDS)


def test_every_metric_that_was_ever_recorded_is_explained(script: ModuleType) -> None:
    recorded: set[str] = set()
    for file in (ROOT / "tests" / "stored").rglob("metrics.jsonl"):
        for line in file.read_bytes().splitlines():
            try:
                recorded |= json.loads(line).keys()
            except ValueError:  # of a run that is damaged on purpose
                continue
    names = {each.removeprefix("step/") for each in recorded if "/" in each}
    assert len(names) > 10
    of_tasks = {name for measured in script.METRICS.values() for name in measured}
    for split, _, name in (each.partition("/") for each in names):
        whole = f"{split}/{name}"
        assert whole in script.MEANINGS or (split in script.SPLITS and name in of_tasks | {"loss"})
