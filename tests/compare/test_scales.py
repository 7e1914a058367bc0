"""Speed-ups over the baseline at each scale that was run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import answered, group, run
from scipy import stats
from tiny_spec import trial_of

from deltagclip_cli.report.appearance import LineStyles, Style
from deltagclip_cli.report.charts import charts_across
from deltagclip_cli.report.charts.lines import PageLines
from deltagclip_cli.results.compare.analysis import Analysis
from deltagclip_cli.results.compare.formats import json_text
from deltagclip_cli.results.read.run import Run

WIDTH = "model.width"
SOON = {"8": [2, 4, 3], "16": [4, 4, 5], "32": [8, 6, 8]}  # epochs by seed
LATE = {"8": [4, 8, 6], "16": [6, 5, 7], "32": [8, 8, 9]}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two optimizers at three scales, of which one is the less ahead the larger these are."""
    text = trial_of(tmp_path_factory.mktemp("spec")).model_copy(update={"scale": WIDTH})
    return [
        replace(each, trial=text)
        for name, epochs in (("soon", SOON), ("late", LATE))
        for width, of_seeds in epochs.items()
        for seed, count in enumerate(of_seeds)
        for each in [run(group(name, conditions={WIDTH: width}), seed, reaching(count))]
    ]


def reaching(epochs: int, of: int = 9) -> list[float]:
    return [0.1] * (epochs - 1) + [0.9] * (of - epochs + 1)


def answer(runs: Sequence[Run], **request: object) -> Analysis:
    asked = {"target": ["test/accuracy=0.5"], "baseline": "late", **request}
    return answered(runs, **asked)


def test_a_speed_up_is_a_geometric_mean_over_pairs_of_seeds(scaled: list[Run]) -> None:
    (found,) = answer(scaled).scalings
    assert (found.key, found.baseline, [each.word for each in found.at]) == (
        WIDTH,
        "late",
        ["8", "16", "32"],
    )
    for each in found.at:
        logs = [math.log(b / a) for a, b in zip(SOON[each.word], LATE[each.word], strict=True)]
        assert each.steps is not None
        assert each.steps.ratio == pytest.approx(math.exp(sum(logs) / 3))
        if each.steps.interval is not None and each.word != "8":
            test = stats.ttest_1samp(logs, 0).confidence_interval()
            ends = each.steps.interval.low, each.steps.interval.high
            assert ends == pytest.approx((math.exp(test.low), math.exp(test.high)))
    assert found.at[0].steps is not None and found.at[0].steps.ratio == pytest.approx(2)


def test_where_a_seed_misses_the_target_there_is_no_ratio(scaled: list[Run]) -> None:
    lost = scaled[0]
    missed = replace(run(lost.group, 0, [0.1] * 9), trial=lost.trial)
    (found,) = answer([missed, *scaled[1:]]).scalings
    assert found.at[0].steps is None and found.at[0].reached == "2 of 3 and 3 of 3"
    assert found.at[1].steps is not None


def test_the_table_says_that_nothing_follows_for_other_scales(scaled: list[Run]) -> None:
    (table,) = [each for each in answer(scaled).tables() if "speed-up" in each.title]
    assert table.title == "tiny: speed-up over late by model.width"
    assert [row[1].text for row in table.rows] == ["8", "16", "32"]
    assert any("Nothing follows for another model.width than these" in n for n in table.notes)


def test_programs_read_the_speed_ups(scaled: list[Run]) -> None:
    (found,) = json.loads(json_text(answer(scaled)))["scalings"]
    assert [each["scale"] for each in found["optimizers"]] == [8, 16, 32]
    assert found["optimizers"][0]["steps"]["ratio"] == pytest.approx(2)


def test_the_line_of_a_chart_ends_with_the_largest_scale(scaled: list[Run]) -> None:
    found = answer(scaled)
    styles = LineStyles.of(found.comparisons)
    (chart,) = [each for _, each in charts_across(found, styles) if each.kind == "speed-up"]
    steps, seconds = chart.page(PageLines(400))
    low, high, line = steps["traces"]
    assert line["x"] == [8, 16, 32] == low["x"] == high["x"]
    assert all(a <= b <= c for a, b, c in zip(low["y"], line["y"], high["y"], strict=True))
    assert seconds["traces"][2]["name"] == "soon"
    with Style.read().applied():
        figure = chart.paper()
    assert figure is not None and len(figure.axes) == 2


@pytest.mark.parametrize("request_", [{"target": None}, {"baseline": None}])
def test_without_a_target_or_a_baseline_there_is_no_speed_up(
    scaled: list[Run], request_: dict[str, object]
) -> None:
    assert answer(scaled, **request_).scalings == []


def test_conditions_that_are_no_scale_are_not_taken_for_one(
    scaled: list[Run], tmp_path: Path
) -> None:
    plain = trial_of(tmp_path)
    assert answer([replace(each, trial=plain) for each in scaled]).scalings == []
