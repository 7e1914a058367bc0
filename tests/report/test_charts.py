"""The curves of a page: means and bands over seeds, thinned where there are many points."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from figure_cases import drawn as drawn_figures
from figure_cases import ys
from made_runs import METRIC, answered, curve, group, last_values, run

from deltagclip_cli.core import MARK
from deltagclip_cli.report.appearance import COLOURS, DASHES, LineStyle, LineStyles
from deltagclip_cli.report.charts import charts_of
from deltagclip_cli.report.charts.lines import Json, PageLines, band, pieces
from deltagclip_cli.report.page import page
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.read.run import Group, Outcome, Run

SEEDS = [[0.1, 0.2, 0.3], [0.2, 0.4, 0.5], [0.3, 0.3, 0.4]]


def compared(runs: Sequence[Run], **request: object) -> Comparison:
    (comparison,) = answered(runs, **request).comparisons
    return comparison


def charts(comparison: Comparison, lines: PageLines | None = None) -> dict[str, Json]:
    """The charts of a comparison on the page, by their titles."""
    found = charts_of(comparison, LineStyles.of([comparison]))
    lines = lines or PageLines(400)
    return {each["title"]: each for chart in found for each in chart.page(lines)}


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
    (kept,) = pieces([run("adam", 0, values)], "test/accuracy", most=50)
    assert {1, 334, 778, 1000} <= set(kept.epochs.tolist())
    assert 50 <= len(kept.epochs) <= 52
    (whole,) = pieces([run("adam", 0, values)], "test/accuracy", most=1000)
    assert len(whole.epochs) == 1000


def test_a_chart_has_a_line_for_each_setting_in_the_order_of_the_table() -> None:
    page_lines = PageLines(400)
    both = compared([*last_values("sgd", [0.5, 0.6]), *last_values("adam", [0.9, 0.8])])
    lines = charts(both, page_lines)["test/accuracy"]["lines"]
    assert [(line["row"], line["name"]) for line in lines] == [(0, "adam"), (1, "sgd")]
    (piece,) = lines[0]["pieces"]
    assert piece["mean"] == pytest.approx([0, 0.85])
    assert piece["seeds"] == [[0.0, 0.9], [0.0, 0.8]]
    axis = {"epochs": [1, 2], "steps": [10, 20], "seconds": [2, 4]}
    assert page_lines.axes[piece["axis"]] == axis
    assert len(page_lines.axes) == 1  # what lines share is there once


def test_a_line_goes_on_in_another_piece_where_a_seed_is_lost() -> None:
    """A mean that loses a seed jumps for no reason but that; paper and page do not join it."""
    runs = [run("adam", 0, [0.1, 0.2, 0.3]), run("adam", 1, [0.3], Outcome.DIVERGED)]
    (line,) = charts(compared(runs))["test/accuracy"]["lines"]
    both, rest = line["pieces"]
    assert (both["mean"], both["n"], both["isWhole"], both["isBroken"]) == ([0.2], 2, True, True)
    assert (rest["mean"], rest["n"], rest["isWhole"], rest["isBroken"]) == (
        [0.2, 0.3],
        1,
        False,
        False,
    )
    assert rest["error"] is None and rest["seeds"] == []


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_chart_has_the_standard_errors_of_the_table(ddof: int) -> None:
    comparison = compared(last_values("adam", [0.9, 0.8, 0.6]), ddof=ddof)
    (line,) = charts(comparison)["test/accuracy"]["lines"]
    summary = comparison.rows[0].summary
    assert summary is not None
    assert line["pieces"][0]["error"][-1] == pytest.approx(summary.standard_error, rel=1e-5)


def test_a_seed_that_is_there_twice_counts_once() -> None:
    twice = replace(run("adam", 0, [0.1, 0.1]), folder=Path("again"))
    comparison = compared([*last_values("adam", [0.9, 0.8]), twice])
    (line,) = charts(comparison)["test/accuracy"]["lines"]
    (piece,) = line["pieces"]
    assert (piece["n"], piece["mean"][-1]) == (2, pytest.approx(0.85))


def test_losses_that_explode_make_no_noise() -> None:
    found = band([run("adam", seed, [1e300, -1e300]) for seed in range(2)], "test/accuracy")
    assert found is not None  # pytest makes an error of every warning


def test_a_page_of_many_runs_has_fewer_points_of_each_line() -> None:
    few = compared(last_values("adam", [0.5, 0.6]))
    assert PageLines.for_page([few]).points == 400
    many = compared([run(f"o{k}", s, [0.5] * 2) for k in range(100) for s in range(20)])
    assert 20 <= PageLines.for_page([many]).points < 400
    (line,) = charts(compared([run("adam", 0, [0.5] * 50)]), PageLines(20))["test/accuracy"][
        "lines"
    ]
    assert len(line["pieces"][0]["mean"]) == 20


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
    made = charts(compared([clipping(0, 0, 1, 0)]))
    (line,) = made["Step size, h/η"]["lines"]
    assert line["pieces"][0]["mean"] == [0.5, 1.0]
    assert "Learning rate, η" not in made  # it never changes
    assert not any("fraction" in title for title in made)  # which are areas


def test_a_learning_rate_that_changes_is_shown() -> None:
    runs = [run("adam", 0, [0.1, 0.9], optim__lr=[0.2, 0.1])]
    assert "Learning rate, η" in charts(compared(runs))


def areas(made: dict[str, Json], setting: str) -> dict[str, list[float]] | None:
    chart = made.get(f"{setting}: shares of steps")
    return {each["name"]: each["y"] for each in chart["traces"]} if chart else None


def test_the_regimes_of_what_clips_are_areas_that_add_up_to_one() -> None:
    made = charts(compared([clipping(0, 0.2, 0.5, 0.3), clipping(1, 0.4, 0.3, 0.3)]))
    shares = areas(made, "delta-gclip") or {}
    first = {name: values[0] for name, values in shares.items()}
    assert first == pytest.approx({"plain": 0.3, "clipped": 0.4, "floored": 0.3})


def test_there_are_no_areas_where_every_step_was_plain() -> None:
    assert areas(charts(compared([clipping(0, 1, 0, 0)])), "delta-gclip") is None


@pytest.mark.parametrize(("ratio", "floored"), [([1.0, 1.0], None), ([1.0, 0.75], [0.0, 0.25])])
def test_other_logs_tell_the_floored_steps_by_their_clip_ratio(
    ratio: list[float], floored: list[float] | None
) -> None:
    plain = run("dgclip", 0, [0.1, 0.9])
    other = replace(plain, curves={**plain.curves, "grad_clip_ratio": curve(ratio)})
    found = areas(charts(compared([other])), "dgclip")
    assert (found and found["floored"]) == floored


def test_a_target_has_a_row_for_each_setting_by_what_it_took() -> None:
    runs = [*last_values("slow", [0.5, 0.9]), run("fast", 0, [0.9, 0.9])]
    page_lines = PageLines(400)
    comparison = compared(runs, target=(f"{METRIC}=0.4",))
    chart = charts(comparison, page_lines)["Until test/accuracy ≥ 0.4"]
    assert chart["layout"]["yaxis"]["ticktext"] == ["fast", "slow"]
    seeds, median = chart["traces"][2:]
    assert page_lines.axes[seeds["axis"]]["epochs"] == [2, 2]
    assert median["name"] == "slow (median, 2 of 2)"


def test_where_epochs_are_not_known_the_page_does_not_offer_them() -> None:
    ours = run("adam", 0, [0.1, 0.9])
    steps = replace(curve([0.1, 0.9]), has_epochs=False)
    assert compared([ours]).has_epochs
    assert not compared([replace(ours, curves={"test/accuracy": steps})]).has_epochs


def test_what_is_no_number_ends_a_line() -> None:
    diverged = run("sgd", 0, [0.5, math.nan], Outcome.DIVERGED)
    (line,) = charts(compared([diverged]))["test/accuracy"]["lines"]
    (piece,) = line["pieces"]
    assert piece["mean"] == [0.5] and piece["isBroken"]


# -------------------------------------------------------------- line styles


def styles(*experiments: Sequence[str], **request: object) -> LineStyles:
    """The line styles of experiments with settings of these names, the best first."""
    runs = [
        each
        for number, names in enumerate(experiments)
        for place, name in enumerate(names)
        for each in last_values(setting(name, f"e{number}"), [0.9 - place / 100])
    ]
    return LineStyles.of(answered(runs, **request).comparisons)


def setting(name: str, experiment: str) -> Group:
    """``adam lr=1`` of an experiment."""
    optimizer, *words = name.split()
    return group(optimizer, experiment, **dict(word.split("=") for word in words))


def drawn(style: LineStyle) -> tuple[str, str]:
    return style.colour, style.dash


def test_a_setting_looks_alike_in_all_comparisons_and_no_two_of_one_are_alike() -> None:
    first, second, third = ["a", "b"], ["c", "d"], ["d", "a", "c", "b"]
    found = styles(first, second, third).settings
    for names in (first, second, third):
        assert len({drawn(found[name]) for name in names}) == len(names)
    assert len({style.colour for style in found.values()}) == 4


def test_many_lines_differ_by_their_dashes() -> None:
    found = styles([str(k) for k in range(28)]).settings
    assert len(set(map(drawn, found.values()))) == 28
    assert {style.dash for name, style in found.items() if int(name) < 7} == {"solid"}


def test_what_figures_show_has_the_first_colours() -> None:
    many = [f"adam lr={number}" for number in range(60)]
    found = styles([*many, "sgd", "gclip"]).settings
    first = [(COLOURS[number % 7], DASHES[number // 7]) for number in range(12)]
    assert [drawn(found[name]) for name in (*many[:10], "sgd", "gclip")] == first


def test_an_optimizer_looks_as_its_best_setting() -> None:
    found = styles(["sgd lr=1", "adam lr=2", "adam lr=1"], ["adam lr=3", "sgd lr=4"])
    best = {"sgd": "sgd lr=1", "adam": "adam lr=2"}
    assert {label: drawn(style) for label, style in found.optimizers.items()} == {
        label: drawn(found.settings[name]) for label, name in best.items()
    }
    assert [style.name for style in found.optimizers.values()] == ["sgd", "adam"]


def test_the_page_has_the_looks_of_the_figures() -> None:
    runs = [
        each
        for number in range(2)
        for place, name in enumerate(("sgd lr=1", "adam lr=1", "adam lr=2", "adam lr=3"))
        for each in last_values(setting(name, f"e{number}"), [0.9 + number * place / 100])
    ]
    found = answered(runs, target=(f"{METRIC}=0.5",))
    expected = LineStyles.of(found.comparisons)
    text = page("", [], found, [])
    (data,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    content = json.loads(data)
    for each, section in zip(found.comparisons, content["sections"].values(), strict=True):
        assert section["lines"] == [asdict(expected.settings[row.group.name]) for row in each.rows]
        (by_lr,) = (g["charts"][0] for g in section["groups"] if "settings" in g["heading"])
        style = by_lr["traces"][2]["line"]  # behind the two that fill its band
        assert (style["color"], style["dash"]) == drawn(expected.optimizers["adam"])
    profiles = {each["name"]: each["line"] for each in content["across"][0]["traces"]}
    assert {name: (style["color"], style["dash"]) for name, style in profiles.items()} == {
        label: drawn(style) for label, style in expected.optimizers.items()
    }


# ------------------------------------------------------------- sensitivity


def test_a_setting_is_shown_at_the_best_of_the_others() -> None:
    accuracies = {("0.1", "1"): 0.5, ("0.1", "2"): 0.7, ("0.2", "1"): 0.8, ("0.4", "1"): 0.6}
    runs = [
        each
        for (lr, gamma), value in accuracies.items()
        for each in last_values(group("gclip", lr=lr, gamma=gamma), [value, value + 0.01])
    ]
    made = charts(compared(runs))
    assert [title for title in made if " by " in title] == [f"test/accuracy by lr, {MARK}"]
    low, high, line = made[f"test/accuracy by lr, {MARK}"]["traces"]
    assert line["x"] == [0.1, 0.2, 0.4]
    assert line["y"] == pytest.approx([0.705, 0.805, 0.605])
    assert line["text"][0] == "gclip lr=0.1 gamma=2"
    error = (0.71 - 0.70) / 2  # of two seeds
    assert low["y"] == pytest.approx([y - error for y in line["y"]])
    assert high["y"] == pytest.approx([y + error for y in line["y"]])
    (axes,) = drawn_figures(answered(runs))["settings"].axes
    assert axes.get_xlabel() == "lr"
    assert ys(axes.get_lines()[0]) == pytest.approx(line["y"])


def test_draws_are_a_line_through_the_medians_of_neighbours() -> None:
    runs = [
        each
        for n in range(8)
        for each in last_values(
            group("adam", lr=f"{0.1 * 2**n:g}", gamma=f"{3 * n % 8 + 1}"), [0.1 * n, 0.1 * n]
        )
    ]
    comparison = compared(runs)
    low, high, line, points = charts(comparison)[f"test/accuracy by lr, {MARK}"]["traces"]
    assert line["y"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert low["y"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert high["y"] == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert line["x"] == pytest.approx([0.1 * 2**n for n in range(1, 7)])
    assert line["text"][0] == "3 settings, 0.1 to 0.4"
    assert points["y"] == pytest.approx([0.1 * n for n in range(8)])
    figure = drawn_figures(answered(runs))["settings"]
    assert ys(figure.axes[0].get_lines()[0]) == pytest.approx(line["y"])
