"""The curves of a page: means and bands over seeds, thinned where there are many points."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import METRIC, answered, curve, group, last_values, run

from deltagclip_cli.report.bands import band, thinned
from deltagclip_cli.report.charts import Charts
from deltagclip_cli.report.line_styles import COLOURS, DASHES, Look, Looks
from deltagclip_cli.report.page import page
from deltagclip_cli.report.sensitivity_charts import sensitivity_charts
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.read.run import Group, Outcome, Run

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
    steps = replace(curve([0.1, 0.9]), has_epochs=False)
    assert compared([ours]).has_epochs
    assert not compared([replace(ours, curves={"test/accuracy": steps})]).has_epochs


def test_numbers_that_are_none_are_null() -> None:
    diverged = run("sgd", 0, [0.5, math.nan], Outcome.DIVERGED)
    (line,) = chart(Charts(400).of(compared([diverged])), "test/accuracy")["lines"]
    assert line["mean"] == [0.5, None]


# ------------------------------------------------------------------- looks


def looks(*experiments: Sequence[str], **request: object) -> Looks:
    """The looks of experiments with settings of these names, the best first."""
    runs = [
        each
        for number, names in enumerate(experiments)
        for place, name in enumerate(names)
        for each in last_values(setting(name, f"e{number}"), [0.9 - place / 100])
    ]
    return Looks.of(answered(runs, **request).comparisons)


def setting(name: str, experiment: str) -> Group:
    """``adam lr=1`` of an experiment."""
    optimizer, *words = name.split()
    return group(optimizer, experiment, **dict(word.split("=") for word in words))


def drawn(look: Look) -> tuple[str, str]:
    return look.colour, look.dash


def test_a_setting_looks_alike_in_all_comparisons_and_no_two_of_one_are_alike() -> None:
    first, second, third = ["a", "b"], ["c", "d"], ["d", "a", "c", "b"]
    found = looks(first, second, third).settings
    for names in (first, second, third):
        assert len({drawn(found[name]) for name in names}) == len(names)
    assert len({look.colour for look in found.values()}) == 4


def test_many_lines_differ_by_their_dashes() -> None:
    found = looks([str(k) for k in range(28)]).settings
    assert len(set(map(drawn, found.values()))) == 28
    assert {look.dash for name, look in found.items() if int(name) < 7} == {"solid"}


def test_what_figures_show_has_the_first_colours() -> None:
    many = [f"adam lr={number}" for number in range(60)]
    found = looks([*many, "sgd", "gclip"]).settings
    first = [(COLOURS[number % 7], DASHES[number // 7]) for number in range(12)]
    assert [drawn(found[name]) for name in (*many[:10], "sgd", "gclip")] == first


def test_an_optimizer_looks_as_its_best_setting() -> None:
    found = looks(["sgd lr=1", "adam lr=2", "adam lr=1"], ["adam lr=3", "sgd lr=4"])
    best = {"sgd": "sgd lr=1", "adam": "adam lr=2"}
    assert {label: drawn(look) for label, look in found.optimizers.items()} == {
        label: drawn(found.settings[name]) for label, name in best.items()
    }
    assert [look.name for look in found.optimizers.values()] == ["sgd", "adam"]


def test_the_page_has_the_looks_of_the_figures() -> None:
    runs = [
        each
        for number in range(2)
        for place, name in enumerate(("sgd lr=1", "adam lr=1", "adam lr=2", "adam lr=3"))
        for each in last_values(setting(name, f"e{number}"), [0.9 + number * place / 100])
    ]
    found = answered(runs, target=(f"{METRIC}=0.5",))
    expected = Looks.of(found.comparisons)
    text = page("", [], found, [])
    (data,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    content = json.loads(data)
    for each, section in zip(found.comparisons, content["sections"].values(), strict=True):
        assert section["lines"] == [asdict(expected.settings[row.group.name]) for row in each.rows]
        (by_lr,) = section["sensitivity"]
        assert drawn(Look(*(by_lr["lines"][0][key] for key in ("name", "colour", "dash")))) == (
            drawn(expected.optimizers["adam"])
        )
    assert {line["name"]: line for line in content["profiles"]["lines"]} == {
        label: asdict(look) for label, look in expected.optimizers.items()
    }


# ------------------------------------------------------------- sensitivity


def with_looks(runs: Sequence[Run]) -> tuple[Comparison, Looks]:
    comparison = compared(runs)
    return comparison, Looks.of([comparison])


def test_a_setting_is_shown_at_the_best_of_the_others() -> None:
    accuracies = {("0.1", "1"): 0.5, ("0.1", "2"): 0.7, ("0.2", "1"): 0.8, ("0.4", "1"): 0.6}
    runs = [
        each
        for (lr, gamma), value in accuracies.items()
        for each in last_values(group("gclip", lr=lr, gamma=gamma), [value, value + 0.01])
    ]
    (by_lr,) = sensitivity_charts(*with_looks(runs))  # of gamma there are two values
    (line,) = by_lr["lines"]
    assert by_lr["key"] == "lr"
    assert line["x"] == [0.1, 0.2, 0.4]
    assert line["mean"] == pytest.approx([0.705, 0.805, 0.605])
    assert line["setting"][0] == "gclip lr=0.1 gamma=2"
