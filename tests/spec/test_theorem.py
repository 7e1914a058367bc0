"""A certificate, or a rate of 1/β, where the theorem says nothing is a fault of the spec."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import faults_of_text, trials_of

SPEC = """\
experiments:
  tiny:
    model: {name: wide_mlp, width: 8}
    data: {name: sphere, points: 8, batch_size: full}
    task: {name: classify, loss: squared, reduction: sum}
    precision: fp64
    epochs: 2
    certificate: {every: 5}
    optimizers:
      delta-gclip: {name: delta_gclip, lr: auto, gamma: 1.0, delta: 0.1}
      adam: {name: adam, lr: 1e-3}
"""


def test_a_full_batch_run_on_the_squared_loss_may_have_both(tmp_path: Path) -> None:
    first, *_ = trials_of(tmp_path, text=SPEC)
    assert first.certificate is not None
    assert first.certificate.every == 5
    assert first.optimizer.options["lr"] == "auto"


def test_a_certificate_is_not_part_of_what_a_trial_is(tmp_path: Path) -> None:
    first, *_ = trials_of(tmp_path, text=SPEC)
    other, *_ = trials_of(tmp_path, "certificate=null", text=SPEC)
    assert first.identity == other.identity
    number, *_ = trials_of(tmp_path, "optimizers.delta-gclip.lr=0.1", text=SPEC)
    assert number.identity != first.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.batch_size=4", "not of a mini-batch.\n  write batch_size: full instead of 4"),
        ("task.loss=cross_entropy", "cross-entropy has no minimum to converge to.\n  write loss"),
        ("task.reduction=mean", "their mean has other μ and β.\n  write reduction: sum"),
        ("task=autoencode", "the squared loss ½‖F(w) - y‖², which autoencode has not."),
        ("precision=bf16", "bf16 rounds so coarsely"),
    ],
)
def test_what_the_theorem_is_not_about_is_refused_with_a_reason(
    change: str, message: str, tmp_path: Path
) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, change)
    assert fault.startswith(f"--set {change}: tiny")
    assert f": no certificate: {'' if message.startswith('bf16') else 'the theorem'}" in fault
    assert message in fault


def test_augmentation_is_refused_too(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, "data.augment=flip")
    assert "augmentation changes at every step" in fault


def test_an_automatic_rate_alone_needs_the_same(tmp_path: Path) -> None:
    text = SPEC.replace("    certificate: {every: 5}\n", "")
    (fault,) = faults_of_text(tmp_path, text, "data.batch_size=4")
    assert "no lr: auto: the theorem" in fault
    without = text.replace("lr: auto", "lr: 0.1")
    assert trials_of(tmp_path, "data.batch_size=4", text=without)


def test_an_automatic_rate_is_for_gradient_descent(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, "optimizers.adam.lr=auto")
    assert "optimizers › adam: no lr: auto: it is 1/β, a rate of gradient descent" in fault


def test_only_a_learning_rate_can_be_automatic(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, "optimizers.delta-gclip.gamma=auto")
    assert "'gamma' must be a valid number (got the text 'auto')" in fault
    (fault,) = faults_of_text(tmp_path, SPEC, "optimizers.delta-gclip.lr=atuo")
    assert "'lr' must be a valid number" in fault


@pytest.mark.parametrize(
    ("grid", "place"),
    [
        ("grid={task.loss: [squared, cross_entropy]}", "no certificate"),
        ("grid={data.batch_size: [full, 4]}", "no certificate"),
        ("grid={precision: [fp64, tf32]}", "no certificate"),
        ("grid={adam: {lr: [auto, 0.1]}}", "no lr: auto"),
    ],
)
def test_every_value_of_a_grid_is_looked_at(grid: str, place: str, tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, grid)
    assert place in fault


def test_a_grid_may_have_automatic_rates_among_numbers(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "grid={delta-gclip: {lr: [auto, 0.1]}}", text=SPEC)
    rates = [each.optimizer.options["lr"] for each in trials if each.label == "delta-gclip"]
    assert rates == ["auto", 0.1]


def test_a_certificate_cannot_be_varied(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, "grid={certificate: [1]}")
    assert "it does not change the numbers" in fault


def test_the_rhythm_of_a_certificate_is_checked(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, SPEC, "certificate.every=0")
    assert "'every' must be greater than 0" in fault
