"""The theorem in a report: verdicts, curves beside their bounds, numbers against the width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from figure_cases import drawn, ys
from figure_cases import lines as lines_of
from run_cases import lines, make_run
from tiny_spec import trials_of

from deltagclip_cli.report.appearance import LineStyles
from deltagclip_cli.report.charts import charts_of
from deltagclip_cli.report.charts.lines import PageLines
from deltagclip_cli.report.page import PageTable, page, tables_across, tables_of
from deltagclip_cli.results.compare.analysis import Analysis, analyse
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.read.run import Reading, Run
from deltagclip_cli.results.read.tree import read_trials

SPEC = """\
experiments:
  tiny:
    model: {name: wide_mlp, width: 8}
    data: {name: sphere, points: 4, batch_size: full}
    task: {name: classify, loss: squared, reduction: sum}
    precision: fp64
    epochs: 20
    seeds: [0, 1]
    certificate: {every: 5}
    optimizers:
      delta-gclip: {name: delta_gclip, lr: 0.25, gamma: 0.5, delta: 0.5}
      adam: {name: adam, lr: 1e-3}
"""
LAMBDA, BETA, RATE = 1.5, 3.0, 0.25


def record(step: int, *, descends: bool) -> dict[str, Any]:
    """A loss of one dimension and curvature 2, at a step that is floored."""
    h = 0.5 * RATE
    w = (1 - 2 * h) ** (step - 1)
    found = {"epoch": step, "step": step, "time": 0.0, "perf/epoch_seconds": 0.1}
    found |= {"train/loss": w**2 / 4, "test/loss": w**2, "optim/lr": RATE}
    found |= {"optim/grad_norm": 2 * w, "theory/distance": 1 - w}
    if descends:
        found |= {"optim/step_size": h, "optim/plain_fraction": 0.0}
        found |= {"optim/clipped_fraction": 0.0, "optim/floored_fraction": 1.0}
    if step in (1, 6, 11, 16, 20):
        found |= {"theory/lambda_min": LAMBDA, "theory/lambda_max": 2.0, "theory/beta": BETA}
        found |= {"theory/lambda_error": 0.0, "theory/points": 4, "theory/smooth": 1.0}
    return found


def certified_runs(root: Path, *sets: str) -> Sequence[Run]:
    """Runs whose numbers follow from a formula."""
    paths = []
    for trial in trials_of(root, *sets, text=SPEC):
        descends = trial.label == "delta-gclip"
        content = lines(*(record(step, descends=descends) for step in range(1, 21)))
        paths.append(make_run(root / "runs", trial, content, "finished").path)
    return read_trials(paths).runs


def answered(runs: Sequence[Run]) -> Analysis:
    return analyse(Reading(runs, []), Request(metric="test/loss"))


def texts(table: PageTable) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.content.rows]


def certificates(found: Analysis) -> list[PageTable]:
    (comparison,) = found.comparisons
    return [table for table in tables_of(comparison, found) if table.kind == "certificate"]


def test_a_table_has_what_each_line_came_to_for_each_setting(tmp_path: Path) -> None:
    verdicts, numbers = certificates(answered(certified_runs(tmp_path)))
    assert verdicts.content.headings[:5] == ["optimizer", "n", "rate", "kernel", "step size"]
    adam, ours = texts(verdicts)
    assert ours == ["delta-gclip", "2", *["holds"] * 8, "0", "0", "20"]
    assert adam[:5] == ["adam", "2", "premise not met", "holds", "premise not met"]
    assert numbers.content.headings[3:5] == ["λ_min at w_0", "μ"]
    assert texts(numbers)[1][2:5] == ["8 of 8", "1.5 ± 0", "1.5 ± 0"]


def test_seeds_that_differ_are_counted(tmp_path: Path) -> None:
    runs = certified_runs(tmp_path)
    folder = next(run.folder for run in runs if run.group.optimizer == "delta-gclip")
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text().replace('"theory/distance": 0.25', '"theory/distance": 99'))
    verdicts, _ = certificates(answered(read_trials([run.folder for run in runs]).runs))
    assert texts(verdicts)[1][9] in ("1 violated, 1 holds", "1 holds, 1 violated")


def test_widths_are_put_side_by_side(tmp_path: Path) -> None:
    found = answered(certified_runs(tmp_path, "grid={model.width: [16, 8, 128]}"))
    assert len(found.comparisons) == 3
    (table,) = (each for each in tables_across(found) if each.kind == "certificate")
    names = [row[0] for row in texts(table) if row[0].startswith("delta")]
    assert names == [f"delta-gclip model.width={width}" for width in (8, 16, 128)]


def test_other_programs_have_no_certificate(tmp_path: Path) -> None:
    from made_runs import run  # theory/... by chance

    named = {"theory__lambda_min": [0.5], "theory__beta": [0.5]}
    runs = [run("a", 0, [0.1], train__loss=[1.0], test__loss=[1.0], **named)]
    assert certificates(answered(runs)) == []


TITLES = [
    "Loss against its bound",
    "PL* ratio against λ_min",
    "Distance from w_0 against its bound",
    "Curvature, β, and λ_max",
]


def test_charts_have_a_bound_beside_each_line(tmp_path: Path) -> None:
    (comparison,) = answered(certified_runs(tmp_path)).comparisons
    (chart,) = (
        each
        for each in charts_of(comparison, LineStyles.of([comparison]))
        if each.heading == "Certificate"
    )
    page_lines = PageLines(400)
    made = list(chart.page(page_lines))
    assert [each["title"] for each in made] == TITLES
    loss, ratio, distance, _ = (
        {line["name"]: line["pieces"][0] for line in each["lines"]} for each in made
    )
    factor = 1 - RATE * 0.5 * LAMBDA
    bounds = pytest.approx([factor**t for t in range(20)], rel=1e-5)
    assert loss["delta-gclip, bound"]["mean"] == bounds
    losses = pytest.approx([0.75 ** (2 * t) for t in range(20)], rel=1e-5)
    assert loss["delta-gclip"]["mean"] == losses
    known = ratio["delta-gclip, λ_min"]
    assert known["mean"] == [LAMBDA] * 5
    assert page_lines.axes[known["axis"]]["steps"] == [1, 6, 11, 16, 20]
    assert ratio["delta-gclip"]["mean"] == [2.0] * 20
    first = RATE * math.sqrt(2 * BETA)  # at the second step; an axis of logarithms has no 0
    assert distance["delta-gclip, bound"]["mean"][0] == pytest.approx(first, rel=1e-5)


def test_a_figure_has_the_charts_of_the_page(tmp_path: Path) -> None:
    figure = drawn(answered(certified_runs(tmp_path)))["bounds"]
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == TITLES
    factor = 1 - RATE * 0.5 * LAMBDA
    (bound,) = lines_of(figure.axes[0], ":")
    assert ys(bound) == pytest.approx([factor**t for t in range(20)])
    assert {line.get_linestyle() for line in figure.axes[0].get_lines()} == {"-", ":"}
    assert figure.axes[0].get_yscale() == "log"


def test_a_page_draws_losses_and_bounds_on_a_logarithmic_axis(
    browser: Browser, tmp_path: Path
) -> None:
    runs = certified_runs(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(page("Certified", runs, answered(runs), []), encoding="utf-8")
    browser.open(path)
    browser.show_all()
    place = "document.querySelector('.chart[data-title=\"Loss against its bound\"] > div')"
    names = browser.run(f"return {place}.data.map(({{name}}) => name).filter(Boolean)")
    assert sorted(names) == ["adam", "delta-gclip", "delta-gclip, bound"]
    assert browser.run(f"return {place}.layout.yaxis.type") == "log"
    dashes = browser.run(f"return {place}.data.filter((e) => e.name).map((e) => e.line.dash)")
    assert dashes.count("dot") == 1
    told = browser.run(f"return {place}.ariaLabel")
    assert "delta-gclip, bound" in told
    assert "premise not met" in browser.one("figure[data-kind=certificate]").text
