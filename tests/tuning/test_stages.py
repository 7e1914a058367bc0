"""What is chosen, when, and which trials follow: from run folders alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuning_cases import METRIC, diverge, fail, finish, tuning_of, write

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.lock import fixed_plan
from deltagclip_cli.tuning.stages import (
    DrawState,
    FreshSlot,
    Unresolved,
    choices,
    obstacle,
    resolve,
    slots,
)
from deltagclip_cli.tuning.studies import Tuning


def by_rate(trial: Trial) -> float:
    """Better the larger the learning rate is, and a little better at odd seeds."""
    return float(trial.optimizer.options["lr"]) + 0.001 * (trial.seed % 2)


def of(tuning: Tuning, label: str, study: int = 0) -> list[Trial]:
    return [
        each
        for each in tuning.drawn_trials
        if each.label == label and each.seed in tuning.search_seeds(study)
    ]


def why(answer: Trial | Unresolved) -> str:
    assert isinstance(answer, Unresolved)
    return answer.why


def test_every_draw_has_every_seed_of_its_study() -> None:
    tuning = tuning_of(studies=2)
    trials = tuning.drawn_trials
    assert len(trials) == len({each.folder for each in trials}) == 2 * (4 + 4 + 1) * 2
    assert {each.seed for each in trials} == {0, 1, 4, 5}
    assert {each.place for each in slots(tuning)} == {0, 1}
    assert len(slots(tuning)) == 2 * 3 * 2


def test_what_is_drawn_twice_is_trained_once() -> None:
    space = {
        "sgd": {"nesterov": {"choice": [True, False]}},
        "adam": {"lr": {"choice": [0.1]}},
        "plain": {"fixed": True},
    }
    tuning = tuning_of(space, unequal="one has no space")
    assert len(tuning.drawn_trials) == 2 * (2 + 1 + 1)


def test_the_best_mean_is_chosen_and_runs_on_seeds_that_chose_nothing(tmp_path: Path) -> None:
    tuning = tuning_of()
    finish(tmp_path, tuning.drawn_trials, by_rate)
    trial = resolve(tuning, tmp_path, FreshSlot(0, "adam", 1))
    assert isinstance(trial, Trial)
    rates = [draw.options["lr"] for draw in tuning.draws_of(0, "adam")]
    assert trial.optimizer.options["lr"] == max(rates)
    assert trial.seed == tuning.fresh_seeds(0)[1] == 3


def test_a_lower_value_is_chosen_where_that_is_better(tmp_path: Path) -> None:
    tuning = tuning_of(direction="minimize")
    finish(tmp_path, tuning.drawn_trials, by_rate)
    trial = resolve(tuning, tmp_path, FreshSlot(0, "adam", 0))
    assert isinstance(trial, Trial)
    rates = [draw.options["lr"] for draw in tuning.draws_of(0, "adam")]
    assert trial.optimizer.options["lr"] == min(rates)


def test_the_lock_resolves_to_what_the_spec_does(tmp_path: Path) -> None:
    tuning = tuning_of(studies=2)
    lock, _ = fixed_plan(tuning, tmp_path)
    finish(tmp_path, lock.tuning.drawn_trials, by_rate)
    for slot in slots(tuning):
        here, there = (resolve(each, tmp_path, slot) for each in (tuning, lock.tuning))
        assert isinstance(here, Trial) and isinstance(there, Trial)
        assert here.folder == there.folder


def test_nothing_is_chosen_before_the_last_draw_of_the_study_has_ended(tmp_path: Path) -> None:
    tuning = tuning_of(studies=2)
    *most, last = of(tuning, "sgd") + of(tuning, "adam") + of(tuning, "plain")
    finish(tmp_path, most, by_rate)
    answer = resolve(tuning, tmp_path, FreshSlot(0, "sgd", 0))
    assert answer == Unresolved("1 of 9 draws are not finished.", waits=True)
    finish(tmp_path, [last], by_rate)
    assert isinstance(resolve(tuning, tmp_path, FreshSlot(0, "sgd", 0)), Trial)
    assert "9 of 9 draws" in why(resolve(tuning, tmp_path, FreshSlot(1, "sgd", 0)))


def test_a_draw_that_failed_or_diverged_at_one_seed_is_not_chosen(tmp_path: Path) -> None:
    tuning = tuning_of()
    first, second, third, fourth = (
        tuning.trials(draw, tuning.search_seeds(0)) for draw in tuning.draws_of(0, "adam")
    )
    finish(tmp_path, of(tuning, "sgd") + of(tuning, "plain"), by_rate)
    finish(tmp_path, [first[0], second[0]], lambda trial: 0.99)
    fail(tmp_path, [first[1]])
    diverge(tmp_path, [second[1]])
    finish(tmp_path, third, lambda trial: 0.2)
    finish(tmp_path, fourth, lambda trial: 0.1)
    trial = resolve(tuning, tmp_path, FreshSlot(0, "adam", 0))
    assert isinstance(trial, Trial)
    assert trial.setting_hash == third[0].setting_hash
    states = [each.state for each in choices(tuning, tmp_path, 0)[1].draws]
    assert states == [DrawState.FAILED, DrawState.DIVERGED, DrawState.FINISHED, DrawState.FINISHED]


def test_a_value_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    tuning = tuning_of()
    finish(tmp_path, of(tuning, "sgd") + of(tuning, "plain"), by_rate)
    finish(tmp_path, of(tuning, "adam"), lambda trial: None)
    answer = resolve(tuning, tmp_path, FreshSlot(0, "adam", 0))
    assert answer == Unresolved("no draw of adam has a value (4 diverged).", waits=False)
    worst = tuning.trials(tuning.draws_of(0, "adam")[2], tuning.search_seeds(0))
    finish(tmp_path, worst, lambda trial: -1e9)
    trial = resolve(tuning, tmp_path, FreshSlot(0, "adam", 0))
    assert isinstance(trial, Trial) and trial.setting_hash == worst[0].setting_hash
    assert isinstance(resolve(tuning, tmp_path, FreshSlot(0, "sgd", 0)), Trial)


@pytest.mark.parametrize("failed, refused", [(3, False), (4, True)])
def test_a_study_of_which_half_the_trials_of_an_optimizer_failed_chooses_nothing(
    tmp_path: Path, failed: int, refused: bool
) -> None:
    tuning = tuning_of()
    finish(tmp_path, of(tuning, "sgd") + of(tuning, "plain"), by_rate)
    trials = of(tuning, "adam")
    fail(tmp_path, trials[:failed])
    finish(tmp_path, trials[failed:], by_rate)
    answer = resolve(tuning, tmp_path, FreshSlot(0, "sgd", 0))
    assert isinstance(answer, Unresolved) == refused
    if refused:
        assert "4 of 8 trials of adam failed" in why(answer)


def test_a_metric_that_was_not_recorded_is_told_at_once(tmp_path: Path) -> None:
    tuning = tuning_of()
    trial = tuning.drawn_trials[0]
    from run_cases import result_text

    write(tmp_path, trial, result_text(identity=trial.identity, last={"test/loss": 0.1}))
    assert METRIC not in (RunFolder.of(tmp_path, trial).result() or {})["last"]
    found = obstacle(choices(tuning, tmp_path, 0))
    assert found == Unresolved("the metric was not recorded by trials of sgd.", waits=False)
