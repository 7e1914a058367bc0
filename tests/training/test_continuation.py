"""What a continuation refuses, and what it must not lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    StopAt,
    assert_same_numbers,
    numbers,
    train,
    trial_of,
)

from deltagclip_cli.core import RunFolderError, TrialError, UsageError
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.training.trainer import Ending
from deltagclip_cli.training.worker import run_trial


def test_data_that_have_changed_are_refused_and_nothing_is_lost(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    train(trial, runs, stop=StopAt(6))
    before = numbers(folder)
    monkeypatch.setattr("deltagclip_cli.training.assembly.fingerprint", lambda dataset: "others")
    with pytest.raises(RunFolderError, match="the data have changed"):
        train(trial, runs)
    assert numbers(folder) == before
    monkeypatch.undo()
    assert train(trial, runs) is Ending.FINISHED


def test_the_fingerprint_of_the_data_is_that_of_every_image_and_label(runs: Path) -> None:
    first, second = trial_of(), trial_of(data={"data_seed": 1})
    states = []
    for trial in (first, second):
        train(trial, runs, stop=StopAt(2))
        path = RunFolder.of(runs, trial).checkpoint_file
        states.append(torch.load(path, weights_only=True))
    assert states[0]["data"] != states[1]["data"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), OSError(5, "I/O error")])
def test_a_checkpoint_that_cannot_be_read_now_is_not_thrown_away(
    error: Exception, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    train(trial, runs, stop=StopAt(6))
    before = numbers(folder)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(TrialError):
        train(trial, runs)
    assert numbers(folder) == before
    assert folder.state is State.FAILED


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    trial = trial_of()
    train(trial, tmp_path / "whole")
    train(trial, tmp_path / "cut", stop=StopAt(6))
    folder = RunFolder.of(tmp_path / "cut", trial)
    folder.checkpoint_file.rename(folder.next_checkpoint_file)
    folder.previous_checkpoint_file.write_bytes(b"torn")
    assert train(trial, tmp_path / "cut") is Ending.FINISHED
    assert_same_numbers(folder, RunFolder.of(tmp_path / "whole", trial))


def test_an_epoch_begun_on_another_kind_of_device_is_refused(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(6))
    path = RunFolder.of(runs, trial).checkpoint_file
    state = torch.load(path, weights_only=True)
    torch.save({**state, "device": "cuda"}, path)
    with pytest.raises(RunFolderError, match="in the middle of an epoch on cuda"):
        train(trial, runs)


def test_force_deletes_nothing_while_something_speaks_against_a_new_start(runs: Path) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    train(trial, runs)

    def again(device: str) -> Ending:
        return run_trial(
            folder,
            trial,
            data_dir=Path("nowhere"),
            device=device,
            force=True,
            should_stop=lambda: False,
        )

    with pytest.raises(UsageError):
        again("nonsense")
    assert folder.state is State.FINISHED
    assert again("cpu") is Ending.FINISHED


def test_tf32_is_refused_where_it_would_mean_nothing(runs: Path) -> None:
    with pytest.raises(UsageError, match="precision tf32 is a mode of CUDA devices"):
        train(trial_of(precision="tf32"), runs)
    assert not runs.exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", [DELTA_GCLIP, SGD, MOMENTUM, ADAM])
def test_a_training_on_a_gpu_continues_with_the_same_bits(
    optimizer: dict[str, Any], tmp_path: Path, on_gpu: Callable[..., Ending]
) -> None:
    trial = trial_of(optimizer, data={"augment": ["random_crop", "flip"]})
    on_gpu(trial, tmp_path / "whole")
    while on_gpu(trial, tmp_path / "pieces", stop=StopAt(3)) is Ending.STOPPED:
        pass
    folders = [RunFolder.of(tmp_path / name, trial) for name in ("whole", "pieces")]
    assert_same_numbers(*folders)


@pytest.fixture
def on_gpu() -> Callable[..., Ending]:
    def run(trial: Any, runs: Path, stop: Callable[[], bool] = lambda: False) -> Ending:
        return run_trial(
            RunFolder.of(runs, trial),
            trial,
            data_dir=Path("nowhere"),
            device="cuda",
            should_stop=stop,
        )

    return run
