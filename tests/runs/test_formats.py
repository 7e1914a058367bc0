"""What a trial writes, told from whatever else lies there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import DIVERGED, result_text

from deltagclip_cli.runs.folder import read_result

Change = Callable[[dict[str, Any]], object]


def read(folder: Path, text: str) -> tuple[dict[str, Any] | None, str]:
    file = folder / "result.json"
    file.write_text(text)
    return read_result(file)


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_result_is_read_with_what_other_versions_add(tmp_path: Path, status: str) -> None:
    result = json.loads(result_text(status, last={"test/loss": 0.5, "x": None}, more=[1]))
    assert read(tmp_path, json.dumps(result)) == (result, "")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda result: result.pop("last"), "last: Field required"),
        (lambda result: result.pop("best"), "best: Field required"),
        (lambda result: result.pop("seconds"), "seconds: Field required"),
        (lambda result: result["seconds"].pop("epochs"), "seconds.epochs: Field required"),
        (lambda result: result["seconds"].update(epochs="long"), "seconds.epochs: Input"),
        (lambda result: result["seconds"].update(epochs=-1.0), "seconds.epochs: Input"),
        (lambda result: result.update(seconds=None), "seconds: Input"),
        (lambda result: result.update(last=None), "last: Input"),
        (lambda result: result["last"].update({"test/loss": "0.5"}), "last.test/loss: Input"),
        (lambda result: result["best"].update({"test/loss": 0.5}), "best.test/loss: Input"),
        (lambda result: result.update(epochs="2"), "epochs: Input"),
        (lambda result: result.update(epochs=True), "epochs: Input"),
        (lambda result: result.update(steps=10**400), "steps: "),
        (lambda result: result.update(status="running"), "status: Input"),
        (lambda result: result.update(diverged={**DIVERGED, "step": None}), "diverged.step: Input"),
        (lambda result: result.update(regimes=[1, 2, 3]), "regimes: Input"),
    ],
)
def test_a_result_of_another_shape_is_none_and_its_fault_has_a_place(
    tmp_path: Path, change: Change, fault: str
) -> None:
    result = json.loads(result_text(last={"test/loss": 0.5}))
    change(result)
    found, problem = read(tmp_path, json.dumps(result))
    assert found is None
    assert problem.startswith(f"result.json is damaged: {fault}")
    assert "\n" not in problem


@pytest.mark.parametrize("number", ["1e400", "-1e999", "Infinity", "NaN", "9" * 5000])
def test_numbers_that_are_none_are_damage(tmp_path: Path, number: str) -> None:
    text = result_text(last={"test/loss": 0.5}).replace("0.5", number)
    found, problem = read(tmp_path, text)
    assert found is None
    assert problem.startswith("result.json is damaged: ")


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a":' * 100_000, "\0\0", "\ufeff{}", "3"])
def test_what_is_no_object_is_damage(tmp_path: Path, text: str) -> None:
    found, problem = read(tmp_path, text)
    assert found is None
    assert problem.startswith("result.json is damaged: ")
