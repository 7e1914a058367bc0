"""Steps that are captured in a graph: what a replay repeats, and what it cannot know.

A CPU has no CUDA graphs. There the graph is a record of operations, which repeats them on the same
memory, and no Python; recording leaves everything as it was, as capturing does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_graph import Graph, capture_on_the_cpu
from torch import Tensor
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    never,
    numbers,
    trial_of,
)

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import captured, compiled, program
from deltagclip_cli.training.captured import MOST_GRAPHS, Captured
from deltagclip_cli.training.worker import run_trial

OURS = {**DELTA_GCLIP, "foreach": True}  # whose step sizes stay tensors, as on a GPU
EPOCHS = 16  # of 4 steps, so that a step of each kind is captured, and then replayed


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Let a CPU capture, of passes that are not compiled; all graphs that are made."""
    capture_on_the_cpu(monkeypatch)

    def keep_uncompiled(self: Captured) -> None:
        def apply(inputs: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
            outcome = self.forward(self.parts.model, inputs, targets)
            return outcome.objective, outcome.sums

        self._compiled, self._compiled_kind = apply, ()

    monkeypatch.setattr(compiled.Compiled, "_compile", keep_uncompiled)
    monkeypatch.setattr(compiled, "_lacking", lambda device: "")
    monkeypatch.setattr(program, "wanted_program", lambda trial, parts: trial.label)
    look, gpu = captured._obstacle, torch.device("cuda")
    monkeypatch.setattr(captured, "_obstacle", lambda optimizer, device: look(optimizer, gpu))
    return Graph.made


def train(trial: Trial, runs: Path, stop: Callable[[], bool] = never) -> RunFolder:
    folder = RunFolder.of(runs, trial)
    run_trial(folder, trial, data_dir=runs, device="cpu", should_stop=stop)
    return folder


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(OURS, id="ours"),
        pytest.param(SGD, id="sgd", marks=pytest.mark.slow),
        pytest.param(MOMENTUM, id="momentum", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"schedule": {"name": "cosine", "unit": "step"}}, id="scheduled"),
        pytest.param({"accumulate": 2}, id="accumulated", marks=pytest.mark.slow),
        pytest.param({"precision": "bf16"}, id="bf16", marks=pytest.mark.slow),
    ],
)
def test_a_captured_trial_is_the_plain_one_to_the_last_digits(
    optimizer: dict[str, Any], settings: dict[str, Any], tmp_path: Path, graphs: list[Graph]
) -> None:
    of: dict[str, Any] = {"optimizer": optimizer, "epochs": EPOCHS, "log_every": 1, **settings}
    plain = train(trial_of(label="eager", **of), tmp_path)
    folder = train(trial_of(label="captured", **of), tmp_path)
    assert sum(graph.replays for graph in graphs) >= 20
    assert len(graphs) >= 2, "of the full batches, and of the last one"
    assert numbers(folder) == [pytest.approx(each, rel=2e-5) for each in numbers(plain)]
    rates = [
        {group["lr"] for group in checkpoint(each)["optimizer"]["param_groups"]}
        for each in (folder, plain)
    ]
    assert rates[0] == rates[1], "which checkpoints hold as numbers"


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [OURS, MOMENTUM], ids=["ours", "momentum"])
def test_a_captured_trial_goes_on_with_the_same_bits(
    optimizer: dict[str, Any], tmp_path: Path, graphs: list[Graph]
) -> None:
    trial = trial_of(optimizer, label="captured", epochs=EPOCHS)
    whole = train(trial, tmp_path / "whole")
    for steps in (9, 30):
        torch.manual_seed(steps)
        train(trial, tmp_path / "pieces", StopAt(steps))
    pieces = train(trial, tmp_path / "pieces")
    assert_same_numbers(pieces, whole)


@pytest.mark.slow
def test_what_a_step_returned_is_not_written_again(tmp_path: Path, graphs: list[Graph]) -> None:
    """Losses and norms of a whole epoch are kept until its end."""
    folder = train(trial_of(label="captured", epochs=EPOCHS, log_every=1), tmp_path)
    losses = epochs(folder, "step/train/loss")
    assert graphs and len(set(losses)) == len(losses)


@pytest.mark.slow
def test_options_that_change_at_each_step_fill_no_memory_with_graphs(
    tmp_path: Path, graphs: list[Graph]
) -> None:
    """One cycle changes the momentum, which a graph has as a number."""
    schedule = {"name": "onecyclelr", "max_lr": 0.1, "total_steps": 4 * EPOCHS, "unit": "step"}
    of: dict[str, Any] = {"optimizer": MOMENTUM, "epochs": EPOCHS, "schedule": schedule}
    plain, folder = (train(trial_of(label=each, **of), tmp_path) for each in ("eager", "captured"))
    assert len(graphs) <= MOST_GRAPHS
    assert numbers(folder) == [pytest.approx(each, rel=2e-5) for each in numbers(plain)]


@pytest.mark.slow
def test_a_step_that_cannot_be_captured_is_launched_as_usual(
    tmp_path: Path, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    @contextmanager
    def refused(graph: Graph, **options: object) -> Iterator[None]:
        with graph:
            yield
        graph.undo()
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refused)
    of: dict[str, Any] = {"optimizer": SGD, "epochs": EPOCHS}
    plain, folder = (train(trial_of(label=each, **of), tmp_path) for each in ("eager", "captured"))
    assert numbers(folder) == [pytest.approx(each, rel=2e-5) for each in numbers(plain)]
    assert [each for each in caplog.messages if "not captured" in each] == [
        "The step is not captured in a graph, but launched as usual: "
        "operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        ({"name": "lbfgs", "lr": 0.1}, "its step may evaluate the model again"),
        ({"name": "muon_adamw", "lr": 0.1}, "it has no option capturable"),
        ({"name": "adagrad", "lr": 0.1}, "it has no option capturable"),
    ],
)
def test_what_cannot_be_captured_is_compiled(
    optimizer: dict[str, Any], why: str, tmp_path: Path, graphs: list[Graph], caplog: Any
) -> None:
    with caplog.at_level("INFO"):
        folder = train(trial_of(optimizer, label="captured", epochs=1), tmp_path)
    assert not graphs
    assert f"compiled, not captured: {why}." in caplog.text
    assert '"program": "compiled"' in folder.environment_file.read_text()


def train_on_gpu(trial: Trial, runs: Path, stop: Callable[[], bool] = never) -> RunFolder:
    folder = RunFolder.of(runs, trial)
    run_trial(folder, trial, data_dir=runs, device="cuda", should_stop=stop)
    return folder


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "optimizer", [DELTA_GCLIP, SGD, MOMENTUM, ADAM], ids=["ours", "sgd", "momentum", "adam"]
)
def test_a_captured_trial_on_a_gpu_is_the_plain_one_and_goes_on_with_its_bits(
    optimizer: dict[str, Any], tmp_path: Path
) -> None:
    schedule = {"name": "cosine", "unit": "step"}
    of: dict[str, Any] = {"optimizer": optimizer, "epochs": EPOCHS, "schedule": schedule}
    plain, whole = (
        train_on_gpu(trial_of(compile=word, log_every=1, **of), tmp_path) for word in ("off", "on")
    )
    assert '"program": "captured"' in whole.environment_file.read_text()
    assert epochs(whole, "step/train/loss")[:20] == pytest.approx(
        epochs(plain, "step/train/loss")[:20], rel=1e-4
    )
    trial = trial_of(compile="on", log_every=1, **of)
    for steps in (9, 30):
        torch.manual_seed(steps)
        train_on_gpu(trial, tmp_path / "pieces", StopAt(steps))
    assert_same_numbers(train_on_gpu(trial, tmp_path / "pieces"), whole)
