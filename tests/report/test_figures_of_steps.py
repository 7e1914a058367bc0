"""The figure of steps: how long they were, and what clipping did to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from figure_cases import (
    ACCURACY,
    bands,
    clipping,
    crosses,
    drawn,
    legend,
    lines,
    several,
    ys,
)
from made_runs import answered, curve, run
from matplotlib.axes import Axes

from deltagclip_cli.results.read.run import Outcome, Run


def test_the_step_size_is_a_part_of_the_learning_rate_beside_the_gradient_norm() -> None:
    figure = drawn(answered([*clipping("gclip"), *several("adam")]))["step-size"]
    ratio, norm, *_ = figure.axes
    assert ratio.get_ylabel() == "Step size, h/η" and norm.get_ylabel() == "Gradient norm, ‖g‖"
    (line,) = lines(ratio, "-")
    assert ys(line) == pytest.approx([0.22, 0.5, 1.0])
    assert norm.get_yscale() == "log"
    assert "adam" not in legend(figure)


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_band_of_steps_is_a_standard_error(ddof: int) -> None:
    axes = drawn(answered(clipping("gclip"), ddof=ddof))["step-size"].axes[0]
    (band,) = bands(axes)
    error = np.std([0.2, 0.24], ddof=ddof) / np.sqrt(2)
    first = [y for x, y in band.get_paths()[0].vertices if x == 1]
    assert (min(first), max(first)) == pytest.approx((0.22 - error, 0.22 + error))


def test_plain_clipped_and_floored_steps_are_stacked() -> None:
    figure = drawn(answered(clipping("gclip")))["regimes"]
    areas = figure.axes[0]
    assert areas.get_title() == "gclip"
    assert len(bands(areas)) == 3 and tops(areas) == {1.0}
    assert legend(figure) == ["plain, h = η", "clipped, h = ηγ/‖g‖", "floored, h = ηδ"]


def tops(areas: Axes) -> set[float]:
    """How high the areas are together, wherever there are some."""
    vertices = np.concatenate([each.get_paths()[0].vertices for each in bands(areas)])
    highest = [vertices[vertices[:, 0] == x, 1].max() for x in np.unique(vertices[:, 0])]
    return {round(float(each), 9) for each in highest}


def test_areas_of_long_runs_are_whole_too() -> None:
    plain = np.random.default_rng(0).uniform(size=3000)
    shares = {"plain": plain, "clipped": (1 - plain) ** 2, "floored": (1 - plain) * plain}
    others = {f"optim__{name}_fraction": each.tolist() for name, each in shares.items()}
    figure = drawn(answered([run("gclip", 0, ACCURACY, **others)]))["regimes"]
    assert tops(figure.axes[0]) == {1.0} and len(legend(figure)) == 3


def losing_a_seed() -> list[Run]:
    """Six settings over eight epochs, of the last of which a seed diverges in the third."""
    runs = []
    for number in range(6):
        for seed in range(2):
            lost = number == 5 and seed == 1
            shares = {"plain": 0.5, "clipped": 0.3, "floored": 0.2}
            epochs = 3 if lost else 8
            others = {f"optim__{name}_fraction": [each] * epochs for name, each in shares.items()}
            others["optim__grad_norm"] = [1.0 + number] * epochs
            outcome = Outcome.DIVERGED if lost else Outcome.FINISHED
            accuracies = [0.9 - number / 10] * epochs
            runs.append(run(f"gclip-{number}", seed, accuracies, outcome, **others))
    return runs


def test_all_areas_are_over_the_same_epochs_with_a_cross_where_a_seed_is_lost() -> None:
    figure = drawn(answered(losing_a_seed()))["regimes"]
    assert {axes.get_xlim() for axes in figure.axes} == {(1, 8)}
    areas = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    found = {name: [x for x, _ in crosses(axes)] for name, axes in areas.items()}
    assert found == {**{f"gclip-{number}": [] for number in range(5)}, "gclip-5": [3]}
    assert "a seed ends" in legend(figure)
    assert bands(areas["gclip-5"])[0].get_paths()[0].vertices[:, 0].max() == 3


def test_a_cross_is_explained_where_only_areas_have_one() -> None:
    without = [
        replace(each, curves={k: v for k, v in each.curves.items() if k != "optim/grad_norm"})
        for each in losing_a_seed()
    ]
    found = drawn(answered(without))["regimes"]
    assert len(found.axes) == 6
    assert legend(found) == [
        "plain, h = η",
        "clipped, h = ηγ/‖g‖",
        "floored, h = ηδ",
        "a seed ends",
    ]


def test_areas_of_one_epoch_can_be_seen() -> None:
    shares = {"plain": 0.5, "clipped": 0.3, "floored": 0.2}
    others = {f"optim__{name}_fraction": [each] for name, each in shares.items()}
    figure = drawn(answered([run("gclip", 0, [0.5], **others)]))["regimes"]
    xs_of_areas = bands(figure.axes[0])[0].get_paths()[0].vertices[:, 0]
    assert (xs_of_areas.min(), xs_of_areas.max()) == (0.5, 1.5)


def test_an_optimizer_that_only_logs_its_gradient_has_the_figure_of_the_page() -> None:
    runs = [run("adam", seed, ACCURACY, optim__grad_norm=ACCURACY) for seed in range(2)]
    (axes,) = drawn(answered(runs))["step-size"].axes
    assert axes.get_ylabel() == "Gradient norm, ‖g‖"


def test_steps_that_were_all_plain_have_no_areas() -> None:
    shares = {f"optim__{name}_fraction": [0.0] for name in ("clipped", "floored")}
    others = {"optim__lr": [0.1], "optim__step_size": [0.1], "optim__plain_fraction": [1.0]}
    found = drawn(answered([run("sgd", 0, [0.1], **shares, **others)]))
    assert set(found) == {"curves", "step-size"}
    assert [axes.get_ylabel() for axes in found["step-size"].axes] == ["Step size, h/η"]


def test_of_the_papers_logs_the_floored_share_is_drawn() -> None:
    made = run("gclip", 0, ACCURACY, optim__grad_norm=ACCURACY)
    ratio = {"grad_clip_ratio": curve([0.4, 0.7, 1.0, 1.0])}
    other = Run(made.folder, made.group, 0, made.outcome, "", {**made.curves, **ratio})
    figure = drawn(answered([other]))["regimes"]
    assert legend(figure) == ["plain or clipped", "floored, h = ηδ"]
