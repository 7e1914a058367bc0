"""Tasks, losses and metrics of one's own: what they may return, and what is refused in words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import LOSSES, Loss, with_derived
from deltagclip_cli.parts.tasks.outcome import OwnTask, check_task
from deltagclip_cli.parts.tasks.supervised import Supervised
from deltagclip_cli.source.loading import load_own

INPUTS = torch.linspace(-1, 1, 42).view(14, 3)
VALUES = INPUTS.sin().sum(1, keepdim=True)
LABELS = torch.arange(14) % 4


def linear(outputs: int = 1) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, outputs)


def checked(
    task: Any, targets: Tensor = VALUES, model: nn.Module | None = None, name: str = "t.py:own"
) -> None:
    model = linear(4 if targets is LABELS else 1) if model is None else model
    check_task(task, model, lambda count: (INPUTS[:count], targets[:count]), name)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


@pytest.mark.parametrize(
    "loss",
    [
        "mse_loss",
        squares,
        lambda outputs, targets: squares(outputs, targets).mean(),
        lambda outputs, targets: squares(outputs, targets)[:, 0],
        {"name": "huber_loss", "delta": 100.0},
        nn.MSELoss,
        nn.MSELoss(),
    ],
)
def test_a_loss_may_be_given_for_each_sample_or_as_their_mean(loss: Any) -> None:
    model, task = linear(), Supervised(loss=loss)
    checked(task)
    outcome = task(model, INPUTS, VALUES)
    expected = functional.mse_loss(model(INPUTS), VALUES) * (0.5 if isinstance(loss, dict) else 1)
    torch.testing.assert_close(outcome.objective, expected)
    torch.testing.assert_close(outcome.sums["loss"], expected.detach() * 14)
    assert not outcome.sums["loss"].requires_grad


@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss])
def test_classes_are_fitted_and_counted_as_the_task_for_them_does(loss: Any) -> None:
    model = linear(4)
    outcome = Supervised(loss=loss, metrics={"right": "accuracy"})(model, INPUTS, LABELS)
    torch.testing.assert_close(outcome.objective, functional.cross_entropy(model(INPUTS), LABELS))
    assert outcome.sums["right"] == (model(INPUTS).argmax(1) == LABELS).sum()


def test_a_sum_is_minimised_where_it_is_wanted() -> None:
    model = linear()
    expected = functional.mse_loss(model(INPUTS), VALUES, reduction="sum")
    for loss in ("mse_loss", lambda outputs, targets: squares(outputs, targets).sum()):
        task = Supervised(loss=loss, reduction="sum")
        checked(task)
        outcome = task(model, INPUTS, VALUES)
        torch.testing.assert_close(outcome.objective, expected)
        torch.testing.assert_close(outcome.sums["loss"], expected.detach())


@pytest.mark.parametrize("name", LOSSES)
def test_every_name_is_a_loss_of_torch_that_can_be_had_for_each_sample(name: str) -> None:
    outputs, targets = torch.rand(6, 4), torch.rand(6, 4)
    if name in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        targets = torch.arange(6) % 4
    if name == "multilabel_margin_loss":
        targets = torch.arange(24).view(6, 4) % 4
    if name in ("hinge_embedding_loss", "soft_margin_loss"):
        targets = targets.round() * 2 - 1
    model = nn.Identity()
    outputs.requires_grad_()
    outcome = Supervised(loss=name)(model, outputs, targets)
    expected = getattr(functional, name)(outputs, targets, reduction="none")
    torch.testing.assert_close(outcome.objective, expected.mean())


@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize(
    "metric",
    [
        lambda outputs, targets: (outputs - targets).abs(),
        lambda outputs, targets: (outputs - targets).abs().mean(1).sum(),
        lambda outputs, targets: float((outputs - targets).abs().mean(1).sum()),
        "l1_loss",
    ],
)
def test_a_metric_may_be_given_for_each_sample_or_as_their_sum(metric: Any, width: int) -> None:
    model, targets = linear(width), VALUES.expand(-1, width)
    task = Supervised(loss="mse_loss", metrics={"mae": metric})
    check_task(task, model, lambda count: (INPUTS[:count], targets[:count]), "supervised")
    found = task(model, INPUTS, targets).sums["mae"]
    expected = functional.l1_loss(model(INPUTS), targets) * 14
    torch.testing.assert_close(found.float(), expected.detach())


def test_a_metric_in_half_precision_is_summed_in_single() -> None:
    ones = OwnTask(lambda m, x, y: (m(x).mean(), {"n": torch.ones(5000).bfloat16()}), "t.py:own")
    outcome = ones(linear(), torch.zeros(5000, 3), torch.zeros(5000))
    assert outcome.sums["n"] == 5000


def returning(made: Callable[[Tensor, Tensor], Any]) -> OwnTask:
    return OwnTask(lambda model, inputs, targets: made(model(inputs), targets), "t.py:own")


@pytest.mark.parametrize(
    "made",
    [
        lambda outputs, targets: squares(outputs, targets).mean(),
        lambda outputs, targets: squares(outputs, targets),
        lambda outputs, targets: (squares(outputs, targets).mean(), {}),
        lambda outputs, targets: (squares(outputs, targets), {"n": torch.ones(len(targets))}),
        lambda outputs, targets: Loss(
            squares(outputs, targets).mean(), {"loss": squares(outputs, targets).detach().sum()}
        ),
    ],
)
def test_a_task_of_ones_own_returns_a_loss_and_perhaps_metrics(made: Any) -> None:
    model, task = linear(), returning(made)
    checked(task)
    outcome = task(model, INPUTS, VALUES)
    torch.testing.assert_close(outcome.objective, functional.mse_loss(model(INPUTS), VALUES))
    torch.testing.assert_close(outcome.sums["loss"], outcome.objective.detach() * 14)
    assert outcome.sums.get("n", 14) == 14


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda o, t: None, "task t.py:own returns NoneType None"),
        (
            lambda o, t: squares(o, t).mean().item(),
            r"returns float .*\n  Return a loss with a grad",
        ),
        (lambda o, t: (o, t), r"returns a tuple \(Tensor, Tensor\)"),
        (lambda o, t: {"loss": o}, "returns dict"),
        (lambda o, t: Loss(o.mean(), {}), "returns a Loss without its sum"),
        (lambda o, t: (o.mean(), {f"m{len(o)}": o}), "returns loss, m8, and did return loss, m2"),
        (lambda o, t: squares(o, t).mean().detach(), "the loss of task t.py:own has no gradient"),
        (lambda o, t: o.argmax(1).float().mean(), "has no gradient"),
        (lambda o, t: squares(o, t[:, 0]), r"shape \(2, 2\) for 2 samples, each with each"),
        (lambda o, t: squares(o, t)[:1], r"the loss of .* is of shape \(1, 1\) for 2 samples"),
        (lambda o, t: squares(o, t).sum(), "is a sum over samples where a mean was said"),
        (lambda o, t: (o.mean(), {"a/b": o}), "a metric cannot be called 'a/b': names hold"),
        (lambda o, t: (o.mean(), {"loss": o}), "cannot be called 'loss': that is the loss"),
        (lambda o, t: (o.mean(), {1: o}), "cannot be called 1"),
        (lambda o, t: (o.mean(), {"m": "x"}), "metric m of task t.py:own is str 'x'"),
        (lambda o, t: (o.mean(), {"m": [1.0, 2.0]}), "metric m .* is list"),
        (lambda o, t: (o.mean(), {"m": o[:1]}), r"metric m .* shape \(1, 1\) for 2 samples"),
        (lambda o, t: (o.mean(), {"m": o.mean()}), r"m of task .* it is a mean over a batch"),
        (lambda o, t: (o.mean(), {"m": o.std()}), r"is not a sum over samples.* on the batch"),
    ],
)
def test_what_else_it_returns_is_refused(made: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        checked(returning(made))


def test_a_mean_that_is_zero_of_few_samples_is_found_out_by_more() -> None:
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.bias.zero_()
    inputs = torch.ones(300, 1)
    targets = torch.ones(300).long()  # all wrong
    targets[100:] = 0

    def right(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float().mean()

    task = Supervised(loss="cross_entropy", metrics={"right": right})
    with pytest.raises(UsageError, match="right of task supervised is not a sum over samples"):
        check_task(task, model, lambda n: (inputs[:n], targets[:n]), "supervised")


def test_a_loss_of_pairs_is_allowed_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        checked(returning(lambda outputs, targets: -outputs.std()))
    assert "depends on which samples are in a batch together" in caplog.text


def test_what_hangs_on_chance_is_not_taken_for_what_hangs_on_the_batch() -> None:
    def noisy(outputs: Tensor, targets: Tensor) -> Any:
        noise = torch.randn(len(outputs), 1)
        return squares(outputs + noise, targets), {"m": (outputs + noise).abs()}

    checked(returning(noisy))


def test_a_metric_that_is_not_finite_is_no_reason_to_refuse_it() -> None:
    checked(returning(lambda o, t: (squares(o, t), {"m": o * torch.nan})))


@pytest.mark.parametrize(
    ("loss", "targets", "outputs", "words"),
    [
        (
            "mse_loss",
            VALUES[:, 0],
            1,
            r"loss mse_loss: .* float32 \(2, 1\), the targets .*\(2,\): b",
        ),
        ("cross_entropy", VALUES, 4, r"outputs are float32 \(2, 4\), the targets float32 \(2, 1\)"),
        ("cross_entropy", LABELS + 2, 4, "the targets int64"),
        ("binary_cross_entropy_with_logits", LABELS, 1, r"int64 \(2,\): both must be of one shape"),
        ("cross_entropy", VALUES[:, 0], 0, r"\(2,\): outputs must be \(samples, classes\)"),
        ("l1_loss", VALUES.long(), 1, r"int64 \(2, 1\): both must be floating point"),
        ("bce_loss", VALUES, 1, "torch.nn.functional has no such loss"),
        ("cross_entrpy", VALUES, 1, "cross_entropy"),
        (3, VALUES, 1, "loss is 3, which cannot be called"),
    ],
)
def test_targets_that_do_not_fit_the_loss_are_refused_with_shapes(
    loss: Any, targets: Tensor, outputs: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        model = linear(outputs) if outputs else nn.Sequential(linear(1), nn.Flatten(0))
        checked(Supervised(loss=loss), targets, model)


def test_metrics_are_given_by_name() -> None:
    with pytest.raises(UsageError, match="Write them by their names"):
        Supervised(loss="mse_loss", metrics=["accuracy"])
    with pytest.raises(UsageError, match="a metric cannot be called 'loss'"):
        Supervised(loss="mse_loss", metrics={"loss": "l1_loss"})
    Supervised(loss="mse_loss", metrics={"r2": {"name": squares, "better": "higher"}})


def test_what_fails_in_a_loss_is_told_with_its_line(tmp_path: Path) -> None:
    code = 'def failing(outputs, targets):\n    return outputs["logits"]\n'
    (tmp_path / "net.py").write_text(code)
    loss = load_own(tmp_path, "net.py", "failing")
    with pytest.raises(UsageError, match=r'net.py:2: in failing: return outputs\["logits"\]'):
        checked(Supervised(loss=loss))


class Roots:
    """A task with what is no mean over samples."""

    def __init__(self, made: Any = None) -> None:
        self._made = made

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Any:
        return squares(model(inputs), targets)

    def derived(self, means: dict[str, float]) -> Any:
        return {"rmse": means["loss"] ** 0.5} if self._made is None else self._made


def test_a_task_may_derive_metrics_from_means() -> None:
    roots = Roots()
    task = OwnTask(roots, "t.py:Roots", roots.derived)
    checked(task)
    assert with_derived(task, {"loss": 9.0}) == {"loss": 9.0, "rmse": 3.0}
    assert with_derived(Supervised(loss="mse_loss"), {"loss": 9.0}) == {"loss": 9.0}


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (3.0, "derived returns float 3.0"),
        ({"loss": 1.0}, "cannot be called 'loss'"),
        ({"rmse": torch.ones(2)}, "rmse is Tensor"),
    ],
)
def test_what_else_is_derived_is_refused(made: Any, fault: str) -> None:
    roots = Roots(made)
    with pytest.raises(UsageError, match=fault):
        checked(OwnTask(roots, "t.py:Roots", roots.derived))
