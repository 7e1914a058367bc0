"""Two processes in one run folder, as on a file system without locks: the later one owns it.

The lock is broken for real, by deleting ``.lock`` while the first process holds it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from halting import halt, is_halted, proceed
from training_cases import (
    ENVIRONMENT,
    MOMENTUM,
    Done,
    StopAt,
    assert_same_numbers,
    checkpoint,
    come_second,
    finish,
    leftovers,
    records,
    train,
    trial_of,
)

from deltagclip_cli.core import ExitCode, TakenOverError, TrialError
from deltagclip_cli.parts.tasks.classify import Classify
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create, read_owner
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.program import Eager
from deltagclip_cli.training.sinks import Sink
from deltagclip_cli.training.trainer import Ending, Trainer

Content = dict[str, tuple[int, bytes]]
PATIENCE_SECONDS = 300.0  # the machine may be busy


def content(folder: RunFolder) -> Content:
    """Every file with its bytes and the moment when it was written."""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.path.iterdir()
    }


@pytest.fixture
def undisturbed(tmp_path: Path) -> Callable[[Trial], RunFolder]:
    """Trains a trial elsewhere, in this process."""

    def run(trial: Trial) -> RunFolder:
        assert train(trial, tmp_path / "undisturbed") is Ending.FINISHED
        return RunFolder.of(tmp_path / "undisturbed", trial)

    return run


# ---------------------------------------------------------------- one inside of the other


class Newcomer:
    """Wraps a function: the n-th time it is called for a file, another start comes first."""

    def __init__(self, trial: Trial, runs: Path, *, name: str = "", time: int = 1) -> None:
        self.folder = RunFolder.of(runs, trial)
        self.left: Content = {}  # when it was over
        self._train = lambda: train(trial, runs)
        self._name, self._times = name, time

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            if any(self._name in str(each) for each in args):
                self._times -= 1
                if self._times == 0:
                    self.folder.lock_file.unlink()
                    assert self._train() is Ending.FINISHED
                    self.left = content(self.folder)
            return function(*args, **options)

        return called


MOMENTS = {
    "before the first look": ("worker.record_start", "", 1),
    "before the checkpoint is read": (
        "checkpoints.Checkpoints.where_to_continue",
        "",
        1,
    ),
    "before the records are written": (
        "sinks.JsonLines.begin",
        "",
        1,
    ),
    "before the first beat": (
        "sinks.HeartbeatWriter.begin",
        "",
        1,
    ),
    "in the first epoch": ("program.Eager.step", "", 2),
    "in a later one": ("program.Eager.step", "", 7),
    "in the evaluation": ("trainer.Trainer.evaluate", "", 2),
    "before a checkpoint": ("checkpoints.Checkpoints.save", "", 2),
    "in a checkpoint": ("torch.save", "", 2),
    "on the way to the disk": ("os.fsync", "", 9),
    "in its rename": ("pathlib.Path.replace", ".checkpoint.next.pt", 2),
    "before its second rename": ("pathlib.Path.exists", "/checkpoint.pt", 3),
    "in its last rename": ("pathlib.Path.replace", "/checkpoint.next.pt", 2),
    "before the result": ("worker.result_of", "", 1),
    "in the result": ("json.dumps", "best", 1),
    "in its own rename": ("pathlib.Path.replace", ".result.json", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_was_taken_over_writes_nothing_more(
    moment: str,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[Trial], RunFolder],
) -> None:
    """Not even if it notices by another error, such as that of a file which it missed."""
    trial = trial_of(MOMENTUM, log_every=3)
    place, name, times = MOMENTS[moment]
    ours = place.partition(".")[0] not in ("torch", "os", "pathlib", "json")
    function = f"deltagclip_cli.training.{place}" if ours else place
    newcomer = Newcomer(trial, runs, name=name, time=times)
    with monkeypatch.context() as patch:
        patch.setattr(function, newcomer.before(resolve_name(function)))
        with pytest.raises(TakenOverError, match="this process stops writing"):
            train(trial, runs)
    assert newcomer.left, "the newcomer came"
    assert content(newcomer.folder) == newcomer.left
    assert not newcomer.folder.owner_file.exists()
    assert_same_numbers(newcomer.folder, undisturbed(trial))


def test_a_failure_is_not_written_into_the_folder_of_another(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of()
    newcomer = Newcomer(trial, runs, time=6)

    def failing(*args: Any) -> Any:
        if newcomer.left:
            raise ValueError("of the one that was taken over")
        return classify(*args)

    classify = Classify.__call__
    monkeypatch.setattr(Eager, "step", newcomer.before(Eager.step))
    monkeypatch.setattr(Classify, "__call__", failing)
    with pytest.raises(TakenOverError):
        train(trial, runs)
    assert content(newcomer.folder) == newcomer.left


def test_a_start_from_nothing_takes_over_too(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of()
    newcomer = Newcomer(trial, runs, time=6)
    newcomer._train = lambda: train(trial, runs, force=True)
    monkeypatch.setattr(Eager, "step", newcomer.before(Eager.step))
    with pytest.raises(TakenOverError):
        train(trial, runs)
    assert content(newcomer.folder) == newcomer.left


def test_who_ends_as_it_should_gives_the_folder_back(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = []

    class Looking(Sink):
        def batch(self, step: int, samples: int) -> None:
            owners.append(read_owner(folder))

    def ends(trial: Trial, **options: Any) -> Ending:
        ending = train(trial, runs, sinks=[Looking()], **options)
        assert {owner.pid for owner in owners if owner} == {os.getpid()}
        assert None not in owners
        return ending

    folder = RunFolder.of(runs, trial_of())
    assert ends(trial_of(), stop=StopAt(2)) is Ending.STOPPED
    assert not folder.owner_file.exists()

    def fail(self: Trainer) -> None:
        raise ValueError("why")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate", fail)
        with pytest.raises(TrialError):
            ends(trial_of())
    assert folder.error_file.exists()
    assert not folder.owner_file.exists()
    assert ends(trial_of()) is Ending.FINISHED
    assert not folder.owner_file.exists()
    assert len({owner.token for owner in owners if owner}) == 3

    owners.clear()
    wild = trial_of({"name": "sgd", "lr": 1e30})
    folder = RunFolder.of(runs, wild)
    assert ends(wild) is Ending.DIVERGED
    assert not folder.owner_file.exists()


# ---------------------------------------------------------------- two processes

# Runs a worker that halts itself in the n-th fsync of a file with some words in its name.
HALTING = """
import os, signal, sys
words, left = sys.argv.pop(1), int(sys.argv.pop(1))
fsync = os.fsync

def halting(number):
    global left
    left -= words in os.readlink(f"/proc/self/fd/{number}")
    if left == 0:
        left = -1
        os.kill(os.getpid(), signal.SIGSTOP)
    fsync(number)

os.fsync = halting
from deltagclip_cli.commands.main import main
main()
"""


class Processes:
    """Workers of one run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *halt: object) -> subprocess.Popen[str]:
        """Start a worker, perhaps one that halts itself: in the fsync of which file, which time."""
        program = ["-c", HALTING, *map(str, halt)] if halt else ["-m", "deltagclip_cli"]
        command = [sys.executable, *program, "worker", str(self.folder.path), "--device", "cpu"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,  # nobody reads it while they run
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "SLURM_JOB_ID": str(71 + len(self.started))},
            preexec_fn=come_second,
        )
        self.started.append(process)
        return process

    def start_in_a_broken_lock(self) -> subprocess.Popen[str]:
        """Start a worker that finds no claim, although there is one."""
        self.folder.lock_file.unlink()
        return self.start()

    def wait_for_epochs(self, count: int) -> None:
        self.wait_until(lambda: len(list(self.folder.metrics())) >= count)

    def wait_until_halted(self, process: subprocess.Popen[str]) -> None:
        self.wait_until(lambda: is_halted(process.pid))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, "in vain waited for"
            assert any(each.poll() is None for each in self.started), finish(self.started[-1])
            time.sleep(0.001)


@pytest.fixture
def trial() -> Trial:
    """Short epochs, with a checkpoint of some megabytes now and then."""
    return trial_of(
        MOMENTUM, epochs=200, checkpoint={"epochs": 20}, model={"name": "mlp", "hidden": [64, 512]}
    )


@pytest.fixture
def processes(trial: Trial, runs: Path) -> Iterator[Processes]:
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    made = Processes(folder)
    yield made
    for each in made.started:
        if each.poll() is None:
            each.kill()
        each.communicate()


def assert_gives_way(old: subprocess.Popen[str], folder: RunFolder, words: str) -> None:
    """A process that goes on now ends without having written anything.

    Only of its log it may be about to write a line, having looked whose the folder is.
    """
    before = content(folder)
    proceed(old.pid)
    done: Done = finish(old)
    assert done.code == ExitCode.CLAIMED, done
    assert words in done.err
    assert "Traceback" not in done.err
    after, log = content(folder), folder.log_file.name
    lines = after.pop(log)[1].removeprefix(before.pop(log)[1])
    assert lines.count(b"\n") <= 1, lines
    assert after == before


def assert_complete(folder: RunFolder, expected: RunFolder) -> None:
    assert_same_numbers(folder, expected)
    assert not leftovers(folder.path)
    names = {"owner.json", "error.txt", "stopped.txt", "progress.json"}
    assert not names & set(content(folder))
    assert len(folder.event_files()) == 1


@pytest.mark.slow
def test_one_that_wakes_up_after_the_other_has_finished_writes_nothing(
    trial: Trial, processes: Processes, undisturbed: Callable[[Trial], RunFolder]
) -> None:
    old = processes.start()
    processes.wait_for_epochs(50)
    halt(old.pid)
    done = finish(processes.start_in_a_broken_lock())
    assert done.code == 0, done
    assert_gives_way(old, processes.folder, "owner.json is gone, so another process has worked")
    assert_complete(processes.folder, undisturbed(trial))


@pytest.mark.slow
def test_one_that_wakes_up_while_the_other_works_writes_nothing(
    trial: Trial, processes: Processes, undisturbed: Callable[[Trial], RunFolder]
) -> None:
    old = processes.start()
    processes.wait_for_epochs(30)
    halt(old.pid)
    new = processes.start_in_a_broken_lock()
    processes.wait_for_epochs(100)
    halt(new.pid)
    words = f"job 72 on {os.uname().nodename} (process {new.pid}) has taken over this run folder"
    assert_gives_way(old, processes.folder, words)
    proceed(new.pid)
    done = finish(new)
    assert done.code == 0, done
    assert_complete(processes.folder, undisturbed(trial))


@pytest.mark.slow
def test_one_that_never_sleeps_gives_way_too(
    trial: Trial, processes: Processes, undisturbed: Callable[[Trial], RunFolder]
) -> None:
    old = processes.start()
    processes.wait_for_epochs(10)
    new = processes.start_in_a_broken_lock()
    done = finish(old)
    assert done.code in (0, 2), done  # perhaps it was faster
    assert finish(new).code == 0
    assert_complete(processes.folder, undisturbed(trial))


MOMENTS_ON_DISK = [
    ("environment.json", 1),
    ("metrics.jsonl", 1),  # which is begun
    ("metrics.jsonl", 6),  # before a checkpoint
    (".checkpoint.next.pt.", 1),
    (".checkpoint.next.pt.", 5),
    (".result.json.", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "time"), MOMENTS_ON_DISK)
def test_one_that_is_halted_in_the_middle_of_a_file_leaves_it(
    file: str,
    time: int,
    trial: Trial,
    processes: Processes,
    undisturbed: Callable[[Trial], RunFolder],
) -> None:
    old = processes.start(file, time)
    processes.wait_until_halted(old)
    done = finish(processes.start_in_a_broken_lock())
    assert done.code == 0, done
    assert_gives_way(old, processes.folder, "this process stops writing")
    assert_complete(processes.folder, undisturbed(trial))


@pytest.mark.slow
def test_a_kill_leaves_the_owner_and_the_next_start_replaces_it(
    trial: Trial, processes: Processes, undisturbed: Callable[[Trial], RunFolder]
) -> None:
    folder = processes.folder
    killed = processes.start()
    processes.wait_for_epochs(30)
    killed.kill()
    finish(killed)
    owner = read_owner(folder)
    assert owner is not None
    assert (owner.pid, owner.job) == (killed.pid, "71")
    assert not folder.is_claimed()

    stopped = processes.start()
    processes.wait_until(lambda: read_owner(folder) != owner)
    new = read_owner(folder)
    assert new is not None
    assert (new.pid, new.job) == (stopped.pid, "72")
    step = checkpoint(folder)["step"]
    processes.wait_until(lambda: records(folder)[-1]["step"] > step)
    stopped.send_signal(signal.SIGTERM)
    assert finish(stopped).code == 75
    assert not folder.owner_file.exists()
    assert finish(processes.start()).code == 0
    assert len(json.loads(folder.environment_file.read_text())) == 3
    assert_complete(folder, undisturbed(trial))
