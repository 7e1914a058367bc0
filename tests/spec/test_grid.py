"""Grids: what is varied, in which combinations, and every fault at its place."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_spec import TINY, faults_of_text, write_spec

from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Experiment, Variant

SMALLEST: dict[str, Any] = {
    "model": "mlp",
    "data": {"name": "synthetic", "batch_size": 4},
    "epochs": 2,
    "optimizers": {"a": {"name": "sgd", "lr": 0.1}, "b": "adam"},
}


def experiment(**settings: Any) -> Experiment:
    return Experiment.model_validate({**SMALLEST, **settings})


def variants(label: str, grid: Any, **settings: Any) -> list[Variant]:
    return list(experiment(grid=grid, **settings).variants(label))


def values(option: str, grid: Any, label: str = "a") -> list[Any]:
    return [variant.optimizer.options.get(option) for variant in variants(label, grid)]


def places_of_faults(**settings: Any) -> set[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        experiment(**settings)
    return {fault["loc"] for fault in caught.value.errors()}


def test_without_a_grid_an_optimizer_has_one_variant_as_it_is() -> None:
    plain = experiment()
    assert list(plain.variants("a")) == [Variant(plain, plain.optimizers["a"])]


def test_a_grid_is_a_product_and_zip_pairs_up() -> None:
    grid = {"a": {"lr": [1, 2], "zip": {"momentum": [0.1, 0.2], "weight_decay": [3, 4]}}}
    options = [variant.optimizer.options for variant in variants("a", grid)]
    assert [(o["lr"], o["momentum"], o["weight_decay"]) for o in options] == [
        (1, 0.1, 3),
        (1, 0.2, 4),
        (2, 0.1, 3),
        (2, 0.2, 4),
    ]
    assert [variant.optimizer.name for variant in variants("b", grid)] == ["adam"]


def test_a_grid_may_vary_the_schedule_of_one_optimizer() -> None:
    grid = {"a": {"schedule": [{"name": "cosine"}, "cosine", None]}}
    schedules = [variant.optimizer.schedule for variant in variants("a", grid)]
    assert [schedule and schedule.name for schedule in schedules] == ["cosine", "cosine", None]
    none = variants("a", grid)[2].optimizer
    assert "schedule" in none.model_fields_set, "so that it is none, not the experiment's"


def test_an_option_that_stands_alone_is_varied_for_every_optimizer() -> None:
    grid = {"weight_decay": [0, 0.5], "a": {"lr": [1, 2]}}
    assert values("weight_decay", grid, "b") == [0, 0.5]
    assert values("weight_decay", grid, "a") == [0, 0, 0.5, 0.5]
    assert values("lr", grid, "a") == [1, 2, 1, 2]


def test_settings_of_the_experiment_are_varied_by_dotted_keys_and_as_a_whole() -> None:
    grid = {
        "model.hidden": [[8], [16, 16]],
        "model.activation": ["tanh"],
        "data.batch_size": ["full", 2],
        "task": ["autoencode", {"name": "classify", "loss": "squared"}],
        "epochs": [3],
        "precision": ["fp64"],
        "schedule": [None, "cosine"],
    }
    found = [variant.experiment for variant in variants("b", grid)]
    assert len(found) == 16
    assert found[0].model.options == {"hidden": (8,), "activation": "tanh"}
    assert found[15].model.options == {"hidden": (16, 16), "activation": "tanh"}
    assert {(e.epochs, e.precision) for e in found} == {(3, "fp64")}
    assert [e.data.batch_size for e in found[:8]] == ["full"] * 4 + [2] * 4
    assert [e.task.name for e in found[:4]] == ["autoencode"] * 2 + ["classify"] * 2
    assert [e.schedule and e.schedule.name for e in found[:2]] == [None, "cosine"]


def test_parts_of_a_schedule_are_varied_where_there_is_one() -> None:
    grid = {"schedule.floor": [0, 0.5], "schedule.warmup": [0, 3]}
    found = [v.experiment.schedule for v in variants("a", grid, schedule="cosine")]
    assert [(s.options["floor"], s.warmup) for s in found if s is not None] == [
        (0, 0),
        (0, 3),
        (0.5, 0),
        (0.5, 3),
    ]


def test_zip_pairs_options_with_settings_of_the_experiment() -> None:
    grid = {"zip": {"lr": {"range": [1, 2], "count": 2}, "model.hidden": [[8], [16]]}}
    for label in ("a", "b"):
        pairs = [
            (variant.optimizer.options["lr"], variant.experiment.model.options["hidden"])
            for variant in variants(label, grid)
        ]
        assert pairs == [(1, (8,)), (2, (16,))]


def test_an_optimizer_called_like_a_setting_keeps_its_grid() -> None:
    grid = {"model": {"lr": [1, 2]}}
    found = variants("model", grid, optimizers={"model": "sgd"})
    assert [variant.optimizer.options["lr"] for variant in found] == [1, 2]


def test_what_is_combined_is_what_would_be_if_it_were_checked_together() -> None:
    """Values are checked one by one; no limit of an option may depend on another."""
    axes: dict[str, list[Any]] = {
        "lr": [1, 0.5],
        "betas": [[0.5, 0.9], [0, 0]],
        "amsgrad": [True, False],
        "foreach": [None, False, True],
        "schedule": [None, "cosine"],
    }
    adam = {"name": "adam", "maximize": True, "amsgrad": True}
    written = experiment(optimizers={"b": adam}, grid={"b": axes})
    together = [
        written.optimizers["b"].varied(dict(zip(axes, point, strict=True)))
        for point in itertools.product(*axes.values())
    ]
    assert [variant.optimizer for variant in written.variants("b")] == together
    assert len(together) == 48


def test_the_written_experiment_stays_as_it_was() -> None:
    written = experiment(grid={"model.hidden": [[1], [2]], "lr": [3]})
    before = experiment(grid={"model.hidden": [[1], [2]], "lr": [3]})
    assert len(list(written.variants("a"))) == 2
    assert written == before
    assert written.optimizers["a"].options["lr"] == 0.1


@pytest.mark.parametrize(
    ("written", "points"),
    [
        ({"log_range": [1e-3, 1], "count": 4}, [0.001, 0.01, 0.1, 1]),
        ({"log_range": [1e-3, 1], "count": 2}, [0.001, 1]),
        ({"log_range": [1e-8, 1e8], "count": 5}, [1e-8, 1e-4, 1, 1e4, 1e8]),
        ({"log_range": [1, 100], "count": 3}, [1, 10, 100]),
        ({"range": [0.5, 1], "count": 5}, [0.5, 0.625, 0.75, 0.875, 1]),
        ({"range": [0.1, 0.7], "count": 7}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ({"range": [1, 2], "count": 3}, [1, 1.5, 2]),
        ({"count": 3, "range": [1.0, 3]}, [1, 2, 3]),
    ],
)
def test_a_range_has_both_ends_and_round_numbers(written: Any, points: list[float]) -> None:
    assert values("lr", {"a": {"lr": written}}) == points


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        ({"range": [2, 8], "count": 3}, [2, 5, 8]),
        ({"log_range": [1, 100], "count": 3}, [1, 10, 100]),
    ],
)
def test_a_range_of_whole_numbers_is_whole(written: Any, sizes: list[int]) -> None:
    found = [v.experiment.data.batch_size for v in variants("a", {"data.batch_size": written})]
    assert found == sizes
    assert all(type(size) is int for size in found)


@pytest.mark.parametrize(
    "written",
    [
        {"range": [2, 8], "count": 4},
        {"range": [2, 9], "count": 3},
        {"range": [2.0, 8], "count": 3},
        {"log_range": [1, 10], "count": 3},
    ],
)
def test_a_range_that_is_not_whole_is_refused_where_whole_numbers_are_needed(written: Any) -> None:
    grid = {"data.batch_size": written}
    if written == {"range": [2, 8], "count": 4}:
        assert [v.experiment.data.batch_size for v in variants("a", grid)] == [2, 4, 6, 8]
    else:
        (place,) = {place[:2] for place in places_of_faults(grid=grid)}
        assert place == ("grid", "data.batch_size")


RANDOM = {
    "draws": 20,
    "seed": 3,
    "lr": {"log_uniform": [1e-3, 1]},
    "nesterov": {"choice": [True, False]},
}


def test_random_options_are_drawn_together_and_are_one_axis() -> None:
    alone = variants("a", {"a": {"random": RANDOM}})
    assert len(alone) == 20
    assert len({variant.optimizer.options["lr"] for variant in alone}) == 20
    assert all(1e-3 <= variant.optimizer.options["lr"] <= 1 for variant in alone)
    assert {variant.optimizer.options.get("nesterov") for variant in alone} == {True, None}
    assert len(variants("a", {"a": {"random": RANDOM, "momentum": [0, 0.5]}})) == 40


def test_draws_do_not_depend_on_other_axes_on_more_draws_or_on_other_options() -> None:
    drawn = values("lr", {"a": {"random": RANDOM}})
    assert values("lr", {"a": {"random": {**RANDOM, "draws": 21}}})[:20] == drawn
    assert values("lr", {"a": {"random": {**RANDOM, "momentum": {"uniform": [0, 1]}}}}) == drawn
    assert values("lr", {"a": {"random": RANDOM, "weight_decay": [7]}}) == drawn
    assert values("lr", {"random": {"draws": 20, "seed": 3, "lr": RANDOM["lr"]}}, "b") == drawn
    assert values("lr", {"a": {"random": {**RANDOM, "seed": 4}}}) != drawn


def test_draws_do_not_change_between_versions() -> None:
    """A sweep that was begun is found again only if this stays as it is."""
    drawn = values("lr", {"a": {"random": {"draws": 3, "lr": {"log_uniform": [1e-3, 1]}}}})
    assert drawn == [0.112085, 0.0260223, 0.0566528]


def test_settings_of_the_experiment_are_drawn_too() -> None:
    random = {"draws": 9, "data.batch_size": {"log_integer": [1, 64]}, "lr": {"uniform": [1, 2]}}
    found = variants("a", {"random": random})
    assert len({variant.experiment.data.batch_size for variant in found}) > 4
    assert all(1 <= variant.optimizer.options["lr"] <= 2 for variant in found)


@pytest.mark.parametrize(
    ("grid", "place"),
    [
        ({"c": {"lr": [1]}}, ("c",)),
        ({"a": {"lrr": [1, 2]}}, ("a", "lrr")),
        ({"a": {"name": ["adam"]}}, ("a", "name")),
        ({"a": {"lr": [1, 0]}}, ("a", "lr", 1)),
        ({"a": {"lr": ["1"]}}, ("a", "lr", 0)),
        ({"a": {"lr": {"range": [-1, 1], "count": 2}}}, ("a", "lr")),
        ({"a": {"lr": {"range": [0, 1]}}}, ("a", "lr", "count")),
        ({"a": {"lr": {"range": [0, 1], "count": 0}}}, ("a", "lr", "count")),
        ({"a": {"lr": {"range": [0, 1], "count": 1}}}, ("a", "lr", "count")),
        ({"a": {"lr": {"range": [0, 1], "count": 2.0}}}, ("a", "lr", "count")),
        ({"a": {"lr": {"range": [0, 1], "count": 2, "by": 1}}}, ("a", "lr", "by")),
        ({"a": {"lr": {"range": [1, 1], "count": 2}}}, ("a", "lr", "range")),
        ({"a": {"lr": {"range": [1, "2"], "count": 2}}}, ("a", "lr", "range", 1)),
        ({"a": {"lr": {"range": [False, 2], "count": 2}}}, ("a", "lr", "range", 0)),
        ({"a": {"lr": {"log_range": [0, 1], "count": 2}}}, ("a", "lr", "log_range", 0)),
        ({"a": {"lr": {"log_range": [2, 1], "count": 2}}}, ("a", "lr", "log_range")),
        ({"a": {"lr": {"log_uniform": [1, 2]}}}, ("a", "lr")),
        ({"a": {"zip": {"lr": [1, 2], "momentum": [0]}}}, ("a", "zip")),
        ({"a": {"zip": {"lr": [1, -2]}}}, ("a", "zip", "lr", 1)),
        ({"a": {"zip": {"lr": []}}}, ("a", "zip", "lr")),
        ({"a": {"zip": {}}}, ("a", "zip")),
        ({"a": {"zip": [1]}}, ("a", "zip")),
        ({"a": {"schedule": ["cosin"]}}, ("a", "schedule", 0, "name")),
        ({"a": {"random": {"lr": {"uniform": [1, 2]}}}}, ("a", "random", "draws")),
        ({"a": {"random": {"draws": 0, "lr": {"uniform": [1, 2]}}}}, ("a", "random", "draws")),
        ({"a": {"random": {"draws": 2}}}, ("a", "random")),
        ({"a": {"random": 3}}, ("a", "random")),
        ({"a": {"random": {"draws": 2, "lr": [1, 2]}}}, ("a", "random", "lr")),
        ({"a": {"random": {"draws": 2, "lr": {"uni": [1, 2]}}}}, ("a", "random", "lr", "uni")),
        (
            {"a": {"random": {"draws": 2, "lr": {"uniform": [0, 2]}}}},
            ("a", "random", "lr", "uniform", 0),
        ),
        (
            {"a": {"random": {"draws": 1, "lr": {"choice": [1, 2, "x"]}}}},
            ("a", "random", "lr", "choice", 2),
        ),
        ({"a": None}, ("a",)),
        ({"a": {}}, ("a",)),
        ({"a": [1]}, ("a",)),
        ({"zap": {"lr": [1, 2]}}, ("zap",)),
        ({"lr": {"momentum": [1, 2]}}, ("lr",)),
        ({"momentum": [0]}, ("momentum",)),
        ({"epoch": [1]}, ("epoch",)),
        ({"epochs": [1, 0]}, ("epochs", 1)),
        ({"epochs": ["1"]}, ("epochs", 0)),
        ({"epochs.x": [1]}, ("epochs.x",)),
        ({"precision": ["fp16"]}, ("precision", 0)),
        ({"model.widht": [1]}, ("model.widht",)),
        ({"model.name": ["mlp"]}, ("model.name",)),
        ({"model.hidden": [[1], 2]}, ("model.hidden", 1)),
        ({"model": ["mlpp"]}, ("model", 0, "name")),
        ({"model": {"hidden": [[1]]}}, ("model",)),
        ({"schedule.floor": [1]}, ("schedule.floor",)),
        ({"zip": {"epochs": [1, 0], "lr": [1, 2]}}, ("zip", "epochs", 1)),
        (
            {"random": {"draws": 1, "epochs": {"integer": [0, 2]}}},
            ("random", "epochs", "integer", 0),
        ),
        ({"name": ["adam"]}, ("name",)),
        ({"seeds": [[1]]}, ("seeds",)),
        ({"title": ["x"]}, ("title",)),
        ({"slurm": [{}]}, ("slurm",)),
        ({"slurm.partition": ["x"]}, ("slurm.partition",)),
        ({"checkpoint.epochs": [1]}, ("checkpoint.epochs",)),
        ({"log_every": [1]}, ("log_every",)),
        ({"search": [None]}, ("search",)),
        ({"grid": [1]}, ("grid",)),
        ({"optimizers.a.lr": [1]}, ("optimizers.a.lr",)),
        ({"lr": [1], "a": {"lr": [2]}}, ("a", "lr")),
        ({"a": {"lr": [2], "zip": {"lr": [1]}}}, ("a", "zip", "lr")),
        ({"lr": [1], "random": {"draws": 1, "lr": {"uniform": [1, 2]}}}, ("random", "lr")),
        ({"model": ["mlp"], "model.hidden": [[1]]}, ("model.hidden",)),
        ({"model.hidden": [[1]], "zip": {"model": ["mlp"]}}, ("zip", "model")),
    ],
)
def test_a_wrong_grid_is_found_where_it_is(grid: dict[str, Any], place: tuple[Any, ...]) -> None:
    assert {found[: len(place) + 1] for found in places_of_faults(grid=grid)} == {("grid", *place)}


@pytest.mark.parametrize("values", [[], 3, None, "1", {}])
def test_the_values_of_a_grid_are_a_list_of_at_least_one_or_a_range(values: Any) -> None:
    assert places_of_faults(grid={"a": {"lr": values}}) == {("grid", "a", "lr")}


@pytest.mark.parametrize("grid", [None, 3, [1], "a"])
def test_a_grid_is_a_mapping(grid: Any) -> None:
    assert places_of_faults(grid=grid) == {("grid",)}


def test_the_schedules_of_the_experiment_and_of_an_optimizer_are_two_things() -> None:
    grid = {"schedule": [None, "cosine"], "a": {"schedule": [None, "cosine"]}}
    assert len(variants("a", grid)) == 4


def test_a_grid_is_not_blamed_for_the_faults_of_what_it_varies() -> None:
    wrong = {"optimizers": {"a": {"name": "sgd", "lr": 0}}, "grid": {"a": {"lr": [1]}}}
    assert places_of_faults(**wrong) == {("optimizers", "a", "lr")}
    grid = {"model.hidden": [[1]], "epochs": [1], "data.batch_size": [0]}
    places = places_of_faults(model="mpl", epochs=0, grid=grid)
    assert {place[:2] for place in places} == {
        ("model", "name"),
        ("epochs",),
        ("grid", "data.batch_size"),
    }


def test_the_form_of_a_grid_is_checked_even_if_the_optimizers_are_wrong() -> None:
    wrong = {"optimizers": {"a": "sdg"}, "grid": {"a": {"lr": {"range": [1, 2]}}}}
    assert places_of_faults(**wrong) == {
        ("optimizers", "a", "name"),
        ("grid", "a", "lr", "count"),
    }


def test_a_grid_that_is_too_large_is_a_fault_and_is_never_made() -> None:
    many = {"range": [1, 2], "count": 10**9}
    grid = {"a": {"lr": many, "momentum": [0, 1]}, "epochs": [1, 2], "b": {"lr": [1, 0]}}
    begin = time.process_time()
    with pytest.raises(ValidationError) as caught:
        experiment(grid=grid)
    assert time.process_time() - begin < 20
    faults = {fault["loc"]: fault["msg"] for fault in caught.value.errors()}
    assert (
        faults[("grid",)] == "the grid would have 4,000,000,004 points, and 100,000 are the most."
    )
    assert set(faults) == {("grid",), ("grid", "b", "lr", 1)}


@pytest.mark.parametrize(("counts", "fits"), [((271, 369), True), ((250, 400), False)])
def test_a_grid_has_at_most_so_many_points_for_all_labels_together(
    counts: tuple[int, int], fits: bool
) -> None:
    axes = ({"range": [1, 2], "count": count} for count in counts)
    grid = {"a": dict(zip(("lr", "momentum"), axes, strict=True))}
    if fits:
        assert experiment(grid=grid)
    else:
        assert places_of_faults(grid=grid) == {("grid",)}


WRONG = """\
    grid:
      sgd:
        lrr: [1, 2]
        lr: [0, -1, x]
        momentum: {range: [1, 0], count: 1}
        zip: {nesterov: [true], dampening: [0, 1]}
        random: {draws: 3, weight_decay: {log_uniorm: [1e-3, 1]}}
      dlta-gclip: {lr: [1]}
      delta-gclip: {}
      model.widht: [256]
      epoch: [1]
      data.batch_size: {log_range: [0, 4], count: 3}
      data.size: {range: [4, 5], count: 3}
      momentum: [1]
      seeds: [1]
"""
FAULTS = [
    "12:9: tiny › grid › sgd: unknown option 'lrr' for sgd.",
    "13:14: tiny › grid › sgd: value 1 of 'lr' must be greater than 0 (got 0).",
    "13:17: tiny › grid › sgd: value 2 of 'lr' must be greater than 0 (got -1).",
    "13:21: tiny › grid › sgd: value 3 of 'lr' must be a valid number (got the text 'x').",
    "14:20: tiny › grid › sgd › momentum: its low end must be below its high end (got 1 and 0).",
    "14:35: tiny › grid › sgd › momentum: 'count' must be greater than or equal to 2 (got 1).",
    "15:9: tiny › grid › sgd: what 'zip' pairs up must be of one length.",
    "16:43: tiny › grid › sgd › random › weight_decay: there is no distribution 'log_uniorm'.",
    "17:7: tiny › grid: there is no optimizer 'dlta-gclip' in this experiment.",
    "18:7: tiny › grid: 'delta-gclip' must be a mapping of what is varied to its values.",
    "19:7: tiny › grid: unknown option 'widht' for mlp.",
    "20:7: tiny › grid: there is no 'epoch' that could be varied.",
    "21:37: tiny › grid › data.batch_size: value 1 of 'log_range' must be greater than 0 (got 0).",
    "22:7: tiny › grid: 'data.size' must be a valid integer (got 4.0).",
    "23:7: tiny › grid: 'momentum' is no option of delta-gclip.",
    "24:7: tiny › grid: a grid cannot vary 'seeds'.",
]


def test_every_fault_of_a_grid_is_found_at_once_with_its_place(tmp_path: Path) -> None:
    found = [fault.partition("\n")[0] for fault in faults_of_text(tmp_path, TINY + WRONG)]
    assert sorted(found) == sorted(f"spec.yaml:{fault}" for fault in FAULTS)


@pytest.mark.parametrize(
    ("grid", "hint"),
    [
        ("{sgd: {lrr: [1]}}", "options: lr, momentum, dampening, weight_decay, nesterov, "),
        ("{sgd: {lrr: [1]}}", " - did you mean 'lr'?"),
        ("{model.hiden: [1]}", "options: hidden, activation - did you mean 'hidden'?"),
        ("{dleta-gclip: {lr: [1]}}", "sgd, delta-gclip - did you mean 'delta-gclip'?"),
        ("{epoch: [1]}", "determinism, compile, stack, schedule - did you mean 'epochs'?"),
        ("{wieght_decay: [1]}", " - did you mean 'weight_decay'?"),
        ("{model: {hidden: [1]}}", "one of its options is varied by model.OPTION: [...]"),
        ("{sgd: {zip: {lr: [1, 2], momentum: [0]}}}", "lr has 2, momentum has 1"),
        ("{model: [mlp], model.hidden: [[1]]}", "'model' is varied too"),
        ("{seeds: [1]}", "every point of a grid is run with every seed"),
    ],
)
def test_a_fault_of_a_grid_says_what_to_do(tmp_path: Path, grid: str, hint: str) -> None:
    (fault,) = faults_of_text(tmp_path, f"{TINY}    grid: {grid}\n")
    assert hint in fault.partition("\n  ")[2]


def points(folder: Path, *sets: str) -> list[tuple[Any, Any]]:
    found = load_spec(write_spec(folder), sets=sets).experiments["tiny"].variants("sgd")
    return [(v.experiment.model.options["hidden"], v.optimizer.options["lr"]) for v in found]


@pytest.mark.parametrize(
    "sets",
    [
        ("grid={model.hidden: [[1], [2]], sgd: {lr: [3]}}",),
        ("grid.model.hidden=[[1], [2]]", "grid.sgd.lr=[3]"),
        ("grid.zip.model.hidden=[[1], [2]]", "grid.zip.lr=[3, 3]"),
        ("grid.model.hidden=[[7]]", "grid.model.hidden=[[1], [2]]", "grid.lr=[3]"),
    ],
)
def test_set_reaches_every_part_of_a_grid(tmp_path: Path, sets: tuple[str, ...]) -> None:
    assert points(tmp_path, *sets) == [((1,), 3), ((2,), 3)]


def test_set_replaces_a_dotted_key_that_is_there(tmp_path: Path) -> None:
    path = write_spec(tmp_path, f"{TINY}    grid: {{model.hidden: [[5], [6]]}}\n")
    tiny = load_spec(path, sets=["grid.model.hidden=[[7]]"]).experiments["tiny"]
    assert [v.experiment.model.options["hidden"] for v in tiny.variants("sgd")] == [(7,)]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("grid.model.hiden=[[1]]", "tiny › grid: unknown option 'hiden' for mlp."),
        (
            "grid.model.hidden=[1]",
            "tiny › grid: value 1 of 'model.hidden' must be a list (got 1).",
        ),
        (
            "grid.zip.epochs=[0]",
            "tiny › grid › zip: value 1 of 'epochs' must be greater than 0 (got 0).",
        ),
        ("grid.sgd.lr={range: [1, 2]}", "tiny › grid › sgd › lr: 'count' is missing."),
        (
            "grid.random={draws: 1, data.batch_size: {integer: [0, 2]}}",
            "tiny › grid › random › data.batch_size: value 1 of 'integer' must be greater than 0",
        ),
        ("grid.optimizers.sgd.lr=[1]", "tiny › grid: a grid cannot vary 'optimizers'."),
    ],
)
def test_a_fault_of_a_grid_from_set_is_shown_with_its_words(
    tmp_path: Path, words: str, fault: str
) -> None:
    faults = faults_of_text(tmp_path, TINY, words)
    assert any(each.startswith(f"--set {words}: {fault}") for each in faults)
    assert all(each.startswith(f"--set {words}: ") for each in faults)


def test_a_grid_may_come_from_the_defaults(tmp_path: Path) -> None:
    text = f"defaults: {{grid: {{model.hidden: [[1], [2]], lr: [0]}}}}\n{TINY}"
    (fault,) = faults_of_text(tmp_path, text)
    assert fault.startswith(
        "spec.yaml:1:50: defaults › grid: value 1 of 'lr' must be greater than 0"
    )


@pytest.mark.parametrize(
    "grid",
    [
        "&g {sgd: *g}",
        "{lr: &l [*l]}",
        "{sgd: {random: {draws: 2, lr: {choice: &c [*c]}}}}",
        "{model.hidden: &h [*h]}",
        "{zip: &z {lr: *z}}",
    ],
)
def test_a_grid_inside_itself_is_a_fault_and_does_not_hang(tmp_path: Path, grid: str) -> None:
    assert faults_of_text(tmp_path, f"{TINY}    grid: {grid}\n")


def test_any_keyword_is_varied_where_any_is_accepted_but_not_what_the_runner_supplies() -> None:
    model = {"name": "torchvision:resnet18"}
    found = variants("a", {"model.zero_init_residual": [True, False]}, model=model)
    assert [v.experiment.model.options["zero_init_residual"] for v in found] == [True, False]
    places = places_of_faults(model=model, grid={"model.weights": [None, 1]})
    assert places == {("grid", "model.weights")}


def test_a_range_between_fractions_is_one_of_fractions() -> None:
    with pytest.raises(ValidationError) as caught:
        experiment(grid={"epochs": {"range": [2.0, 8], "count": 3}})
    assert [repr(fault["input"]) for fault in caught.value.errors()] == ["2.0", "5.0", "8.0"]


@pytest.mark.parametrize("written", [None, [1], {}, 3])
def test_the_grid_of_an_optimizer_is_a_mapping(written: Any) -> None:
    with pytest.raises(ValidationError, match="'a' must be a mapping of what is varied"):
        experiment(grid={"a": written})
