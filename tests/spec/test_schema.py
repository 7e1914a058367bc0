"""Experiments: types, limits and defaults, and the grids of their optimizers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deltagclip_cli.spec.schema import Experiment

SMALLEST: dict[str, Any] = {
    "model": "mlp",
    "data": {"name": "synthetic", "batch_size": 4},
    "epochs": 2,
    "optimizers": {"a": {"name": "sgd", "lr": 0.1}, "b": "adam"},
}


def experiment(**settings: Any) -> Experiment:
    return Experiment.model_validate({**SMALLEST, **settings})


def places_of_faults(**settings: Any) -> set[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        experiment(**settings)
    return {fault["loc"] for fault in caught.value.errors()}


def test_the_smallest_experiment_has_these_defaults() -> None:
    smallest = experiment()
    assert smallest.title == ""
    assert smallest.task.name == "classify"
    assert smallest.seeds == [0]
    assert smallest.precision == "fp32"
    assert smallest.schedule is None
    assert smallest.grid == {}
    assert smallest.log_every is None
    assert (smallest.checkpoint.epochs, smallest.checkpoint.minutes) == (1, 10.0)
    assert smallest.slurm == {}
    data = smallest.data
    assert (data.evaluation_batch_size, data.image_size, data.augment) == (1000, None, [])
    assert (data.normalize, data.train_samples, data.test_samples) == ("dataset", None, None)


def test_one_augmentation_needs_no_list() -> None:
    for augment in ("flip", {"name": "flip"}, ["flip"], [{"name": "flip", "probability": 0.5}]):
        data = {**SMALLEST["data"], "augment": augment}
        assert [each.name for each in experiment(data=data).data.augment] == ["flip"]


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"epochs": 0}, ("epochs",)),
        ({"epochs": 2.0}, ("epochs",)),
        ({"epochs": True}, ("epochs",)),
        ({"epochs": "2"}, ("epochs",)),
        ({"epochs": None}, ("epochs",)),
        ({"seeds": []}, ("seeds",)),
        ({"seeds": 3}, ("seeds",)),
        ({"seeds": [0, -1]}, ("seeds", 1)),
        ({"seeds": [2**31]}, ("seeds", 0)),
        ({"seeds": [1.0]}, ("seeds", 0)),
        ({"precision": "fp16"}, ("precision",)),
        ({"title": 3}, ("title",)),
        ({"optimizers": {}}, ("optimizers",)),
        ({"optimizers": None}, ("optimizers",)),
        ({"optimizers": ["adam"]}, ("optimizers",)),
        ({"log_every": 0}, ("log_every",)),
        ({"checkpoint": {"epochs": 0}}, ("checkpoint", "epochs")),
        ({"checkpoint": {"minutes": 0}}, ("checkpoint", "minutes")),
        ({"checkpoint": {"hours": 1}}, ("checkpoint", "hours")),
        ({"optimisers": {}}, ("optimisers",)),
        ({"slurm": 3}, ("slurm",)),
        ({"model": {"name": "mlp", "hidden": ["x"]}}, ("model", "hidden", 0)),
        ({"schedule": {"name": "multistep", "milestones": ["x"]}}, ("schedule", "milestones", 0)),
    ],
)
def test_a_wrong_setting_is_found_where_it_is(
    settings: dict[str, Any], place: tuple[Any, ...]
) -> None:
    assert places_of_faults(**settings) == {place}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("batch_size", "half"),
        ("batch_size", "4"),
        ("batch_size", 4.0),
        ("image_size", 0),
        ("train_samples", 0),
        ("evaluation_batch_size", 0),
        ("normalize", "imagenet"),
        ("normalize", {"mean": [0.5]}),
        ("normalize", {"mean": [0.5], "std": [0]}),
        ("normalize", {"mean": [], "std": []}),
        ("augment", 3),
        ("augment", [3]),
    ],
)
def test_a_wrong_setting_of_the_data_is_found(key: str, value: Any) -> None:
    places = places_of_faults(data={**SMALLEST["data"], key: value})
    assert {place[:2] for place in places} == {("data", key)}


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "", "/tmp", "-x", "a b", "a\n", "..", "δ"])
def test_a_label_that_could_lead_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be a name"):
        experiment(optimizers={name: "adam"})


@pytest.mark.parametrize("name", ["a", "A1", "delta-gclip-1e-8", "0", "a_b"])
def test_an_ordinary_label_is_a_name(name: str) -> None:
    assert list(experiment(optimizers={name: "adam"}).optimizers) == [name]


def test_a_grid_is_a_product_and_zip_pairs_up() -> None:
    grid = {"a": {"lr": [1, 2], "zip": {"momentum": [0.1, 0.2], "weight_decay": [3, 4]}}}
    options = [each.options for each in experiment(grid=grid).settings("a")]
    assert [(o["lr"], o["momentum"], o["weight_decay"]) for o in options] == [
        (1, 0.1, 3),
        (1, 0.2, 4),
        (2, 0.1, 3),
        (2, 0.2, 4),
    ]
    assert [each.name for each in experiment(grid=grid).settings("b")] == ["adam"]


def test_a_grid_may_vary_the_schedule() -> None:
    grid = {"a": {"schedule": [{"name": "cosine"}, "cosine", None]}}
    schedules = [each.schedule for each in experiment(grid=grid).settings("a")]
    assert [schedule and schedule.name for schedule in schedules] == ["cosine", "cosine", None]


@pytest.mark.parametrize(
    ("grid", "place"),
    [
        ({"c": {"lr": [1]}}, ("grid", "c")),
        ({"a": {"lrr": [1]}}, ("grid", "a", "lrr", 0)),
        ({"a": {"lr": [1, 0]}}, ("grid", "a", "lr", 1)),
        ({"a": {"lr": ["1"]}}, ("grid", "a", "lr", 0)),
        ({"a": {"zip": {"lr": [1, 2], "momentum": [0]}}}, ("grid", "a", "zip")),
        ({"a": {"zip": {"lr": [1, -2]}}}, ("grid", "a", "zip", "lr", 1)),
        ({"a": {"schedule": ["cosin"]}}, ("grid", "a", "schedule", 0)),
        ({"a": None}, ("grid", "a")),
    ],
)
def test_a_wrong_point_of_a_grid_is_found_where_it_is(
    grid: dict[str, Any], place: tuple[Any, ...]
) -> None:
    assert places_of_faults(grid=grid) == {place}


@pytest.mark.parametrize("values", [[], 3, None, "1"])
def test_the_values_of_a_grid_are_a_list_of_at_least_one(values: Any) -> None:
    places = places_of_faults(grid={"a": {"lr": values}})
    assert {place[:3] for place in places} == {("grid", "a", "lr")}


@pytest.mark.parametrize(
    "grid",
    [
        {"zap": {"lr": [1, 2]}},
        {"lr": {"momentum": [1, 2], "weight_decay": [0.1]}},
        {"lr": {}},
        {"zip": {}},
    ],
)
def test_only_a_zip_that_is_not_empty_pairs_options_up(grid: dict[str, Any]) -> None:
    assert places_of_faults(grid={"a": grid})


def test_a_grid_is_not_blamed_for_the_faults_of_its_optimizer() -> None:
    places = places_of_faults(optimizers={"a": {"name": "sgd", "lr": 0}}, grid={"a": {"lr": [1]}})
    assert places == {("optimizers", "a", "lr")}
