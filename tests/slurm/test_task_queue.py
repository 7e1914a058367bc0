"""The trials of a task, and what is left to other copies of it and to other jobs."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from run_cases import result_text
from tiny_spec import trials_of

from deltagclip_cli.launch import supervisor
from deltagclip_cli.launch.supervisor import End
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs import folder as run_folder
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import create, hold
from deltagclip_cli.slurm.task import JobQueue

HERE, THERE = "here", "another-node"
SELF, OTHER = "17_0", "18_3"


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    """A trial of sgd and one of delta-gclip, begun and belonging to nobody."""
    found = look_up(trials_of(tmp_path), tmp_path / "runs")
    for each in found:
        create(each.folder, each.trial)
    return found


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once at what was left."""
    monkeypatch.setattr(supervisor, "_SECONDS_UNTIL_NEXT_LOOK", -1.0)


def named(host: str) -> str:
    return socket.gethostname() if host == HERE else host


def own(planned: Planned, job: str, host: str, age: float | None = None, restart: int = 0) -> None:
    """Make a trial another process's, with a heartbeat of some age or without any."""
    owner = {"token": "t", "host": named(host), "pid": 1, "job": job, "restart": restart}
    planned.folder.owner_file.write_text(json.dumps(owner))
    if age is not None:
        beat = {
            "host": named(host),
            "pid": 1,
            "device": "cpu",
            "epoch": 1,
            "epochs": 2,
            "done": 0.0,
        }
        planned.folder.progress_file.write_text(json.dumps({**beat, "time": time.time() - age}))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


TAKEN, LEFT, WAITED_FOR, DOUBTED = "taken", "left", "waited for", "left after another beat"


@pytest.mark.parametrize(
    ("owner", "host", "age", "is_claimed", "job", "fate"),
    [
        # nobody's
        (None, HERE, None, False, SELF, TAKEN),
        # its own old self: waited for while its claim is seen, and else taken over
        (SELF, HERE, 1.0, True, SELF, WAITED_FOR),
        (SELF, THERE, 1.0, True, SELF, WAITED_FOR),
        (SELF, THERE, 1.0, False, SELF, TAKEN),
        (SELF, HERE, 1.0, False, SELF, TAKEN),
        # another job's, or a sweep's outside of Slurm
        (OTHER, HERE, 1.0, True, SELF, LEFT),
        (OTHER, THERE, 1.0, True, SELF, LEFT),
        (OTHER, THERE, 1.0, False, SELF, DOUBTED),
        ("", THERE, 1.0, False, SELF, DOUBTED),
        ("", HERE, 1.0, True, SELF, LEFT),
        (None, HERE, None, True, SELF, LEFT),
        # an owner that is no more
        (OTHER, THERE, 3600.0, False, SELF, TAKEN),
        (OTHER, THERE, None, False, SELF, TAKEN),
        (OTHER, HERE, 1.0, False, SELF, TAKEN),
        # a task that somebody runs by hand has no old self
        ("", HERE, 1.0, True, "", LEFT),
        ("", THERE, 1.0, False, "", DOUBTED),
        ("", HERE, 1.0, False, "", TAKEN),
    ],
)
def test_what_becomes_of_a_trial_depends_on_whose_it_is(
    planned: list[Planned],
    stack: ExitStack,
    owner: str | None,
    host: str,
    age: float | None,
    is_claimed: bool,
    job: str,
    fate: str,
) -> None:
    trial, _ = planned
    if owner is not None:
        own(trial, owner, host, age)
    stack.enter_context(hold(trial.folder) if is_claimed else nullcontext())
    queue = JobQueue([trial], job)
    assert queue.take() == ((trial,) if fate == TAKEN else ())
    assert queue.left == ([trial] if fate == LEFT else [])
    assert queue.is_over() is (fate in (TAKEN, LEFT))
    if fate == DOUBTED:
        own(trial, owner or "", host, 0.5)
        assert queue.take() == ()
        assert queue.left == [trial]
        assert queue.is_over()


def test_the_last_beat_of_a_killed_process_is_not_believed_for_long(
    planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, _ = planned
    own(trial, OTHER, THERE, 1.0)
    queue = JobQueue([trial], SELF)
    assert (queue.take(), queue.take(), queue.left) == ((), (), [])
    monkeypatch.setattr(run_folder, "_LONG_SILENCE_SECONDS", 0.0)
    assert queue.take() == (trial,)


def test_the_old_self_is_taken_over_as_soon_as_it_ends(planned: list[Planned]) -> None:
    trial, _ = planned
    own(trial, SELF, HERE, 1.0)
    queue = JobQueue([trial], SELF)
    with hold(trial.folder):
        assert queue.take() == ()
    assert queue.take() == (trial,)
    assert queue.is_over()


def test_what_the_old_self_finishes_is_not_run_again(planned: list[Planned]) -> None:
    trial, _ = planned
    own(trial, SELF, HERE, 1.0)
    queue = JobQueue([trial], SELF)
    with hold(trial.folder):
        assert queue.take() == ()
        trial.folder.result_file.write_text(result_text(identity=trial.trial.identity))
    assert queue.take() == ()
    assert queue.ended_elsewhere() == [trial]
    assert queue.is_over()


def test_who_works_on_what_is_left_is_said(
    planned: list[Planned], caplog: pytest.LogCaptureFixture
) -> None:
    trial, other = planned
    own(trial, OTHER, THERE, 1.0)
    queue = JobQueue(planned, SELF)
    with caplog.at_level(logging.WARNING), hold(trial.folder):
        assert queue.take() == (other,), "the others are run in their order"
    assert "tiny · sgd · seed 0: job 18_3 on another-node (process 1) works on it." in caplog.text


@pytest.mark.parametrize(("job", "is_over"), [(OTHER, True), (SELF, False)])
def test_a_trial_that_is_taken_over_while_it_runs_is_left_too(
    planned: list[Planned], job: str, is_over: bool
) -> None:
    trial, _ = planned
    queue = JobQueue([trial], SELF)
    assert queue.take() == (trial,)
    own(trial, job, THERE, 1.0)
    with hold(trial.folder):
        queue.ended(trial, End(State.NEW, elsewhere=True))
    assert queue.left == ([trial] if is_over else [])
    assert queue.is_over() is is_over


@pytest.mark.parametrize(("job", "restart"), [(OTHER, 0), (OTHER, 5), (SELF, 2), ("", 0)])
def test_a_trial_that_was_taken_over_is_not_taken_back_where_claims_are_not_seen(
    planned: list[Planned], job: str, restart: int
) -> None:
    trial, _ = planned
    queue = JobQueue([trial], SELF, restart=1)
    assert queue.take() == (trial,)
    own(trial, job, THERE, restart=restart)  # it has yet to say how far it is
    queue.ended(trial, End(State.NEW, elsewhere=True))
    assert queue.left == [trial]
    assert queue.take() == ()
    assert queue.is_over()


@pytest.mark.parametrize(
    ("state", "failed"), [(State.FAILED, True), (State.FINISHED, False), (State.INTERRUPTED, False)]
)
def test_a_failed_trial_is_remembered(planned: list[Planned], state: State, failed: bool) -> None:
    queue = JobQueue(planned, SELF)
    for each in planned:
        assert queue.take() == (each,)
    assert queue.take() == ()
    queue.ended(planned[0], End(state))
    assert queue.any_failed is failed


def test_a_trial_that_another_process_works_on_has_not_failed_yet(planned: list[Planned]) -> None:
    queue = JobQueue(planned, SELF)
    queue.take()
    queue.ended(planned[0], End(State.FAILED, elsewhere=True))  # by what it left the last time
    assert not queue.any_failed
