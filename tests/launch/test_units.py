"""Trials that train in one stack: how they are put together, and what becomes of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from test_supervisor import HOST, PID, FakeWorker, Seen, finish, own
from tiny_spec import trials_of

from deltagclip_cli.core import ClaimedError
from deltagclip_cli.launch import supervisor
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import End, PlannedQueue, Supervisor
from deltagclip_cli.plan.planned import Planned, Unit, look_up, name_of, said_of_units, units_of
from deltagclip_cli.runs.folder import Heartbeat, RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create, hold
from deltagclip_cli.spec.trial import Trial

FINISHED = End(State.FINISHED)
THREE = "stack=3", "seeds=[0, 1]"


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    """Two seeds of sgd and two of delta-gclip, for stacks of three."""
    return look_up(trials_of(tmp_path, *THREE), tmp_path / "runs")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def named(units: list[Unit]) -> list[list[str]]:
    return [[each.short_name for each in unit] for unit in units]


def test_stacks_are_filled_in_order_and_others_keep_their_places(
    planned: list[Planned], tmp_path: Path
) -> None:
    alone = look_up(trials_of(tmp_path), tmp_path / "runs")
    wider = look_up(trials_of(tmp_path, "stack=4"), tmp_path / "runs")
    mixed = [planned[0], alone[0], wider[0], *planned[1:], alone[1], wider[1]]
    assert named(units_of(mixed)) == [
        ["sgd · seed 0", "sgd · seed 1", "delta-gclip · seed 0"],
        ["sgd · seed 0"],
        ["sgd · seed 0", "delta-gclip · seed 0"],
        ["delta-gclip · seed 1"],
        ["delta-gclip · seed 0"],
    ]
    assert said_of_units(units_of(mixed)) == " (6 in 3 stacks)"
    assert said_of_units(units_of(alone)) == ""
    assert name_of(tuple(planned[:3])) == "tiny · sgd · seed 0 + 2 stacked"


def test_what_begins_afresh_is_not_stacked_with_what_goes_on(planned: list[Planned]) -> None:
    """For a worker is told once for all."""
    first, *others = planned
    units = units_of([replace(first, afresh=True), *others])
    assert list(map(len, units)) == [1, 3]


def test_a_queue_stacks_what_is_free_when_it_is_asked(
    planned: list[Planned], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_SECONDS_UNTIL_NEXT_LOOK", -1.0)
    for each in planned:
        create(each.folder, each.trial)
    queue = PlannedQueue(planned)
    others = stack.enter_context(ExitStack())
    others.enter_context(hold(planned[1].folder))
    finish(planned[2])
    assert queue.take() == (planned[0], planned[3])
    assert queue.ended_elsewhere() == [planned[2]]
    assert queue.take() == () and not queue.is_over()
    others.close()
    assert queue.take() == (planned[1],)
    assert queue.is_over()


# ---------------------------------------------------------------- workers of several trials


Start = Callable[[Unit, Slot], FakeWorker]


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at workers without a pause."""
    monkeypatch.setattr(supervisor, "_SECONDS_BETWEEN_LOOKS", 0.001)


class ByName(Seen):
    """A watcher that remembers each trial, and which started together."""

    def __init__(self) -> None:
        super().__init__()
        self.units: list[list[str]] = []

    def started(self, unit: Unit, slot: Slot) -> None:
        self.units.append([each.short_name for each in unit])

    def ended(self, planned: Planned, end: End) -> None:
        self.ends[planned.short_name] = end


def supervise(
    queue: PlannedQueue, start: Start, seen: ByName | None = None, *, fail_fast: bool = False
) -> ByName:
    seen = seen or ByName()
    slots = [Slot("cpu", "cpu")]
    Supervisor(queue, slots, start, seen, lambda: False, fail_fast=fail_fast).run()
    return seen


def beat(planned: Planned) -> None:
    heart = Heartbeat(host=HOST, pid=PID, device="cpu", epoch=1, epochs=2, done=0.5)
    planned.folder.progress_file.write_text(json.dumps(asdict(heart)))


def test_each_member_ends_as_its_own_files_say(planned: list[Planned]) -> None:
    def start(unit: Unit, slot: Slot) -> FakeWorker:
        for each in unit:
            if each is planned[1]:
                HeldFolder(each.folder).record_failure(ValueError("its own"), "its own fault")
            else:
                finish(each)
        return FakeWorker(1)

    seen = supervise(PlannedQueue(planned), start)
    assert list(map(len, seen.units)) == [3, 1]
    assert seen.ends.pop("sgd · seed 1") == End(State.FAILED, "its own fault")
    assert list(seen.ends.values()) == [FINISHED] * 3


def test_a_worker_that_is_killed_interrupts_those_that_had_not_ended(
    planned: list[Planned],
) -> None:
    """One has finished, one has begun, and one was still loading its data."""

    def start(unit: Unit, slot: Slot) -> FakeWorker:
        finish(unit[0])
        beat(unit[1])
        return FakeWorker(-9)

    first = planned[:3]
    seen = supervise(PlannedQueue(first), start)
    killed = "killed by SIGKILL, by hand or by the system for want of memory"
    assert list(seen.ends.values()) == [FINISHED] + [End(State.INTERRUPTED, killed)] * 2
    assert [each.folder.reason for each in first] == ["", killed, killed]


def test_a_crash_is_the_fault_of_those_alone_that_had_not_begun(planned: list[Planned]) -> None:
    def crash(unit: Unit, slot: Slot) -> FakeWorker:
        beat(unit[0])
        return FakeWorker(-11)

    seen = supervise(PlannedQueue(planned[:2]), crash)
    ends = [End(state, "killed by SIGSEGV") for state in (State.INTERRUPTED, State.FAILED)]
    assert list(seen.ends.values()) == ends


def test_the_last_words_of_a_worker_are_the_failure_of_all_that_it_had(
    planned: list[Planned],
) -> None:
    worker = FakeWorker(1, "Traceback:\nImportError: no torch")
    seen = supervise(PlannedQueue(planned[:3]), lambda unit, slot: worker)
    failed = End(State.FAILED, "the worker ended with exit code 1: ImportError: no torch")
    assert list(seen.ends.values()) == [failed] * 3
    assert all("no torch" in each.folder.error_file.read_text() for each in planned[:3])


class Lasting(FakeWorker):
    """Goes on until it is asked to stop, or told to end."""

    def __init__(self) -> None:
        super().__init__(None)

    def end(self) -> None:
        self.exit_code = 0
        os.close(self._end)


def test_a_member_that_ends_is_told_of_while_the_others_go_on(planned: list[Planned]) -> None:
    told: list[tuple[str, State]] = []
    running: list[int] = []

    class Ending(ByName):
        """Lets the second member end when all run, and then the others."""

        def ended(self, planned: Planned, end: End) -> None:
            super().ended(planned, end)
            told.append((planned.short_name, end.state))

        def looked(self, now: Sequence[tuple[Unit, Slot]]) -> None:
            ((unit, _),) = now
            running.append(len(unit))
            if running[-1] == 3:
                finish(planned[1])
            elif running[-1] == 2:
                finish(planned[0])
                finish(planned[2])
            else:
                worker.end()

    worker = Lasting()
    supervise(PlannedQueue(planned[:3]), lambda unit, slot: worker, Ending())
    assert told[0] == ("sgd · seed 1", State.FINISHED)
    assert {name for name, _ in told[1:]} == {"sgd · seed 0", "delta-gclip · seed 0"}
    assert [*dict.fromkeys(running)] == [3, 2, 0]


def test_a_member_that_fails_stops_the_others_of_a_hasty_sweep(planned: list[Planned]) -> None:
    worker = Lasting()

    def start(unit: Unit, slot: Slot) -> FakeWorker:
        HeldFolder(unit[1].folder).record_failure(ValueError("why"), "why")
        return worker

    seen = supervise(PlannedQueue(planned), start, fail_fast=True)
    assert seen.units == [["sgd · seed 0", "sgd · seed 1", "delta-gclip · seed 0"]]
    assert seen.ends["sgd · seed 1"] == End(State.FAILED, "why")
    saved = End(State.INTERRUPTED, "stopped with a checkpoint")
    assert [seen.ends[each.short_name] for each in (planned[0], planned[2])] == [saved] * 2


def test_a_member_whose_folder_another_process_took_is_left_to_it(
    planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One before the start, and one while the stack trains."""
    refused: list[Planned] = []

    def taken_at_first(folder: RunFolder, trial: Trial) -> None:
        if folder == planned[0].folder and not refused:
            refused.append(planned[0])
            raise ClaimedError("another process is working in this run folder")
        create(folder, trial)

    starts: list[Unit] = []

    def start(unit: Unit, slot: Slot) -> FakeWorker:
        starts.append(unit)
        for each in unit:
            if each is planned[1] and len(starts) == 1:
                own(each, pid=PID + 1)
            else:
                finish(each)
        return FakeWorker(0)

    monkeypatch.setattr(supervisor, "create", taken_at_first)
    monkeypatch.setattr(supervisor, "_SECONDS_UNTIL_NEXT_LOOK", -1.0)
    seen = supervise(PlannedQueue(planned[:3]), start)
    assert starts[0] == (planned[1], planned[2])
    assert sum(map(len, starts)) == 4, "both were looked at again, and run"
    assert list(seen.ends.values()) == [FINISHED] * 3


@pytest.mark.parametrize("doubtful", [1, 3])
def test_a_stack_is_given_up_only_with_all_its_members(
    planned: list[Planned], doubtful: int
) -> None:
    worker = Lasting()

    class Doubtful(PlannedQueue):
        looks = 0

        def give_up(self, each: Planned) -> str:
            self.looks += 1
            if self.looks > 6 and worker.exit_code is None:
                for member in planned[:3]:
                    finish(member)
                worker.end()
            return "worse" if each in planned[:doubtful] else ""

    seen = supervise(Doubtful(planned[:3]), lambda unit, slot: worker)
    ends = {end.state for end in seen.ends.values()}
    assert ends == ({State.PRUNED} if doubtful == 3 else {State.FINISHED})
