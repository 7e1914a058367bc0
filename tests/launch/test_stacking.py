"""Advice to stack trials, by measurements that are made up but for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import trials_of

from deltagclip_cli.core import UsageError
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.launch.local import LocalLauncher, LocalRunner
from deltagclip_cli.launch.rehearsal.stacking import advice, seconds_of
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import PlannedQueue
from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.console import make_console

TEN = "seeds=[0, 1, 2, 3, 4]"  # of two optimizers


def planned_of(folder: Path, *sets: str) -> list[Planned]:
    return look_up(trials_of(folder, *sets), folder / "runs")


def measured(trials: list[Trial]) -> float:
    """A stack takes twice as long as one of its trials."""
    return 1.0 if trials[0].stack is None else 2.0


@pytest.mark.parametrize(
    ("slots", "words"), [(1, "stack: 10 would train these 10 trials about 5 ×"), (10, "")]
)
def test_what_is_measured_to_be_faster_is_said_with_what_to_write(
    tmp_path: Path, slots: int, words: str
) -> None:
    said = list(advice(planned_of(tmp_path, TEN), slots, measured))
    told = f"tiny: {words} as fast, measured; it is part of their identity."
    assert said == ([told] if words else [])


@pytest.mark.parametrize(
    "sets", [("seeds=[0]",), (TEN, "stack=4")], ids=["too few", "stacked already"]
)
def test_nothing_is_measured_where_nothing_can_be_advised(
    tmp_path: Path, sets: tuple[str, ...]
) -> None:
    assert list(advice(planned_of(tmp_path, *sets), 1, pytest.fail)) == []


def test_what_has_begun_is_left_as_it_is(tmp_path: Path) -> None:
    first, *_ = planned_of(tmp_path, TEN)
    create(first.folder, first.trial)
    HeldFolder(first.folder).record_stop("killed")
    assert list(advice(planned_of(tmp_path, TEN), 1, pytest.fail)) == []


@pytest.mark.parametrize("together", [None, 9.9])
def test_what_cannot_be_stacked_or_is_hardly_faster_so_is_no_advice(
    tmp_path: Path, together: float | None
) -> None:
    answers = iter([1.0, together])
    assert list(advice(planned_of(tmp_path, TEN), 1, lambda trials: next(answers))) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_sweep_says_it_before_it_begins_and_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    planned = planned_of(tmp_path, TEN)
    spec = load_spec(tmp_path / "spec.yaml", ["tiny"], [TEN])
    ran: list[PlannedQueue] = []

    def call(self: LocalRunner, function: object, *words: object, **options: object) -> object:
        if function is not seconds_of:
            return None
        if fails:
            raise UsageError("the GPU is lost")
        trials, _, device = words
        assert device == "cuda:0"
        return measured(trials)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalRunner, "call", call)
    monkeypatch.setattr(LocalRunner, "slots", [Slot("cuda:0", "cuda:0")])
    monkeypatch.setattr(LocalRunner, "run", lambda self, queue, watcher: ran.append(queue))
    request = SweepRequest(
        spec=spec, runs=tmp_path / "runs", data=tmp_path, console=make_console(), quiet=False
    )
    queue = PlannedQueue(planned)
    trials = [each.trial for each in planned]
    LocalLauncher(request).launch(queue, trials, Estimates(), may_stack=planned)
    assert ran == [queue]
    assert ("stack: 10 would train" in capsys.readouterr().out) is not fails


@pytest.mark.slow
def test_trials_are_measured_alone_and_together_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.disable", lambda: None)  # this process has other tests, too
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alone = trials_of(tmp_path)[:1]
    for trials in (alone, trials_of(tmp_path, "stack=2")):
        seconds = seconds_of(trials, tmp_path, "cpu")
        assert seconds is not None and 0 < seconds < 60
    assert not list(tmp_path.glob("tmp*"))
    refused = trials_of(tmp_path, "model={name: resnet18}", "data.size=32", "stack=2")
    assert seconds_of(refused, tmp_path, "cpu") is None
