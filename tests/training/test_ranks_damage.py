"""Checkpoints of divided networks that are damaged or hostile."""

from __future__ import annotations

import os
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from ranks_cases import assert_alike, train_alone, train_together
from torch import nn
from training_cases import ADAM, StopAt, train, trial_of

from deltagclip_cli.core import TrialError, UsageError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.ranks import sharded_checkpoints
from deltagclip_cli.training.ranks.shards import shard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="torch was built without gloo",
    ),
]

TRIAL = trial_of(ADAM, precision="fp64", log_every=1)


@pytest.fixture
def stopped(tmp_path: Path) -> RunFolder:
    """A trial that two processes have divided, stopped with two checkpoints."""
    train_together([TRIAL], tmp_path, kind="fsdp", stop=partial(StopAt, 5))
    folder = RunFolder.of(tmp_path, TRIAL)
    assert len(folder.shards_folders()) == 2
    return folder


def goes_on(folder: RunFolder, tmp_path: Path) -> None:
    """One process comes to what one does that nothing befell."""
    train_alone([TRIAL], tmp_path)
    train_alone([TRIAL], tmp_path / "alone")
    assert_alike(TRIAL, tmp_path, tmp_path / "alone", 1e-11)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
@pytest.mark.parametrize("name", ["__1_0.distcp", ".metadata"])
def test_of_damaged_parts_the_checkpoint_before_serves(
    damage: str, name: str, stopped: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = stopped.shards_folders()[-1] / name
    content = part.read_bytes()
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(content[:-9] if damage == "cut" else content[:-9] + bytes(9))
    goes_on(stopped, tmp_path)
    assert f"its part {name} is missing or damaged" in caplog.text


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_hostile_description_of_parts_runs_no_code(
    stopped: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one with the right checksum."""
    for folder in stopped.shards_folders():
        (folder / ".metadata").write_bytes(pickle.dumps(Hostile(tmp_path / "hacked")))
    monkeypatch.setattr(sharded_checkpoints, "damage", lambda *_: "")
    with pytest.raises(TrialError, match="mkdir"):
        train(TRIAL, tmp_path)
    assert not (tmp_path / "hacked").exists()


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def test_the_module_that_cannot_be_divided_is_named() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Scale()))
    with pytest.raises(UsageError, match=r"the number 'scale' of Scale \(1\.0\)"):
        shard(network, mesh=None)  # type: ignore[arg-type]
