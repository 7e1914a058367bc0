"""Optimizers that take another one, which is written as any optimizer is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import faults_of_text, write_spec

from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Optimizer
from deltagclip_cli.spec.trial import expand

SPEC = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [4]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 2
    optimizers:
      around:
        name: around.py:Around
        optimizer: {name: sgd, lr: 0.1}
        every: 3
"""
AROUND = """\
class Around:
    def __init__(self, optimizer, every=5): ...
    def step(self): ...
"""


@pytest.fixture(autouse=True)
def around(tmp_path: Path) -> None:
    (tmp_path / "around.py").write_text(AROUND)
    (tmp_path / "plain.py").write_text(
        "from torch.optim import SGD\n"
        "class Plain(SGD):\n"
        "    def __init__(self, params, lr=0.1): ...\n"
        "class Plain(SGD):\n"
        "    def __init__(self, params, lr=0.1): ...\n"
    )


def optimizer(folder: Path, text: str = SPEC) -> Optimizer:
    return load_spec(write_spec(folder, text)).experiments["tiny"].optimizers["around"]


def test_an_optimizer_inside_of_another_has_its_defaults_too(tmp_path: Path) -> None:
    part = optimizer(tmp_path)
    assert part.options["every"] == 3
    assert part.options["optimizer"]["name"] == "sgd"
    assert part.options["optimizer"]["momentum"] == 0
    assert part.inner is not None
    assert part.inner[1].options["lr"] == 0.1


def test_its_name_alone_will_do(tmp_path: Path) -> None:
    part = optimizer(tmp_path, SPEC.replace("{name: sgd, lr: 0.1}", "adamw"))
    assert part.options["optimizer"]["name"] == "adamw"


@pytest.mark.parametrize(
    ("inner", "place", "said"),
    [
        ("{name: sgd, rl: 0.1}", "9:32", "unknown option 'rl' for sgd"),
        ("{name: sdg, lr: 0.1}", "9:21", "there is no optimizer 'sdg'"),
        ("{name: sgd, lr: -1}", "9:32", "'lr' must be greater than 0"),
        ("{name: sgd, schedule: cosine}", "9:32", "inside of another has no schedule of its own"),
        ("3", "9:9", "'optimizer' must be a mapping (got 3)"),
    ],
)
def test_its_faults_are_told_at_their_places(
    tmp_path: Path, inner: str, place: str, said: str
) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC.replace("{name: sgd, lr: 0.1}", inner))
    assert fault.startswith(f"spec.yaml:{place}: tiny › optimizers › around")
    assert said in fault


def test_one_that_takes_another_says_so_where_there_is_none(tmp_path: Path) -> None:
    text = SPEC.replace("        optimizer: {name: sgd, lr: 0.1}\n", "")
    (fault,) = faults_of_text(tmp_path, text)
    assert "'optimizer' is missing" in fault


def test_the_code_of_both_is_part_of_the_identity(tmp_path: Path) -> None:
    part = optimizer(tmp_path, SPEC.replace("name: sgd", "name: plain.py:Plain"))
    assert part.references == ("around.py:Around", "plain.py:Plain")
    assert optimizer(tmp_path).references == ("around.py:Around",)


def test_what_is_inside_can_be_varied_whole(tmp_path: Path) -> None:
    text = SPEC + (
        "    grid:\n      around: {optimizer: [{name: sgd, lr: 0.1}, {name: sgd, lr: 0.2}, adam]}\n"
    )
    experiment = load_spec(write_spec(tmp_path, text)).experiments["tiny"]
    inner = [each.optimizer.inner for each in expand("tiny", experiment)]
    assert [(each[1].name, each[1].options["lr"]) for each in inner if each] == [
        ("sgd", 0.1),
        ("sgd", 0.2),
        ("adam", 0.001),
    ]
