"""Comparisons of trials whose parts somebody has written, and has edited in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invocation import Invoke

FILES = {
    "net.py": """\
from torch import nn


class Net(nn.Sequential):
    def __init__(self, classes, width: int = 4):
        super().__init__(nn.Flatten(), nn.Linear(48, width), nn.Linear(width, classes))
""",
    "soft.py": """\
import torch


class Soft(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr / 2)
""",
}
SPEC = """\
experiments:
  own:
    model: net.py:Net
    data: {name: synthetic, batch_size: 8, size: 4, train: 16, test: 8}
    epochs: 1
    seeds: [0, 1]
    optimizers:
      mine: {name: soft.py:Soft, lr: 0.1}
      sgd: {name: sgd, lr: 0.1}
"""

Compare = Callable[..., list[list[tuple[str, int]]]]


@pytest.fixture
def compared(deltagclip: Invoke) -> Compare:
    """Sweep, and compare: the settings of each table, with their numbers of seeds."""
    for name, text in FILES.items():
        Path(name).write_text(text)
    Path("experiments.yaml").write_text(SPEC)

    def compare(*edits: tuple[str, str, str]) -> list[list[tuple[str, int]]]:
        for name, old, new in edits:
            assert old in Path(name).read_text()
            Path(name).write_text(Path(name).read_text().replace(old, new))
        done = deltagclip("sweep", "own", "--launcher", "inline", "--quiet")
        assert done.exit_code == 0, done.output
        return tables(deltagclip)

    return compare


def tables(deltagclip: Invoke) -> list[list[tuple[str, int]]]:
    done = deltagclip("compare", "own", "--json")
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return [
        sorted((each["optimizer"], len(each["runs"])) for each in table["settings"])
        for table in answer["experiments"]
    ]


BOTH = [("mine", 2), ("sgd", 2)]


def test_an_optimizer_of_ones_own_is_compared_with_others(
    compared: Compare,
) -> None:
    assert compared() == [BOTH]


NO_CODE = ("experiments.yaml", "net.py:Net", "{name: mlp, hidden: [4]}")


def test_so_it_is_on_a_model_that_needs_no_code(
    compared: Compare,
) -> None:
    assert compared(NO_CODE) == [BOTH]


@pytest.mark.parametrize("edits", [(), (NO_CODE,)])
def test_so_are_two_optimizers_of_one_file(
    compared: Compare, edits: tuple[tuple[str, str, str], ...]
) -> None:
    """They have one copy, which was made for the first of them."""
    second = (
        "soft.py",
        "class Soft",
        "from torch.optim import Adam\n\n\nclass Second(Adam):\n    pass\n\n\nclass Soft",
    )
    listed = (
        "experiments.yaml",
        "      sgd:",
        "      second: {name: soft.py:Second, lr: 0.1}\n      sgd:",
    )
    assert compared(second, listed, *edits) == [[BOTH[0], ("second", 2), BOTH[1]]]


def test_an_edited_optimizer_is_one_more_setting(
    compared: Compare,
) -> None:
    compared()
    assert compared(("soft.py", "lr / 2", "lr / 3")) == [[("mine", 2), *BOTH]]


def test_trials_of_an_edited_model_are_compared_apart(
    compared: Compare,
) -> None:
    compared()
    assert compared(("net.py", "width: int = 4", "width: int = 5")) == [BOTH, BOTH]
    assert compared(("net.py", "nn.Flatten()", "nn.Flatten(1)")) == [BOTH, BOTH, BOTH]


def test_runs_are_read_without_the_copies_of_their_code(
    compared: Compare, deltagclip: Invoke
) -> None:
    compared()
    shutil.rmtree("runs/own/.code")
    assert sorted(tables(deltagclip)) == [BOTH[:1], BOTH[1:]]
