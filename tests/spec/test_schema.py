"""Experiments: types, limits and defaults."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deltagclip_cli.spec.grid import Grid, role
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.slurm_settings import Slurm
from deltagclip_cli.spec.trial import Trial

DATA: dict[str, Any] = {"name": "synthetic", "batch_size": 4}
SMALLEST: dict[str, Any] = {
    "model": "mlp",
    "data": DATA,
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
    assert smallest.grid == Grid()
    assert smallest.search is None
    assert smallest.log_every is None
    assert (smallest.checkpoint.epochs, smallest.checkpoint.minutes) == (1, 10.0)
    assert smallest.slurm == Slurm()
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
        ({"epochs": None}, ("steps",)),
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
        ({"accumulate": 0}, ("accumulate",)),
        ({"accumulate": 2.5}, ("accumulate",)),
        ({"determinism": "warn"}, ("determinism",)),
        ({"stack": 1}, ("stack",)),
        ({"compile": True}, ("compile",)),
        ({"compile": "on", "stack": 4}, ("stack",)),
        ({"compile": "reduce-overhead"}, ("compile",)),
        ({"stack": 65}, ("stack",)),
        ({"accumulate": 2, "data": {**DATA, "batch_size": "full"}}, ("accumulate",)),
        ({"checkpoint": {"epochs": 0}}, ("checkpoint", "epochs")),
        ({"checkpoint": {"minutes": 0}}, ("checkpoint", "minutes")),
        ({"checkpoint": {"hours": 1}}, ("checkpoint", "hours")),
        ({"checkpoint": {"keep": "best"}}, ("checkpoint", "keep")),
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
        ("validation", 0),
        ("validation", -5),
        ("validation", 1.0),
        ("validation", 1.5),
        ("validation", True),
        ("validation", "half"),
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


def test_each_setting_says_whether_it_varies_and_is_part_of_a_trials_identity() -> None:
    settings = {name: role(field) for name, field in Experiment.model_fields.items()}
    assert [name for name, each in settings.items() if not each.fixed] == [
        *("model", "data", "task", "epochs", "steps", "evaluate_every", "ema", "accumulate"),
        *("precision", "determinism", "compile", "stack", "schedule"),
    ]
    trial = {name: role(field) for name, field in Trial.model_fields.items()}
    assert [name for name, each in trial.items() if each.identity] == [
        *("model", "data", "task", "epochs", "steps", "evaluate_every", "ema"),
        *("early_stopping", "accumulate"),
        *("precision", "determinism", "compile", "stack", "schedule"),
        *("seed", "optimizer", "code"),
    ]
