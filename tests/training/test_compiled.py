"""Compiled steps: what they agree with, what they cannot take, and that each is compiled once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from training_cases import (
    MOMENTUM,
    StopAt,
    assert_same_numbers,
    epochs,
    numbers,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.runs.environment import circumstances, program_of
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import compiled
from deltagclip_cli.training.program import LEAST_STEPS, PAYS_ON_CPU, chosen_program

SCHEDULED: dict[str, Any] = {"schedule": {"name": "cosine", "unit": "step"}, "log_every": 1}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of compiled code for all tests: each program is compiled once."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def compiles(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    yield
    torch.compiler.reset()


def run(trial: Trial, runs: Path, **options: Any) -> RunFolder:
    train(trial, runs, **options)
    return RunFolder.of(runs, trial)


def program(folder: RunFolder) -> str:
    return str(json.loads(folder.environment_file.read_text())[-1]["program"])


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)], ids=["fp32", "bf16"]
)
@pytest.mark.usefixtures("compiles")
def test_compiled_steps_agree_with_plain_ones(
    precision: str, tolerance: float, tmp_path: Path
) -> None:
    """The first 20 losses, and the accuracy of three seeds."""
    accuracy: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    for word in ("off", "on"):
        for seed in range(3):
            data = {"test": 200, "noise": 0.5}
            settings = {**SCHEDULED, "epochs": 5, "precision": precision, "data": data}
            folder = run(trial_of(MOMENTUM, seed=seed, compile=word, **settings), tmp_path)
            accuracy.setdefault(word, []).append(epochs(folder, "test/accuracy")[-1])
            losses.setdefault(word, []).extend(epochs(folder, "step/train/loss")[:20])
    assert program(folder) == "compiled"
    assert losses["on"] == pytest.approx(losses["off"], rel=tolerance)
    assert losses["on"] != losses["off"] or precision == "fp32"
    assert sum(accuracy["on"]) / 3 == pytest.approx(sum(accuracy["off"]) / 3, abs=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
def test_nothing_is_compiled_after_the_first_step(tmp_path: Path) -> None:
    """Not for a smaller last batch, an evaluation, a schedule, or in the middle of an epoch."""
    trial = trial_of(MOMENTUM, compile="on", data={"augment": ["flip"]}, **SCHEDULED)
    whole = run(trial, tmp_path / "whole")
    settled = graphs()
    counters.clear()
    pieces = run(trial, tmp_path / "pieces", stop=StopAt(6))
    assert graphs() == 1, "in one process, which begins"
    assert counters["aot_autograd"]["autograd_cache_hit"] == 1, "what the first trial has compiled"
    pieces = run(trial, tmp_path / "pieces", stop=StopAt(3))
    pieces = run(trial, tmp_path / "pieces")
    assert graphs() == 3, "one for each start"
    assert settled >= 1
    assert_same_numbers(pieces, whole)


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
def test_exact_runs_have_the_same_bits_twice_and_in_pieces_with_everything_on(
    tmp_path: Path,
) -> None:
    optimizer = {**MOMENTUM, "clip_grad_norm": 0.5}
    averaged = {"ema": 0.9, "accumulate": 2, "precision": "bf16", "determinism": "exact"}
    trial = trial_of(optimizer, compile="on", data={"augment": ["flip"]}, **SCHEDULED, **averaged)
    whole, again = (run(trial, tmp_path / name) for name in ("whole", "again"))
    assert program(whole) == "compiled"
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert train_in_pieces(trial, tmp_path / "pieces", 2) > 1
    assert_same_numbers(again, whole)
    assert_same_numbers(RunFolder.of(tmp_path / "pieces", trial), whole)


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
def test_a_part_that_cannot_be_compiled_is_named_once(tmp_path: Path, caplog: Any) -> None:
    settings = {"model": {"name": "own_networks.py:Branching"}, "epochs": 2}
    plain, folder = (run(trial_of(compile=word, **settings), tmp_path) for word in ("off", "on"))
    (said,) = (each for each in caplog.messages if "compile" in each)
    assert "own_networks.py:17: in forward: if hidden.sum().item() > 0:" in said
    assert said.endswith("That part runs uncompiled.")
    assert program(folder) == "compiled"
    assert epochs(folder, "test/loss") == pytest.approx(epochs(plain, "test/loss"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("compiles")
def test_a_model_that_changes_itself_is_left_as_it_was(tmp_path: Path, caplog: Any) -> None:
    settings = {"model": {"name": "own_networks.py:Counting"}, "epochs": 1}
    plain, folder = (run(trial_of(compile=word, **settings), tmp_path) for word in ("off", "on"))
    assert "Trains uncompiled: the model changes itself whenever it is applied." in caplog.messages
    assert program(folder) == "eager"
    assert numbers(folder) == numbers(plain)


def test_without_a_compiler_a_trial_says_so_once_and_goes_on(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import cpp_builder, exc

    def missing() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    plain = run(trial_of(epochs=1), tmp_path)
    trial = trial_of(epochs=1, compile="on")
    folder = run(trial, tmp_path, stop=StopAt(2))
    assert [each for each in caplog.messages if "uncompiled" in each] == [
        "Trains uncompiled: there is no C++ compiler, such as g++, or $CXX names none."
    ]
    assert program(folder) == "eager"
    run(trial, tmp_path)
    assert len([each for each in caplog.messages if "uncompiled" in each]) == 1
    assert numbers(folder) == numbers(plain)


def test_what_a_compiler_fails_at_is_said_and_runs_uncompiled(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: compiled.Compiled, *batch: object, whole: bool) -> None:
        raise RuntimeError("a kernel\n that nobody knows")

    monkeypatch.setattr(compiled.Compiled, "_settled", failing)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    plain, folder = (run(trial_of(epochs=1, compile=word), tmp_path) for word in ("off", "on"))
    assert "Trains uncompiled: RuntimeError: a kernel that nobody knows" in caplog.messages
    assert program(folder) == "eager"
    assert numbers(folder) == numbers(plain)


def test_code_is_compiled_although_its_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with compiled._alone():
        assert "TORCHINDUCTOR_CACHE_DIR" not in compiled.os.environ, "torch takes one of its own"


@pytest.mark.parametrize(
    ("settings", "device", "parameters", "chosen"),
    [
        ({}, "cpu", 100, "Eager"),
        ({"compile": "on"}, "cpu", 100, "Compiled"),
        ({"model": {"name": "kan"}}, "cpu", 100, "Eager"),
        ({"model": {"name": "kan"}, "epochs": PAYS_ON_CPU["kan"]}, "cpu", 100, "Compiled"),
        ({"model": {"name": "kan"}, "epochs": 9999, "compile": "off"}, "cpu", 100, "Eager"),
        ({}, "cuda", 100, "Eager"),
        ({"epochs": LEAST_STEPS}, "cuda", 100, "Captured"),
        ({"epochs": LEAST_STEPS}, "cuda", 10**9, "Compiled"),
        ({"epochs": LEAST_STEPS, "compile": "off"}, "cuda", 100, "Eager"),
        ({"compile": "on"}, "cuda", 100, "Captured"),
        ({"compile": "on"}, "cuda", 10**9, "Compiled"),
    ],
)
def test_the_program_follows_from_the_trial_and_the_device(
    settings: dict[str, Any], device: str, parameters: int, chosen: str
) -> None:
    weights = torch.empty(parameters, device="meta")
    model = SimpleNamespace(parameters=lambda: [weights])
    parts: Any = SimpleNamespace(steps=range(4), device=torch.device(device), model=model)
    trial = trial_of(**settings)
    assert chosen_program(trial, parts, None).__name__ == chosen  # type: ignore[attr-defined]
    assert chosen_program(trial, parts, "eager").__name__ == "Eager"  # type: ignore[attr-defined]


def test_a_trial_keeps_the_program_that_it_was_begun_with() -> None:
    assert program_of([]) is None
    assert program_of([{"threads": 1}]) == "eager", "before anything was compiled"
    assert program_of([{"program": "eager"}, {"program": "captured"}]) == "captured"
    assert program_of([{"program": 3}]) is None
    assert circumstances({"device": "cpu", "program": "compiled"})["program"] == "compiled"


def test_code_of_ones_own_is_compiled_not_captured() -> None:
    parts: Any = SimpleNamespace(
        steps=range(4), device=torch.device("cuda"), model=torch.nn.Linear(2, 2)
    )
    trial = trial_of(model={"name": "own_networks.py:Counting"}, compile="on")
    assert trial.code is not None
    assert chosen_program(trial, parts, None).__name__ == "Compiled"  # type: ignore[attr-defined]


def test_second_derivatives_are_not_compiled(tmp_path: Path, caplog: Any) -> None:
    made = SimpleNamespace(
        parts=SimpleNamespace(train=None, device=torch.device("cpu")),
        stepper=SimpleNamespace(create_graph=True),
        trial=SimpleNamespace(optimizer=SimpleNamespace(name="adahessian")),
    )
    compiled.Compiled._prepare(made)  # type: ignore[arg-type]
    assert made.name == "eager"
    assert "have no second derivatives, which optimizer 'adahessian' takes." in caplog.text
