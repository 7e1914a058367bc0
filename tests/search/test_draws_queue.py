"""What a search by draws runs, and what halving makes of it, however it is disturbed."""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from search_cases import World, bowl, experiment_of, optimizers_of, taken, write_epoch, write_result

from deltagclip_cli.core import UsageError
from deltagclip_cli.launch.supervisor import End, Queue
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import create, hold
from deltagclip_cli.search.session import Leaderboard
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.studies import Tuning

PLAIN = experiment_of()


def halved(epochs: int = 9, **search: Any) -> Experiment:
    return experiment_of(pruner="halving", **search).model_copy(update={"epochs": epochs})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "runs")


def board_of(world: World, experiment: Experiment, settings: int) -> Leaderboard:
    (drawn,) = world.drawn(experiment, settings)
    return drawn.leaderboard()


def ends(runs: Path) -> dict[str, tuple[str, str, int]]:
    """Of every run folder the state, the reason and how many epochs it has."""
    return {
        path.name: (folder.state, folder.reason, sum(1 for _ in folder.metrics()))
        for path in runs.glob("*/*/seed-*")
        for folder in [RunFolder(path)]
    }


def disturbed(world: World, queue: Queue, slots: int, random: Random) -> None:
    """Run a queue on slots that end in any order."""
    running = []
    while True:
        while len(running) < slots and (planned := taken(queue)) is not None:
            running.append(planned)
        if not running:
            return
        planned = running.pop(random.randrange(len(running)))
        queue.ended(planned, world.run(queue, planned))


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_every_draw_is_run_with_every_seed_and_more_draws_add_to_those_before(
    world: World, sampler: str
) -> None:
    experiment = experiment_of(sampler=sampler)
    world.search(experiment, 4)
    first = {each.trial.folder for each in world.started}
    assert len(first) == len(world.started) == 4 * 2
    assert world.queue(experiment, 4).is_over()
    world.search(experiment, 6)
    assert len(world.started) == 6 * 2
    board = board_of(world, experiment, 6)
    assert board.counts == {"finished": 6}
    kept = {each.trial.folder for placed in board.settings[:4] for each in placed.planned}
    assert kept == first


def test_the_best_setting_is_the_one_with_the_best_mean_over_its_seeds(world: World) -> None:
    world.search(PLAIN, 8)
    best, *others = board_of(world, PLAIN, 8).ranking
    losses = [bowl(each.trial, each.trial.length) for each in best.planned]
    assert best.result is not None
    assert best.result.value == pytest.approx(sum(losses) / 2, rel=1e-12)
    assert best.result.n == 2
    assert all(each.result and each.result.value >= best.result.value for each in others)


def test_a_draw_that_is_the_same_as_one_before_is_run_once(world: World) -> None:
    experiment = experiment_of(space={"dgc": {"delta": {"choice": [1e-3, 1e-2, 1e-1]}}})
    world.search(experiment, 20)
    assert len(world.started) == 3 * 2
    board = board_of(world, experiment, 20)
    assert [each.tried.number for each in board.settings] == list(range(20))
    assert len(board.ranking) == 3


def test_a_setting_that_came_to_no_finite_value_has_diverged_and_is_not_ranked(
    world: World,
) -> None:
    world.loss = lambda trial, epoch: math.nan if rate_of(trial) > 0.01 else 1.0
    world.search(PLAIN, 8)
    board = board_of(world, PLAIN, 8)
    assert board.counts["diverged"] == 8 - len(board.ranking) > 0


def test_a_metric_without_a_value_at_the_end_is_no_best_value(world: World) -> None:
    world.search(PLAIN, 4)
    best = board_of(world, PLAIN, 4).ranking[0]
    file = best.planned[1].folder.result_file
    file.write_text(re.sub(r'("test/loss"): [\d.]+', r"\1: null", file.read_text()))
    board = board_of(world, PLAIN, 4)
    assert board.counts == {"finished": 3, "diverged": 1}
    assert best.tried.number not in [each.tried.number for each in board.ranking]


def test_the_first_draws_of_a_search_are_those_of_a_protocol_with_its_seeds() -> None:
    space = {label: {"lr": {"uniform": [0.1, 1]}} for label in ("dgc", "sgd", "adam")}
    protocol = {"draws": 5, "seeds": [3, 4], "metric": "test/loss"}
    experiment = experiment_of(protocol, space=space)
    tuning = Tuning.of("tiny", experiment)
    planned = [t for each in tuning.draws for t in tuning.trials(each, tuning.search_seeds(0))]
    found = [t for each in optimizers_of(experiment) for trials in each.drawn(5) for t in trials]
    assert {each.folder for each in found} == {each.folder for each in planned}
    assert {each.seed for each in found} == {3, 4}


def rate_of(trial: Trial) -> float:
    return float(trial.optimizer.options["lr"])


def test_halving_trains_a_third_of_the_settings_three_times_as_far(world: World) -> None:
    world.search(halved(), 9)
    found = ends(world.runs).values()
    assert sorted(epochs for *_, epochs in found) == [1] * 12 + [3] * 4 + [9] * 2
    starts = Counter(each.trial.folder for each in world.started).values()
    assert Counter(starts) == {1: 12, 2: 4, 3: 2}
    reasons = {reason for state, reason, _ in found if state == "pruned"}
    assert len(reasons) == 8  # each seed says what the setting came to
    for reason in reasons:
        assert reason.startswith("search: test/loss ")
        assert reason.endswith(
            (" at epoch 1 is not among the best 3 of 9", " at epoch 3 is not the best of 3")
        )
    board = board_of(world, halved(), 9)
    assert board.counts == {"pruned": 8, "finished": 1}
    everything = World(world.runs / "all")
    everything.search(halved().model_copy(update={"search": PLAIN.search}), 9)
    best = board_of(everything, halved().model_copy(update={"search": PLAIN.search}), 9).ranking[0]
    assert board.ranking[0].tried.options == best.tried.options


def stormy(trial: Trial, epoch: int) -> float:
    """A third of all settings diverge at some epoch, with one seed only."""
    random = Random(f"{trial.setting_hash} {trial.seed}")
    if random.random() < 0.3 and epoch == random.choice([1, 2, 3, 5, 9]):
        return math.nan
    return round(bowl(trial, epoch), 1)  # with ties


def faulty(trial: Trial) -> bool:
    return trial.seed == 1 and Random(f"fails {trial.setting_hash}").random() < 0.5


def test_the_result_is_the_same_in_any_order_on_any_number_of_slots(world: World) -> None:
    found = []
    for number, slots in enumerate([1, 2, 40]):
        here = World(world.runs / str(number), stormy, faulty)
        disturbed(here, here.queue(halved(), 14), slots, Random(number))
        found.append(ends(here.runs))
    assert {state for state, *_ in found[0].values()} == {
        "finished",
        "pruned",
        "diverged",
        "failed",
    }
    for each in found[1:]:
        assert each == found[0]


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_halving_that_is_killed_again_and_again_is_the_one_that_never_was(
    world: World, epochs: int
) -> None:
    undisturbed, killed = (
        World(world.runs / name, stormy, faulty) for name in ("undisturbed", "killed")
    )
    undisturbed.search(halved(), 9)
    assert killed.search_in_pieces(halved(), 9, epochs) > 5
    assert ends(killed.runs) == ends(undisturbed.runs)


def test_several_processes_at_once_come_to_the_same_and_do_nothing_twice(world: World) -> None:
    alone, together = (World(world.runs / name, stormy) for name in ("alone", "together"))
    alone.search(halved(), 9)
    random, queues = Random(0), [together.queue(halved(), 9) for _ in range(3)]
    while not all(queue.is_over() for queue in queues):
        queue = random.choice(queues)
        planned = taken(queue)
        if planned is not None:
            queue.ended(planned, together.run(queue, planned))
    assert ends(together.runs) == ends(alone.runs)
    assert len(together.started) == len(alone.started)


def test_a_killed_trial_keeps_its_rung_open_and_nobody_is_promoted(world: World) -> None:
    queue = world.queue(halved(), 9)
    killed = taken(queue)
    assert killed is not None
    create(killed.folder, killed.trial)
    queue.ended(killed, End(State.INTERRUPTED, "killed by SIGKILL"))
    while (planned := taken(queue)) is not None:
        queue.ended(planned, world.run(queue, planned))
    assert queue.is_over()
    assert {each.part for each in world.started} == {9}
    assert board_of(world, halved(), 9).counts == {"not finished": 9}
    world.search(halved(), 9)
    assert board_of(world, halved(), 9).counts == {"pruned": 8, "finished": 1}


def test_what_comes_to_pass_behind_a_rung_changes_no_promotion(world: World) -> None:
    world.search(halved(), 9)
    before = ends(world.runs)
    winner = next(name for name, (state, *_) in before.items() if state == "finished")
    (folder,) = world.runs.glob(f"*/*/{winner}")
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:3]))
    (folder / "result.json").unlink()
    world.started.clear()
    world.loss = lambda trial, epoch: math.nan if epoch > 3 else bowl(trial, epoch)
    world.search(halved(), 9)
    assert [each.folder.path for each in world.started] == [folder]
    assert board_of(world, halved(), 9).counts == {"pruned": 8, "diverged": 1}


def test_with_more_draws_more_are_promoted_and_go_on_from_where_they_were_pruned(
    world: World,
) -> None:
    world.search(halved(), 4)
    small = ends(world.runs)
    world.search(halved(), 14)
    larger = World(world.runs / "larger")
    larger.search(halved(), 14)
    expected = ends(larger.runs)
    found = {name: each for name, each in ends(world.runs).items() if name in expected}
    for name, (state, _, epochs) in found.items():
        more = name in small and small[name][2] > expected[name][2]
        assert more or (state, epochs) == (expected[name][0], expected[name][2])


def test_equal_settings_have_one_slot(world: World) -> None:
    space = {"dgc": {"lr": {"choice": [1e-3, 1e-2, 1e-1, 1]}}}
    world.search(halved(space=space), 30)
    assert sorted(epochs for *_, epochs in ends(world.runs).values()) == [1] * 6 + [9] * 2
    board = board_of(world, halved(space=space), 30)
    assert board.counts["finished"] + board.counts["pruned"] == 30
    assert len(board.ranking) == 1


def test_steps_between_evaluations_are_rounds_like_epochs(world: World) -> None:
    experiment = halved().model_copy(update={"epochs": None, "steps": 36, "evaluate_every": 4})
    (drawn,) = world.drawn(experiment, 9)
    assert [(rung.slots, rung.part) for rung in drawn.bracket.rungs] == [(9, 9), (3, 3), (1, 1)]
    for trials in drawn.bracket.settings:
        for trial in trials:
            create(RunFolder.of(world.runs, trial), trial)
            write_epoch(RunFolder.of(world.runs, trial), 1, bowl(trial, 1))
    assert len(drawn.bracket.members(drawn.bracket.rungs[1]) or ()) == 3


def test_what_a_sweep_has_finished_of_a_halving_counts_with_what_it_was_at_each_rung(
    world: World,
) -> None:
    plain = halved().model_copy(update={"search": PLAIN.search})
    world.search(plain, 9)
    world.started.clear()
    assert world.queue(halved(), 9).is_over()
    assert board_of(world, halved(), 9).counts == {"finished": 9}


def test_a_training_that_ended_early_counts_with_its_last_value_at_later_rungs(
    world: World,
) -> None:
    (drawn,) = world.drawn(halved(), 9)
    for number, trials in enumerate(drawn.bracket.settings):
        for trial in trials:
            folder = RunFolder.of(world.runs, trial)
            create(folder, trial)
            for epoch in range(1, 3 if number == 4 else 4):
                write_epoch(folder, epoch, float(abs(number - 4)))
            if number == 4:
                write_result(folder, trial, "finished")
    second, last = drawn.bracket.rungs[1:]
    assert drawn.bracket.members(second) == [3, 4, 5]
    assert drawn.bracket.members(last) == [4]


def test_a_metric_that_no_trial_measures_ends_the_search_with_those_there_are(
    world: World,
) -> None:
    for experiment in (experiment_of(metric="test/accuracy"), halved(metric="test/accuracy")):
        with pytest.raises(UsageError, match=r"test/accuracy is not measured.*\n.*test/loss"):
            world.search(experiment, 9)
        shutil.rmtree(world.runs)


def test_who_lags_behind_joins_the_rung_that_others_are_at(world: World) -> None:
    lagging, leading = (world.queue(halved(), 9) for _ in range(2))
    while (promoted := taken(leading)) is not None and promoted.part == 9:
        leading.ended(promoted, world.run(leading, promoted))
    assert promoted is not None
    with hold(promoted.folder):
        found = taken(lagging)
        assert found is not None
        assert (found.part, found.folder == promoted.folder) == (3, False)


def test_a_trial_that_another_process_trains_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = world.queue(halved(), 4)
    first = taken(queue)
    assert first is not None
    create(first.folder, first.trial)
    with hold(first.folder):
        queue.ended(first, End(State.NEW, elsewhere=True))
        while (planned := taken(queue)) is not None:
            queue.ended(planned, world.run(queue, planned))
        assert not queue.is_over()
        assert {each.part for each in world.started} == {9}
    monkeypatch.setattr("deltagclip_cli.launch.supervisor._SECONDS_UNTIL_NEXT_LOOK", 0.0)
    while (planned := taken(queue)) is not None:
        queue.ended(planned, world.run(queue, planned))
    assert board_of(world, halved(), 4).counts == {"pruned": 3, "finished": 1}
