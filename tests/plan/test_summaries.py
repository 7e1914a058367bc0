"""Means over seeds, and which trials stand behind them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_spec import trials_of

from deltagclip_cli.plan.planned import Planned, QueueState, mean, summarize
from deltagclip_cli.runs.folder import RunFolder, State


def test_a_standard_error_has_one_degree_of_freedom_less_than_values() -> None:
    three = mean([1.0, 2.0, 4.0])
    assert (three.n, three.value) == (3, pytest.approx(7 / 3))
    assert three.standard_error == pytest.approx(math.sqrt(7 / 3) / math.sqrt(3))


def test_one_value_has_no_standard_error_and_none_has_no_mean() -> None:
    assert mean([2.0]).standard_error is None
    nothing = mean([None])
    assert nothing.n == 0 and math.isnan(nothing.value)


def test_trials_are_grouped_by_setting_and_only_finished_ones_have_metrics(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[0, 1, 2]", "grid={sgd: {lr: [0.1, 0.2]}}")
    folder = RunFolder(tmp_path)

    def planned(number: int, state: State, loss: float | None = None) -> Planned:
        trial = trials[number]
        result: dict[str, Any] | None = None if loss is None else {"last": {"test/loss": loss}}
        return Planned(
            trial, folder, QueueState(state), f"lr={trial.optimizer.options['lr']}", result
        )

    first, second = summarize(
        [
            planned(0, State.FINISHED, 1.0),
            planned(1, State.FINISHED, 3.0),
            planned(2, State.DIVERGED, 1e9),
            planned(3, State.FAILED),
            planned(4, State.NEW),
        ]
    )
    assert (first.label, first.variant) == ("sgd", "lr=0.1")
    assert first.states == {State.FINISHED: 2, State.DIVERGED: 1}
    assert first.metrics["test/loss"].value == 2.0
    assert first.metrics["test/loss"].n == 2
    assert (second.variant, second.metrics) == ("lr=0.2", {})
    assert second.states == {State.FAILED: 1, State.NEW: 1}
