"""Figures that others published, beside ours."""

from __future__ import annotations

from made_runs import METRIC, answered, group, last_values

from deltagclip_cli.results.compare.published import caveats, experiments, published

PAPER = {"name": "delta_gclip", "lr": 0.2, "gamma": 1.0, "delta": 1e-3, "weight_decay": 0.0}


def test_every_figure_has_a_source_and_a_caveat() -> None:
    assert experiments() == ["vit-tiny-cifar10", "vit-small-cifar10", "bert-emotion"]
    for name in experiments():
        source, *others = caveats(name)
        assert "arXiv 2404.08624" in source
        assert others


def test_figures_are_found_by_experiment_and_metric() -> None:
    adam, clipped, small_step = published("vit-tiny-cifar10", METRIC)
    assert (adam.mean, adam.standard_error, adam.n, adam.epoch) == (0.7060, 0.0019, 10, 100)
    assert (clipped.mean, small_step.mean) == (0.7021, 0.3479)
    assert published("vit-tiny", METRIC) == published("vit-tiny-cifar10", METRIC)
    assert published("bert-emotion", "test/loss") == []
    assert published("quickstart", METRIC) == []


def test_ours_stand_beside_those_with_the_same_options() -> None:
    ours = group("d", experiment="vit-tiny-cifar10", options=PAPER)
    other = group("e", experiment="vit-tiny-cifar10", options={**PAPER, "lr": 0.3})
    runs = last_values(ours, [0.69, 0.71]) + last_values(other, [0.1, 0.2])
    table = answered(runs, published=True).tables()[-1]
    assert [[cell.text for cell in row][3:] for row in table.rows] == [
        ["0.7060 ± 0.0019", "–", "–", "–"],
        ["0.7021 ± 0.0016", "2", "2", "0.700 ± 0.010"],
        ["0.3479 ± 0.0026", "–", "–", "–"],
    ]
    assert any("158/157" in note for note in table.notes)


def test_where_nothing_was_published_that_is_said() -> None:
    found = answered(last_values("adam", [0.1, 0.2]), published=True)
    assert "no figures of these experiments" in found.problems[0]


def test_the_figures_of_bert_are_those_of_the_15th_epoch_and_of_text_logs() -> None:
    figures = published("bert-emotion", METRIC)
    assert [(each.mean, each.n, each.epoch) for each in figures] == [(0.953, 1, 15), (0.954, 1, 15)]
    source, choice, caveat = caveats("bert-emotion")
    assert "texts of DistilBERT" in source and "the 15th epoch" in caveat
    assert "chosen on the test set" in choice


def test_no_figure_says_that_its_delta_would_have_been_idle_at_every_step_size() -> None:
    (floor,) = (each for each in caveats("vit-tiny-cifar10") if "floored" in each)
    assert "At η = 5e-4" in floor and "δ = 1e-2 would have been active" in floor
