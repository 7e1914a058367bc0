"""Figures of the way to a target, and of all experiments."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from figure_cases import (
    drawn,
    legend,
    looks,
    note,
    several,
    texts,
    ys,
)
from made_runs import answered, group, last_values, run
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deltagclip_cli.report.appearance import Style
from deltagclip_cli.results.read.run import Curve, Outcome, Run


def xs(line: Line2D) -> list[float]:
    return [float(x) for x in np.asarray(line.get_xdata())]


# ---------------------------------------------------------------- targets


def targets(runs: list[Run]) -> Figure:
    return drawn(answered(runs, target=("test/accuracy=0.5",)))["time-to-target"]


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


def test_the_fastest_is_first_though_another_is_better_in_the_end() -> None:
    runs = [run("best", 0, [0.0, 0.0, 0.9]), run("fast", 0, [0.0, 0.6])]
    names = [each.get_text() for each in targets(runs).axes[0].get_yticklabels()]
    assert names == ["fast", "best"]


def test_the_last_circle_is_whole_and_away_from_what_is_beside_it() -> None:
    figure = targets(racing())
    figure.draw_without_rendering()
    for axes in figure.axes:
        last = max(x for line in axes.get_lines() for x in xs(line))
        right = axes.transData.transform((last, 0))[0] + 3 / 72 * figure.dpi  # its radius
        assert right < axes.get_window_extent().x1
    beside = min(text.get_window_extent().x0 for text in figure.axes[-1].texts)
    assert beside > figure.axes[-1].get_window_extent().x1


def test_long_names_that_differ_in_the_middle_are_told_apart_in_a_narrow_figure(
    tmp_path: Path,
) -> None:
    names = [f"an_optimizer lr={k} with_a_setting_that_is_long=0.0005" for k in range(3)]
    (tmp_path / "narrow.mplstyle").write_text("figure.figsize: 3.3, 2")
    runs = [run(group(name), 0, [0.1, 0.9]) for name in names]
    found = answered(runs, target=("test/accuracy=0.5",))
    figure = drawn(found, Style.read(tmp_path / "narrow.mplstyle"))["time-to-target"]
    shown = [each.get_text() for each in figure.axes[0].get_yticklabels()]
    assert len(set(shown)) == 3 and all(f"lr={k}" in "".join(shown) for k in range(3))
    figure.draw_without_rendering()
    boxes = [each.get_window_extent() for each in figure.axes[0].get_yticklabels()]
    assert all(one.y0 > other.y1 for one, other in pairwise(boxes))  # one below the other


def test_who_never_reached_the_target_is_named_and_the_others_counted() -> None:
    figure = targets(racing())
    names = [each.get_text() for each in figure.axes[0].get_yticklabels()]
    assert names == ["fast", "half"]
    assert {"3 of 3", "1 of 3"} <= set(texts(figure))
    assert note(figure) == "Never reached by busy and never."
    assert legend(figure)[0] == "a seed reaches test/accuracy ≥ 0.5"


def test_of_many_settings_it_is_said_how_many_are_not_shown() -> None:
    runs = [run(f"adam lr={number}", 0, [0.9 - number / 100]) for number in range(20)]
    found = targets(runs)
    assert len(found.axes[0].get_yticklabels()) == 12
    assert note(found) == "Not shown: 8 other settings."


def test_without_a_seed_that_reaches_it_there_is_no_figure_of_the_target() -> None:
    found = drawn(answered([run("sgd", 0, [0.1])], target=("test/accuracy=0.5",)))
    assert set(found) == {"curves"}
    assert set(drawn(answered(racing()))) == {"curves"}


# ---------------------------------------------------------------- profiles


def test_a_profile_rises_to_the_share_of_targets_that_are_reached() -> None:
    runs = []
    for number, experiment in enumerate(("one", "two")):
        fast, slow = ([0.0] * 1 + [0.6], [0.0] * (2 + 9 * number) + [0.6])
        runs += [run(group("fast", experiment), seed, fast) for seed in range(2)]
        runs += [run(group("slow", experiment), seed, slow) for seed in range(2)]
    figure = drawn(answered(runs, target=("test/accuracy=0.5",)))["profiles"]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim() == (1, 4)
    slow_line, fast_line = axes.get_lines()
    assert (xs(fast_line), ys(fast_line)) == ([1, 4], [1, 1])
    assert (xs(slow_line), ys(slow_line)) == ([1, 1.5, 4], [0, 0.5, 0.5])  # 3/2, and 12/2 > 4
    assert slow_line.get_drawstyle() == "steps-post"
    assert legend(figure) == ["fast", "slow"]
    assert axes.get_ylabel() == "Share of 2 targets reached"


def racing_twice() -> list[Run]:
    """Of two, one needs half the steps of the other, and twice its seconds; nobody knows epochs."""
    runs = []
    for experiment in ("one", "two"):
        for name, steps, seconds in (("a", 1.0, 4.0), ("b", 2.0, 2.0)):
            made = run(group(name, experiment), 0, [0.9])
            x = np.array([steps])
            found = {"test/accuracy": Curve(x, x, np.array([seconds]), np.array([0.9]), False)}
            runs.append(replace(made, curves=found))
    return runs


def test_each_clock_has_its_own_profile() -> None:
    figure = drawn(answered(racing_twice(), target=("test/accuracy=0.5",)))["profiles"]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "Steps over the fastest's, τ",
        "Seconds over the fastest's, τ",
    ]
    hues = looks(figure)
    for axes, fastest in zip(figure.axes, "ab", strict=True):
        at_once = {str(line.get_color()): ys(line)[0] for line in axes.get_lines()}
        assert at_once == {hues[name][0]: float(name == fastest) for name in "ab"}


def test_profiles_of_epochs_come_first() -> None:
    runs = [run(group(name, of), 0, [0.9]) for name in "ab" for of in ("one", "two")]
    figure = drawn(answered(runs, target=("test/accuracy=0.5",)))["profiles"]
    labels = [axes.get_xlabel().split()[0] for axes in figure.axes]
    assert labels == ["Epochs", "Steps", "Seconds"]


def test_many_optimizers_are_told_apart_in_profiles_as_they_are_elsewhere() -> None:
    names = [f"o{number:02}" for number in range(14)]
    runs = [
        run(group(name, of), 0, [0.0] * place + [0.9 - place / 100])
        for of in ("one", "two")
        for place, name in enumerate(names)
    ]
    found = drawn(answered(runs, target=("test/accuracy=0.5",)))
    assert looks(found["profiles"]) == {
        name: look for name, look in looks(found["curves"]).items() if name in names
    }
    (axes, *_) = found["profiles"].axes
    assert {line.get_linestyle() for line in axes.get_lines()} == {"-"}
    assert len({(line.get_color(), line.get_marker()) for line in axes.get_lines()}) == 12
    assert note(found["profiles"]) == "12 best of 14 optimizers"


def test_without_a_target_there_are_no_profiles() -> None:
    runs = [*several("a", "b"), *last_values(group("a", "other"), [0.1])]
    assert "profiles" not in drawn(answered([*runs, *last_values(group("b", "other"), [0.2])]))
