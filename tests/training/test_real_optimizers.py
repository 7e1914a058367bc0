"""Optimizers of others, as packages name them: they train, and continue with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_cases import assert_same_numbers, epochs, train, train_in_pieces, trial_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.trainer import Ending

pytestmark = pytest.mark.slow

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "heavyball:AdamW": {"lr": 1e-2},
    "heavyball:Muon": {"lr": 1e-2},
    "heavyball:PSGDKron": {"lr": 1e-2},
    "heavyball:SFAdamW": {"lr": 1e-2},
    "heavyball:SOAP": {"lr": 1e-2},
    "prodigyopt:Prodigy": {"d0": 1e-3},
    "pytorch_optimizer:AdamMini": {"lr": 1e-2},
    "pytorch_optimizer:AliG": {},
    "pytorch_optimizer:Lion": {"lr": 1e-2},
    "pytorch_optimizer:Ranger21": {"lr": 5e-2, "num_iterations": "$steps"},
    "pytorch_optimizer:SPlus": {"lr": 1e-2},
    "schedulefree:AdamWScheduleFree": {"lr": 1e-2},
    "schedulefree:AdamWScheduleFreeClosure": {"lr": 1e-2},
    "schedulefree:RAdamScheduleFree": {"lr": 5e-2},
    "schedulefree:SGDScheduleFree": {"lr": 1.0},
    "timm.optim:Lamb": {"lr": 1e-2},
    "timm.optim:Muon": {"lr": 1e-2},
}


@pytest.fixture(autouse=True)
def without_compiler(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """heavyball compiles each of its steps, which takes minutes and changes nothing here."""
    package = request.getfixturevalue("name").partition(":")[0]
    pytest.importorskip(package)
    if package == "heavyball":
        monkeypatch.setattr("heavyball.utils.compile_mode", None)


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_others_trains_and_continues_with_the_same_bits(
    name: str, tmp_path: Path
) -> None:
    trial = trial_of({"name": name, **OPTIMIZERS[name]})
    assert train(trial, tmp_path / "whole") is Ending.FINISHED
    assert train_in_pieces(trial, tmp_path / "pieces", 5) > 1
    whole, pieces = (RunFolder.of(tmp_path / each, trial) for each in ("whole", "pieces"))
    assert_same_numbers(pieces, whole)
    losses = epochs(whole, "train/loss")
    assert losses[-1] < losses[0]
