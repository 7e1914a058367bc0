"""Faults made for real: kills, signals, full and read-only disks, wrong devices, missing data."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import (
    StopAt,
    assert_same_numbers,
    checkpoint,
    finish,
    leftovers,
    records,
    start,
    train,
    trial_of,
)

from deltagclip_cli.parts.tasks.classify import Classify
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.process import StopRequest
from deltagclip_cli.training.program import Eager
from deltagclip_cli.training.trainer import Ending, Trainer

Deltagclip = Callable[..., Any]
OnlyFolder = Callable[[], RunFolder]


@pytest.fixture
def undisturbed(tmp_path: Path) -> Callable[..., RunFolder]:
    """Trains the trial of a run folder elsewhere, without any fault."""

    def run(folder: RunFolder) -> RunFolder:
        trial = folder.trial()
        elsewhere = tmp_path / "undisturbed"
        assert train(trial, elsewhere) is not Ending.STOPPED
        return RunFolder.of(elsewhere, trial)

    return run


# ---------------------------------------------------------------- kills and signals


def train_command(spec: Path, runs: Path, *more: object) -> tuple[object, ...]:
    return ("train", "tiny", "--spec", spec, "--runs", runs, *more)


def wait_for_epochs(process: subprocess.Popen[str], count: int) -> None:
    """Read what a command prints until so many epochs are over."""
    assert process.stdout is not None
    for line in process.stdout:
        count -= line.startswith("epoch ")
        if count <= 0:
            return
    raise AssertionError(f"it ended too soon: {finish(process)}")


def kill_again_and_again(spec: Path, runs: Path, kills: int, epochs: int) -> None:
    """Kill a training at random moments, start it again each time, and let it finish."""
    chance = random.Random(0)
    command = train_command(spec, runs, "--set", f"epochs={epochs}", "--set", "log_every=3")
    for _ in range(kills):
        wanted = epochs_in_log(runs) + chance.randint(1, 4)
        process = start(*command)
        while epochs_in_log(runs) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was killed before it was finished"
    done = finish(start(*command))
    assert done.code == 0, done
    assert "Traceback" not in done.err


def epochs_in_log(runs: Path) -> int:
    """How many epochs were told in logs, where all of them are."""
    return sum(log.read_text().count(" epoch ") for log in runs.glob("*/*/*/log.txt"))


@pytest.mark.slow
@pytest.mark.long
def test_a_training_killed_six_times_ends_with_the_same_numbers(
    tiny_spec: Path, runs: Path, only_folder: OnlyFolder, undisturbed: Callable[..., RunFolder]
) -> None:
    kill_again_and_again(tiny_spec, runs, kills=6, epochs=300)
    folder = only_folder()
    assert_same_numbers(folder, undisturbed(folder))
    assert not leftovers(folder.path)
    assert len(json.loads(folder.environment_file.read_text())) == 6 + 1
    assert len(folder.event_files()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_with_a_checkpoint_and_the_same_command_continues(
    number: signal.Signals,
    code: int,
    tiny_spec: Path,
    runs: Path,
    only_folder: OnlyFolder,
    deltagclip: Deltagclip,
    undisturbed: Callable[..., RunFolder],
) -> None:
    process = start(*train_command(tiny_spec, runs, "--set", "epochs=300"))
    wait_for_epochs(process, 2)
    process.send_signal(number)
    done = finish(process)
    folder = only_folder()
    assert done.code == code
    assert f"Stopped with a checkpoint. The same command continues in {folder.path}." in done.out
    assert done.err == ""
    assert folder.state == "interrupted"
    assert 8 <= checkpoint(folder)["step"] < 1200
    assert deltagclip("train", "tiny", "--set", "epochs=300").code == 0
    assert_same_numbers(folder, undisturbed(folder))


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends this process signals in the middle of its sixth step, before which one is tried."""

    def send(*signals: signal.Signals) -> None:
        step, made = Eager.step, []

        def interrupted(self: Eager, *args: Any) -> Any:
            made.append(1)
            if len(made) == 1 + 6:
                for number in signals:
                    os.kill(os.getpid(), number)
            return step(self, *args)

        monkeypatch.setattr(Eager, "step", interrupted)

    return send


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_the_step_in_which_a_signal_comes_is_made_whole(
    number: signal.Signals,
    code: int,
    signalled: Callable[..., None],
    deltagclip: Deltagclip,
    only_folder: OnlyFolder,
) -> None:
    before = signal.getsignal(number)
    signalled(number)
    done = deltagclip("train", "tiny")
    assert done.code == code
    assert checkpoint(only_folder())["step"] == 6
    assert "Stopped with a checkpoint" in done.out
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once(
    signalled: Callable[..., None], deltagclip: Deltagclip, only_folder: OnlyFolder
) -> None:
    signalled(signal.SIGINT, signal.SIGINT)
    done = deltagclip("train", "tiny")
    assert done.code == 130
    assert checkpoint(only_folder())["step"] == 4, "the last one is that of the first epoch"
    assert "Traceback" not in done.out + done.err
    assert only_folder().state == "interrupted"


def test_repeated_termination_waits_for_the_checkpoint(
    signalled: Callable[..., None], deltagclip: Deltagclip, only_folder: OnlyFolder
) -> None:
    signalled(signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    assert deltagclip("train", "tiny").code == 75
    assert checkpoint(only_folder())["step"] == 6


def test_a_stop_request_remembers_the_first_signal() -> None:
    stop = StopRequest()
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert stop()
    assert stop.signal == signal.SIGTERM
    assert stop.signals == {signal.SIGTERM, signal.SIGINT}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_each_signal_of_a_batch_system_or_a_terminal_stops(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # who started the tests may have it ignored
    try:
        stop = StopRequest()
        with stop.listening(), stop.listening():  # a second time changes nothing
            os.kill(os.getpid(), number)
            assert stop()
        assert (stop.signal, stop.signals) == (number, {number})
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_notice_of_the_time_limit_alone_is_told_from_one_with_the_end_behind_it() -> None:
    stop = StopRequest()
    with stop.listening():
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert stop.signal == signal.SIGUSR1
    assert stop.signals == {signal.SIGUSR1, signal.SIGTERM}


# ---------------------------------------------------------------- disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system, or changes the one that is mounted: ``disk("size=8k")``."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        kind = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", kind + options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


# Too small for environment.json, the events, metrics.jsonl, log.txt, ..., for a checkpoint.
TOO_SMALL = [(f"{size}k", 16) for size in (4, 8, 12, 16, 20, 24, 48, 64)] + [("300k", 256)]


@pytest.mark.parametrize(("size", "width"), TOO_SMALL)
def test_a_full_disk_is_named_and_the_same_command_continues_when_there_is_space(
    size: str, width: int, disk: Callable[[str], Path], deltagclip: Deltagclip, undisturbed: Any
) -> None:
    runs = disk(f"size={size}") / "runs"
    sets = ("--set", "log_every=1", "--set", f"model={{name: mlp, hidden: [{width}, {width}]}}")
    done = deltagclip("train", "tiny", "--runs", runs, *sets)
    assert done.code == 75
    assert "the trial was interrupted: the disk is full.\n  Free space and run the" in done.err
    assert "Traceback" not in done.out + done.err
    (path,) = runs.glob("*/*/*")
    folder = RunFolder(path)
    assert folder.state in ("new", "interrupted"), "the disk failed, not the trial"
    assert not leftovers(runs)
    for whole in (folder.environment_file, folder.result_file):
        assert not whole.exists() or json.loads(whole.read_text())
    if folder.checkpoint_file.exists():
        checkpoint(folder)

    disk("size=10m")
    done = deltagclip("train", "tiny", "--runs", runs, *sets)
    assert done.code == 0, done
    assert_same_numbers(folder, undisturbed(folder))
    assert folder.state == "finished"


def test_a_disk_that_fills_up_in_mid_training_keeps_the_last_checkpoint(
    disk: Callable[[str], Path],
    deltagclip: Deltagclip,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Any,
) -> None:
    runs = disk("size=1m") / "runs"
    finish_round = Trainer._finish_round

    def filling(self: Trainer, *args: Any) -> None:
        if self.epoch == 2:
            with (runs.parent / "rest").open("wb", buffering=0) as file:
                while True:
                    try:
                        file.write(bytes(4096))
                    except OSError:
                        break
        finish_round(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish_round", filling)
        done = deltagclip("train", "tiny", "--runs", runs)
    assert done.code == 75
    assert "the disk is full" in done.err
    assert "Traceback" not in done.out + done.err
    (path,) = runs.glob("*/*/*")
    folder = RunFolder(path)
    assert checkpoint(folder)["epoch"] == 1
    assert not leftovers(runs)
    (runs.parent / "rest").unlink()
    assert deltagclip("train", "tiny", "--runs", runs).code == 0
    assert_same_numbers(folder, undisturbed(folder))
    assert not folder.error_file.exists()


def test_a_disk_without_room_for_a_folder_is_a_wrong_runs_folder(
    disk: Callable[[str], Path], deltagclip: Deltagclip
) -> None:
    runs = disk("size=4k") / "runs"
    (runs.parent / "rest").write_bytes(bytes(4096))
    done = deltagclip("train", "tiny", "--runs", runs)
    assert done.code == 2
    assert "cannot be made or written: No space left on device." in done.err
    assert "--runs DIR" in done.err
    assert [path.name for path in runs.rglob("*") if path.is_file()] == [".lock"]


def test_a_read_only_disk_is_a_wrong_runs_folder(
    disk: Callable[[str], Path], deltagclip: Deltagclip
) -> None:
    runs = disk("ro,size=1m") / "runs"
    done = deltagclip("train", "tiny", "--runs", runs)
    assert done.code == 2
    assert "Read-only file system" in done.err
    assert "Traceback" not in done.err


def test_a_file_in_place_of_the_runs_folder_is_a_wrong_runs_folder(
    runs: Path, deltagclip: Deltagclip
) -> None:
    runs.write_text("mine")
    done = deltagclip("train", "tiny")
    assert done.code == 2
    assert f"{runs}/tiny" in done.err
    assert "--runs DIR" in done.err
    assert runs.read_text() == "mine"


def test_a_folder_that_is_removed_in_mid_training_is_named(
    runs: Path, deltagclip: Deltagclip, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Trainer.evaluate

    def removing(self: Trainer) -> dict[str, float]:
        if self.epoch == 2:
            shutil.rmtree(runs)
        return evaluate(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", removing)
        done = deltagclip("train", "tiny")
    assert done.code == 1
    assert "the folder was removed while it was in use" in done.err
    assert "Traceback" not in done.err
    assert not runs.exists()
    assert deltagclip("train", "tiny").code == 0


# ---------------------------------------------------------------- inputs that cannot be used


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda"], ["--device cuda", "Use --device cpu"]),
        (["--device", "tpu"], ["--device tpu: expected auto, cpu, cuda or cuda:N."]),
        (["--set", "data.batch_size=101"], ["batch_size is 101", "100 samples", "smaller batch"]),
        (["--set", "data.train_samples=101"], ["train_samples is 101", "has 100 samples"]),
        (
            ["--set", "model=resnet18", "--set", "data={name: sphere, batch_size: 8}"],
            ["model resnet18 needs images", "Choose"],
        ),
        (
            ["--set", "data={name: sphere, batch_size: 8, augment: flip}"],
            ["are for images", "Remove both"],
        ),
        (
            ["--set", "optimizers.delta-gclip={name: sgd, nesterov: true}"],
            ["optimizer 'sgd' refuses its options", "Nesterov"],
        ),
    ],
    ids=["no GPU", "no such device", "batch", "samples", "model", "augmentation", "optimizer"],
)
def test_what_cannot_be_used_is_a_wrong_input_and_leaves_nothing(
    arguments: list[str], words: list[str], runs: Path, deltagclip: Deltagclip
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = deltagclip("train", "tiny", *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.out + done.err
    assert not runs.exists()


def test_missing_data_are_named_with_the_next_step(
    tmp_path: Path, runs: Path, deltagclip: Deltagclip
) -> None:
    data = "data={name: image_folder, path: pictures, image_size: 32, batch_size: 8}"
    done = deltagclip("train", "tiny", "--data", tmp_path / "none", "--set", data)
    assert done.code == 2
    assert str(tmp_path / "none" / "pictures") in done.err
    assert "--data" in done.err
    assert not runs.exists()


def test_a_folder_made_from_another_spec_is_refused(
    deltagclip: Deltagclip, only_folder: OnlyFolder
) -> None:
    assert deltagclip("train", "tiny").code == 0
    folder = only_folder()
    text = folder.trial_file.read_text()
    folder.trial_file.write_text(text.replace("gamma: 0.7", "gamma: 0.5"))
    folder.result_file.unlink()
    done = deltagclip("train", "tiny")
    assert done.code == 2
    assert "made from another spec: optimizer.gamma (0.5 then, 0.7 now)" in done.err
    assert len(records(folder)) == 3, "nothing in it was touched"


# ---------------------------------------------------------------- failures of a trial


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes the sixth batch of a training fail."""

    def fail(error: Exception) -> None:
        seen, call = [], Classify.__call__

        def called(self: Classify, *args: Any) -> Any:
            model, inputs, _ = args
            if model.training and type(inputs) is torch.Tensor:  # not of what was tried out before
                seen.append(1)
            if len(seen) == 6:
                raise error
            return call(self, *args)

        monkeypatch.setattr(Classify, "__call__", called)

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
            "the GPU's memory is full.\n  Use a smaller data.batch_size",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 GiB"),
            "the memory of this machine is full.\n  Use a smaller data.batch_size",
        ),
    ],
)
def test_memory_that_is_full_is_said_in_words(
    error: Exception,
    said: str,
    failing: Callable[[Exception], None],
    deltagclip: Deltagclip,
    only_folder: OnlyFolder,
) -> None:
    failing(error)
    done = deltagclip("train", "tiny")
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.out + done.err
    assert str(error) in only_folder().error_file.read_text()


def test_an_error_nobody_foresaw_is_one_line_and_its_traceback_is_kept(
    failing: Callable[[Exception], None],
    deltagclip: Deltagclip,
    only_folder: OnlyFolder,
    undisturbed: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(RuntimeError("a dragon"))
    done = deltagclip("train", "tiny")
    folder = only_folder()
    assert done.code == 1
    assert f"error: {folder.path}: the trial failed: RuntimeError: a dragon." in done.err
    assert "error.txt" in done.err
    assert "Traceback" not in done.out + done.err
    assert folder.state == "failed"
    assert "Traceback" in folder.error_file.read_text()
    assert len(records(folder)) == 1

    monkeypatch.undo()
    assert deltagclip("train", "tiny").code == 0
    assert_same_numbers(folder, undisturbed(folder))
    assert not folder.error_file.exists()


def test_with_debug_the_error_itself_comes_out(
    failing: Callable[[Exception], None], tiny_spec: Path, runs: Path
) -> None:
    from typer.testing import CliRunner

    from deltagclip_cli.commands.app import app

    failing(RuntimeError("a dragon"))
    words = [str(word) for word in train_command(tiny_spec, runs, "--debug")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception.__cause__, RuntimeError)


def test_a_task_and_a_model_that_do_not_fit_are_named(deltagclip: Deltagclip, runs: Path) -> None:
    done = deltagclip("train", "tiny", "--set", "task=autoencode")
    assert done.code == 2
    assert not runs.exists()
    assert "task autoencode needs a model that returns" in done.err
    assert "Choose the model vae" in done.err
    assert "Traceback" not in done.err


def test_a_loss_that_is_not_finite_is_a_result_and_not_a_crash(
    deltagclip: Deltagclip, only_folder: OnlyFolder
) -> None:
    for words in ("diverged     the loss in training was not finite at step", "diverged already"):
        done = deltagclip("train", "wild")
        assert done.code == 1
        assert words in done.out
        assert done.err == ""
    folder = only_folder()
    assert '"train/loss": null' in folder.metrics_file.read_text()
    assert not folder.error_file.exists()
    read = json.loads(folder.result_file.read_text())
    assert read["diverged"]["epoch"] == 1
    assert 1 < read["diverged"]["step"] <= 4


def test_an_environment_file_that_is_torn_stops_nothing(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(3))
    folder = RunFolder.of(runs, trial)
    folder.environment_file.write_text('[{"started": ')
    assert train(trial, runs) is Ending.FINISHED
    assert len(json.loads(folder.environment_file.read_text())) == 1
