"""Words on an optimizer: better, worse, not told apart, does not train; and what settles it."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from trying_cases import like_a_rival, noise, only, study

from deltagclip_cli.terminal.compare_view import print_tables
from deltagclip_cli.trying.answer import TryAnswer
from deltagclip_cli.trying.duels import Word, judge, levelled, rounds_needed


def words(answer: TryAnswer) -> list[str]:
    return [str(each.word) for each in answer.comparisons]


def test_one_that_is_better_everywhere_is_called_so_against_each_rival() -> None:
    _, answer = study("lbfgs", only("lbfgs", lambda trial: 0.1 + noise(trial)))
    assert words(answer) == ["better"] * 6
    assert answer.sentences()[:2] == [
        "lbfgs against adamw: better on 3 of 3",
        "lbfgs against sgd-momentum: better on 3 of 3",
    ]
    assert answer.as_data()["trains"] is True


def test_one_that_is_worse_on_a_problem_is_called_so_there_alone() -> None:
    def loss(trial):  # type: ignore[no-untyped-def]
        worse = 0.5 if trial.experiment.startswith("try-grammar") else 0.0
        return like_a_rival(trial) + worse

    _, answer = study("sgd", only("sgd", loss))
    assert words(answer) == [Word.UNTOLD, Word.UNTOLD, Word.WORSE, Word.WORSE] + [Word.UNTOLD] * 2
    assert answer.sentences()[0] == "sgd against adamw: worse on 1 of 3, not told apart on 2 of 3"


def test_a_rival_is_not_told_from_itself() -> None:
    _, answer = study("adamw", like_a_rival)
    assert words(answer) == ["not told apart"] * 6
    assert answer.label == "tried-adamw"


def test_what_never_moves_does_not_train_and_nothing_is_run_beyond_the_scan() -> None:
    made, answer = study("sgd", only("sgd", lambda trial: 2.0 + noise(trial)))
    assert len(made.needed()) == 21
    assert answer.trained == [] and answer.tables() == []
    (sentence,) = answer.sentences()
    assert sentence.startswith(
        "sgd does not train on shapes, grammar and measurements: no learning"
    )
    assert sentence.endswith("deltagclip check sgd looks for the reason.")
    json.dumps(answer.as_data(), allow_nan=False)


def test_what_always_diverges_does_not_train() -> None:
    _, answer = study("sgd", only("sgd", lambda trial: math.inf))
    assert answer.trained == []


def test_what_fails_on_one_problem_is_judged_on_the_others() -> None:
    def loss(trial):  # type: ignore[no-untyped-def]
        return math.inf if "shapes" in trial.experiment else like_a_rival(trial)

    _, answer = study("sgd", only("sgd", loss))
    assert {each.problem for each in answer.comparisons} == {"try-grammar", "try-measurements"}
    assert "sgd does not train on shapes" in "\n".join(answer.sentences())


def test_a_round_that_diverged_counts_as_the_worst_that_did_not() -> None:
    ours, theirs = levelled({1: 0.5, 2: math.inf}, {1: 0.4, 2: 0.9}, 2.0)
    assert (ours, theirs) == ({1: 0.5, 2: 0.9}, {1: 0.4, 2: 0.9})
    assert levelled({1: math.inf}, {1: 9.0}, 2.0) == ({1: 2.0}, {1: 2.0})

    def loss(trial):  # type: ignore[no-untyped-def]
        is_bad = not trial.experiment.endswith("-tuning") and trial.seed == 3
        return math.inf if is_bad else like_a_rival(trial)

    _, answer = study("sgd", only("sgd", loss))
    note = "Diverged: sgd in 1 round of shapes, sgd in 1 round of grammar and"
    assert any(each.startswith(note) for each in answer.tables()[0].notes)


def test_a_scan_that_ends_at_the_best_rate_says_how_to_look_beyond() -> None:
    _, answer = study("sgd", like_a_rival, around=1e-6)  # so that 1e-3 is its largest
    said = "\n".join(answer.sentences())
    assert "shapes: the best learning rate of the scan, 0.001, is at its end" in said
    assert "deltagclip try sgd --around 0.001 --rounds 6 scans around it." in said


def test_words_come_by_holm_from_paired_t_tests_over_the_rounds() -> None:
    random = np.random.default_rng(0)
    ours = dict(enumerate(random.normal(0, 1, 6)))
    others = {rival: dict(enumerate(random.normal(2, 1, 6))) for rival in ("a", "b")}
    found = judge({"p": ours}, {"p": others}, {"p": 99.0})
    plain = [
        stats.ttest_rel(list(ours.values()), list(each.values())).pvalue for each in others.values()
    ]
    assert [each.difference.p for each in found] == pytest.approx(plain)
    assert min(each.p or 1 for each in found) == pytest.approx(2 * min(plain))


def test_rounds_that_are_needed_have_the_power_that_is_said() -> None:
    pairs = rounds_needed(1.0, 0.05 / 6)
    assert pairs is not None
    random = np.random.default_rng(0)
    for count, is_enough in ((pairs, True), (pairs - 3, False)):
        p = stats.ttest_1samp(random.normal(1.0, 1.0, (20_000, count)), 0.0, axis=1).pvalue
        assert ((p < 0.05 / 6).mean() > 0.79) == is_enough
    assert rounds_needed(0.0, 0.05) is None
    assert rounds_needed(1e-3, 0.05) is None
    assert rounds_needed(1e6, 0.05) is not None


def test_what_is_not_told_apart_says_what_would_settle_it() -> None:
    def loss(trial):  # type: ignore[no-untyped-def]
        return like_a_rival(trial) + 0.02

    _, answer = study("sgd", only("sgd", loss))
    untold = [each for each in answer.comparisons if each.word is Word.UNTOLD]
    needed = [each.rounds_needed for each in untold if each.rounds_needed]
    within = [each for each in needed if 6 < each <= 30]
    assert within
    assert f"more rounds: deltagclip try sgd --rounds {max(within)}" in answer.sentences()
    record = next(r for r in answer.as_data()["comparisons"] if r["rounds_needed"] == within[0])
    # of each problem 4 draws and 3 that are judged, of 1.5 s, on 2 cores
    assert record["seconds_needed"] == pytest.approx((within[0] - 6) * 3 * 7 * 1.5 / 2)


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_a_terminal(width: int) -> None:
    _, answer = study("sgd", like_a_rival)
    file = io.StringIO()
    print_tables(Console(file=file, width=width, color_system=None), answer.tables())
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("not told apart" in line for line in lines) == 6
