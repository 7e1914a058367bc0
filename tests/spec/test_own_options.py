"""Options of parts that somebody has written, checked against their source."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import faults_of_text, write_spec

from deltagclip_cli.spec.load import load_spec

SPEC = """\
experiments:
  tiny:
    model: {name: parts.py:make, kind: small, outputs: $classes}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    task: {name: parts.py:steady, weight: 0.1}
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
"""
PARTS = """\
KINDS = {}

def make(kind: str, **options):
    return KINDS[kind](**options)

def steady(model, inputs, targets, weight: float = 1.0):
    return weight * model(inputs)
"""


@pytest.fixture(autouse=True)
def parts(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)


def test_an_argument_that_a_model_lacks_may_be_what_the_data_have(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC.replace("kind: small, ", ""))
    assert "'kind' is missing.\n  Write a value, or what the data have: $shape" in fault


def test_only_what_is_supplied_may_be_written_with_a_dollar(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC.replace("$classes", "$clases"))
    assert fault == (
        "spec.yaml:3:47: tiny › model: there is no '$clases' here.\n"
        "  there are: $channels, $classes, $padding, $shape, $targets_shape, $vocabulary, $window"
    )


@pytest.mark.parametrize("eps", ["[1e-30, 1e-3]", "auto", "null", "0"])
def test_limits_of_numbers_are_no_limits_for_anything_else(tmp_path: Path, eps: str) -> None:
    """Adafactor has a pair of them."""
    (tmp_path / "own.py").write_text(
        "from torch.optim import Optimizer\n"
        "class Own(Optimizer):\n"
        "    def __init__(self, params, eps=(1e-30, 1e-3)): ...\n"
    )
    text = SPEC.replace("{name: sgd, lr: 0.1}", f"{{name: own.py:Own, eps: {eps}}}")
    assert load_spec(write_spec(tmp_path, text)).experiments["tiny"].optimizers["sgd"]
    (fault,) = faults_of_text(tmp_path, text.replace(f"eps: {eps}", "eps: -1.0"))
    assert "'eps' must be greater than or equal to 0 (got -1.0)" in fault


def test_a_task_gets_the_model_the_inputs_and_the_targets_without_being_told(
    tmp_path: Path,
) -> None:
    task = load_spec(write_spec(tmp_path, SPEC)).experiments["tiny"].task
    assert task.options == {"weight": 0.1}
    (fault,) = faults_of_text(tmp_path, SPEC.replace("weight: 0.1", "wait: 0.1"))
    assert fault.endswith("  options: weight - did you mean 'weight'?")
