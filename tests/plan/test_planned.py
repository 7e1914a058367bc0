"""Planning: what has become of each trial, what is to be run, in which order, for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_cases import result_text
from tiny_spec import trials_of

from deltagclip_cli.plan.estimates import Estimates, Outlook, longest_first, spread
from deltagclip_cli.plan.planned import Planned, QueueState, look_up, pending, units_of
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.trial import Trial


def finish(
    runs: Path,
    trial: Trial,
    seconds: float = 4.0,
    status: str = "finished",
    ended_early_at: int | None = None,
) -> None:
    """Leave the result of a trial behind, without training it."""
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    early: dict[str, object] = {}
    if ended_early_at is not None:
        best = {"value": 0.5, "epoch": 2, "step": 4}
        early["ended_early"] = {"metric": "train/loss", "evaluations": 2, "best": best}
    text = result_text(
        status,
        identity=trial.identity,
        epochs=ended_early_at or trial.epochs,
        **early,
        last={"test/loss": 0.5},
        seconds={"epochs": seconds},
    )
    folder.result_file.write_text(text)


def states(trials: list[Trial], runs: Path) -> list[State]:
    return [each.state for each in look_up(trials, runs)]


def test_every_state_is_looked_up(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[0, 1, 2]")
    runs = tmp_path / "runs"
    assert states(trials, runs) == [State.NEW] * 6
    finish(runs, trials[0])
    finish(runs, trials[1], status="diverged")
    for trial, record in zip(
        trials[2:5], ("record_stop", "record_failure", "record_pruning"), strict=True
    ):
        folder = RunFolder.of(runs, trial)
        create(folder, trial)
        words = (ValueError("why"), "why") if record == "record_failure" else ("why",)
        getattr(HeldFolder(folder), record)(*words)
    assert states(trials, runs) == [
        State.FINISHED,
        State.DIVERGED,
        State.INTERRUPTED,
        State.FAILED,
        State.PRUNED,
        State.NEW,
    ]


def test_the_result_of_another_trial_is_no_result(tmp_path: Path) -> None:
    trial, other = trials_of(tmp_path)
    runs = tmp_path / "runs"
    finish(runs, trial)
    result = RunFolder.of(runs, trial).result_file
    result.write_text(result.read_text().replace(trial.identity, other.identity))
    assert states([trial], runs) == [State.NEW]


def planned(tmp_path: Path, *given: State) -> list[Planned]:
    trials = trials_of(tmp_path, f"seeds={list(range(len(given)))}")
    return [
        Planned(trial, RunFolder(tmp_path), QueueState(state))
        for trial, state in zip(trials, given, strict=False)
    ]


def test_what_ended_is_run_again_only_if_asked(tmp_path: Path) -> None:
    unseen = (State.RUNNING, State.QUEUED, State.LOST)  # by the files alone
    everything = planned(tmp_path, *(state for state in State if state not in unseen))
    left = [State.NEW, State.INTERRUPTED, State.PRUNED]  # a plan wants what a search gave up
    assert {each.state for each in pending(everything)} == set(left)
    retried = pending(everything, retry_failed=True)
    assert {each.state for each in retried} == {*left, State.FAILED}
    assert pending(everything, force=True) == [replace(each, afresh=True) for each in everything]


def test_times_are_those_of_the_same_model_and_optimizer_or_else_of_the_same_model(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    sgd, other_sgd, gclip, _ = trials_of(tmp_path, "seeds=[0, 1]")
    (longer, *_) = trials_of(tmp_path, "seeds=[0, 1]", "epochs=10")
    (wider, *_) = trials_of(tmp_path, "model.hidden=[16]")
    assert Estimates(look_up([sgd], runs)).seconds(other_sgd) is None
    finish(runs, sgd, seconds=4.0)
    estimates = Estimates(look_up([sgd, other_sgd, gclip], runs))
    assert estimates.seconds(other_sgd) == 4.0
    assert estimates.seconds(gclip) == 4.0
    assert estimates.seconds(longer) == 20.0
    assert estimates.seconds(wider) is None
    finish(runs, gclip, seconds=8.0)
    estimates = Estimates(look_up([sgd, other_sgd, gclip], runs))
    assert estimates.seconds(gclip) == 8.0
    assert estimates.seconds(other_sgd) == 4.0


def test_a_trial_that_may_end_early_takes_as_long_as_others_like_it_did(tmp_path: Path) -> None:
    early = "early_stopping={metric: train/loss, patience: 2}"
    short, other, *_ = trials_of(tmp_path, "seeds=[0, 1]", "epochs=10", early)
    whole, *_ = trials_of(tmp_path, "seeds=[0, 1]", "epochs=10")
    finish(tmp_path, short, seconds=4.0, ended_early_at=4)
    estimates = Estimates(look_up([short], tmp_path))
    assert estimates.seconds(other) == 4.0
    assert estimates.seconds(whole) is None


def test_an_outlook_is_none_until_all_that_is_left_is_known(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    small = trials_of(tmp_path, "seeds=[0, 1, 2]")[:3]
    wide = trials_of(tmp_path, "model.hidden=[16]")[0]
    outlook = Outlook([*small, wide], Estimates(), slots=2)
    assert outlook.seconds([]) is None
    assert outlook.seconds([([wide], 100.0)]) is None
    finish(runs, small[0], seconds=4.0)
    outlook.ended(small[0], RunFolder.of(runs, small[0]).result())
    assert outlook.seconds([]) is None, "the time of the wide one is not that of the small ones"
    assert outlook.seconds([([wide], 100.0)]) == (100 + 4 + 4) / 2
    assert outlook.seconds([([wide], 100.0), ([small[1]], 1.0)]) == (100 + 1 + 4) / 2
    assert outlook.seconds([([wide], None), ([small[1]], 1.0)]) is None
    outlook.ended(wide, None)
    assert outlook.seconds([]) == 4.0


def test_the_members_of_a_stack_take_the_time_of_one(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    alone, *_ = trials_of(tmp_path)
    stacked = trials_of(tmp_path, "stack=2", "seeds=[0, 1, 2]")
    finish(runs, alone, seconds=1.0)
    finish(runs, stacked[0], seconds=4.0)
    planned = look_up([alone, *stacked], runs)
    estimates = Estimates(planned)
    assert estimates.seconds(alone) == 1.0, "no stack tells of those that train alone"
    assert [estimates.of(unit) for unit in units_of(planned)] == [1.0, 4.0, 4.0, 4.0]
    assert Estimates(planned[:1]).of(planned[1:3]) is None
    outlook = Outlook(stacked, estimates, slots=1)
    assert outlook.seconds([]) == 3 * 4.0
    assert outlook.seconds([(stacked[:2], 0.5)]) == 0.5 + 2 * 4.0


def test_the_longest_trials_come_first_and_those_of_unknown_length_before_them(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    sgd, gclip = trials_of(tmp_path)
    finish(runs, sgd, seconds=1.0)
    finish(runs, gclip, seconds=2.0)
    trials = [
        *trials_of(tmp_path, "seeds=[1]"),
        *trials_of(tmp_path, "seeds=[1]", "model.hidden=[9]")[:1],
    ]
    estimates = Estimates(look_up([sgd, gclip], runs))
    ordered = longest_first(look_up(trials, runs), estimates)
    assert [(each.trial.label, list(each.trial.model.options["hidden"])) for each in ordered] == [
        ("sgd", [9]),
        ("delta-gclip", [8]),
        ("sgd", [8]),
    ]


@pytest.mark.parametrize(
    ("seconds", "slots", "chosen", "end"),
    [
        ([], 2, [], None),
        ([None, None, None], 2, [0, 1, 0], None),
        ([5.0, 4.0, 3.0], 1, [0, 0, 0], 12.0),
        ([5.0, 4.0, 3.0], 2, [0, 1, 1], 7.0),
        ([4.0, None, 2.0], 2, [0, 1, 1], 4.0),
        ([None, None, None, 4.0], 2, [0, 1, 0, 1], 4.0),  # that of others says nothing
    ],
)
def test_trials_go_to_the_slot_that_is_free_first(
    seconds: list[float | None], slots: int, chosen: list[int], end: float | None
) -> None:
    units = [(each, 1) for each in seconds]
    assert spread(units, slots) == ([(each,) for each in chosen], end)


def test_a_trial_on_several_devices_waits_in_a_plan_for_as_many_slots() -> None:
    units = [(5.0, 1), (4.0, 2), (1.0, 1), (3.0, 9)]
    assert spread(units, 3) == ([(0,), (1, 2), (1,), (0, 1, 2)], 8.0)


def test_trials_on_several_devices_have_times_of_their_own_and_count_by_slots(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    (alone, *_), (wide, other) = trials_of(tmp_path), trials_of(tmp_path, "devices=2")
    finish(runs, alone, seconds=9.0)
    estimates = Estimates(look_up([alone], runs))
    assert estimates.seconds(wide) is None
    finish(runs, wide, seconds=4.0)
    # One result is of both numbers of devices: they are one trial.
    estimates = Estimates(look_up([wide], runs))
    assert estimates.seconds(other) == 4.0
    outlook = Outlook([wide, other], estimates, 2, taken=lambda trial: trial.devices)
    assert outlook.seconds([([wide], 1.0)]) == 1.0 + 4.0


def test_settings_of_one_optimizer_are_told_apart(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "grid={sgd: {lr: [0.1, 0.2]}}")
    names = [each.name for each in look_up(trials, tmp_path)]
    assert names == [
        "tiny · sgd · seed 0 · lr=0.1",
        "tiny · sgd · seed 0 · lr=0.2",
        "tiny · delta-gclip · seed 0",
    ]
