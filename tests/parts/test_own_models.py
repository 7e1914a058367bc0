"""Models of one's own: what they are given of the sizes of the data, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts import models
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Model

SHAPE = (3, 8, 8)


def model(name: str, **options: Any) -> Model:
    folder = CodeFolder(Path(__file__).parent)
    return Model.model_validate({"name": name, **options}, context=folder)


def build(name: str, shape: Any = SHAPE, classes: int | None = 4, **options: Any) -> Any:
    return models.build(model(f"own_models.py:{name}", **options), shape, classes)


def test_a_model_is_given_the_sizes_that_it_names() -> None:
    built = build("Net", width=5)
    assert built.seen == (SHAPE, 4, 3, ())
    assert built(torch.zeros(2, *SHAPE)).shape == (2, 4)
    assert built.layers[1].out_features == 5


def test_sizes_reach_a_model_under_other_names() -> None:
    built = build("foreign", num_classes="$classes", in_chans="$channels")
    assert built(torch.zeros(2, *SHAPE)).shape == (2, 4)


def test_an_option_replaces_what_would_be_supplied() -> None:
    assert build("with_default", classes=9).out_features == 9


def test_a_model_need_not_care_for_sizes() -> None:
    assert build("fixed", inputs=192)(torch.zeros(2, *SHAPE)).shape == (2, 4)


def test_a_size_that_is_not_known_is_not_supplied() -> None:
    assert build("with_default", classes=None).out_features == 7


def test_a_size_that_is_needed_and_not_known_is_named() -> None:
    with pytest.raises(UsageError, match=r":Net' refuses its options: .*'classes'"):
        build("Net", classes=None)


REFUSED = {
    "nothing": r"model 'own_models.py:nothing' made nothing, where a torch.nn.Module is needed.\n",
    "a_class": "made an object of type type, where a torch.nn.Module is needed",
    "frozen": r":frozen' has no parameter that needs a gradient: there is nothing to train.\n  Reg",
    "Hidden": "has no parameter that needs a gradient",
    "picky": r"cannot be made: I want sequences, not \(3, 8, 8\).\n  \S*own_models.py:\d+: in ",
    "mistaken": r"cannot be made: IndexError: .*\n  \S*own_models.py:\d+: ",
}


@pytest.mark.parametrize(("name", "words"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_words(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(name)


# timm's models


def test_the_names_found_are_those_timm_registers() -> None:
    timm = pytest.importorskip("timm")
    found = models.TABLE.unlisted["timm"]()
    missing = set(timm.list_models()) - {name.removeprefix("timm:") for name in found}
    assert not missing
    assert models.TABLE.find("timm:resnet10t") == "timm.models.resnet:resnet10t"


def test_finding_a_name_of_timm_does_not_import_it() -> None:
    code = (
        "import sys; from deltagclip_cli.parts.models import TABLE; TABLE.find('timm:resnet18');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_models_of_timm_are_not_listed_and_near_ones_are_suggested() -> None:
    pytest.importorskip("timm")
    assert not any(name.startswith("timm:") for name in models.TABLE.all())
    with pytest.raises(ValidationError) as caught:
        model("timm:vit_tiny_patch16_22")
    assert caught.value.errors()[0]["ctx"]["hint"] == "did you mean 'timm:vit_tiny_patch16_224'?"


def test_a_model_of_timm_is_made_for_the_data() -> None:
    pytest.importorskip("timm")
    built = models.build(model("timm:resnet10t"), (1, 32, 32), 7)
    assert isinstance(built, nn.Module)
    assert built(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
