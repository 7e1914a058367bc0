"""Operations without a deterministic kernel are named before a sweep, once an experiment."""

from __future__ import annotations

from pathlib import Path

from deltagclip_cli.launch.rehearsal import Stage, check_parts
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand

OWN = """\
import torch
from torch import nn

class Halved(nn.Linear):
    def forward(self, points):
        mask = torch.ones_like(points).put_(torch.tensor([0]), torch.tensor([0.5]))
        return super().forward(points * mask)

def halved(shape, classes):
    return nn.Sequential(nn.Flatten(), Halved(16, classes))
"""
SPEC = """\
defaults:
  model: own.py:halved
  data: {name: synthetic, batch_size: 4, size: 4, channels: 1, train: 8, test: 8}
  epochs: 2
  optimizers:
    sgd: {name: sgd, lr: 0.1}
experiments:
  one: {grid: {sgd: {lr: [0.1, 0.2]}}}
  other: {}
  fast: {determinism: fast}
  table: {model: mlp}
"""


def remarks(folder: Path, stage: Stage) -> list[str]:
    (folder / "own.py").write_text(OWN)
    file = folder / "spec.yaml"
    file.write_text(SPEC)
    spec = load_spec(file, runs=folder / "runs")
    trials = [each for name, one in spec.experiments.items() for each in expand(name, one)]
    return check_parts(spec, trials, lambda trial: stage, folder)


def test_each_experiment_is_told_once_of_what_is_not_exact(tmp_path: Path) -> None:
    found = remarks(tmp_path, Stage("cpu"))
    assert [each.partition(":")[0] for each in found] == ["one", "other"]
    assert all(": put_ has no deterministic kernel on a CPU." in each for each in found)


def test_nothing_is_said_of_kernels_of_a_device_that_is_not_here(tmp_path: Path) -> None:
    assert remarks(tmp_path, Stage("cuda", here=False)) == []
