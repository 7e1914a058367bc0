"""What the processes of one trial hear of each other, and what they make of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from halting import halt, proceed
from ranks_cases import FORKSERVER
from training_cases import trial_of

from deltagclip_cli.core import (
    DeltaGClipError,
    ExitCode,
    LostNodeError,
    RankFailedError,
    RankLostError,
    UsageError,
)
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import WitnessedFolder, create
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import worker
from deltagclip_cli.training.ranks import watch
from deltagclip_cli.training.ranks.process_group import Rendezvous, attend
from deltagclip_cli.training.ranks.watch import Beats, Watch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)

PATIENCE_SECONDS = 300.0  # the machine may be busy
AWAY = RuntimeError("gloo: Connection closed by peer")


@dataclass
class Others:
    """Stand in for the processes that this one has started."""

    said: str = ""
    killed: threading.Event = field(default_factory=threading.Event)

    def lost(self) -> str:
        return self.said

    def kill(self) -> None:
        self.killed.set()


@pytest.fixture
def trial() -> Trial:
    return trial_of(devices=3)


@pytest.fixture
def watched(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Rendezvous, Others], Watch]]:
    """Begins to watch, at a short period."""
    monkeypatch.setattr(watch, "PERIOD_SECONDS", 0.02)
    ends: list[Callable[[], None]] = []

    def make(rendezvous: Rendezvous, others: Others) -> Watch:
        beats = Beats(rendezvous, trial.ranks)
        made = Watch(WitnessedFolder(RunFolder(tmp_path)), trial, rendezvous, others, beats)
        ends.extend([made.end, beats.end])
        return made

    yield make
    for end in ends:
        end()


@pytest.fixture
def first() -> Rendezvous:
    """The first rank, which has the store."""
    store = Rendezvous(0, "localhost", 0).store(is_master=True)
    return Keeping(0, "localhost", store.port, kept=store)


@dataclass(frozen=True)
class Keeping(Rendezvous):
    kept: object = None


def attends(error: BaseException, folder: Path, port: int) -> None:
    """Be a rank whose training raises an error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    worker.run_trial = fail  # type: ignore[assignment]
    code = attend(
        folder,
        Rendezvous(2, "localhost", port),
        data_dir=folder,
        device="cpu",
        threads=1,
        download=False,
    )
    os._exit(code)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (UsageError("no such data.\n  Fetch it."), UsageError, "no such data.\n  Fetch it."),
        (ValueError("a hole"), RankFailedError, "ValueError: a hole."),
        (RuntimeError("CUDA error: unknown error"), RankLostError, "the GPU is lost: CUDA error"),
    ],
)
def test_what_befell_another_rank_is_told_as_what_it_is(
    error: Exception,
    kind: type[DeltaGClipError],
    said: str,
    trial: Trial,
    first: Rendezvous,
    watched: Callable[[Rendezvous, Others], Watch],
    tmp_path: Path,
) -> None:
    create(RunFolder(tmp_path), trial)
    process = FORKSERVER.Process(target=attends, args=(error, tmp_path, first.port))
    process.start()
    store, end = first.store(), time.monotonic() + PATIENCE_SECONDS
    while not store.check(["failed"]):
        assert time.monotonic() < end, "in vain waited for the other rank to fail"
        time.sleep(0.01)
    with pytest.raises(kind) as told:
        watched(first, Others()).explain(AWAY)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == ExitCode.FAILED
    assert f"rank 2 (process {process.pid} on {socket.gethostname()}): {said}" in str(told.value)
    has_traceback = "raise error\nValueError: a hole" in str(told.value)
    assert has_traceback == (kind is RankFailedError)


def test_a_node_is_lost_with_the_step_that_has_ended_there(
    first: Rendezvous,
    watched: Callable[[Rendezvous, Others], Watch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_TELLING_SECONDS", 0.0)
    others = Others(f"{LostNodeError.reason}: the step on the other nodes (process 7) has ended")
    with pytest.raises(LostNodeError, match="the step on the other nodes"):
        watched(first, others).explain(AWAY)
    assert others.killed.is_set()


def test_an_error_of_its_own_is_left_to_a_rank(
    first: Rendezvous, watched: Callable[[Rendezvous, Others], Watch]
) -> None:
    watched(first, Others()).explain(ValueError("a hole"))


def test_whoever_comes_late_and_is_ready_at_once_is_not_called_silent(
    first: Rendezvous, watched: Callable[[Rendezvous, Others], Watch]
) -> None:
    looks, store = watched(first, Others()), first.store()
    looks.end()
    assert not looks._silent()
    looks._clock += watch.MEETING_SECONDS - 1  # in which the others have started
    assert not looks._silent()
    for number in (1, 2):
        store.set(f"here/{number}", "")
    looks.meet(store)
    assert not looks._silent()
    looks._clock += watch.SILENT_SECONDS + 1
    assert "has told nothing for 30 seconds" in looks._silent()


def leads(told: Connection) -> None:
    """Be a first rank that is there, and does nothing."""
    store = Rendezvous(0, "localhost", 0).store(is_master=True)
    Beats(Rendezvous(0, "localhost", store.port), 1)
    told.send(store.port)
    time.sleep(PATIENCE_SECONDS)


@pytest.fixture
def other_first() -> Iterator[tuple[BaseProcess, int]]:
    """A first rank in a process of its own, and its port."""
    mine, its = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=leads, args=(its,))
    process.start()
    yield process, mine.recv()
    process.kill()
    process.join()


def test_of_a_first_rank_that_is_halted_the_second_tells(
    other_first: tuple[BaseProcess, int],
    watched: Callable[[Rendezvous, Others], Watch],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its store answers nothing then, and whoever asks it waits without end."""
    process, port = other_first
    assert process.pid is not None
    rendezvous, others = Rendezvous(1, "localhost", port), Others()
    looks = watched(rendezvous, others)
    end = time.monotonic() + PATIENCE_SECONDS
    while 0 not in looks._beats.names:
        assert time.monotonic() < end, "in vain waited for the first rank"
        time.sleep(0.01)
    halt(process.pid)
    assert not others.killed.is_set()
    looks._silence = 0.2
    assert others.killed.wait(PATIENCE_SECONDS)
    who = f"process {process.pid} on {socket.gethostname()}"
    said = capsys.readouterr().err
    assert f"Rank 0 ({who}) has told nothing for 0 seconds, so the other ranks end." in said
    proceed(process.pid)
