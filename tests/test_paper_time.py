"""What all experiments of the paper take: projected from what was measured, and never guessed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import paper_time
from benchmarks.paper_models import NAMES


def measured(folder: Path, **files: dict[str, float]) -> paper_time.Measured:
    """What is read of files of results, whose figures are given by their names."""
    for name, figures in files.items():
        content = [
            {"name": each, "value": value, "against": "one alone" if "MPS" in each else ""}
            for each, value in figures.items()
        ]
        (folder / f"{name}.cuda.json").write_text(json.dumps({"figures": content}))
    return paper_time.read(folder, "cuda", "")


def row(name: str, found: paper_time.Measured, *seeds: int) -> paper_time.Cost:
    (there,) = (each for each in paper_time.costs(found, seeds) if each.experiment == name)
    return there


def epochs(**left_out: bool) -> dict[str, float]:
    return {f"{name}: epoch": 3600.0 for name in NAMES if name not in left_out}


def test_an_experiment_takes_its_settings_times_its_seeds_times_its_epochs(tmp_path: Path) -> None:
    found = measured(tmp_path, paper_epochs=epochs())
    vit = row("vit-tiny-cifar10", found)
    assert (vit.trials, vit.epochs, vit.alone) == (4 * 10, 4 * 10 * 100, pytest.approx(4000))
    assert row("vit-tiny-cifar10", found, 0).epochs == 4 * 100
    grid = row("resnet18-cifar10-grid", found)
    assert grid.trials == 6 * 4 * 2 + 6 * 4 + 6 + 6


def test_stacked_trials_take_as_many_stacks_as_are_needed(tmp_path: Path) -> None:
    stacked = {"ViT-Tiny: epoch of 10 seeds stacked": 1.5 * 3600}
    found = measured(tmp_path, paper_epochs=epochs(), paper_stacks=stacked)
    assert row("vit-tiny-cifar10", found).shared == pytest.approx(4 * 1.5 * 100)
    assert row("vit-tiny-cifar10-grid", found).shared == pytest.approx(3 * 1.5 * 100)
    assert math.isnan(row("vit-small-cifar10", found).shared)


def test_processes_that_share_a_gpu_are_as_fast_as_was_measured(tmp_path: Path) -> None:
    shared = {"8 trials with MPS, ResNet-18": 4.0}
    found = measured(tmp_path, paper_epochs=epochs(), shared_gpu=shared)
    assert row("resnet18-cifar10", found).shared == pytest.approx(2 * 2 * 200)


def test_what_was_not_measured_is_unknown_and_so_is_every_sum_of_it(tmp_path: Path) -> None:
    found = measured(tmp_path, paper_epochs=epochs(KAN=True))
    assert math.isnan(row("kan-mnist", found).alone)
    told = {figure.name: figure.value for figure in paper_time.figures(found, "")}
    assert "kan-mnist" not in told and "vit-tiny-cifar10" in told
    assert not [name for name in told if name.startswith("all of the paper")]
    assert paper_time.hours(math.nan) == "unknown"
