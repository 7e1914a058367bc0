"""Heat maps: the same shades as in the table, and everything that is to be known of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from figure_cases import drawn
from made_runs import answered, group, last_values, run
from matplotlib.figure import Figure

from deltagclip_cli.core import Mode
from deltagclip_cli.results.read.run import Outcome


def grid(**request: object) -> Figure:
    values = {("0.1", "1"): 0.5, ("0.1", "2"): 0.9, ("10", "1"): 0.7}
    runs = [
        each
        for (lr, gamma), value in values.items()
        for each in last_values(group("gclip", lr=lr, gamma=gamma), [value])
    ]
    runs.append(run(group("gclip", lr="2", gamma="1"), 0, [0.9], Outcome.DIVERGED))
    return drawn(answered(runs, heatmap="lr,gamma", **request))["heat-map-1"]


def test_a_heat_map_has_a_cell_for_each_pair_of_settings_in_their_order() -> None:
    figure = grid()
    (axes,) = figure.axes
    (image,) = axes.images
    nan = float("nan")
    expected = [[0, 1], [nan, nan], [0.5, nan]]  # how good they are among the others
    assert np.ma.filled(image.get_array(), nan) == pytest.approx(np.array(expected), nan_ok=True)
    assert [each.get_text() for each in axes.get_yticklabels()] == ["0.1", "2", "10"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("lr", "gamma")
    assert figure.get_suptitle().replace("\n", " ") == (
        "test/accuracy at the last epoch, coloured by rank."
        " The best mean in bold; × a seed diverged; – no value. The best setting of an optimizer"
        " was chosen on the test set: it flatters."
    )


def test_a_heat_map_says_that_the_best_of_several_settings_was_chosen() -> None:
    runs = [
        run(group("gclip", lr=lr, gamma=gamma, delta=delta), 0, [float(lr) * float(delta)])
        for lr in ("0.1", "0.2")
        for gamma in ("1", "2")
        for delta in ("1", "2")
    ]
    figure = drawn(answered(runs, heatmap="lr,gamma"))["heat-map-1"]
    words = figure.get_suptitle().replace("\n", " ")
    assert "Each cell is the best over the other settings, which flatters." in words


def test_a_value_that_is_far_from_the_others_hides_no_differences() -> None:
    values = {("1", "1"): 0.1, ("1", "2"): 0.2, ("2", "1"): 0.3, ("2", "2"): 1e8}
    runs = [run(group("a", lr=lr, gamma=g), 0, [value]) for (lr, g), value in values.items()]
    (image,) = drawn(answered(runs, heatmap="lr,gamma"))["heat-map-1"].axes[0].images
    assert np.unique(image.to_rgba(image.get_array()).reshape(4, 4), axis=0).shape == (4, 4)


@pytest.mark.parametrize("rows", [2, 9])
def test_what_a_heat_map_says_is_within_it_and_long_labels_are_apart(rows: int) -> None:
    runs = [
        run(group("a", lr=str(lr), schedule=f"a schedule with a long name {k}"), 0, [lr + k])
        for lr in range(rows)
        for k in range(3)
    ]
    figure = drawn(answered(runs, heatmap="lr,schedule"))["heat-map-1"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for box in (axes.get_tightbbox(), *(text.get_window_extent() for text in figure.texts)):
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1 + 1
    labels = [each.get_window_extent() for each in axes.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(labels))
    assert axes.get_window_extent().height > 0.25 * rows * figure.dpi


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


@pytest.mark.parametrize(("mode", "best"), [("min", 0.1), ("max", 5.0)])
def test_the_best_is_the_brightest_with_letters_that_can_be_read(mode: str, best: float) -> None:
    runs = [
        run(group("gclip", lr=lr, gamma=gamma), 0, [], train__loss=[loss])
        for lr, gamma, loss in (("1", "1", 0.1), ("2", "2", 5.0))
    ]
    found = answered(runs, metric="train/loss", heatmap="lr,gamma", mode=Mode(mode))
    (axes,) = drawn(found)["heat-map-1"].axes
    (image,) = axes.images
    colours = image.to_rgba(image.get_array())
    brightness = {
        text.get_text(): colours[int(text.get_position()[1]), int(text.get_position()[0]), :3].sum()
        for text in axes.texts
        if text.get_text() != "–"
    }
    assert max(brightness, key=brightness.__getitem__) == f"{best:g}"
    inks = {text.get_text(): text.get_color() for text in axes.texts}
    assert inks == {f"{best:g}": "black", f"{5.1 - best:g}": "white", "–": "black"}
