"""Checkpoints: what is in them, which one is used, and what happens when one is damaged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    StopAt,
    assert_same_numbers,
    checkpoint,
    leftovers,
    numbers,
    records,
    result,
    train,
    trial_of,
)

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder
from deltagclip_cli.training.checkpoints import Checkpoints
from deltagclip_cli.training.trainer import Ending

PLAIN = (bool, int, float, str, type(None), torch.Tensor)


def all_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, (int, str)) for key in value) and all_plain(list(value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(all_plain, value))
    return isinstance(value, PLAIN)


@pytest.mark.parametrize(
    "schedule",
    [None, {"name": "onecyclelr", "max_lr": 0.1, "total_steps": 13, "unit": "step", "warmup": 1}],
)
def test_a_checkpoint_holds_tensors_and_plain_values_only(
    schedule: dict[str, Any] | None, runs: Path
) -> None:
    trial = trial_of(ADAM, schedule=schedule)
    train(trial, runs, stop=StopAt(6))
    assert all_plain(checkpoint(RunFolder.of(runs, trial)))


def test_the_two_newest_are_kept_until_the_end_and_the_last_then(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(10))
    folder = RunFolder.of(runs, trial)
    previous = torch.load(folder.previous_checkpoint_file, weights_only=True)
    assert (previous["step"], checkpoint(folder)["step"]) == (8, 10)
    assert sorted(folder.path.glob("*.pt")) == [
        folder.previous_checkpoint_file,
        folder.checkpoint_file,
    ]
    train(trial, runs)
    assert list(folder.path.glob("*.pt")) == [folder.checkpoint_file]


def test_none_is_kept_of_a_trial_that_needs_none_and_it_is_finished_all_the_same(
    runs: Path,
) -> None:
    trial = trial_of(checkpoint={"keep": "none"})
    train(trial, runs, stop=StopAt(10))
    folder = RunFolder.of(runs, trial)
    assert checkpoint(folder)["step"] == 10
    assert train(trial, runs) is Ending.FINISHED
    assert list(folder.path.glob("*.pt")) == []
    written = folder.result_file.read_bytes()
    assert train(trial, runs) is Ending.FINISHED
    assert folder.result_file.read_bytes() == written


@pytest.fixture
def killed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tidied up behind a result, for a test to take it away."""
    monkeypatch.setattr(HeldFolder, "remove_leftovers", lambda *words, **options: [])


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    save = Checkpoints.save

    def watched(self: Checkpoints, state: dict[str, Any]) -> None:
        saved.append(state["epoch"])
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save", watched)
    train(trial_of(epochs=5, checkpoint={"epochs": 2}), runs)
    assert saved == [2, 4, 5]


def test_a_stop_right_after_a_checkpoint_writes_no_second_one(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(8))  # after the second epoch
    previous = RunFolder.of(runs, trial).previous_checkpoint_file
    assert torch.load(previous, weights_only=True)["epoch"] == 1


def flip_a_byte_of_the_structure(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"regime_totals")] ^= 0xFF
    path.write_bytes(content)


def flip_a_bit_of_a_weight(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    weight = next(w for w in state["model"].values() if w.ndim == 2)
    raw, bits = weight.numpy().tobytes(), bytearray(path.read_bytes())
    place = bytes(bits).find(raw)
    assert place > 0
    bits[place] ^= 1
    path.write_bytes(bits)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_foreign(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "identity": "0" * 64}, path)


def make_of_another_version(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=True), "version": 0}, path)


def make_something_else(path: Path) -> None:
    torch.save([1, 2, 3], path)


def make_code(path: Path) -> None:
    """A pickle that makes more than plain values when it is loaded carelessly."""
    torch.save({**torch.load(path, weights_only=True), "more": path}, path)


def lose_bytes_in_the_middle(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[: middle - 100] + content[middle:])


DAMAGES = [
    lose_bytes_in_the_middle,
    flip_a_byte_of_the_structure,
    flip_a_bit_of_a_weight,
    truncate,
    empty,
    make_foreign,
    make_of_another_version,
    make_something_else,
    make_code,
]


@pytest.fixture
def interrupted(tmp_path: Path) -> Callable[[Callable[[Path], None], int], None]:
    """Damages the newest checkpoints of an interrupted trial and lets it go on to the end."""
    trial = trial_of(DELTA_GCLIP, log_every=2)

    def run(damage: Callable[[Path], None], count: int) -> None:
        assert train(trial, tmp_path / "whole") is Ending.FINISHED
        assert train(trial, tmp_path / "pieces", stop=StopAt(10)) is Ending.STOPPED
        folder = RunFolder.of(tmp_path / "pieces", trial)
        for path in (folder.checkpoint_file, folder.previous_checkpoint_file)[:count]:
            damage(path)
        assert train(trial, tmp_path / "pieces") is Ending.FINISHED
        assert_same_numbers(folder, RunFolder.of(tmp_path / "whole", trial))
        assert not leftovers(folder.path)

    return run


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_checkpoint_is_named_and_the_one_before_it_serves(
    damage: Callable[[Path], None],
    interrupted: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "deltagclip_cli"):
        interrupted(damage, 1)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "checkpoint.pt cannot be used (" in warning
    assert warning.endswith("trying the one before it.")
    assert "\n" not in warning


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_without_a_good_checkpoint_the_trial_starts_again_and_says_so(
    damage: Callable[[Path], None],
    interrupted: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "deltagclip_cli"):
        interrupted(damage, 2)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert messages[2].endswith("no checkpoint can be used; starting again at epoch 1.")


def cut_in_mid_line(lines: list[str]) -> str:
    return "".join(lines)[:-30]


def lose_the_last(lines: list[str]) -> str:
    return "".join(lines[:-1])


def lose_one_in_the_middle(lines: list[str]) -> str:
    return "".join(lines[:1] + lines[2:])


def lose_everything(lines: list[str]) -> str:
    return ""


def tear_one_in_the_middle(lines: list[str]) -> str:
    place = (len(lines) - 1) // 2
    return "".join([*lines[:place], lines[place][:20] + "\n", *lines[place + 1 :]])


TEARS = [
    cut_in_mid_line,
    lose_the_last,
    lose_one_in_the_middle,
    lose_everything,
    tear_one_in_the_middle,
]


@pytest.mark.parametrize(("stop_at", "log_every"), [(7, None), (8, 2), (10, 2)])
@pytest.mark.parametrize("tear", TEARS, ids=lambda tear: tear.__name__)
def test_metrics_that_a_disk_lost_are_made_again(
    tear: Callable[[list[str]], str], stop_at: int, log_every: int | None, tmp_path: Path
) -> None:
    """Stopped between two records, right after one of an epoch, and after one of a step."""
    trial = trial_of(log_every=log_every)
    train(trial, tmp_path / "whole")
    train(trial, tmp_path / "pieces", stop=StopAt(stop_at))
    folder = RunFolder.of(tmp_path / "pieces", trial)
    lines = folder.metrics_file.read_text().splitlines(keepends=True)
    folder.metrics_file.write_text(tear(lines))
    assert train(trial, tmp_path / "pieces") is Ending.FINISHED
    assert_same_numbers(folder, RunFolder.of(tmp_path / "whole", trial))


@pytest.mark.usefixtures("killed_at_the_end")
def test_records_after_the_checkpoint_are_dropped_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trial_of(checkpoint={"epochs": 2})
    train(trial, tmp_path / "whole")
    train(trial, tmp_path / "pieces")
    folder = RunFolder.of(tmp_path / "pieces", trial)
    folder.result_file.unlink()
    folder.previous_checkpoint_file.replace(folder.checkpoint_file)  # as if killed in epoch 3
    with caplog.at_level(logging.WARNING, "deltagclip_cli"):
        assert train(trial, tmp_path / "pieces") is Ending.FINISHED
    assert caplog.records == [], "the checkpoint could be used"
    assert_same_numbers(folder, RunFolder.of(tmp_path / "whole", trial))


@pytest.mark.parametrize("between", [False, True], ids=["before both", "between them"])
@pytest.mark.usefixtures("killed_at_the_end")
@pytest.mark.parametrize("asked", [10, 1000], ids=["in mid training", "at the end"])
def test_a_kill_at_the_renames_of_a_checkpoint_is_made_good_by_the_next_start(
    asked: int, between: bool, tmp_path: Path
) -> None:
    """At the end no other checkpoint comes behind it, whose renames would do that."""
    trial = trial_of()
    train(trial, tmp_path / "whole")
    train(trial, tmp_path / "pieces", stop=StopAt(asked))
    folder = RunFolder.of(tmp_path / "pieces", trial)
    folder.result_file.unlink(missing_ok=True)
    folder.checkpoint_file.replace(folder.next_checkpoint_file)
    if not between:
        folder.previous_checkpoint_file.replace(folder.checkpoint_file)
    assert train(trial, tmp_path / "pieces") is Ending.FINISHED
    assert_same_numbers(folder, RunFolder.of(tmp_path / "whole", trial))
    assert not leftovers(folder.path)


def test_what_a_killed_writer_left_is_cleared_away(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(2))
    folder = RunFolder.of(runs, trial)
    for name in (".checkpoint.next.pt.99999.part", ".result.json.99999.part"):
        (folder.path / name).write_bytes(b"half")
    train(trial, runs)
    assert not leftovers(folder.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"status": "fini'])
def test_a_result_that_is_not_whole_is_made_again(text: str, tmp_path: Path) -> None:
    trial = trial_of()
    train(trial, tmp_path / "whole")
    train(trial, tmp_path / "pieces")
    folder = RunFolder.of(tmp_path / "pieces", trial)
    starts = len(json.loads(folder.environment_file.read_text()))
    folder.result_file.write_text(text)
    assert folder.state == "interrupted"
    assert train(trial, tmp_path / "pieces") is Ending.FINISHED
    assert_same_numbers(folder, RunFolder.of(tmp_path / "whole", trial))
    assert len(json.loads(folder.environment_file.read_text())) == starts + 1


def test_the_error_of_a_failed_trial_vanishes_when_it_succeeds(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    with monkeypatch.context() as patch, pytest.raises(Exception, match="the trial failed"):
        patch.setattr("torch.optim.Optimizer.zero_grad", None)
        train(trial, runs)
    assert folder.state == "failed"
    assert "Traceback" in folder.error_file.read_text()
    assert train(trial, runs) is Ending.FINISHED
    assert folder.state == "finished"
    assert not folder.error_file.exists()
    assert len(records(folder)) == len(numbers(folder)) == result(folder)["epochs"] == 3
