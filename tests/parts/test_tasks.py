"""Tasks against the formulas written out."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models.vae import VAE
from deltagclip_cli.parts.tasks.autoencode import Autoencode
from deltagclip_cli.parts.tasks.classify import Classify

TARGETS = torch.tensor([0, 2, 1, 2, 2])


def linear(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(4, 3).to(dtype), torch.randn(5, 4, dtype=dtype)


def literal_loss(loss: str, outputs: Tensor, label: int) -> Tensor:
    if loss == "cross_entropy":
        return -torch.log(outputs.exp()[label] / outputs.exp().sum())
    return 0.5 * sum((outputs[k] - float(k == label)) ** 2 for k in range(3))  # type: ignore[return-value]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_classify_is_its_formula_sample_by_sample(
    loss: Literal["cross_entropy", "squared"], reduction: Literal["mean", "sum"]
) -> None:
    model, inputs = linear()
    outcome = Classify(loss=loss, reduction=reduction)(model, inputs, TARGETS)
    losses = [
        literal_loss(loss, outputs, label)
        for outputs, label in zip(model(inputs), TARGETS.tolist(), strict=True)
    ]
    total = torch.stack(losses).sum()
    torch.testing.assert_close(outcome.objective, total / 5 if reduction == "mean" else total)
    torch.testing.assert_close(outcome.sums["loss"], total.detach())
    assert outcome.sums["accuracy"] == sum(model(inputs).argmax(1) == TARGETS)


def test_the_squared_loss_keeps_its_digits_near_zero() -> None:
    outputs = torch.eye(3, dtype=torch.float64)[TARGETS] + 1e-10
    outcome = Classify(loss="squared", reduction="sum")(nn.Identity(), outputs, TARGETS)
    assert outcome.objective.item() == pytest.approx(0.5 * 15 * 1e-20, rel=1e-5)


@pytest.mark.parametrize("task", [Classify(), Classify(loss="squared"), Autoencode()])
def test_sums_carry_no_graph_and_the_objective_does(task: Any) -> None:
    torch.manual_seed(0)
    model: nn.Module = (
        nn.Linear(4, 3) if isinstance(task, Classify) else VAE((4,), hidden=3, latent=2)
    )
    outcome = task(model, torch.rand(5, 4), TARGETS)
    assert outcome.objective.shape == ()
    assert not any(value.requires_grad for value in outcome.sums.values())
    outcome.objective.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_a_loss_is_computed_in_single_precision_at_least(
    loss: Literal["cross_entropy", "squared"], dtype: torch.dtype, expected: torch.dtype
) -> None:
    model, inputs = linear(dtype)
    assert Classify(loss=loss)(model, inputs, TARGETS).objective.dtype == expected


def test_a_vae_loses_no_precision_under_autocast() -> None:
    model, inputs = VAE((4,), hidden=3, latent=2), torch.rand(5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outcome = Autoencode()(model, inputs, TARGETS)
    assert outcome.objective.dtype == outcome.sums["divergence"].dtype == torch.float32


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_autoencode_is_squared_error_plus_divergence(reduction: Literal["mean", "sum"]) -> None:
    torch.manual_seed(0)
    model, inputs = VAE((1, 3, 3), hidden=4, latent=2).double(), torch.rand(5, 1, 3, 3).double()
    torch.manual_seed(1)
    decoded, mean, log_variance = model(inputs)
    torch.manual_seed(1)
    outcome = Autoencode(reduction=reduction)(model, inputs, TARGETS)
    error = ((decoded - inputs) ** 2).sum()
    code = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(code, prior).sum()
    total = error + divergence
    torch.testing.assert_close(outcome.objective, total / 5 if reduction == "mean" else total)
    torch.testing.assert_close(outcome.sums["loss"], total.detach())
    torch.testing.assert_close(outcome.sums["reconstruction"], error.detach())
    torch.testing.assert_close(outcome.sums["divergence"], divergence.detach())


def test_a_task_refuses_a_model_of_the_other_kind() -> None:
    model, inputs = VAE((4,), hidden=3, latent=2), torch.rand(5, 4)
    with pytest.raises(UsageError, match=r"task classify needs .* got a tuple from VAE"):
        Classify()(model, inputs, TARGETS)
    with pytest.raises(UsageError, match=r"task autoencode needs .*which Linear does not"):
        Autoencode()(nn.Linear(4, 3), inputs, TARGETS)


def test_the_class_may_be_among_the_largest_outputs() -> None:
    model, inputs = linear()
    told = Classify(top_k=2)(model, inputs, TARGETS).sums
    order = model(inputs).argsort(dim=1, descending=True)
    expected = sum(int(c in row[:2]) for c, row in zip(TARGETS.tolist(), order, strict=True))
    assert told["accuracy_top2"] == expected > told["accuracy"]
    with pytest.raises(UsageError, match="top_k is 3, but the model has 3 outputs"):
        Classify(top_k=3)(model, inputs, TARGETS)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_smoothed_labels_are_minimised_and_the_plain_loss_is_told(
    reduction: Literal["mean", "sum"],
) -> None:
    model, inputs = linear()
    plain = Classify(reduction=reduction)(model, inputs, TARGETS)
    smooth = Classify(reduction=reduction, label_smoothing=0.3)(model, inputs, TARGETS)
    assert smooth.sums == plain.sums
    every = -model(inputs).log_softmax(dim=1).mean(dim=1).sum()
    expected = 0.7 * plain.objective + 0.3 * (every / 5 if reduction == "mean" else every)
    torch.testing.assert_close(smooth.objective, expected)
    with pytest.raises(UsageError, match="label_smoothing is for the cross-entropy"):
        Classify(loss="squared", label_smoothing=0.1)
