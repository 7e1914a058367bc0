"""Groups of parameters and the clipping of gradients, as an optimizer's section has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Optimizer
from deltagclip_cli.spec.trial import Trial

ADAMW: dict[str, Any] = {"name": "adamw", "lr": 0.01}
NO_DECAY: dict[str, Any] = {"match": ["*.bias", "*norm*"], "weight_decay": 0}


def faults(groups: Any, **options: Any) -> list[tuple[tuple[Any, ...], str]]:
    """Places below the groups, and messages, of all that is wrong."""
    with pytest.raises(ValidationError) as caught:
        Optimizer.model_validate({**ADAMW, **options, "groups": groups})
    return [(fault["loc"][1:], fault["msg"]) for fault in caught.value.errors()]


def test_a_group_has_its_options_checked_like_those_of_the_optimizer() -> None:
    made = Optimizer.model_validate({**ADAMW, "groups": {"no_decay": NO_DECAY}})
    assert made.groups == {"no_decay": NO_DECAY}
    one = {"embedding": {"match": "embed*", "lr": 1, "betas": [0.9, 0.99]}}
    assert Optimizer.model_validate({**ADAMW, "groups": one}).groups == {
        "embedding": {"match": ["embed*"], "lr": 1.0, "betas": (0.9, 0.99)}
    }


@pytest.mark.parametrize(
    ("group", "place", "message"),
    [
        ({"weight_decay": 0}, (), "group 'g' has no match."),
        ({}, (), "group 'g' has no match."),
        ({"match": ["*"]}, (), "group 'g' differs in no option."),
        ({"match": [], "lr": 1}, ("match",), "at least 1 item"),
        ({"match": [""], "lr": 1}, ("match", 0), "at least 1 character"),
        ({"match": [3], "lr": 1}, ("match", 0), "valid string"),
        ({"match": ["*"], "weight_dcay": 0}, ("weight_dcay",), "unknown option 'weight_dcay'"),
        ({"match": ["*"], "params": 0}, ("params",), "unknown option 'params' for adamw"),
        ({"match": ["*"], "lr": -1}, ("lr",), "greater than 0"),
        ({"match": ["*"], "lr": "fast"}, ("lr",), "valid number"),
        ({"match": ["*"], "lr": "auto"}, ("lr",), "a group has no lr: auto of its own."),
        ({"match": ["*"], "schedule": "cosine"}, ("schedule",), "unknown option 'schedule'"),
        ("*.bias", (), "valid dictionary"),
    ],
)
def test_what_is_wrong_with_a_group_is_said_where_it_stands(
    group: Any, place: tuple[Any, ...], message: str
) -> None:
    ((where, said),) = faults({"g": group})
    assert where == ("g", *place)
    assert message in said


def test_all_that_is_wrong_is_said_at_once() -> None:
    groups = {"a": {"match": ["*"], "lr": -1}, "b": {"lr": 1}, "c": 3}
    assert {place for place, _ in faults(groups)} == {("a", "lr"), ("b",), ("c",)}
    assert faults({}) == [((), "Dictionary should have at least 1 item after validation, not 0")]
    with pytest.raises(ValidationError) as caught:
        Optimizer.model_validate({"name": "adamw", "lr": "x", "groups": {"a": {"lr": 1}}})
    assert {fault["loc"] for fault in caught.value.errors()} == {("lr",), ("groups", "a")}


@pytest.mark.parametrize("norm", [0, -1, "one", float("inf"), float("nan"), True])
def test_a_norm_to_clip_at_is_a_number_above_zero(norm: Any) -> None:
    with pytest.raises(ValidationError):
        Optimizer.model_validate({**ADAMW, "clip_grad_norm": norm})


def test_an_optimizer_that_is_given_the_model_makes_its_own_groups(tmp_path: Path) -> None:
    file = tmp_path / "whole.py"
    file.write_text(
        "from torch.optim import Adam\n"
        "class Whole(Adam):\n"
        "    def __init__(self, model, lr=0.1):\n"
        "        super().__init__(model.parameters(), lr)\n"
    )
    written = {"name": "whole.py:Whole", "groups": {"g": {"match": "*", "lr": 1}}}
    with pytest.raises(ValidationError, match="is given the model itself"):
        Optimizer.model_validate(written, context=CodeFolder(tmp_path))


def identity(**options: Any) -> str:
    trial = {
        "experiment": "e",
        "label": "l",
        "seed": 0,
        "model": "mlp",
        "data": {"name": "synthetic", "batch_size": 4},
        "epochs": 1,
        "optimizer": {**ADAMW, **options},
    }
    return Trial.model_validate(trial).identity


def test_both_are_part_of_the_identity_and_nothing_is_where_they_are_off() -> None:
    usual = identity()
    assert identity(groups=None, clip_grad_norm=None) == usual
    assert len({usual, identity(clip_grad_norm=1), identity(groups={"g": NO_DECAY})}) == 3
    assert identity(clip_grad_norm=1) == identity(clip_grad_norm=1.0)
