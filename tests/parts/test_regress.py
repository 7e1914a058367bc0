"""Regression: losses, and metrics in the unit of the targets, against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from tiny_spec import TINY, faults_of_text, trial_of
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import with_derived
from deltagclip_cli.parts.tasks.classify import Classify
from deltagclip_cli.parts.tasks.regress import Regress

LOSSES: dict[str, Any] = {
    "squared": lambda error: error**2,
    "absolute": abs,
    "huber": lambda error: error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5,
}


def samples(targets: int = 1) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(3, targets).double()
    return model, torch.randn(7, 3).double(), 2 * torch.randn(7, targets).double() + 1


def metrics_of(
    task: Regress, model: nn.Module, inputs: Tensor, targets: Tensor
) -> dict[str, float]:
    """The metrics of two batches of unequal size together."""
    sums = [task(model, inputs[part], targets[part]).sums for part in (slice(2), slice(2, None))]
    means = {name: sum(float(each[name]) for each in sums) / len(inputs) for name in sums[0]}
    return with_derived(task, means)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_is_its_formula(loss: Any, reduction: Any) -> None:
    model, inputs, targets = samples(2)
    outcome = Regress(loss=loss, reduction=reduction)(model, inputs, targets)
    errors = (model(inputs) - targets).flatten().tolist()
    assert {abs(each) > 1 for each in errors} == {True, False}
    total = sum(map(LOSSES[loss], errors)) / 2
    assert outcome.objective.item() == pytest.approx(total / (7 if reduction == "mean" else 1))
    assert float(outcome.sums["loss"]) == pytest.approx(total)


@pytest.mark.parametrize("targets", [1, 2])
def test_metrics_are_those_of_all_samples_at_once(targets: int) -> None:
    model, inputs, wanted = samples(targets)
    told = metrics_of(Regress(target_scale=10.0), model, inputs, wanted)
    error = (model(inputs) - wanted).detach().numpy()
    around = wanted.numpy() - wanted.numpy().mean(axis=0)
    assert told == {
        "loss": pytest.approx((error**2).mean()),
        "mae": pytest.approx(10 * abs(error).mean()),
        "rmse": pytest.approx(10 * numpy.sqrt((error**2).mean())),
        "r2": pytest.approx(1 - (error**2).sum() / (around**2).sum()),
    }


def test_the_mean_of_the_targets_explains_nothing_and_the_targets_explain_all() -> None:
    targets = torch.tensor([[1.0], [2.0], [4.0]])
    right = metrics_of(Regress(), nn.Identity(), targets, targets)
    assert right["r2"] == 1 and right["rmse"] == 0
    mean = targets.mean().expand(3, 1)
    assert metrics_of(Regress(), nn.Identity(), mean, targets)["r2"] == pytest.approx(0, abs=1e-6)


def test_of_targets_that_are_alike_there_is_no_r2() -> None:
    alike = torch.full((4, 1), 0.1)
    assert "r2" not in metrics_of(Regress(), nn.Identity(), alike + 1, alike)


def test_one_target_may_come_without_a_dimension_of_its_own() -> None:
    model, inputs, targets = samples()
    whole = Regress()(model, inputs, targets)
    for outputs, wanted in ((model, targets[:, 0]), (nn.Sequential(model, nn.Flatten(0)), targets)):
        assert Regress()(outputs, inputs, wanted).objective == whole.objective


def test_what_is_no_regression_is_refused() -> None:
    model, inputs, targets = samples(2)
    with pytest.raises(UsageError, match=r"outputs of Linear are \(7, 2\), the targets \(7, 1\)"):
        Regress()(model, inputs, targets[:, :1])
    with pytest.raises(UsageError, match="Choose the task classify"):
        Regress()(model, inputs, torch.zeros(7, dtype=torch.int64))
    with pytest.raises(UsageError, match="Choose the task regress"):
        Classify()(model, inputs, targets)


def test_a_search_knows_the_metrics_of_a_task_and_which_way_they_are_good(tmp_path: Path) -> None:
    search = "    search: {metric: test/%s, space: {sgd: {lr: {log_uniform: [1e-3, 1]}}}}\n"
    text = TINY + "    task: {name: %s}\n" + search

    def direction(task: str, metric: str) -> str:
        found = trial_of(tmp_path, text=text % (task, metric)).experiment
        assert found == "tiny"
        from deltagclip_cli.spec.load import load_spec

        asked = load_spec(tmp_path / "spec.yaml", ["tiny"]).experiments["tiny"].search
        assert asked is not None
        return asked.direction

    assert direction("regress", "r2") == "maximize"
    assert direction("regress", "rmse") == "minimize"
    assert direction("classify, top_k: 3", "accuracy_top3") == "maximize"
    fault = faults_of_text(tmp_path, text % ("regress", "accuracy"))
    assert "test/rmse" in fault[0]
