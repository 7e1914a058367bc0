"""When in a run a metric is read, and what a run has to say then."""

from __future__ import annotations

import math

import pytest
from made_runs import METRIC, run

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.question import Missing, Moment
from deltagclip_cli.results.read.run import Outcome, Run

VALUES = [0.1, 0.5, 0.3]


def value(run: Run, at: str, *, higher_is_better: bool = True) -> object:
    return Moment.parse(at).value(run, METRIC, higher_is_better=higher_is_better)


@pytest.mark.parametrize(
    ("at", "expected"),
    [("last", 0.3), ("best", 0.5), ("epoch=1", 0.1), ("epoch=3", 0.3), ("step=20", 0.5)],
)
def test_a_finished_run_has_a_value_at_every_moment_until_its_end(at: str, expected: float) -> None:
    assert value(run("adam", 0, VALUES), at) == expected


def test_the_best_loss_is_the_lowest_and_what_is_not_finite_is_not_the_best() -> None:
    assert value(run("adam", 0, [math.inf, *VALUES]), "best", higher_is_better=False) == 0.1
    assert value(run("adam", 0, [math.nan, *VALUES]), "best") == 0.5
    assert math.isnan(value(run("adam", 0, [math.nan]), "best"))  # type: ignore[arg-type]


def test_between_two_records_the_earlier_one_counts() -> None:
    assert value(run("adam", 0, VALUES), "step=25") == 0.5
    assert value(run("adam", 0, VALUES), "step=9") is Missing.EARLIER


@pytest.mark.parametrize("at", ["epoch=4", "step=31"])
def test_a_run_that_ends_before_the_moment_is_shorter(at: str) -> None:
    assert value(run("adam", 0, VALUES), at) is Missing.SHORTER


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNFINISHED])
def test_a_run_that_did_not_end_has_only_values_of_moments_that_it_reached(
    outcome: Outcome,
) -> None:
    cut = run("adam", 0, VALUES, outcome)
    assert value(cut, "last") is outcome
    assert value(cut, "best") is outcome
    assert value(cut, "epoch=3") == 0.3
    assert value(cut, "epoch=4") is outcome


def test_a_diverged_run_is_not_a_number_but_where_it_had_not_yet_diverged() -> None:
    diverged = run("adam", 0, VALUES, Outcome.DIVERGED)
    assert math.isnan(value(diverged, "last"))  # type: ignore[arg-type]
    assert math.isnan(value(diverged, "best"))  # type: ignore[arg-type]
    assert math.isnan(value(diverged, "epoch=4"))  # type: ignore[arg-type]
    assert value(diverged, "epoch=2") == 0.5


def test_a_run_without_the_metric_says_so() -> None:
    assert value(run("adam", 0, [], test__loss=[1.0]), "last") is Missing.WITHOUT


@pytest.mark.parametrize("at", ["", "first", "epoch", "epoch=", "epoch=-1", "step=1.5", "last=3"])
def test_what_is_no_moment_is_refused(at: str) -> None:
    with pytest.raises(UsageError, match=f"^--at {at}: say last, best, epoch=N or step=N.$"):
        Moment.parse(at)
