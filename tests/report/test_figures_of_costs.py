"""Figures of steps, of the way to a target, of two settings and of all experiments."""

from __future__ import annotations

import numpy as np
import pytest
from figure_cases import (
    ACCURACY,
    clipping,
    drawn,
    legend,
    lines,
    note,
    several,
    texts,
    ys,
)
from made_runs import answered, curve, group, last_values, run
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deltagclip_cli.curves.run import Outcome, Run


def xs(line: Line2D) -> list[float]:
    return [float(x) for x in np.asarray(line.get_xdata())]


# ---------------------------------------------------------------- steps


def test_the_step_size_is_a_part_of_the_learning_rate_beside_the_gradient_norm() -> None:
    figure = drawn(answered([*clipping("gclip"), *several("adam")]))["step-size"]
    ratio, norm, *_ = figure.axes
    assert ratio.get_ylabel() == "Step size, h/η" and norm.get_ylabel() == "Gradient norm, ‖g‖"
    (line,) = lines(ratio, "-")
    assert ys(line) == pytest.approx([0.2, 0.5, 1.0])
    assert norm.get_yscale() == "log"
    assert "adam" not in legend(figure)


def test_plain_clipped_and_floored_steps_are_stacked() -> None:
    figure = drawn(answered(clipping("gclip")))["step-size"]
    areas = figure.axes[2]
    assert areas.get_title() == "gclip"
    stacked = [each for each in areas.collections if isinstance(each, PolyCollection)]
    tops = [each.get_paths()[0].vertices[:, 1].max() for each in stacked]
    assert len(stacked) == 3 and tops[-1] == 1
    assert legend(figure)[1:] == ["plain, h = η", "clipped, h = ηγ/‖g‖", "floored, h = ηδ"]


def test_areas_of_long_runs_are_whole_too() -> None:
    plain = np.random.default_rng(0).uniform(size=3000)
    shares = {"plain": plain, "clipped": (1 - plain) ** 2, "floored": (1 - plain) * plain}
    others = {f"optim__{name}_fraction": each.tolist() for name, each in shares.items()}
    figure = drawn(answered([run("gclip", 0, ACCURACY, **others)]))["step-size"]
    top = figure.axes[0].collections[-1].get_paths()[0].vertices[:, 1]
    assert top.max() == pytest.approx(1, abs=0.3) and len(legend(figure)) == 3


def test_an_optimizer_that_only_logs_its_gradient_has_no_figure_of_steps() -> None:
    runs = [run("adam", seed, ACCURACY, optim__grad_norm=ACCURACY) for seed in range(2)]
    assert set(drawn(answered(runs))) == {"curves"}


def test_steps_that_were_all_plain_have_no_areas() -> None:
    shares = {f"optim__{name}_fraction": [0.0] for name in ("clipped", "floored")}
    others = {"optim__lr": [0.1], "optim__step_size": [0.1], "optim__plain_fraction": [1.0]}
    figure = drawn(answered([run("sgd", 0, [0.1], **shares, **others)]))["step-size"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["Step size, h/η"]


def test_of_the_papers_logs_the_floored_share_is_drawn() -> None:
    made = run("gclip", 0, ACCURACY, optim__grad_norm=ACCURACY)
    ratio = {"grad_clip_ratio": curve([0.4, 0.7, 1.0, 1.0])}
    other = Run(made.folder, made.group, 0, made.outcome, "", {**made.curves, **ratio})
    figure = drawn(answered([other]))["step-size"]
    assert legend(figure)[1:] == ["plain or clipped", "floored, h = ηδ"]


# ---------------------------------------------------------------- targets


def targets(runs: list[Run]) -> Figure:
    return drawn(answered(runs, targets=("test/accuracy=0.5",)))["time-to-target"]


def racing() -> list[Run]:
    fast = [run("fast", seed, [0.0] * seed + [0.6]) for seed in range(3)]
    half = [run("half", 0, [0.1, 0.1, 0.1, 0.9]), run("half", 1, [0.1]), run("half", 2, [0.2])]
    return [*half, *fast, run("never", 0, [0.1], Outcome.DIVERGED), run("busy", 0, [0.1])]


def test_each_seed_and_the_median_are_at_their_epochs_steps_and_seconds() -> None:
    figure = targets(racing())
    assert [axes.get_xlabel() for axes in figure.axes] == ["Epochs", "Steps", "Seconds"]
    for axes, unit in zip(figure.axes, (1, 10, 2), strict=True):
        seeds, median, half = axes.get_lines()
        assert xs(seeds) == [unit, 2 * unit, 3 * unit] and ys(seeds) == [0, 0, 0]
        assert (xs(median), ys(median)) == ([2 * unit], [0])
        assert (xs(half), ys(half)) == ([4 * unit], [1])  # no median: most seeds missed it


def test_who_never_reached_the_target_is_named_and_the_others_counted() -> None:
    figure = targets(racing())
    names = [each.get_text() for each in figure.axes[0].get_yticklabels()]
    assert names == ["fast", "half"]
    assert {"3 of 3", "1 of 3"} <= set(texts(figure))
    assert note(figure) == "Never reached by busy, never."
    assert legend(figure)[0] == "a seed reaches test/accuracy ≥ 0.5"


def test_of_many_settings_it_is_said_how_many_are_not_shown() -> None:
    runs = several(*(f"adam lr={number}" for number in range(20)), seeds=2)
    found = targets(runs)
    assert len(found.axes[0].get_yticklabels()) < 20
    assert "Not shown" in note(found) or "Never reached" in note(found)


def test_without_a_seed_that_reaches_it_there_is_no_figure_of_the_target() -> None:
    found = drawn(answered([run("sgd", 0, [0.1])], targets=("test/accuracy=0.5",)))
    assert set(found) == {"curves"}
    assert set(drawn(answered(racing()))) == {"curves"}


# ---------------------------------------------------------------- heat maps


def grid(**request: object) -> Figure:
    values = {("0.1", "1"): 0.5, ("0.1", "2"): 0.9, ("10", "1"): 0.7}
    runs = [
        each
        for (lr, gamma), value in values.items()
        for each in last_values(group("gclip", lr=lr, gamma=gamma), [value])
    ]
    runs.append(run(group("gclip", lr="2", gamma="1"), 0, [0.9], Outcome.DIVERGED))
    return drawn(answered(runs, heat_map=("lr", "gamma"), **request))["heat-map-1"]


def test_a_heat_map_has_a_cell_for_each_pair_of_settings_in_their_order() -> None:
    axes, scale = grid().axes
    (image,) = axes.images
    nan = float("nan")
    expected = [[0.5, 0.9], [nan, nan], [0.7, nan]]
    assert np.ma.filled(image.get_array(), nan) == pytest.approx(np.array(expected), nan_ok=True)
    assert [each.get_text() for each in axes.get_yticklabels()] == ["0.1", "2", "10"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("lr", "gamma")
    assert scale.get_ylabel() == "test/accuracy at the last epoch"


def test_a_heat_map_says_its_numbers_and_what_has_none() -> None:
    axes = grid().axes[0]
    words = {tuple(map(int, text.get_position())): text for text in axes.texts}
    assert {place: text.get_text() for place, text in words.items()} == {
        (0, 0): "0.5",
        (1, 0): "0.9",
        (0, 1): "×",
        (1, 1): "–",
        (0, 2): "0.7",
        (1, 2): "–",
    }
    bold = [place for place, text in words.items() if text.get_fontweight() == "bold"]
    assert bold == [(1, 0)]


def test_the_best_is_as_bright_where_less_is_better() -> None:
    runs = [
        run(group("gclip", lr=lr, gamma=gamma), 0, [], train__loss=[loss])
        for lr, gamma, loss in (("1", "1", 0.1), ("2", "2", 5.0))
    ]
    found = answered(runs, metric="train/loss", heat_map=("lr", "gamma"))
    (image,) = drawn(found)["heat-map-1"].axes[0].images
    best, worst = (sum(image.to_rgba(np.array([[value]]))[0, 0][:3]) for value in (0.1, 5.0))
    assert best > worst


# ---------------------------------------------------------------- profiles


def test_a_profile_rises_to_the_share_of_targets_that_are_reached() -> None:
    runs = []
    for number, experiment in enumerate(("one", "two")):
        fast, slow = ([0.0] * 1 + [0.6], [0.0] * (2 + 9 * number) + [0.6])
        runs += [run(group("fast", experiment), seed, fast) for seed in range(2)]
        runs += [run(group("slow", experiment), seed, slow) for seed in range(2)]
    figure = drawn(answered(runs, targets=("test/accuracy=0.5",)))["profiles"]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim() == (1, 4)
    slow_line, fast_line = axes.get_lines()
    assert (xs(fast_line), ys(fast_line)) == ([1, 1, 1, 4], [1, 1, 1, 1])
    assert (xs(slow_line), ys(slow_line)) == ([1, 1.5, 4], [0, 0.5, 0.5])  # 3/2, and 12/2 > 4
    assert slow_line.get_drawstyle() == "steps-post"
    assert legend(figure) == ["fast", "slow"]
    assert axes.get_ylabel() == "Share of 2 targets reached"


def test_without_a_target_there_are_no_profiles() -> None:
    runs = [*several("a", "b"), *last_values(group("a", "other"), [0.1])]
    assert "profiles" not in drawn(answered([*runs, *last_values(group("b", "other"), [0.2])]))
