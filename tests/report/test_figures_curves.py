"""The figure of curves: what is drawn is what the numbers are, and what is missing is seen."""

from __future__ import annotations

import numpy as np
import pytest
from figure_cases import (
    ACCURACY,
    LOSS,
    crosses,
    diverging,
    drawn,
    legend,
    lines,
    note,
    several,
    trained,
    ys,
)
from made_runs import answered, group, run
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from deltagclip_cli.curves.run import Curve, Outcome, Run
from deltagclip_cli.report.figure_settings import MOST_SETTINGS
from deltagclip_cli.report.figure_traces import traces


def curves(runs: list[Run], **request: object) -> Figure:
    return drawn(answered(runs, **request))["curves"]


def test_loss_is_beside_accuracy_with_train_solid_and_test_dotted() -> None:
    figure = curves(several("adam", "sgd"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Accuracy"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"Epoch"}
    left, right = (axes.get_position() for axes in figure.axes)
    assert left.x1 < right.x0 and left.y0 == right.y0
    means = np.mean([[value + 0.02 * seed for value in LOSS] for seed in range(3)], axis=0)
    solid, dotted = (lines(figure.axes[0], each)[-1] for each in ("-", ":"))
    assert ys(solid) == pytest.approx(means)
    assert ys(dotted) == pytest.approx(means + 0.1)
    assert list(np.asarray(solid.get_xdata())) == [1, 2, 3, 4]


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_band_is_a_standard_error_around_the_mean(ddof: int) -> None:
    figure = curves(several("adam"), ddof=ddof)
    values = np.array([[value + 0.02 * seed for value in ACCURACY] for seed in range(3)])
    error = values.std(axis=0, ddof=ddof) / np.sqrt(3)
    bands = [each for each in figure.axes[1].collections if isinstance(each, PolyCollection)]
    found = [{round(float(y), 9) for y in each.get_paths()[0].vertices[:, 1]} for each in bands]
    edges = [*(values.mean(axis=0) - error), *(values.mean(axis=0) + error)]
    assert {round(float(edge), 9) for edge in edges} in found


def test_a_single_seed_has_no_band() -> None:
    assert not curves(several("adam", seeds=1)).axes[0].collections


def test_the_legend_has_an_entry_for_each_optimizer_and_a_key_of_lines() -> None:
    assert legend(curves(several("adam", "sgd", "gclip"))) == [
        "adam",
        "sgd",
        "gclip",
        "train",
        "test",
    ]


def test_the_legend_is_below_the_panels() -> None:
    figure = curves(several(*(f"optimizer-{'x' * 30}-{i}" for i in range(12))))
    figure.draw_without_rendering()
    (found,) = figure.legends
    below = found.get_window_extent()
    assert all(below.y1 <= axes.get_tightbbox().y0 + 1 for axes in figure.axes)
    assert all(axes.get_window_extent().height > 1.2 * figure.dpi for axes in figure.axes)
    assert below.x0 >= 0 and below.x1 <= figure.bbox.x1


def test_settings_look_as_they_do_in_other_figures_and_differ_in_one() -> None:
    names = [f"o{number}" for number in range(MOST_SETTINGS)]
    figure = curves(several(*names, seeds=1))
    looks = {(line.get_color(), line.get_marker()) for line in lines(figure.axes[0], "-")}
    assert len(looks) == MOST_SETTINGS


def test_of_sixty_settings_the_best_of_each_optimizer_and_the_best_others_are_drawn() -> None:
    runs = several(*(f"adam lr={number}" for number in range(59)), "sgd", seeds=2)
    figure = curves(runs)
    names = [*(f"adam lr={number}" for number in range(MOST_SETTINGS - 1)), "sgd"]
    assert legend(figure) == [*names, "train", "test"]
    assert note(figure).startswith(f"{MOST_SETTINGS} of 60 settings")
    assert len(lines(figure.axes[0], "-")) == MOST_SETTINGS
    of_baseline = curves(runs, baseline="adam lr=40")
    assert "adam lr=40" in legend(of_baseline) and len(legend(of_baseline)) == MOST_SETTINGS + 2


def test_all_settings_are_drawn_if_they_are_few() -> None:
    assert note(curves(several("adam", "sgd"))) == ""


def test_other_quantities_follow_and_no_other_metric_does() -> None:
    figure = curves(several("adam", val__loss=LOSS, test__f1=ACCURACY, optim__lr=LOSS))
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Accuracy", "Test f1"]
    assert legend(figure) == ["adam", "train", "test", "val"]
    assert ys(lines(figure.axes[0], "--")[0]) == pytest.approx(LOSS)


def test_what_was_asked_for_is_drawn_under_any_name() -> None:
    runs = [run("adam", seed, [], reward=LOSS) for seed in range(2)]
    figure = curves(runs, metric="reward")
    assert [axes.get_ylabel() for axes in figure.axes] == ["Reward"]
    assert legend(figure) == ["adam"]  # of one kind of line, no key


def test_a_loss_over_decades_has_a_logarithmic_axis_and_an_accuracy_never() -> None:
    small = [2.0, 1.0, 0.1, 0.01]
    figure = curves([run("adam", 0, [0.001, 0.9, 0.9, 0.9], train__loss=small)])
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    with_zero = curves([run("adam", 0, [0.9], train__loss=[*small, 0.0])])
    assert with_zero.axes[0].get_yscale() == "linear"


def test_steps_of_other_programs_are_called_so() -> None:
    steps = np.arange(1.0, 5.0)
    curve = Curve(steps, steps, steps, np.array(ACCURACY))
    made = run("adam", 0, [])
    other = Run(made.folder, made.group, 0, Outcome.FINISHED, "", {"test/accuracy": curve})
    assert curves([other]).axes[0].get_xlabel() == "Step"


# ---------------------------------------------------------------- seeds that are lost


def diverged() -> list[Run]:
    """Two seeds that finish, and one that diverges after the second epoch."""
    nan = float("nan")
    return [
        run("sgd", 0, ACCURACY, train__loss=LOSS),
        run("sgd", 1, ACCURACY, train__loss=LOSS),
        diverging("sgd", 2, [0.2, 0.1], [2.0, 2.4, nan]),
    ]


def test_the_line_ends_where_a_seed_diverges_and_goes_on_paler() -> None:
    figure = curves(diverged())
    whole, others = lines(figure.axes[0], "-")
    assert ys(whole) == pytest.approx([2.0, (1.5 + 1.5 + 2.4) / 3])
    assert ys(others) == LOSS[2:]
    assert (whole.get_alpha() or 1) > 2 * (others.get_alpha() or 1)
    assert crosses(figure.axes[0]) == [(2, pytest.approx(1.8))]
    assert figure.axes[0].get_ylim()[1] > 2  # where it began
    assert legend(figure)[0] == "sgd (1 of 3 diverged)"
    assert legend(figure)[-2:] == ["a seed ends", "mean of the others"]


def test_a_seed_that_diverged_before_its_first_point_makes_all_paler() -> None:
    (piece,) = traces([*several("sgd"), run("sgd", 9, [], Outcome.DIVERGED)], "train/loss")
    assert not piece.is_whole and ys_of(piece.mean) == pytest.approx([x + 0.02 for x in LOSS])


def ys_of(numbers: np.ndarray) -> list[float]:
    return [float(number) for number in numbers]


def test_what_explodes_leaves_the_panel_and_does_not_flatten_the_others() -> None:
    exploding = [2.0, 1e10, 1e200, 1e308]
    runs = [diverging("sgd", seed, ACCURACY, exploding) for seed in range(3)]
    axes = curves([*runs, *several("adam")]).axes[0]
    low, high = axes.get_ylim()
    assert 0.5 < low < 0.9 and 2.0 < high < 3 and axes.get_yscale() == "linear"
    assert (3, high) in crosses(axes)


def test_if_all_explode_they_are_seen() -> None:
    axes = curves([diverging("sgd", 0, ACCURACY, [2.0, 1e3, 1e6])]).axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim()[1] > 1e6


def test_a_seed_that_is_not_there_yet_ends_the_line_too() -> None:
    runs = [trained("sgd", 0), run("sgd", 1, [0.3], Outcome.UNFINISHED, train__loss=[2.0])]
    figure = curves(runs)
    assert crosses(figure.axes[0])[0] == (1, 2.0)
    assert legend(figure)[0] == "sgd"


def test_a_point_that_one_seed_skips_is_in_no_mean() -> None:
    runs = [run("sgd", seed, ACCURACY) for seed in range(2)]
    values = runs[1].curves["test/accuracy"].values
    values[1] = np.nan
    (piece,) = traces(runs, "test/accuracy")
    assert ys_of(piece.x) == [1, 3, 4] and piece.is_whole and not piece.is_broken


def test_seeds_that_share_no_point_have_a_line_each() -> None:
    made = run("sgd", 0, [])
    odd, even = (
        Run(made.folder, made.group, seed, Outcome.FINISHED, "", {"a": Curve(x, x, x, x)})
        for seed, x in enumerate((np.arange(1.0, 20, 2), np.arange(2.0, 20, 2)))
    )
    assert [len(piece.x) for piece in traces([odd, even], "a")] == [10, 9]


def test_a_seed_that_is_there_twice_counts_once() -> None:
    runs = [*several("sgd"), trained("sgd", 0, 5.0)]
    means = [value + 0.02 for value in LOSS]
    assert ys(lines(curves(runs).axes[0], "-")[0]) == pytest.approx(means)


def test_a_comparison_without_a_number_has_no_figure() -> None:
    nothing = [run("sgd", 0, [float("nan")] * 3, Outcome.DIVERGED)]
    assert drawn(answered(nothing)) == {}


def test_a_long_line_is_thinned_but_keeps_its_ends() -> None:
    (piece,) = traces([run(group("sgd"), 0, [float(x) for x in range(5000)])], "test/accuracy")
    assert len(piece.x) < 1000 and (piece.mean[0], piece.mean[-1]) == (0, 4999)
