"""The curves of a page: means and bands over seeds, thinned where there are many points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import answered, curve, group, last_values, run

from deltagclip_cli.comparison.comparison import Comparison
from deltagclip_cli.curves.run import Outcome, Run
from deltagclip_cli.report.bands import band, thinned
from deltagclip_cli.report.charts import Charts
from deltagclip_cli.report.looks import looks
from deltagclip_cli.report.sensitivity import sensitivity_charts

SEEDS = [[0.1, 0.2, 0.3], [0.2, 0.4, 0.5], [0.3, 0.3, 0.4]]


def compared(runs: Sequence[Run], **request: object) -> Comparison:
    (comparison,) = answered(runs, **request).comparisons
    return comparison


def chart(charts: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    (found,) = (each for each in charts if each["metric"] == metric)
    return found


def test_a_band_is_the_mean_and_the_standard_error_over_seeds() -> None:
    found = band([run("adam", seed, values) for seed, values in enumerate(SEEDS)], "test/accuracy")
    assert found is not None
    np.testing.assert_allclose(found.mean, np.mean(SEEDS, axis=0))
    np.testing.assert_allclose(found.standard_error, np.std(SEEDS, axis=0, ddof=1) / math.sqrt(3))
    np.testing.assert_array_equal(found.counts, [3, 3, 3])
    np.testing.assert_array_equal(found.steps, [10, 20, 30])


def test_a_band_counts_the_seeds_that_have_a_value_at_each_epoch() -> None:
    found = band([run("adam", 0, [0.1, 0.2, math.inf]), run("adam", 1, [0.3])], "test/accuracy")
    assert found is not None
    np.testing.assert_array_equal(found.counts, [2, 1, 0])
    np.testing.assert_allclose(found.mean, [0.2, 0.2, math.nan])
    assert np.isnan(found.standard_error[1:]).all()


def test_there_is_no_band_of_a_metric_that_no_run_has() -> None:
    assert band([run("adam", 0, [0.1])], "test/loss") is None


def test_thinning_keeps_the_first_the_last_the_lowest_and_the_highest_point() -> None:
    values = list(np.sin(np.arange(1000)))
    values[333], values[777] = 5.0, -5.0
    found = band([run("adam", 0, values)], "test/accuracy")
    assert found is not None
    kept = thinned(found, 50)
    assert {0, 333, 777, 999} <= set(kept.tolist())
    assert 50 <= len(kept) <= 52
    assert len(thinned(found, 1000)) == 1000


def test_a_chart_has_a_line_for_each_setting_in_the_order_of_the_table() -> None:
    charts = Charts(400)
    made = charts.of(compared([*last_values("sgd", [0.5, 0.6]), *last_values("adam", [0.9, 0.8])]))
    lines = chart(made, "test/accuracy")["lines"]
    assert [line["row"] for line in lines] == [0, 1]
    assert lines[0]["mean"] == pytest.approx([0, 0.85])
    assert lines[0]["seeds"] == [[0.0, 0.9], [0.0, 0.8]]
    assert charts.axes[lines[0]["axis"]] == {"epochs": [1, 2], "steps": [10, 20], "seconds": [2, 4]}
    assert not charts.thinned


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_chart_has_the_standard_errors_of_the_table(ddof: int) -> None:
    comparison = compared(last_values("adam", [0.9, 0.8, 0.6]), ddof=ddof)
    (line,) = chart(Charts(400).of(comparison), "test/accuracy")["lines"]
    summary = comparison.rows[0].summary
    assert summary is not None
    assert line["error"][-1] == pytest.approx(summary.standard_error, rel=1e-5)


def test_a_seed_that_is_there_twice_counts_once() -> None:
    twice = replace(run("adam", 0, [0.1, 0.1]), folder=Path("again"))
    comparison = compared([*last_values("adam", [0.9, 0.8]), twice])
    (line,) = chart(Charts(400).of(comparison), "test/accuracy")["lines"]
    assert (line["n"], line["mean"][-1]) == (2, pytest.approx(0.85))


def test_losses_that_explode_make_no_noise() -> None:
    found = band([run("adam", seed, [1e300, -1e300]) for seed in range(2)], "test/accuracy")
    assert found is not None  # pytest makes an error of every warning


def test_the_axis_that_lines_share_is_there_once() -> None:
    charts = Charts(400)
    charts.of(compared([*last_values("sgd", [0.5]), *last_values("adam", [0.9])]))
    assert len(charts.axes) == 1


def test_a_page_of_many_runs_has_fewer_points_of_each_line() -> None:
    few = compared(last_values("adam", [0.5, 0.6]))
    assert Charts.for_page([few]).points == 400
    many = compared([run(f"o{k}", s, [0.5] * 2) for k in range(100) for s in range(20)])
    assert 20 <= Charts.for_page([many]).points < 400
    charts = Charts(20)
    charts.of(compared([run("adam", 0, [0.5] * 50)]))
    assert charts.thinned


def clipping(seed: int, plain: float, clipped: float, floored: float) -> Run:
    return run(
        group("delta-gclip", options={"delta": 1e-3}),
        seed,
        [0.1, 0.9],
        optim__lr=[0.2, 0.2],
        optim__step_size=[0.1, 0.2],
        optim__plain_fraction=[plain] * 2,
        optim__clipped_fraction=[clipped] * 2,
        optim__floored_fraction=[floored] * 2,
    )


def test_the_step_size_is_shown_as_a_part_of_the_learning_rate() -> None:
    made = Charts(400).of(compared([clipping(0, 0, 1, 0)]))
    (line,) = chart(made, "optim/step_size ÷ lr")["lines"]
    assert line["mean"] == [0.5, 1.0]
    metrics = {each["metric"] for each in made}
    assert "optim/lr" not in metrics  # it never changes
    assert not any("fraction" in name for name in metrics)  # which are areas


def test_a_learning_rate_that_changes_is_shown() -> None:
    made = Charts(400).of(compared([run("adam", 0, [0.1, 0.9], optim__lr=[0.2, 0.1])]))
    assert chart(made, "optim/lr")["part"] == "steps"


def test_the_regimes_of_what_clips_are_areas_that_add_up_to_one() -> None:
    comparison = compared([clipping(0, 0.2, 0.5, 0.3), clipping(1, 0.4, 0.3, 0.3)])
    (areas,) = Charts(400).regimes(comparison)
    means = {line["name"]: line["mean"][0] for line in areas["lines"]}
    assert means == pytest.approx({"plain": 0.3, "clipped": 0.4, "floored": 0.3})


def test_there_are_no_areas_where_every_step_was_plain() -> None:
    assert Charts(400).regimes(compared([clipping(0, 1, 0, 0)])) == []


@pytest.mark.parametrize(("ratio", "count"), [([1.0, 1.0], 0), ([1.0, 0.75], 1)])
def test_other_logs_tell_the_floored_steps_by_their_clip_ratio(
    ratio: list[float], count: int
) -> None:
    plain = run("dgclip", 0, [0.1, 0.9])
    other = replace(plain, curves={**plain.curves, "grad_clip_ratio": curve(ratio)})
    found = Charts(400).regimes(compared([other]))
    assert len(found) == count
    for areas in found:
        floored = {line["name"]: line["mean"] for line in areas["lines"]}["floored"]
        assert floored == [0.0, 0.25]


def test_where_epochs_are_not_known_the_page_does_not_offer_them() -> None:
    ours = run("adam", 0, [0.1, 0.9])
    steps = curve([0.1, 0.9])
    steps = replace(steps, epochs=steps.steps)
    assert compared([ours]).has_epochs
    assert not compared([replace(ours, curves={"test/accuracy": steps})]).has_epochs


def test_numbers_that_are_none_are_null() -> None:
    diverged = run("sgd", 0, [0.5, math.nan], Outcome.DIVERGED)
    (line,) = chart(Charts(400).of(compared([diverged])), "test/accuracy")["lines"]
    assert line["mean"] == [0.5, None]


# ------------------------------------------------------------------- looks


def test_a_name_keeps_its_look_and_no_two_of_a_chart_are_alike() -> None:
    first, second = looks([["a", "b", "c"], ["d", "e", "f", "c"]])
    assert second[3] == first[2]
    assert len({(look.colour, look.dash) for look in second}) == 4


def test_many_lines_differ_by_their_dashes() -> None:
    (many,) = looks([[str(k) for k in range(28)]])
    assert len({(look.colour, look.dash) for look in many}) == 28
    assert {look.dash for look in many[:7]} == {"solid"}


# ------------------------------------------------------------- sensitivity


def test_a_setting_is_shown_at_the_best_of_the_others() -> None:
    accuracies = {("0.1", "1"): 0.5, ("0.1", "2"): 0.7, ("0.2", "1"): 0.8, ("0.4", "1"): 0.6}
    runs = [
        each
        for (lr, gamma), value in accuracies.items()
        for each in last_values(group("gclip", lr=lr, gamma=gamma), [value, value + 0.01])
    ]
    (by_lr,) = sensitivity_charts(compared(runs))  # of gamma there are two values
    (line,) = by_lr["lines"]
    assert by_lr["key"] == "lr"
    assert line["x"] == [0.1, 0.2, 0.4]
    assert line["mean"] == pytest.approx([0.705, 0.805, 0.605])
    assert line["setting"][0] == "gclip lr=0.1 gamma=2"
