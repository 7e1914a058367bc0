"""The supervisor with workers that are made up: what it makes of how they end."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from run_cases import result_text
from tiny_spec import trials_of

from deltagclip_cli.core import ClaimedError
from deltagclip_cli.launch import supervisor
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import End, PlannedQueue, Supervisor
from deltagclip_cli.plan.planned import Planned, Unit, look_up
from deltagclip_cli.runs.folder import Heartbeat, RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create, hold

Act = Callable[[Planned], int | None]
PID = 12  # of every worker
HOST = socket.gethostname()


class FakeWorker:
    """Ends at once with an exit code; one without a code ends when it is asked to stop."""

    def __init__(self, exit_code: int | None, words: str = "") -> None:
        self.exit_code, self._words = exit_code, words
        self.pid = PID
        self.sentinel, self._end = os.pipe()
        if exit_code is not None:
            os.close(self._end)

    def stop(self) -> None:
        if self.exit_code is None:
            self.exit_code = 75
            os.close(self._end)

    def kill(self) -> None:
        self.stop()

    def forget(self) -> None:
        os.close(self.sentinel)

    def last_words(self) -> str:
        return self._words


class Seen:
    """A watcher that remembers."""

    def __init__(self, *, breaks: type[BaseException] | None = None) -> None:
        self.started_names: list[str] = []
        self.ends: dict[str, End] = {}
        self._breaks = breaks

    def started(self, unit: Unit, slot: Slot) -> None:
        self.started_names += [each.label for each in unit]

    def ended(self, planned: Planned, end: End) -> None:
        self.ends[planned.label] = end

    def looked(self, running: Sequence[tuple[Unit, Slot]]) -> None:
        if self._breaks and len(running) == 2:
            raise self._breaks


def finish(planned: Planned, loss: float = 0.5) -> int:
    text = result_text(identity=planned.trial.identity, last={"loss": loss})
    planned.folder.result_file.write_text(text)
    return 0


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    """A trial of sgd and one of delta-gclip."""
    return look_up(trials_of(tmp_path), tmp_path / "runs")


def run(
    planned: Sequence[Planned],
    act: Act,
    seen: Seen,
    *,
    slots: int = 1,
    fail_fast: bool = False,
    words: str = "",
) -> None:
    supervising = Supervisor(
        PlannedQueue(planned),
        [Slot(f"cpu {number}", "cpu") for number in range(slots)],
        lambda unit, slot: FakeWorker(act(*unit), words),
        seen,
        lambda: False,
        fail_fast=fail_fast,
    )
    supervising.run()


def looked_up_again(planned: Sequence[Planned], tmp_path: Path) -> list[Planned]:
    return look_up([each.trial for each in planned], tmp_path / "runs")


def test_every_trial_is_run_and_its_files_say_how_it_ended(planned: list[Planned]) -> None:
    seen = Seen()
    run(planned, finish, seen)
    assert seen.started_names == ["sgd", "delta-gclip"]
    assert set(seen.ends.values()) == {End(State.FINISHED)}


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (-9, "killed by SIGKILL, by hand or by the system for want of memory"),
        (-15, "killed by SIGTERM"),
        (-40, "killed by signal 40"),
        (75, "stopped with a checkpoint"),
        (255, "how its worker ended is not known: the process that would tell was killed"),
    ],
)
def test_an_end_that_no_file_tells_of_is_written_down(
    planned: list[Planned], exit_code: int, reason: str
) -> None:
    seen = Seen()
    run(planned, lambda each: exit_code, seen)
    assert set(seen.ends.values()) == {End(State.INTERRUPTED, reason)}
    assert [each.folder.reason for each in planned] == [reason] * 2


@pytest.mark.parametrize(
    ("exit_code", "words", "reason"),
    [
        (3, "", "the worker ended with exit code 3"),
        (-11, "", "killed by SIGSEGV"),
        (1, "error: no, it was:\n  Do that.", "the worker ended with exit code 1: no, it was:"),
        (
            1,
            "Traceback:\n  File x\nImportError: no torch",
            "the worker ended with exit code 1: ImportError: no torch",
        ),
        (
            2,
            "Usage: worker\n╭─ Error ──╮\n│ No such option: -d │\n╰──────────╯",
            "the worker ended with exit code 2: No such option: -d",
        ),
        (-6, "terminate called", "killed by SIGABRT: terminate called"),
    ],
)
def test_a_worker_that_ends_by_itself_before_its_training_began_has_failed(
    planned: list[Planned], exit_code: int, words: str, reason: str
) -> None:
    seen = Seen()
    run(planned, lambda each: exit_code, seen, words=words)
    assert set(seen.ends.values()) == {End(State.FAILED, reason)}
    assert words in planned[0].folder.error_file.read_text()


def test_a_crash_in_the_middle_of_a_training_interrupts_it(planned: list[Planned]) -> None:
    def crash(each: Planned) -> int:
        beat = Heartbeat(host=HOST, pid=PID, device="cpu", epoch=1, epochs=2, done=0.5)
        each.folder.progress_file.write_text(json.dumps(asdict(beat)))
        return -11

    seen = Seen()
    run(planned, crash, seen)
    assert set(seen.ends.values()) == {End(State.INTERRUPTED, "killed by SIGSEGV")}


def test_a_worker_that_a_full_disk_ends_at_its_start_is_interrupted(
    planned: list[Planned],
) -> None:
    seen = Seen()
    run(planned, lambda each: 1, seen, words="OSError: [Errno 28] No space left on device")
    assert seen.started_names == ["sgd"]
    full = "the disk is full, or cannot be written any more"
    assert seen.ends["sgd"] == End(State.INTERRUPTED, full)


def test_a_result_that_was_to_be_replaced_and_was_not_is_no_success(
    planned: list[Planned], tmp_path: Path
) -> None:
    for each in planned:
        create(each.folder, each.trial)
        finish(each, loss=1.0)
    os.utime(planned[0].folder.result_file, (0, 0))
    os.utime(planned[1].folder.result_file, (0, 0))
    forced = looked_up_again(planned, tmp_path)

    def act(each: Planned) -> int:
        return finish(each, loss=2.0) if each.label == "sgd" else -9

    seen = Seen()
    run(forced, act, seen)
    assert seen.ends["sgd"] == End(State.FINISHED)
    assert seen.ends["delta-gclip"].state is State.FAILED
    assert seen.ends["delta-gclip"].reason.endswith("the earlier result is kept")


def test_a_trial_that_was_run_again_by_another_sweep_is_not_run_a_third_time(
    planned: list[Planned], tmp_path: Path
) -> None:
    for each in planned:
        create(each.folder, each.trial)
        HeldFolder(each.folder).record_failure(ValueError("why"), "why")
    far = looked_up_again(planned, tmp_path)

    def finish_as_another_fails(each: Planned) -> int | None:
        os.utime(planned[1].folder.error_file, (0, 0))  # whatever its clock says
        return finish(each)

    seen = Seen()
    run(far, finish_as_another_fails, seen)
    assert seen.started_names == ["sgd"]
    assert seen.ends["delta-gclip"] == End(State.FAILED, "why")


def test_one_run_folder_that_cannot_be_made_stops_no_other(planned: list[Planned]) -> None:
    planned[0].folder.path.parent.mkdir(parents=True)
    planned[0].folder.path.touch()
    seen = Seen()
    run(planned, finish, seen)
    assert seen.ends["sgd"].state is State.FAILED
    assert "cannot be read: Not a directory" in seen.ends["sgd"].reason
    assert seen.ends["delta-gclip"] == End(State.FINISHED)


def test_a_worker_that_had_no_room_for_its_reason_stops_the_others(
    planned: list[Planned],
) -> None:
    def fill_the_disk(each: Planned) -> int:
        create(each.folder, each.trial)
        each.folder.stopped_file.touch()
        return 1

    seen = Seen()
    run(planned, fill_the_disk, seen)
    assert seen.started_names == ["sgd"]
    full = "the disk is full, or cannot be written any more"
    assert seen.ends["sgd"] == End(State.INTERRUPTED, full)


def test_fail_fast_starts_no_more(planned: list[Planned]) -> None:
    seen = Seen()
    run(planned, lambda each: -9, seen, fail_fast=True)
    assert seen.started_names == ["sgd"]


@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_workers_may_save_when_nobody_reads_what_the_sweep_prints(
    planned: list[Planned], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        run(planned, lambda each: None, Seen(breaks=error), slots=2)
    assert [each.folder.reason for each in planned] == ["stopped with a checkpoint"] * 2


# ---------------------------------------------------------------- folders that are taken over


def own(planned: Planned, *, pid: int = PID, host: str = HOST, token: str = "new") -> None:
    owner = {"token": token, "host": host, "pid": pid}
    planned.folder.owner_file.write_text(json.dumps(owner))


def files(planned: Planned) -> set[str]:
    return {path.name for path in planned.folder.path.iterdir()}


@pytest.mark.parametrize("other", [{"pid": PID + 1}, {"host": "node7"}])
@pytest.mark.parametrize("exit_code", [2, 75, -9])
def test_a_trial_that_another_process_has_taken_over_is_left_to_it(
    planned: list[Planned], exit_code: int, other: dict[str, Any]
) -> None:
    ends: list[End] = []

    def act(each: Planned) -> int:
        if ends or each.label != "sgd":  # the second time, the other one has finished it
            return finish(each)
        own(each, **other)
        return exit_code

    class Remembering(Seen):
        def ended(self, planned: Planned, end: End) -> None:
            ends.append(end)
            super().ended(planned, end)

    seen = Remembering()
    run(planned, act, seen)
    assert ends[0] == End(State.NEW, elsewhere=True)
    assert set(seen.ends.values()) == {End(State.FINISHED)}
    assert files(planned[0]) == {"trial.yaml", "owner.json", "result.json", ".lock"}


@pytest.mark.parametrize("token", ["old", "new"], ids=["left behind before", "of our worker"])
def test_an_owner_that_was_killed_leaves_a_trial_to_us(planned: list[Planned], token: str) -> None:
    """By an earlier start, which our worker did not come to replace; or our worker itself."""
    for each in planned:
        create(each.folder, each.trial)
        own(each, pid=PID + 1, token="old")

    def act(each: Planned) -> int:
        if token == "new":
            own(each)
        return -9

    seen = Seen()
    run(planned, act, seen)
    assert [each.folder.reason.partition(",")[0] for each in planned] == ["killed by SIGKILL"] * 2
    assert not any(end.elsewhere for end in seen.ends.values())


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_sweep_that_breaks_off_writes_nothing_where_it_was_taken_over(
    planned: list[Planned], is_taken: bool
) -> None:
    def act(each: Planned) -> None:
        own(each, pid=PID + is_taken)

    with pytest.raises(OSError):
        run(planned, act, Seen(breaks=OSError), slots=2)
    assert [each.folder.stopped_file.exists() for each in planned] == [not is_taken] * 2


# ---------------------------------------------------------------- folders that others hold


@pytest.mark.parametrize("exit_code", [76, 255, -9])
def test_nothing_is_written_where_another_process_works_now(
    planned: list[Planned], exit_code: int
) -> None:
    """It began after our worker had ended, or while that was on its way."""
    ends: list[End] = []

    with ExitStack() as others:

        def act(each: Planned) -> int:
            if ends or each.label != "sgd":
                others.close()
                return finish(each)
            others.enter_context(hold(each.folder))
            return exit_code

        class Remembering(Seen):
            def ended(self, planned: Planned, end: End) -> None:
                ends.append(end)
                super().ended(planned, end)

        seen = Remembering()
        run(planned, act, seen)
    assert ends[0] == End(State.NEW, elsewhere=True)
    assert set(seen.ends.values()) == {End(State.FINISHED)}
    assert files(planned[0]) == {"trial.yaml", "result.json", ".lock"}


def test_nothing_is_written_where_another_process_has_finished_the_trial(
    planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at the files and the writing, for which the folder is held."""
    begin_to_hold = supervisor.hold

    def late(folder: RunFolder) -> Any:
        each = next(each for each in planned if each.folder == folder)
        finish(each)
        return begin_to_hold(folder)

    monkeypatch.setattr(supervisor, "hold", late)
    seen = Seen()
    run(planned, lambda each: -9, seen)
    assert set(seen.ends.values()) == {End(State.FINISHED)}
    assert files(planned[0]) == {"trial.yaml", "result.json", ".lock"}


def test_a_trial_whose_folder_is_held_when_its_turn_comes_is_waited_for(
    planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by whoever makes the folder, not yet by the queue."""
    calls = []

    def claimed_at_first(folder: RunFolder, trial: Any) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise ClaimedError("another process is working in this run folder")
        create(folder, trial)

    monkeypatch.setattr(supervisor, "create", claimed_at_first)
    seen = Seen()
    run(planned, finish, seen)
    assert set(seen.ends.values()) == {End(State.FINISHED)}
    assert calls.count(planned[0].folder) == 2
    assert not planned[0].folder.error_file.exists()


@pytest.mark.parametrize(
    ("number", "state"), [(28, "interrupted"), (122, "interrupted"), (13, "failed")]
)
def test_a_folder_without_room_is_no_failure_and_one_without_permission_is(
    planned: list[Planned], monkeypatch: pytest.MonkeyPatch, number: int, state: str
) -> None:
    def refused(path: Path, *words: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("deltagclip_cli.runs.hold.write_text", refused)
    seen = Seen()
    run(planned, finish, seen)
    assert seen.ends["sgd"].state == state
    assert os.strerror(number) in seen.ends["sgd"].reason


class Doubtful(PlannedQueue):
    """Gives up every trial that it is asked about, once it has begun to doubt."""

    doubts = True

    def give_up(self, planned: Planned) -> str:
        return "worse than the others" if self.doubts else ""


def supervise(
    queue: PlannedQueue, act: Act, seen: Seen, should_stop: Callable[[], bool] = lambda: False
) -> None:
    slots = [Slot("cpu", "cpu")]
    Supervisor(
        queue, slots, lambda unit, slot: FakeWorker(act(*unit)), seen, should_stop, fail_fast=False
    ).run()


def test_a_trial_that_is_killed_or_fails_was_not_pruned(planned: list[Planned]) -> None:
    """Nobody asked it to stop: it goes on later, or says why it failed."""
    codes, seen = {"sgd": -9, "delta-gclip": 1}, Seen()
    supervise(Doubtful(planned), lambda each: codes[each.label], seen)
    states = {name: end.state for name, end in seen.ends.items()}
    assert states == {"sgd": State.INTERRUPTED, "delta-gclip": State.FAILED}


def test_a_trial_that_is_stopped_with_the_sweep_was_not_pruned(planned: list[Planned]) -> None:
    queue, seen = Doubtful(planned[:1]), Seen()
    queue.doubts = False

    def should_stop() -> bool:
        queue.doubts = bool(seen.started_names)
        return queue.doubts

    supervise(queue, lambda each: None, seen, should_stop)
    assert seen.ends["sgd"] == End(State.INTERRUPTED, "stopped with a checkpoint")


def test_a_trial_that_gives_itself_up_is_pruned(planned: list[Planned]) -> None:
    """As one does that runs in this process, where nobody else can ask it to stop."""
    seen = Seen()
    supervise(Doubtful(planned), lambda each: 75, seen)
    assert set(seen.ends.values()) == {End(State.PRUNED, "worse than the others")}
