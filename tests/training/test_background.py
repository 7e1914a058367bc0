"""Checkpoints that are written beside the training, as those of a GPU are."""

from __future__ import annotations

import errno
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    StopAt,
    assert_same_numbers,
    checkpoint,
    leftovers,
    records,
    same,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import FullDiskError, TakenOverError, TrialError
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.training.background import BackgroundCheckpoints
from deltagclip_cli.training.checkpoints import Checkpoints
from deltagclip_cli.training.trainer import Ending


class SlowStream:
    """A side stream of a device that copies when it is let: until then nothing has arrived."""

    def __init__(self) -> None:
        self.may_copy = threading.Event()
        self.may_copy.set()
        self.copied = 0

    def copies(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Callable[[], object]]:
        kept = [each.clone() for each in tensors]
        made = [torch.full_like(each, 1) for each in tensors]
        self.copied += len(kept)

        def wait() -> None:
            assert self.may_copy.wait(10)
            for each, value in zip(made, kept, strict=True):
                each.copy_(value)

        return made, wait


@pytest.fixture
def stream() -> SlowStream:
    return SlowStream()


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, stream: SlowStream) -> SlowStream:
    """All trainings are on a device with such a stream."""

    def made(self: Checkpoints, device: torch.device) -> BackgroundCheckpoints:
        return BackgroundCheckpoints(self.save, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "beside", made)
    return stream


def test_what_is_written_is_the_state_of_when_it_was_saved(stream: SlowStream) -> None:
    written: list[Any] = []
    saving = BackgroundCheckpoints(written.append, stream)  # type: ignore[arg-type]
    weights, steps = torch.ones(3), [1]
    stream.may_copy.clear()
    saving.save({"weights": weights, "steps": steps})
    weights.add_(1)
    steps.append(2)
    assert not written, "save() has waited for the device"
    stream.may_copy.set()
    saving.wait()
    assert same(written, [{"weights": torch.ones(3), "steps": [1]}])


def test_a_state_keeps_its_kinds_and_what_it_shares(stream: SlowStream) -> None:
    written: list[Any] = []
    tied = torch.arange(6.0).reshape(2, 3)
    model = OrderedDict(a=tied, b=tied.detach(), c=tied.t())
    model._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    groups = [{"lr": 0.1}]
    state = {
        "model": model,
        "groups": (groups, groups),
        "own": nn.Parameter(torch.ones(2), requires_grad=False),
        "last": torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "none": [torch.empty(0), torch.empty(0)],
    }
    saving = BackgroundCheckpoints(written.append, stream)  # type: ignore[arg-type]
    saving.save(state)
    saving.wait()
    (made,) = written
    assert same(made, state) and type(made["model"]) is OrderedDict
    assert made["model"]._metadata == model._metadata  # type: ignore[attr-defined]
    assert made["model"]["a"] is made["model"]["b"] is not tied
    assert made["groups"][0] is made["groups"][1] is not groups
    assert type(made["own"]) is nn.Parameter and not made["own"].requires_grad
    assert made["last"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("optimizer", [pytest.param(DELTA_GCLIP, marks=pytest.mark.slow), ADAM])
def test_a_trial_ends_with_the_bits_of_one_that_waits_for_its_checkpoints(
    optimizer: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(optimizer, checkpoint={"minutes": 1e-9})
    train(trial, runs / "waiting")
    with monkeypatch.context() as patched:
        stream = SlowStream()
        patched.setattr(
            Checkpoints,
            "beside",
            lambda self, device: BackgroundCheckpoints(self.save, stream),  # type: ignore[arg-type]
        )
        train(trial, runs / "whole")
        train_in_pieces(trial, runs / "pieces", 3)
    waiting, *others = (RunFolder.of(runs / n, trial) for n in ("waiting", "whole", "pieces"))
    assert stream.copied
    for each in others:
        assert_same_numbers(each, waiting)
    assert not leftovers(runs)


def test_the_result_is_written_after_the_last_checkpoint(
    beside: SlowStream, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(epochs=1)
    folder = RunFolder.of(runs, trial)
    was_there: list[bool] = []
    save = Checkpoints.save

    def slow(self: Checkpoints, state: dict[str, Any]) -> None:
        threading.Event().wait(0.2)
        was_there.append(folder.result_file.exists())
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", slow)
    assert train(trial, runs) is Ending.FINISHED
    assert was_there == [False] and checkpoint(folder)["step"] == 4


def test_a_stop_waits_for_its_checkpoint(
    beside: SlowStream, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of()
    save = Checkpoints.save

    def slow(self: Checkpoints, state: dict[str, Any]) -> None:
        threading.Event().wait(0.2)
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", slow)
    assert train(trial, runs, stop=StopAt(2)) is Ending.STOPPED
    assert checkpoint(RunFolder.of(runs, trial))["step"] == 2


@pytest.mark.parametrize("at", ["next save", "stop", "end"])
def test_a_full_disk_is_told_of_by_what_comes_next(
    at: str, beside: SlowStream, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(checkpoint={"epochs": 1 if at == "next save" else 3})
    folder = RunFolder.of(runs, trial)
    save, saved = Checkpoints.save, list[int]()

    def full(self: Checkpoints, state: dict[str, Any]) -> None:
        saved.append(state["step"])
        if len(saved) == (2 if at == "next save" else 1):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(FullDiskError, match="the disk is full"):
        train(trial, runs, stop=StopAt(*[2] * (at == "stop")))
    assert saved == {"next save": [4, 8], "stop": [2], "end": [12]}[at]
    assert folder.state is State.INTERRUPTED and not folder.result_file.exists()
    monkeypatch.setattr(Checkpoints, "save", save)
    assert train(trial, runs) is Ending.FINISHED
    assert len(records(folder)) == 3


def test_who_is_taken_over_while_it_writes_ends_without_a_result(
    beside: SlowStream, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(epochs=1)
    folder = RunFolder.of(runs, trial)
    save = Checkpoints.save

    def late(self: Checkpoints, state: dict[str, Any]) -> None:
        folder.owner_file.write_text(json.dumps({"token": "another"}))
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", late)
    with pytest.raises(TakenOverError):
        train(trial, runs)
    assert not folder.result_file.exists() and not folder.checkpoint_file.exists()
    assert not folder.error_file.exists()


def test_a_trial_that_fails_leaves_no_thread_that_writes(
    beside: SlowStream, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        beside.may_copy.clear()
        threading.Timer(0.2, beside.may_copy.set).start()
        raise RuntimeError("broken")

    trial = trial_of(checkpoint={"minutes": 1e-9})
    monkeypatch.setattr("deltagclip_cli.training.trainer.Trainer.evaluate", broken)
    with pytest.raises(TrialError, match="broken"):
        train(trial, runs)
    assert not [each for each in threading.enumerate() if each.name == "checkpoint"]
    assert checkpoint(RunFolder.of(runs, trial))["step"] == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_goes_on_while_its_checkpoint_is_copied() -> None:
    from deltagclip_cli.training.background import SideStream

    weights = torch.ones(2**24, device="cuda")
    torch.cuda.synchronize()
    written: list[Any] = []
    saving = BackgroundCheckpoints(written.append, SideStream(weights.device))
    torch.cuda.set_sync_debug_mode("error")
    try:
        saving.save({"weights": weights, "steps": torch.tensor(1)})
        weights.add_(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    saving.wait()
    assert same(written, [{"weights": torch.ones(2**24), "steps": torch.tensor(1)}])
    assert written[0]["weights"].is_pinned()
