"""What a search runs, in which order, and what it makes of how trials end."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

pytest.importorskip("optuna")

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import TrialState
from search_cases import (
    EPOCHS,
    SPACE,
    bowl,
    interrupted_after,
    optimizers_of,
    options_of,
    taken,
    write_epoch,
    write_result,
)
from tpe_cases import World, experiment_of, states, studied

from deltagclip_cli.core import RunFolderError, UsageError, claimed
from deltagclip_cli.launch.supervisor import End
from deltagclip_cli.plan.planned import mean
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.search.searched import Tried, find_searched
from deltagclip_cli.search.session import Leaderboard, Placed, read_leaderboard
from deltagclip_cli.search.tpe_study import Halving, as_optuna, chosen, read_tried
from deltagclip_cli.spec.axes import Choice, Uniform
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.stages import DrawState

UNPRUNED = experiment_of(pruner="none")
PRUNERS = ("median", "halving")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "runs")


def test_every_setting_is_run_with_one_seed_after_the_other(world: World) -> None:
    world.search(UNPRUNED, 4)
    seeds = [planned.trial.seed for planned in world.started]
    assert seeds == [0, 1] * 4
    settings = [key for key, _ in groupby(world.started, lambda each: each.trial.setting_hash)]
    assert len(settings) == len(set(settings)) == 4
    assert states(world.runs) == ["COMPLETE"] * 4


def test_the_value_of_a_setting_is_the_mean_over_its_seeds(world: World) -> None:
    world.search(UNPRUNED, 2)
    for setting, each in zip(studied(world.runs), world.started[::2], strict=True):
        losses = [bowl(each.trial.with_seed(seed), EPOCHS) for seed in (0, 1)]
        assert setting["values"] == [pytest.approx(sum(losses) / 2, rel=1e-12)]


def test_a_step_is_an_epoch_and_its_value_the_mean_of_the_seeds_until_then(world: World) -> None:
    world.search(UNPRUNED, 1)
    trial = world.started[0].trial
    first, second = ([bowl(trial.with_seed(seed), n) for n in (1, 2, 3)] for seed in (0, 1))
    expected = first + [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    (setting,) = studied(world.runs)
    assert list(setting["steps"]) == [1, 2, 3, 4, 5, 6]
    assert list(setting["steps"].values()) == pytest.approx(expected, rel=1e-12)


def test_what_is_run_has_six_digits_and_is_what_the_journal_names(world: World) -> None:
    world.search(UNPRUNED, 3)
    for setting, planned in zip(studied(world.runs), world.started[::2], strict=True):
        options = options_of(planned)
        assert setting["options"] == {key: options[key] for key in ("lr", "gamma", "delta")}
        assert all(float(f"{value:.6g}") == value for value in setting["options"].values())


def test_the_same_number_runs_nothing_and_a_larger_one_adds(world: World) -> None:
    world.search(UNPRUNED, 3)
    before = studied(world.runs)
    again = World(world.runs)
    assert again.queue(UNPRUNED, 3).is_over()
    again.search(UNPRUNED, 5)
    assert len(again.started) == 4
    assert studied(world.runs)[:3] == before


def test_a_search_learns(world: World) -> None:
    space = {"dgc": {"lr": SPACE["lr"]}}
    world.search(experiment_of(pruner="none", space=space), 40)
    rates = [each["options"]["lr"] for each in studied(world.runs)]
    distances = [abs(math.log10(rate) + 2) for rate in rates]  # from the best there is
    assert fmean(distances[-20:]) < 0.7 * fmean(distances[:10])


def test_settings_fill_the_slots_and_the_seeds_of_one_never_do(world: World) -> None:
    queue = world.queue(UNPRUNED, 6, slots=4)
    running = [taken(queue) for _ in range(4)]
    assert len({each.trial.setting_hash for each in running if each}) == 4
    assert [each.trial.seed for each in running if each] == [0] * 4
    while any(running):
        planned = running.pop(0)
        if planned:
            queue.ended(planned, world.run(queue, planned))
        running.append(taken(queue))
        settings = [each.trial.setting_hash for each in running if each]
        assert len(settings) == len(set(settings))
    assert states(world.runs) == ["COMPLETE"] * 6


def test_optimizers_are_searched_side_by_side_each_in_a_study_of_its_own(world: World) -> None:
    space = {"dgc": {"lr": {"uniform": [0.1, 1]}}, "sgd": {"lr": {"uniform": [0.1, 1]}}}
    loss = lambda trial, epoch: trial.optimizer.options["lr"]  # noqa: E731
    world.loss = loss
    world.search(experiment_of(pruner="none", space=space), 3)
    assert [each.trial.label for each in world.started] == ["dgc", "dgc", "sgd", "sgd"] * 3
    assert [each["label"] for each in studied(world.runs)] == ["dgc"] * 3 + ["sgd"] * 3
    first, second = studied(world.runs)[0], studied(world.runs)[3]
    assert first["options"] != second["options"], "studies draw from streams of their own"


@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruning_saves_seeds_and_the_best_setting_survives(world: World, pruner: Any) -> None:
    everything, pruned = World(world.runs / "all"), World(world.runs / "pruned")
    everything.search(experiment_of(pruner="none"), 20)
    pruned.search(experiment_of(pruner=pruner), 20)
    assert states(pruned.runs).count("PRUNED") >= 3
    assert set(states(pruned.runs)) == {"COMPLETE", "PRUNED"}
    assert len(pruned.started) <= len(everything.started) - 3
    for setting in studied(pruned.runs):
        if setting["state"] == "PRUNED":
            ((seed, count),) = _begun(pruned, setting["options"]).items()
            assert (seed, count) == (0, 1) or max(setting["steps"]) > EPOCHS


def _begun(world: World, options: dict[str, Any]) -> dict[int, int]:
    seeds = [
        planned.trial.seed
        for planned in world.started
        if all(options_of(planned)[key] == value for key, value in options.items())
    ]
    return {max(seeds): len(seeds)}


def test_a_setting_that_only_its_very_last_step_shows_to_be_worse_has_finished(
    world: World,
) -> None:
    drawn: list[str] = []

    def loss(trial: Trial, epoch: int) -> float:
        """Of all but the last setting, little until the very end, where it is the best."""
        if trial.setting_hash not in drawn:
            drawn.append(trial.setting_hash)
        if len(drawn) == 7:
            return 9.0
        return 0.0 if trial.seed == 1 and epoch == EPOCHS else 10.0

    world.loss = loss
    world.search(experiment_of(pruner="median"), 7)
    assert states(world.runs) == ["COMPLETE"] * 7
    last = studied(world.runs)[-1]
    assert (last["values"], max(last["steps"])) == ([9.0], 2 * EPOCHS)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_halving_gives_the_verdicts_of_optunas_own(direction: str) -> None:
    random = Random(direction)
    ours, theirs = (
        optuna.create_study(pruner=pruner, direction=direction)
        for pruner in (Halving(2), SuccessiveHalvingPruner(min_resource=2, reduction_factor=3))
    )
    verdicts = []
    for _ in range(60):
        pair = ours.ask(), theirs.ask()
        for step in range(1, 21):
            value = random.choice([1.0, 2.0, random.random()])
            for trial in pair:
                trial.report(value, step)
            verdicts.append(pair[0].should_prune())
            assert verdicts[-1] == pair[1].should_prune()
            if verdicts[-1]:
                break
        for study, trial in zip((ours, theirs), pair, strict=True):
            state = TrialState.PRUNED if verdicts[-1] else TrialState.COMPLETE
            study.tell(trial, None if verdicts[-1] else value, state=state)
    assert 10 < sum(verdicts) < 60


def test_the_folder_of_a_pruned_trial_says_why(world: World) -> None:
    world.search(experiment_of(), 20)
    pruned = [each.folder for each in world.started if each.folder.state is State.PRUNED]
    assert pruned
    for folder in pruned:
        words = folder.reason.split()
        assert words[:2] == ["search:", "test/loss"]
        assert folder.reason.endswith("is worse than the median")


def test_a_setting_that_diverges_is_the_worst_and_its_other_seeds_are_not_run(world: World) -> None:
    def loss(trial: Trial, epoch: int) -> float:
        wild = trial.optimizer.options["lr"] > 0.03
        return math.nan if wild and epoch == 2 else bowl(trial, epoch)

    world.loss = loss
    world.search(experiment_of(pruner="none"), 25)
    diverged = [each for each in studied(world.runs) if each["values"] == [math.inf]]
    assert 3 <= len(diverged) < 15
    assert {each["state"] for each in diverged} == {"COMPLETE"}
    assert all(each["options"]["lr"] > 0.03 for each in diverged)
    assert len(world.started) == 2 * 25 - len(diverged)
    (board,) = _boards(world, experiment_of(pruner="none"))
    assert board.counts == {"diverged": len(diverged), "finished": 25 - len(diverged)}


def test_the_worst_of_a_metric_that_is_maximized_is_minus_infinity(world: World) -> None:
    world.loss = lambda trial, epoch: math.nan
    world.search(experiment_of(pruner="none", direction="maximize"), 12)
    assert [each["values"] for each in studied(world.runs)] == [[-math.inf]] * 12


def _boards(world: World, experiment: Any) -> list[Any]:
    journal = world.runs / "tiny" / "search.journal"
    return [
        read_leaderboard(each, read_tried(each, journal), world.runs)
        for each in optimizers_of(experiment)
    ]


def test_a_setting_that_fails_counts_and_its_other_seeds_are_not_run(world: World) -> None:
    world.fails = lambda trial: trial.optimizer.options["delta"] == 1e-3
    world.search(UNPRUNED, 8)
    failed = states(world.runs).count("FAIL")
    assert 0 < failed < 8
    assert len(world.started) == 2 * 8 - failed
    assert World(world.runs).queue(UNPRUNED, 8).is_over()


def test_a_setting_whose_worker_is_killed_stays_open_and_is_taken_up_next_time(
    world: World,
) -> None:
    queue = world.queue(UNPRUNED, 3)
    killed = taken(queue)
    assert killed is not None
    create(killed.folder, killed.trial)
    write_epoch(killed.folder, 1, 1.0)
    HeldFolder(killed.folder).record_stop("killed by SIGKILL")
    queue.ended(killed, End(State.INTERRUPTED, "killed by SIGKILL"))
    while (planned := taken(queue)) is not None:
        assert planned.folder != killed.folder
        queue.ended(planned, world.run(queue, planned))
    assert queue.is_over()
    assert states(world.runs) == ["RUNNING", "COMPLETE", "COMPLETE"]

    again = World(world.runs)
    again.search(UNPRUNED, 3)
    assert [each.folder for each in again.started[:1]] == [killed.folder]
    assert [each.trial.seed for each in again.started] == [0, 1]
    assert states(world.runs) == ["COMPLETE"] * 3


@pytest.mark.parametrize("pruner", ["none", *PRUNERS])
@pytest.mark.parametrize("epochs", [1, 5])
def test_a_search_killed_again_and_again_is_the_search_that_never_was(
    world: World, pruner: Any, epochs: int
) -> None:
    experiment = experiment_of(pruner=pruner)
    undisturbed, disturbed = World(world.runs / "one"), World(world.runs / "other")
    undisturbed.search(experiment, 14)
    starts = disturbed.search_in_pieces(experiment, 14, epochs)
    assert starts > 5
    assert studied(disturbed.runs) == studied(undisturbed.runs)
    ends = {each.folder.path.name: each.folder.state for each in disturbed.started}
    assert ends == {each.folder.path.name: each.folder.state for each in undisturbed.started}


@pytest.mark.parametrize("pruner", ["none", *PRUNERS])
def test_without_its_journal_a_search_reads_the_folders_and_runs_nothing_again(
    world: World, pruner: Any
) -> None:
    experiment = experiment_of(pruner=pruner)
    world.search(experiment, 14)
    before = studied(world.runs)
    (world.runs / "tiny" / "search.journal").unlink()
    again = World(world.runs)
    again.search(experiment, 14)
    assert again.started == []
    assert studied(world.runs) == before


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_journal_cut_anywhere_is_written_anew(world: World, pruner: Any) -> None:
    experiment = experiment_of(pruner=pruner)
    world.search(experiment, 12)
    journal = world.runs / "tiny" / "search.journal"
    whole, before = journal.read_bytes(), studied(world.runs)
    for cut in range(0, len(whole), len(whole) // 13):
        journal.write_bytes(whole[:cut])
        again = World(world.runs)
        again.search(experiment, 12)
        assert again.started == [], f"cut at byte {cut}"
        assert studied(world.runs) == before, f"cut at byte {cut}"


def test_the_order_in_which_a_search_was_interrupted_does_not_double_reports(world: World) -> None:
    with interrupted_after(world, 4):  # in the second seed of the first setting
        world.search(UNPRUNED, 2)
    journal = world.runs / "tiny" / "search.journal"
    world.search(UNPRUNED, 2)
    reports = [line for line in journal.read_text().splitlines() if '"intermediate_value"' in line]
    assert len(reports) == 2 * 2 * EPOCHS


def test_a_setting_that_went_on_is_not_given_up_at_an_epoch_that_it_has_passed(
    world: World,
) -> None:
    experiment = experiment_of()
    queue = world.queue(experiment, 10, slots=2)
    bad = taken(queue)
    assert bad is not None
    create(bad.folder, bad.trial)
    for epoch in (1, 2):
        write_epoch(bad.folder, epoch, 100.0 - epoch)
        assert queue.give_up(bad) == ""
    while (planned := taken(queue)) is not None:
        queue.ended(planned, world.run(queue, planned))
    again = World(world.runs)
    again.search(experiment, 10)
    assert bad.folder not in [each.folder for each in again.started]
    assert "98 at epoch 2 is worse than the median" in bad.folder.reason
    assert bad.folder.state is State.PRUNED
    assert list(studied(world.runs)[0]["steps"]) == [1, 2]


def test_a_journal_that_cannot_be_written_ends_the_search(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = world.queue(UNPRUNED, 2)
    planned = taken(queue)
    assert planned is not None

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    create(planned.folder, planned.trial)
    write_epoch(planned.folder, 1, 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert "cannot be written" in queue.give_up(planned)
        with pytest.raises(RunFolderError, match="cannot be written: No space left"):
            queue.ended(planned, End(State.PRUNED))
    World(world.runs).search(UNPRUNED, 2)
    assert states(world.runs) == ["COMPLETE"] * 2


def test_a_search_does_not_load_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tpe_cases import World, experiment_of\n"
        "World(Path(sys.argv[1])).search(experiment_of(pruner='none'), 12)\n"
        "assert 'optuna' in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, tmp_path / "runs"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_metrics_are_read_only_when_there_are_new_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = world.queue(experiment_of(), 1)
    planned = taken(queue)
    assert planned is not None
    create(planned.folder, planned.trial)
    read: list[Path] = []
    metrics = RunFolder.metrics

    def counting(folder: RunFolder) -> Any:
        read.append(folder.path)
        return metrics(folder)

    monkeypatch.setattr(RunFolder, "metrics", counting)
    for _ in range(10):
        queue.give_up(planned)
    assert read == []
    write_epoch(planned.folder, 1, 1.0)
    for _ in range(10):
        queue.give_up(planned)
    assert len(read) == 1


@pytest.mark.parametrize("slots", [1, 4])
def test_a_setting_that_is_drawn_twice_is_run_once(world: World, slots: int) -> None:
    space = {"dgc": {"delta": {"choice": [1e-3, 1e-2, 1e-1]}}}
    queue = world.queue(experiment_of(pruner="none", space=space), 20, slots)
    running = [taken(queue) for _ in range(slots)]
    while any(running):
        folders = [each.folder.path for each in running if each]
        assert len(folders) == len(set(folders))
        planned = running.pop(0)
        if planned:
            queue.ended(planned, world.run(queue, planned))
        running.append(taken(queue))
    assert queue.is_over()
    assert len(world.started) == len(set(world.names)) == 6
    assert states(world.runs) == ["COMPLETE"] * 20


def test_a_trial_that_another_process_runs_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltagclip_cli.search.tpe_queue._SECONDS_BETWEEN_LOOKS", 0.0)
    queue = world.queue(UNPRUNED, 2)
    planned = taken(queue)
    assert planned is not None
    create(planned.folder, planned.trial)
    with claimed(planned.folder.lock_file, "held"):
        queue.ended(planned, End(State.NEW, elsewhere=True))
        assert taken(queue) is None
        assert not queue.is_over()
        write_epoch(planned.folder, 1, 1.0)
        write_result(planned.folder, planned.trial, "finished")
    following = taken(queue)
    assert following is not None
    assert following.trial.seed == 1
    assert queue.ended_elsewhere() == [planned]
    assert queue.ended_elsewhere() == []


def test_the_most_trials_are_those_of_all_settings_less_what_is_done(world: World) -> None:
    queue = world.queue(UNPRUNED, 3)
    assert len(queue.most_trials()) == 6
    with interrupted_after(world, 4):  # in the second seed
        world.search(UNPRUNED, 3)
    queue = world.queue(UNPRUNED, 3)
    queue.take()
    assert len(world.queue(UNPRUNED, 3).most_trials()) >= 5


def test_a_metric_that_the_trials_do_not_measure_is_an_error_that_names_those_there_are(
    world: World,
) -> None:
    with pytest.raises(UsageError, match=r"test/accuracy is not measured.*\n.*test/loss"):
        world.search(experiment_of(metric="test/accuracy"), 2)


def test_choices_of_any_kind_come_through_as_they_were_written(world: World) -> None:
    values = [[0.9, 0.99], [0.8, 0.9]]
    space = {
        "betas": {"choice": values},
        "amsgrad": {"choice": [True, False]},
        "weight_decay": {"choice": [1, 0.5]},
    }
    world.loss = lambda trial, epoch: 1.0
    world.search(experiment_of(pruner="none", space={"adam": space}), 6)
    drawn = [each["options"] for each in studied(world.runs)]
    assert all(each["betas"] in values for each in drawn)
    assert {each["amsgrad"] for each in drawn} == {True, False}
    assert {type(each["weight_decay"]) for each in drawn} == {int, float}


def test_choices_that_python_thinks_equal_are_told_apart() -> None:
    own = {"a": Choice((1, 1.0, True, "1"))}
    (optuna_s,) = as_optuna(own).values()
    drawn = [chosen(own, {"a": choice})["a"] for choice in optuna_s.choices]
    assert [(type(each), each) for each in drawn] == [(int, 1), (float, 1), (bool, 1), (str, "1")]


def test_whole_numbers_stay_whole() -> None:
    own = {"a": Uniform(1, 9), "b": Uniform(1, 900, log=True)}
    assert [each.log for each in as_optuna(own).values()] == [False, True]
    drawn = chosen(own, {"a": 3, "b": 700})
    assert drawn == {"a": 3, "b": 700}
    assert all(isinstance(value, int) for value in drawn.values())


def test_few_digits_do_not_lead_out_of_the_space() -> None:
    own = {"a": Uniform(1 / 3, 2 / 3)}
    assert chosen(own, {"a": 1 / 3}) == {"a": 1 / 3}
    assert chosen(own, {"a": 2 / 3}) == {"a": 2 / 3}
    assert chosen(own, {"a": 0.5000000001}) == {"a": 0.5}


def test_a_journal_of_another_spec_is_refused_with_what_differs(world: World) -> None:
    world.search(UNPRUNED, 1)
    other = UNPRUNED.model_copy(update={"epochs": 5})
    with pytest.raises(RunFolderError, match=r"search of dgc .* epochs \(3 then, 5 now\)"):
        world.queue(other, 1)
    wider = experiment_of(pruner="none", space={"dgc": {"lr": {"uniform": [0.1, 1]}}})
    with pytest.raises(RunFolderError, match=r"space"):
        world.queue(wider, 1)
    with pytest.raises(RunFolderError, match=r"pruner \('none' then, 'median' now\)"):
        world.queue(experiment_of(pruner="median"), 1)
    with pytest.raises(RunFolderError, match=r"search seed \(0 then, 3 now\)"):
        world.queue(experiment_of(pruner="none", seed=3), 1)


def test_the_best_are_settings_whose_seeds_all_finished(world: World) -> None:
    world.search(experiment_of(), 20)
    (board,) = _boards(world, experiment_of())
    ranked = [each.result.value for each in board.ranking]
    assert ranked == sorted(ranked)
    assert {each.tried.outcome for each in board.ranking} == {DrawState.FINISHED}
    assert all(each.result.n == 2 and each.result.standard_error for each in board.ranking)
    complete = [each["values"][0] for each in studied(world.runs) if each["state"] == "COMPLETE"]
    assert ranked[0] == pytest.approx(min(complete), rel=1e-12)

    best = board.ranking[0]
    best.planned[1].folder.result_file.unlink()
    (board,) = _boards(world, experiment_of())
    assert board.ranking[0].tried.number != best.tried.number


def test_a_setting_that_was_given_up_and_later_finished_is_ranked() -> None:
    def placed(number: int, lr: float, outcome: DrawState, value: float | None) -> Placed:
        result = None if value is None else mean([value])
        return Placed(Tried(number, {"lr": lr}, outcome, value), result, ())

    given_up = placed(0, 0.1, DrawState.PRUNED, None)
    finished = placed(1, 0.1, DrawState.FINISHED, 1.0)
    again = placed(2, 0.1, DrawState.FINISHED, 1.0)
    worse = placed(3, 0.2, DrawState.FINISHED, 2.0)
    (searched,) = find_searched({"tiny": experiment_of()}, named=True)
    board = Leaderboard(searched, [worse, given_up, finished, again])
    assert board.ranking == [finished, worse]
