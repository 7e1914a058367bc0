"""Verdicts on settings and on methods, from a protocol's lock and its run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from run_cases import make_run
from tuning_cases import diverge, experiment_of, fail, finish, tuning_of

from deltagclip_cli.results.compare.analysis import analyse
from deltagclip_cli.results.compare.formats import plain_data
from deltagclip_cli.results.compare.method_tables import verdict_record, verdict_tables
from deltagclip_cli.results.compare.methods import Told, Verdicts, judge_methods
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.runs.folder import SEARCH_JOURNAL, RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.lock import fixed_plan, read_lock
from deltagclip_cli.tuning.stages import choices, fresh_trials
from deltagclip_cli.tuning.studies import Tuning

SPACE = {
    "sgd": {"lr": {"log_uniform": [1e-3, 1]}},
    "adam": {"lr": {"log_uniform": [1e-4, 1e-1]}},
    "plain": {"momentum": {"uniform": [0, 0.9]}},
}


def value(trial: Trial) -> float:
    """Adam's are better than the others', which are alike."""
    better = 0.1 if trial.label == "adam" else 0.0
    return 0.8 + better + Random(trial.identity).gauss(0, 0.02)


def planned(runs: Path, **protocol: Any) -> Tuning:
    tuning = tuning_of(SPACE, **{"draws": 8, "seeds": [0], "fresh_seeds": 4, **protocol})
    fixed_plan(tuning, runs)
    return tuning


def run_all(tuning: Tuning, runs: Path, of: Callable[[Trial], float] = value) -> None:
    finish(runs, tuning.drawn_trials, of)
    for study in range(tuning.protocol.studies):
        for choice in choices(tuning, runs, study):
            finish(runs, fresh_trials(tuning, choice), of)


def read(runs: Path) -> Verdicts:
    lock = read_lock(runs, "tiny")
    assert lock is not None
    studies = range(lock.tuning.protocol.studies)
    return judge_methods(lock, [c for each in studies for c in choices(lock.tuning, runs, each)])


def text(found: Verdicts) -> str:
    tables = list(verdict_tables(found))
    cells = [" ".join(cell.whole for cell in row) for table in tables for row in table.rows]
    return "\n".join(
        [*(each.title for each in tables), *cells, *(n for t in tables for n in t.notes)]
    )


def test_settings_and_methods_have_verdicts_of_their_own(tmp_path: Path) -> None:
    run_all(planned(tmp_path), tmp_path)
    found = read(tmp_path)
    names = ["adam against sgd", "plain against sgd", "plain against adam"]
    assert [each.name for each in found.settings] == names == [e.name for e in found.budgets]
    assert [each.told for each in found.settings] == [Told.BETTER, Told.UNTOLD, Told.WORSE]
    assert [each.told for each in found.budgets] == [Told.BETTER, Told.UNTOLD, Told.WORSE]
    assert [each.k for each in found.budgets[0].budgets] == [1, 2, 4]
    assert found.settings[0].difference.pairs == 4
    assert found.budgets[0].words == "adam is better than sgd at budgets of 1 to 4 draws."
    assert found.budgets[1].words == (
        "At budgets of up to 4 draws, plain and sgd cannot be told apart."
    )
    said = text(found)
    assert "this setting: test/accuracy of what was chosen, on fresh seeds" in said
    assert "this optimizer at a budget of k draws: test/accuracy" in said
    assert "adam against sgd 8 and 8 100% (p " in said
    assert "6 draws for the best of 1 and 43 draws for the best of 8" in said


def test_programs_get_every_number(tmp_path: Path) -> None:
    run_all(planned(tmp_path, baseline="sgd"), tmp_path)
    record = json.loads(json.dumps(plain_data(verdict_record(read(tmp_path)))))
    assert [each["ours"] for each in record["methods"]] == ["adam", "plain"]
    first = record["methods"][0]
    assert first["verdict"] == "better" and first["exchange"]["is_exact"] is True
    assert first["p_holm"] == 2 * first["p"]
    assert len(record["best_of"][0]["curve"]) == 8
    assert record["best_of"][0]["curve"][7]["interval"]["high"] is None  # not bounded
    assert record["settings"][0]["difference"]["n_ours"] == 4
    assert len(record["planned"]["hash"]) == 64


def test_a_budget_costs_hours_of_the_device(tmp_path: Path) -> None:
    tuning = planned(tmp_path, draws=2)
    run_all(tuning, tmp_path)
    assert read(tmp_path).methods[0].curve[1].cost == 2 * 1.0 / 3600
    assert "GPU" not in heading(read(tmp_path))
    for trial in tuning.drawn_trials:
        starts = json.dumps([{"device": "cuda:0 NVIDIA H200"}])
        RunFolder.of(tmp_path, trial).environment_file.write_text(starts)
    assert heading(read(tmp_path)) == "GPU-hours a draw"


def heading(found: Verdicts) -> str:
    *_, table = verdict_tables(found)
    return table.headings[-1]


def test_draws_that_failed_or_diverged_are_the_worst(tmp_path: Path) -> None:
    tuning = planned(tmp_path)
    trials = tuning.drawn_trials
    lost = [each for each in trials if each.label == "sgd"][:2]
    diverge(tmp_path, lost[:1])
    fail(tmp_path, lost[1:])
    finish(tmp_path, [each for each in trials if each not in lost], value)
    found = read(tmp_path)
    assert found.methods[0].worst == 2
    assert found.budgets[0].told is Told.BETTER
    assert "sgd 8 (1 failed, 1 diverged)" in text(found)


def test_nothing_is_said_of_methods_before_all_draws_have_ended(tmp_path: Path) -> None:
    tuning = planned(tmp_path)
    finish(tmp_path, tuning.drawn_trials[:-1], value)
    for choice in choices(tuning, tmp_path, 0):  # of plain another setting may be chosen yet
        finish(tmp_path, fresh_trials(tuning, choice), value)
    found = read(tmp_path)
    assert [each.told for each in found.budgets] == [Told.BETTER, Told.NONE, Told.NONE]
    assert found.budgets[1].words == (
        "plain and sgd: no verdict, for 1 of 8 draws of plain are not finished."
    )
    settings = [each.told for each in found.settings]
    assert settings == [Told.BETTER, Told.TOO_FEW, Told.TOO_FEW]
    assert "plain 8 – –" in text(found)


def test_nothing_is_said_where_half_of_the_trials_failed(tmp_path: Path) -> None:
    tuning = planned(tmp_path)
    trials = tuning.drawn_trials
    failing = [each for each in trials if each.label == "sgd"][:4]
    fail(tmp_path, failing)
    finish(tmp_path, [each for each in trials if each not in failing], value)
    found = read(tmp_path)
    assert [each.told for each in found.budgets] == [Told.NONE, Told.NONE, Told.WORSE]
    assert "4 of 8 trials of sgd failed" in found.budgets[0].words


def test_too_few_draws_say_how_many_it_takes(tmp_path: Path) -> None:
    run_all(planned(tmp_path, draws=3), tmp_path)
    found = read(tmp_path)
    assert {each.told for each in found.budgets} == {Told.TOO_FEW}
    assert found.budgets[0].words == (
        "adam and sgd: no verdict, for p of 3 and 3 draws cannot be below 0.1: 4 of each are the"
        " least."
    )


def test_studies_share_their_draws_and_are_compared_themselves(tmp_path: Path) -> None:
    run_all(planned(tmp_path, draws=4, studies=3), tmp_path)
    found = read(tmp_path)
    assert len(found.settings) == 9 and found.settings[3].study == 1
    first = found.budgets[0]
    assert (first.ours.draws, first.told) == (12, Told.BETTER)
    assert [each.k for each in first.budgets] == [1, 2, 4]
    assert first.over_studies is not None and first.over_studies.pairs == 3
    said = text(found)
    assert "adam against sgd, study 2" in said
    assert "with 3 pairs Wilcoxon's p cannot be below 0.25" in said


def test_a_setting_that_was_drawn_twice_counts_once(tmp_path: Path) -> None:
    """Its trials are the same: counted as two draws, they would be surer than they are."""
    space = {label: {"lr": {"choice": [0.1, 0.2]}} for label in SPACE}
    tuning = tuning_of(space, draws=8)
    fixed_plan(tuning, tmp_path)
    run_all(tuning, tmp_path)
    found = read(tmp_path)
    assert [each.draws for each in found.methods] == [2, 2, 2]
    assert {each.told for each in found.budgets} == {Told.TOO_FEW}


def test_unequal_budgets_are_compared_at_the_smaller_and_say_why(tmp_path: Path) -> None:
    draws = {"sgd": 4, "adam": 16, "plain": 4}
    run_all(planned(tmp_path, draws=draws, unequal="adam is new"), tmp_path)
    found = read(tmp_path)
    assert [each.k for each in found.budgets[0].budgets] == [1, 2]
    reason = "Unequal budgets (sgd 4, adam 16 and plain 4 draws in a study): adam is new"
    assert text(found).count(reason) == 3


def test_what_is_fixed_is_judged_as_a_setting_alone(tmp_path: Path) -> None:
    """Of several studies its values are those of one setting, not of several draws."""
    tuning = tuning_of(draws=4, studies=2)
    fixed_plan(tuning, tmp_path)
    run_all(tuning, tmp_path)
    found = read(tmp_path)
    assert [each.told for each in found.budgets] == [Told.BETTER, Told.NONE, Told.NONE]
    assert found.budgets[1].words == (
        "plain and sgd: no verdict, for plain is fixed: it has no draws, and is judged as a"
        " setting."
    )
    assert found.settings[0].told in (Told.BETTER, Told.UNTOLD)
    assert "chosen on the test set" in text(found)


def test_a_search_that_learns_or_gives_up_has_no_verdict_on_methods_and_says_so(
    tmp_path: Path,
) -> None:
    trials = tuning_of(SPACE, draws=2, seeds=[0]).drawn_trials
    for trial in trials:
        make_run(tmp_path, trial, status="finished")

    def said() -> str:
        found = analyse(Place((), tmp_path).read(), Request(metric="test/loss"))
        return " ".join(note for table in found.tables() for note in table.notes)

    assert "No verdict on the optimizers" not in said()
    RunFolder.of(tmp_path, trials[0]).pruned_file.write_text("by halving")
    assert "those of this search were given up in part, and have no best of k" in said()
    (tmp_path / "tiny" / SEARCH_JOURNAL).write_text("")
    assert "those of this search hang on those before" in said()


def test_a_single_optimizer_is_compared_with_none_but_has_its_best_of_k(tmp_path: Path) -> None:
    experiment = experiment_of(SPACE, draws=4, seeds=[0])
    alone = {"optimizers": {"sgd": experiment.optimizers["sgd"]}}
    tuning = Tuning.of("tiny", experiment.model_copy(update=alone))
    fixed_plan(tuning, tmp_path)
    run_all(tuning, tmp_path)
    (table,) = verdict_tables(read(tmp_path))
    assert [row[0].text for row in table.rows] == ["sgd"]
