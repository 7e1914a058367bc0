"""Samples that are fetched one by one: stopped anywhere, by any workers, the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_cases import (
    ADAM,
    assert_same_numbers,
    epochs,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand
from deltagclip_cli.training.trainer import Ending

SHAKY = {"name": "mlp", "hidden": [16]}


class Shaken:
    """Points with noise from everything that is random in a process."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        noise = torch.randn(4) + random.random() + torch.from_numpy(np.random.rand(4))
        return torch.tensor([place % 4, place % 3, 1.0, 0.0]) + 0.1 * noise.float(), place % 4


def doubled(samples: list[Any]) -> tuple[Tensor, Tensor]:
    inputs = torch.stack([inputs for inputs, _ in samples])
    return inputs * 2 + torch.rand(()), torch.tensor([label for _, label in samples])


def shaken(**options: Any) -> dict[str, Any]:
    return {"train": Shaken(100), "test": Shaken(50), "classes": 4}


def collated(**options: Any) -> dict[str, Any]:
    return {**shaken(), "validation": Shaken(20), "collate": doubled}


@pytest.fixture(params=[shaken, collated])
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Data, "load", lambda self: request.param)
    monkeypatch.setattr(Data, "is_own", True)


def with_workers(workers: int) -> Trial:
    data = {"workers": workers}
    return trial_of(ADAM, model=SHAKY, data=data, epochs=2)


@pytest.mark.usefixtures("own")
def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path) -> None:
    folders = []
    for workers in (0, 1, 2):
        trial = with_workers(workers)
        torch.manual_seed(workers)
        random.seed(workers)
        assert train(trial, tmp_path / str(workers)) is Ending.FINISHED
        folders.append(RunFolder.of(tmp_path / str(workers), trial))
    assert {folder.path.name for folder in folders} == {folders[0].path.name}
    for folder in folders[1:]:
        assert_same_numbers(folder, folders[0])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_in_the_middle_of_an_epoch_it_goes_on_with_the_same_bits(
    workers: int, tmp_path: Path
) -> None:
    trial, other = with_workers(workers), with_workers(1 - workers // 2)
    before = children()  # of other tests
    assert train(other, tmp_path / "whole") is Ending.FINISHED
    assert train_in_pieces(trial, tmp_path / "pieces", 3) == 3
    pieces = RunFolder.of(tmp_path / "pieces", trial)
    assert_same_numbers(pieces, RunFolder.of(tmp_path / "whole", other))
    assert children() <= before


def children() -> set[int]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return {int(word) for word in listed.split()}


def test_a_validation_split_is_measured_like_the_test_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Data, "load", lambda self: collated)
    monkeypatch.setattr(Data, "is_own", True)
    trial = with_workers(0)
    assert train(trial, tmp_path) is Ending.FINISHED
    folder = RunFolder.of(tmp_path, trial)
    for name in ("validation/loss", "validation/accuracy", "test/loss"):
        assert len(epochs(folder, name)) == 2
    result = folder.result()
    assert result is not None and "validation/accuracy" in result["best"]


def test_the_number_of_workers_is_no_part_of_a_trial() -> None:
    assert (
        with_workers(2).identity
        == with_workers(0).identity
        == trial_of(ADAM, model=SHAKY, epochs=2).identity
    )


PARTS = """
import random
import time

import numpy as np
import torch


class Rows:
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return self.samples

    def __getitem__(self, place):
        time.sleep(0.002)
        noise = torch.randn(4) + random.random() + float(np.random.rand())
        return torch.tensor([place % 4, place % 3, 1.0, 0.0]) + 0.1 * noise, float(place % 4)


def doubled(samples):
    inputs = torch.stack([inputs for inputs, _ in samples])
    return inputs * 2 + torch.rand(()), torch.tensor([target for _, target in samples])


def rows():
    return {"train": Rows(240), "test": Rows(20), "collate": doubled}


class Net(torch.nn.Sequential):
    def __init__(self, shape):
        layers = torch.nn.Linear(shape[0], 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
        super().__init__(*layers, torch.nn.Flatten(0))
"""
SPEC = """
experiments:
  rows:
    model: parts.py:Net
    data: {name: parts.py:rows, batch_size: 8}
    task: {name: supervised, loss: mse_loss}
    epochs: 3
    log_every: 1
    optimizers: {adam: {name: adam, lr: 0.01}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_the_middle_of_an_epoch_it_goes_on_with_the_same_bits(
    workers: int, tmp_path: Path
) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "experiments.yaml").write_text(SPEC)

    def begun(runs: str, workers: int) -> subprocess.Popen[bytes]:
        words = ["train", "rows", "--runs", runs, "--set", f"data.workers={workers}"]
        command = [sys.executable, "-m", "deltagclip_cli", *words]
        return subprocess.Popen(command, cwd=tmp_path, start_new_session=True)

    def lines(runs: str) -> int:
        files = list((tmp_path / runs).glob("rows/adam/*/metrics.jsonl"))
        return len(files[0].read_text().splitlines()) if files else 0

    assert begun("whole", 0).wait() == 0
    for steps, number in ((8, signal.SIGTERM), (45, signal.SIGKILL), (70, signal.SIGTERM)):
        process = begun("killed", workers)
        while lines("killed") < steps:
            assert process.poll() is None
            time.sleep(0.01)
        if number == signal.SIGTERM:
            os.killpg(process.pid, number)  # as a batch system does: all that belongs to it
        else:
            process.kill()
        assert process.wait() != 0
    assert begun("killed", workers).wait() == 0
    [killed] = (tmp_path / "killed").glob("rows/adam/*")
    [whole] = (tmp_path / "whole").glob("rows/adam/*")
    assert_same_numbers(RunFolder(killed), RunFolder(whole))


@pytest.mark.slow
def test_evaluated_in_mid_pass_it_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Batch norms are measured at averaged weights with samples that the pass fetches as well."""
    parts = PARTS.replace("Dropout(0.2)", "BatchNorm1d(8)").replace("time.sleep(0.002)", "pass")
    (tmp_path / "parts.py").write_text(parts)
    length = "steps: 70\n    evaluate_every: 20\n    ema: 0.5"
    (tmp_path / "spec.yaml").write_text(SPEC.replace("epochs: 3", length))
    ended = []
    for workers, steps in ((0, 100), (2, 23)):
        sets = [f"data.workers={workers}"]
        spec = load_spec(tmp_path / "spec.yaml", sets=sets, runs=tmp_path / "runs")
        (trial,) = expand("rows", spec.experiments["rows"])
        runs = tmp_path / f"{workers}-{steps}"
        assert train_in_pieces(trial, runs, steps) == -(-70 // steps)
        ended.append(RunFolder.of(runs, trial))
    assert_same_numbers(*ended)
