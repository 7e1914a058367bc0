"""The network of a trial, as a Python program gets it: it measures what the trial measured last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_spec import TINY
from torch import nn

from deltagclip_cli import train
from deltagclip_cli.api.trained import Trained
from deltagclip_cli.core import UsageError
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.exactness import torch_left_as_it_was

OWN = """
import torch
from torch import nn

class Normed(nn.Sequential):
    def __init__(self, shape, classes):
        inputs = shape[0] * shape[1] * shape[2]
        layers = nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.Linear(4, classes)
        super().__init__(nn.Flatten(), *layers)

class Elsewhere(torch.optim.SGD):
    'Is evaluated at the mean of the last two weights.'
    means = False

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p]["before"] = p.clone()
        return super().step(closure)

    def eval(self):
        self._swap(True)

    def train(self):
        self._swap(False)

    @torch.no_grad()
    def _swap(self, means):
        if means != self.means:
            self.means = means
            for p in self.param_groups[0]["params"]:
                before = self.state[p]["before"]
                p.copy_((p + before) / 2 if means else 2 * p - before)
"""
SGD = {"name": "sgd", "lr": 0.1}
ELSEWHERE = {"name": "own.py:Elsewhere", "lr": 0.1}


def trained(folder: Path, optimizer: dict[str, Any], **settings: Any) -> Trained:
    (folder / "own.py").write_text(OWN)
    spec: dict[str, Any] = yaml.safe_load(TINY.replace("1e-3", "0.001"))
    spec["experiments"]["tiny"] |= {"optimizers": {"one": optimizer}, **settings}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return train(folder / "spec.yaml", runs=folder / "runs", quiet=True)


def measured(trained: Trained, model: nn.Module) -> float:
    """The loss on the test set."""
    assert not model.training
    device = torch.device("cpu")
    with torch_left_as_it_was(device):
        parts = assemble(trained.run_folder.trial_to_run(), trained.data, device)
    batches = parts.evaluated["test"]
    with torch.no_grad():
        losses = [parts.task(model, *batch).sums["loss"] for batch in batches.iterate(None, None)]
    return float(sum(losses)) / batches.samples


@pytest.mark.parametrize(
    ("optimizer", "settings", "averaged"),
    [
        (SGD, {}, False),
        (SGD, {"model": {"name": "own.py:Normed"}, "ema": 0.5}, False),
        (SGD, {"model": {"name": "own.py:Normed"}, "ema": 0.5}, True),
        (ELSEWHERE, {"model": {"name": "own.py:Normed"}}, False),
        (SGD, {"epochs": None, "steps": 3}, False),
    ],
)
def test_it_measures_what_was_measured_last(
    optimizer: dict[str, Any], settings: dict[str, Any], averaged: bool, tmp_path: Path
) -> None:
    told = trained(tmp_path, optimizer, **settings)
    files = {path: path.stat().st_mtime_ns for path in told.folder.iterdir()}
    stream, is_exact = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    model = told.model(averaged=averaged)
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.are_deterministic_algorithms_enabled() == is_exact
    assert {path: path.stat().st_mtime_ns for path in told.folder.iterdir()} == files
    name = "test_ema/loss" if averaged else "test/loss"
    assert measured(told, model) == pytest.approx(told.last[name], rel=1e-6)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    told = trained(tmp_path, SGD)
    with pytest.raises(UsageError, match="its spec has no ema"):
        told.model(averaged=True)
    told.run_folder.checkpoint_file.unlink()
    with pytest.raises(UsageError, match="there is no checkpoint with weights"):
        told.model()
    diverged = trained(tmp_path, {"name": "sgd", "lr": 1e38})
    assert diverged.state == "diverged"
    with pytest.raises(UsageError, match="it has diverged"):
        diverged.model()
