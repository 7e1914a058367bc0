"""Parts chosen by name: found, checked against their real signature, and completed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deltagclip_cli.spec.component import Component
from deltagclip_cli.spec.data_settings import Augmentation, Data
from deltagclip_cli.spec.schema import Model, Optimizer, Schedule, Task

GCLIP = {"name": "delta_gclip", "lr": 0.1, "gamma": 1, "delta": 0}


def faults_of(kind: type[Component], value: Any) -> list[tuple[tuple[Any, ...], str, str]]:
    """(place, message, hint) of each fault."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(value)
    return [
        (fault["loc"], fault["msg"], fault.get("ctx", {}).get("hint", ""))
        for fault in caught.value.errors()
    ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Model, "resnet18"), (Task, "classify"), (Augmentation, "flip"), (Schedule, "cosine")],
)
def test_a_name_alone_is_a_component_with_defaults(kind: type[Component], name: str) -> None:
    assert kind.model_validate(name) == kind.model_validate({"name": name})


def test_defaults_come_from_the_signature_and_what_is_written_wins() -> None:
    adam = Optimizer.model_validate({"name": "adam", "lr": 1, "betas": [0.5, 0.9]})
    assert adam.options == {"lr": 1, "betas": (0.5, 0.9), "eps": 1e-8, "weight_decay": 0}
    assert isinstance(adam.options["lr"], float)


def test_switches_that_stay_off_are_left_out_and_those_turned_on_are_kept() -> None:
    off = Optimizer.model_validate({"name": "adam", "amsgrad": False, "foreach": None})
    assert off == Optimizer.model_validate("adam")
    on = Optimizer.model_validate({"name": "adam", "amsgrad": True, "foreach": False})
    assert on.options["amsgrad"] is True
    assert on.options["foreach"] is False


@pytest.mark.parametrize("spelling", ["adamw", "AdamW", "adam_w", "ADAMW", "Adam_W"])
def test_torch_optimizers_have_any_spelling_and_one_name(spelling: str) -> None:
    optimizer = Optimizer.model_validate(spelling)
    assert optimizer == Optimizer.model_validate("adamw")
    assert (optimizer.name, optimizer.target) == ("adamw", "torch.optim.adamw:AdamW")


@pytest.mark.parametrize("spelling", ["steplr", "StepLR", "step_lr", "Step_LR"])
def test_torch_schedules_have_any_spelling_and_one_name(spelling: str) -> None:
    schedule = Schedule.model_validate({"name": spelling, "step_size": 3})
    assert schedule.name == "steplr"
    assert schedule.target == "torch.optim.lr_scheduler:StepLR"
    assert schedule.options == {"step_size": 3, "gamma": 0.1}


def test_every_optimizer_and_schedule_of_torch_is_offered_but_what_a_spec_cannot_use() -> None:
    optimizers, schedules = set(Optimizer.table().all()), set(Schedule.table().all())
    assert {"sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "lbfgs"} < optimizers
    assert {"optimizer", "sparseadam", "swalr"}.isdisjoint(optimizers)
    assert {"steplr", "multisteplr", "cyclic_lr".replace("_", ""), "onecyclelr"} < schedules
    assert {"cosineannealinglr", "reducelronplateau", "polynomiallr", "linearlr"} < schedules
    hidden = {"lambdalr", "multiplicativelr", "sequentiallr", "chainedscheduler", "lrscheduler"}
    assert hidden.isdisjoint(schedules)


@pytest.mark.parametrize("name", ["SequentialLR", "LambdaLR", "MultiplicativeLR", "lr_scheduler"])
def test_a_schedule_that_needs_python_is_unknown(name: str) -> None:
    ((where, message, hint),) = faults_of(Schedule, name)
    assert where == ("name",)
    assert message == f"there is no schedule '{name}'."
    assert "multistep, cosine, and " in hint
    assert "deltagclip list schedules" in hint


def test_torchvision_models_have_a_prefix() -> None:
    model = Model.model_validate("torchvision:resnet50")
    assert model.target == "torchvision.models.resnet:resnet50"
    assert Model.model_validate("resnet18").target.startswith("deltagclip_cli.")
    with pytest.raises(ValidationError):
        Model.model_validate("resnet50")


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (Model, "resnet81", "did you mean 'resnet18'?"),
        (Model, "torchvision:resnet500", "did you mean 'torchvision:resnet50'?"),
        (Data, "cifar_10", "did you mean 'cifar10'?"),
        (Task, "clasify", "- did you mean 'classify'?"),
        (Augmentation, "random-crop", "did you mean 'random_crop'?"),
        (Optimizer, "Adam_WW", "did you mean 'adamw'?"),
        (Optimizer, "delta-gclip", "did you mean 'delta_gclip'?"),
        (Schedule, "multistp", "did you mean 'multistep'?"),
    ],
)
def test_an_unknown_name_gets_the_legal_ones_and_the_nearest(
    kind: type[Component], name: str, hint: str
) -> None:
    value = {"name": name, **({"batch_size": 1} if kind is Data else {})}
    ((where, message, hints),) = faults_of(kind, value)
    assert where == ("name",)
    assert f"'{name}'" in message
    assert all(entry in hints for entry in kind.table().entries)
    assert hints.endswith(hint)


@pytest.mark.parametrize(
    ("kind", "value", "option", "hint"),
    [
        (Optimizer, {**GCLIP, "gama": 1}, "gama", "did you mean 'gamma'?"),
        (Optimizer, {"name": "sgd", "betas": [0, 0]}, "betas", "lr, momentum, dampening"),
        (Optimizer, {"name": "sgd", "params": []}, "params", "lr, momentum, dampening"),
        (Model, {"name": "mlp", "hiden": [1]}, "hiden", "did you mean 'hidden'?"),
        (Model, {"name": "mlp", "classes": 3}, "classes", "options: hidden, activation"),
        (Model, {"name": "mlp", "options": {}}, "options", "options: hidden, activation"),
        (Data, {"name": "sphere", "batch_size": 1, "root": "x"}, "root", "points, "),
        (Task, {"name": "classify", "los": "x"}, "los", "did you mean 'loss'?"),
        (Schedule, {"name": "cosine", "periods": 3}, "periods", "floor, warmup, unit"),
        (Schedule, {"name": "steplr", "step_size": 1, "last_epoch": 2}, "last_epoch", "gamma"),
        (Augmentation, {"name": "flip", "size": 3}, "size", "options: probability"),
    ],
)
def test_an_unknown_option_gets_the_legal_ones_and_the_nearest(
    kind: type[Component], value: dict[str, Any], option: str, hint: str
) -> None:
    ((where, message, hints),) = faults_of(kind, value)
    assert where == (option,)
    assert message == f"unknown option '{option}' for {value['name']}."
    assert hint in hints


@pytest.mark.parametrize("name", ["weights", "num_classes", "progress"])
def test_what_the_runner_supplies_is_not_for_a_spec_even_if_any_keyword_is(name: str) -> None:
    with pytest.raises(ValidationError):
        Model.model_validate({"name": "torchvision:resnet18", name: 1})


@pytest.mark.parametrize(
    ("kind", "value", "where", "words"),
    [
        (Optimizer, {**GCLIP, "lr": 0}, "lr", "greater than 0"),
        (Optimizer, {**GCLIP, "lr": -1}, "lr", "greater than 0"),
        (Optimizer, {**GCLIP, "lr": "0.1"}, "lr", "valid number"),
        (Optimizer, {**GCLIP, "lr": True}, "lr", "valid number"),
        (Optimizer, {**GCLIP, "lr": float("nan")}, "lr", "finite"),
        (Optimizer, {**GCLIP, "gamma": float("inf")}, "gamma", "finite"),
        (Optimizer, {**GCLIP, "gamma": 0}, "gamma", "greater than 0"),
        (Optimizer, {**GCLIP, "delta": -1e-9}, "delta", "greater than or equal to 0"),
        (Optimizer, {**GCLIP, "delta": 1.5}, "delta", "less than or equal to 1"),
        (Optimizer, {**GCLIP, "weight_decay": -1}, "weight_decay", "greater than or equal to 0"),
        (Optimizer, {**GCLIP, "norm_scope": "all"}, "norm_scope", "'global'"),
        (Optimizer, {"name": "sgd", "momentum": -0.1}, "momentum", "greater than or equal to 0"),
        (Optimizer, {"name": "adam", "eps": float("nan")}, "eps", "finite"),
        (Optimizer, {"name": "adam", "betas": 0.9}, "betas", "tuple"),
        (Optimizer, {"name": "adam", "amsgrad": 1}, "amsgrad", "boolean"),
        (Schedule, {"name": "cosine", "warmup": -1}, "warmup", "greater than or equal to 0"),
        (Schedule, {"name": "cosine", "warmup": 1.5}, "warmup", "valid integer"),
        (Schedule, {"name": "cosine", "unit": "batch"}, "unit", "'epoch' or 'step'"),
        (Schedule, {"name": "cosine", "floor": "0"}, "floor", "valid number"),
        (Model, {"name": "mlp", "hidden": 3}, "hidden", ""),
        (Model, {"name": "vae", "hidden": 0}, "hidden", "greater than or equal to 1"),
        (Model, {"name": "vae", "latent": 0}, "latent", "greater than or equal to 1"),
        (Model, {"name": "wide_mlp", "width": 0}, "width", "greater than or equal to 1"),
        (Model, {"name": "wide_mlp", "depth": 0}, "depth", "greater than or equal to 1"),
        (Data, {"name": "sphere", "batch_size": 1, "radius": 0}, "radius", "greater than 0"),
        (Augmentation, {"name": "flip", "probability": 2}, "probability", "less than or equal"),
        (Augmentation, {"name": "flip", "probability": float("nan")}, "probability", "finite"),
        (Augmentation, {"name": "random_crop", "padding": -1}, "padding", "greater than or equal"),
        (Task, {"name": "classify", "loss": "hinge"}, "loss", "'cross_entropy'"),
    ],
)
def test_a_wrong_value_is_named_with_its_option(
    kind: type[Component], value: dict[str, Any], where: str, words: str
) -> None:
    ((place, message, _),) = faults_of(kind, value)
    assert place[0] == where
    assert words in message


def test_a_missing_option_is_named() -> None:
    assert [where for where, _, _ in faults_of(Optimizer, {"name": "delta_gclip", "lr": 1})] == [
        ("gamma",),
        ("delta",),
    ]
    assert [where for where, _, _ in faults_of(Schedule, "multistep")] == [("milestones",)]


def test_all_faults_of_a_component_are_found_at_once() -> None:
    wrong = {"name": "adam", "lr": 0, "bets": 1, "eps": "x", "schedule": {"name": "cosine", "a": 1}}
    assert {where for where, _, _ in faults_of(Optimizer, wrong)} == {
        ("lr",),
        ("bets",),
        ("eps",),
        ("schedule", "a"),
    }
    unknown = {"name": "cifar", "batch_size": 0, "augment": ["flop"]}
    places = [where for where, _, _ in faults_of(Data, unknown)]
    assert {place[0] for place in places} == {"name", "batch_size", "augment"}
    assert ("augment", 0, "name") in places


@pytest.mark.parametrize("value", [3, None, [1], {}, {"lr": 1}, {"name": 3}, {"name": None}])
def test_what_has_no_name_is_no_component(value: Any) -> None:
    assert faults_of(Optimizer, value)


def test_options_without_a_name_are_not_called_wrong() -> None:
    assert [where for where, _, _ in faults_of(Optimizer, {"lr": 1})] == [("name",)]


@pytest.mark.parametrize("number", [1, 1.0])
def test_a_float_may_be_written_as_a_whole_number(number: float) -> None:
    assert Optimizer.model_validate({"name": "sgd", "lr": number}).options["lr"] == 1.0


def test_a_component_read_back_from_its_own_words_is_the_same() -> None:
    for kind, value in (
        (Optimizer, {"name": "Adam", "betas": [0.5, 0.9], "amsgrad": True, "schedule": "cosine"}),
        (Optimizer, {"name": "sgd", "lr": 1, "schedule": None}),
        (Data, {"name": "cifar10", "batch_size": "full", "augment": "flip", "image_size": 64}),
        (Model, {"name": "torchvision:resnet18", "zero_init_residual": True}),
        (Schedule, {"name": "StepLR", "step_size": 3, "warmup": 2, "unit": "step"}),
    ):
        component = kind.model_validate(value)
        for mode in ("python", "json"):
            assert kind.model_validate(component.model_dump(mode=mode)) == component


def test_a_component_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Model.model_validate("mlp").name = "resnet18"  # type: ignore[misc]
