"""The figure of curves: what is drawn is what the numbers are, and what is missing is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from figure_cases import (
    ACCURACY,
    LOSS,
    bands,
    clipping,
    crosses,
    diverging,
    drawn,
    legend,
    lines,
    looks,
    note,
    several,
    shifted,
    trained,
    ys,
)
from made_runs import answered, group, run
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from deltagclip_cli.report.appearance import MOST_SETTINGS, Style
from deltagclip_cli.report.charts import figures
from deltagclip_cli.report.charts.lines import pieces
from deltagclip_cli.results.read.run import Curve, Outcome, Run


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
    found = [{round(float(y), 9) for y in edge(each)} for each in bands(figure.axes[1])]
    edges = [*(values.mean(axis=0) - error), *(values.mean(axis=0) + error)]
    assert {round(float(each), 9) for each in edges} in found


def edge(band: PolyCollection) -> np.ndarray:
    return np.concatenate([path.vertices[:, 1] for path in band.get_paths()])


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


def test_the_legend_is_as_wide_as_the_figure_allows() -> None:
    figure = curves(several("adam", "sgd", "gclip"))
    figure.draw_without_rendering()
    entries = figure.legends[0].get_texts()
    assert len({round(each.get_window_extent().y0) for each in entries}) == 1


def test_settings_of_a_figure_differ_as_the_legend_says() -> None:
    names = [f"o{number}" for number in range(MOST_SETTINGS)]
    figure = curves(several(*names, seeds=1))
    found = lines(figure.axes[0], "-")[::-1]  # the best was drawn last
    drawn_as = [(str(line.get_color()), str(line.get_marker())) for line in found]
    assert drawn_as == [looks(figure)[name] for name in names]
    assert len(set(drawn_as)) == MOST_SETTINGS


def test_markers_of_several_lines_are_at_different_places() -> None:
    long = [
        run(f"o{number:02}", 0, [number / 9 + x / 99 for x in range(108)]) for number in range(12)
    ]
    places = [line.get_markevery() for line in lines(curves(long).axes[0], "-")]
    assert len(set(places)) == 12


def test_a_setting_looks_alike_in_all_figures() -> None:
    """In an experiment in which it is the best, and in one in which it comes last."""
    names = ("adam", "gclip", "sgd")
    runs = several(*names) + several(*reversed(names), experiment="other")
    steps = [replace(each, curves={**each.curves, **clipping("x")[0].curves}) for each in runs]
    found = figures(answered(steps, target=("test/accuracy=0.3",)), Style.read())
    of_kinds = {(each.title, each.kind): each.figure for each in found}
    expected = looks(of_kinds["tiny", "curves"])
    assert len({expected[name] for name in names}) == 3
    for (_, kind), figure in of_kinds.items():
        if kind == "time-to-target":
            rows = [each.get_text() for each in figure.axes[0].get_yticklabels()]
            seeds = [line for line in figure.axes[0].get_lines() if line.get_marker() in "ox"]
            hues = {name: str(each.get_color()) for name, each in zip(rows, seeds, strict=True)}
            assert hues == {name: expected[name][0] for name in names}
        elif kind == "regimes":
            hues = {axes.get_title(): str(axes.title.get_color()) for axes in figure.axes}
            assert hues == {name: expected[name][0] for name in names}
        else:
            assert {name: looks(figure)[name] for name in names} == {
                name: expected[name] for name in names
            }
    kinds = {"curves", "step-size", "regimes", "time-to-target", "profiles"}
    assert {kind for _, kind in of_kinds} == kinds


def test_of_sixty_settings_the_best_of_each_optimizer_and_the_best_others_are_drawn() -> None:
    runs = several(*(f"adam lr={number}" for number in range(59)), "sgd", seeds=1)
    figure = curves(runs)
    names = [*(f"adam lr={number}" for number in range(MOST_SETTINGS - 1)), "sgd"]
    assert legend(figure) == [*names, "train", "test"]
    assert note(figure) == (
        "12 of 60 settings: first the best of each optimizer, chosen on the test set."
    )
    assert len(lines(figure.axes[0], "-")) == MOST_SETTINGS
    of_baseline = curves(runs, baseline="adam lr=40")
    assert "adam lr=40" in legend(of_baseline) and len(legend(of_baseline)) == MOST_SETTINGS + 2
    assert note(of_baseline) == (
        "12 of 60 settings: first the baseline, then the best of each optimizer, chosen on the test"
        " set."
    )


def test_all_settings_are_drawn_if_they_are_few() -> None:
    assert note(curves(several("adam", "sgd"))) == ""


def test_other_quantities_follow_and_no_other_metric_does() -> None:
    figure = curves(several("adam", val__loss=LOSS, test__f1=ACCURACY, optim__lr=LOSS))
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Accuracy", "Test f1"]
    assert legend(figure) == ["adam", "train", "test", "val"]
    assert ys(lines(figure.axes[0], "--")[0]) == pytest.approx(LOSS)


def test_of_many_metrics_it_is_said_which_are_not_drawn() -> None:
    figure = curves(several("adam", **{f"test__m{number}": ACCURACY for number in range(11)}))
    assert [axes.get_ylabel() for axes in figure.axes][-1] == "Test m5" and len(figure.axes) == 8
    assert note(figure) == "Without 5 other metrics: test m6, test m7, test m8, test m9, test m10."


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
    curve = Curve(steps, steps, steps, np.array(ACCURACY), has_epochs=False)
    made = run("adam", 0, [])
    other = Run(made.folder, made.group, 0, Outcome.FINISHED, "", {"test/accuracy": curve})
    assert curves([other]).axes[0].get_xlabel() == "Step"


# ---------------------------------------------------------------- seeds that are lost


def diverged() -> list[Run]:
    """Two seeds that finish, and one that diverges after the second epoch."""
    nan = float("nan")
    return [
        run("sgd", 0, ACCURACY, train__loss=LOSS),
        run("sgd", 1, shifted(ACCURACY, 0.1), train__loss=LOSS),
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
    of_all, of_others = (each.get_alpha() for each in bands(figure.axes[1]))
    assert of_all > 2 * of_others


def test_a_cross_at_the_edge_is_whole() -> None:
    axes = curves(diverged()).axes[0]
    (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert not cross.get_clip_on()


def test_the_band_of_a_seed_that_explodes_ends_where_the_mean_leaves_the_panel() -> None:
    exploding = [*LOSS, 1e3, 1e6]
    runs = [diverging("sgd", 0, ACCURACY, exploding)]
    runs += [run("sgd", seed, ACCURACY, train__loss=[*LOSS, 0.6, 0.5]) for seed in (1, 2)]
    axes = curves([run("adam", 0, ACCURACY, train__loss=[*LOSS, 0.6, 0.5]), *runs]).axes[0]
    low, high = axes.get_ylim()
    assert all(low < edge(each).min() and edge(each).max() < high for each in bands(axes))


def test_a_seed_that_diverged_before_its_first_point_makes_all_paler() -> None:
    (piece,) = pieces([*several("sgd"), run("sgd", 9, [], Outcome.DIVERGED)], "train/loss")
    assert not piece.is_whole and ys_of(piece.mean) == pytest.approx([x + 0.02 for x in LOSS])


def ys_of(numbers: np.ndarray) -> list[float]:
    return [float(number) for number in numbers]


def test_what_explodes_leaves_the_panel_and_does_not_flatten_the_others() -> None:
    exploding = [2.0, 1e10, 1e200, 1e308]
    runs = [diverging("sgd", seed, ACCURACY, exploding) for seed in range(3)]
    axes = curves([*runs, *several("adam")]).axes[0]
    low, high = axes.get_ylim()
    assert 0.5 < low < 0.9 and 2.0 < high < 3 and axes.get_yscale() == "linear"
    assert (2, high) in crosses(axes)  # its last point that is no more than 1e150


def test_if_all_explode_they_are_seen() -> None:
    axes = curves([diverging("sgd", 0, ACCURACY, [2.0, 1e3, 1e6])]).axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim()[1] > 1e6


@pytest.mark.parametrize(
    "loss",
    [
        [2.0, 1e200, 1.7e308],  # whose sum over seeds is beyond all numbers
        [2.0, -1e308, 1e308],
        [1e305, 1e305],
        [5e307, 1e300, 1e-300],
    ],
)
@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.FINISHED])
def test_the_largest_numbers_there_are_can_be_drawn(loss: list[float], outcome: Outcome) -> None:
    runs = [
        run(name, seed, ACCURACY, outcome, train__loss=[value / (1 + seed) for value in loss])
        for name in ("sgd", "adam")
        for seed in range(3)
    ]
    figure = curves(runs)
    figure.draw_without_rendering()  # pytest makes an error of every warning
    assert np.isfinite(figure.axes[0].get_ylim()).all()


def test_after_one_epoch_seeds_have_an_error_and_settings_their_markers() -> None:
    names = [f"o{number}" for number in range(9)]
    runs = [
        run(name, seed, [0.9 - int(name[1:]) / 10 + seed / 50])
        for name in names
        for seed in range(3)
    ]
    figure = curves(runs)
    (axes,) = figure.axes
    bars = [each.get_segments()[0] for each in axes.collections if isinstance(each, LineCollection)]
    error = np.std([0.0, 0.02, 0.04], ddof=1) / np.sqrt(3)
    assert [bar[:, 1] for bar in bars[-1:]] == [pytest.approx([0.92 - error, 0.92 + error])]
    assert len(bars) == len(names)
    shapes = [line.get_marker() for line in axes.get_lines() if len(line.get_xdata()) == 1][::-1]
    assert shapes == [looks(figure)[name][1].replace("None", "") or "." for name in names]
    assert shapes[0] == "." and shapes[-1] == "o"


def test_a_seed_that_is_not_there_yet_ends_the_line_too() -> None:
    runs = [trained("sgd", 0), run("sgd", 1, [0.3], Outcome.UNFINISHED, train__loss=[2.0])]
    figure = curves(runs)
    assert crosses(figure.axes[0])[0] == (1, 2.0)
    assert legend(figure)[0] == "sgd"


def test_a_point_that_one_seed_skips_is_in_no_mean() -> None:
    runs = [run("sgd", seed, ACCURACY) for seed in range(2)]
    values = runs[1].curves["test/accuracy"].values
    values[1] = np.nan
    (piece,) = pieces(runs, "test/accuracy")
    assert ys_of(piece.epochs) == [1, 3, 4] and piece.is_whole and not piece.is_broken


def test_seeds_that_share_no_point_have_a_line_each() -> None:
    made = run("sgd", 0, [])
    odd, even = (
        Run(made.folder, made.group, seed, Outcome.FINISHED, "", {"a": Curve(x, x, x, x)})
        for seed, x in enumerate((np.arange(1.0, 20, 2), np.arange(2.0, 20, 2)))
    )
    assert [len(piece.epochs) for piece in pieces([odd, even], "a")] == [10, 9]


def test_a_seed_that_is_there_twice_counts_once() -> None:
    runs = [*several("sgd"), trained("sgd", 0, 5.0)]
    means = [value + 0.02 for value in LOSS]
    assert ys(lines(curves(runs).axes[0], "-")[0]) == pytest.approx(means)


def test_a_comparison_without_a_number_has_no_figure() -> None:
    nothing = [run("sgd", 0, [float("nan")] * 3, Outcome.DIVERGED)]
    assert drawn(answered(nothing)) == {}


def test_a_long_line_is_thinned_but_keeps_its_ends() -> None:
    (piece,) = pieces(
        [run(group("sgd"), 0, [float(x) for x in range(5000)])], "test/accuracy", most=600
    )
    assert len(piece.epochs) < 1000 and (piece.mean[0], piece.mean[-1]) == (0, 4999)
