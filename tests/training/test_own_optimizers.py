"""Optimizers of one's own: each is stepped, evaluated and continued in the way that it wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_optimizers as own
import pytest
import torch
from training_cases import (
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    records,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import UsageError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.schema import Model, Optimizer
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.stepping import Stepper, check_continuation
from deltagclip_cli.training.trainer import Ending, Trainer

Make = Callable[..., Trial]


@pytest.fixture
def trial_with(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a trial with an optimizer of one's own, and perhaps a model."""

    def make(optimizer: Any, *, model: Any = None, settings: Any = None, **options: Any) -> Trial:
        trial = trial_of({"name": "sgd", "lr": 0.1}, **(settings or {}))
        monkeypatch.setattr(Optimizer, "load", lambda self: optimizer)
        if model is not None:
            monkeypatch.setattr(Model, "load", lambda self: model)
            trial = trial.model_copy(
                update={"model": trial.model.model_copy(update={"options": {}})}
            )
        part = trial.optimizer.model_copy(update={"options": options})
        return trial.model_copy(update={"optimizer": part})

    return make


WORKING = {
    "train() and eval()": own.ScheduleFree,
    "a closure that is needed": own.SharpnessAware,
    "a closure that the step insists on": own.Insistent,
    "an optimizer inside": own.WrappingSharpnessAware,
    "two optimizers inside": own.Both,
    "a closure that is called first": own.ClosureFirst,
    "a step without a closure": own.WithoutClosure,
    "a closure that is never called": own.Deaf,
    "gradients that are gone after a step": own.Consuming,
    "a rate that is a tensor": own.with_tensor_rate,
    "no rate": own.WithoutRate,
    "groups of its own": own.by_layers,
    "buffers that it was not given": own.Reaching,
    "a state of more digits": own.Exact,
    "chance": own.Chancy,
    "no base class": own.Wrapped,
}


@pytest.mark.parametrize("optimizer", WORKING.values(), ids=WORKING)
def test_an_optimizer_of_ones_own_trains_and_continues_with_the_same_bits(
    optimizer: Any, trial_with: Make, tmp_path: Path
) -> None:
    schedule = {"name": "exponentiallr", "gamma": 0.9, "unit": "step"}
    settings = {} if optimizer in (own.WithoutRate, own.Wrapped) else {"schedule": schedule}
    trial = trial_with(optimizer, model=own.Normed, settings=settings)
    assert train(trial, tmp_path / "whole") is Ending.FINISHED
    assert train_in_pieces(trial, tmp_path / "pieces", 3) > 1
    whole, pieces = (RunFolder.of(tmp_path / name, trial) for name in ("whole", "pieces"))
    assert_same_numbers(pieces, whole)
    losses = epochs(whole, "train/loss")
    assert losses[-1] < 0.9 * losses[0]
    assert all(norm > 0 for norm in epochs(whole, "optim/grad_norm"))


def test_an_optimizer_without_a_rate_tells_none(trial_with: Make, runs: Path) -> None:
    trial = trial_with(own.WithoutRate, settings={"log_every": 2})
    assert train(trial, runs) is Ending.FINISHED
    assert not any("lr" in name for each in records(RunFolder.of(runs, trial)) for name in each)


def test_a_rate_that_is_a_tensor_is_told_as_it_was_in_the_step(
    trial_with: Make, runs: Path
) -> None:
    schedule = {"name": "exponentiallr", "gamma": 0.5}
    trial = trial_with(own.with_tensor_rate, settings={"schedule": schedule})
    train(trial, runs)
    assert epochs(RunFolder.of(runs, trial), "optim/lr") == pytest.approx([0.01, 0.005, 0.0025])


def test_a_step_that_wants_the_closure_once_costs_one_evaluation(
    trial_with: Make, monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    """L-BFGS asks for what is there; SAM asks for the loss elsewhere."""
    forwards: list[bool] = []
    forward = Trainer._forward
    monkeypatch.setattr(
        Trainer,
        "_forward",
        lambda self, *batch: (forwards.append(torch.is_grad_enabled()), forward(self, *batch))[1],
    )

    def once(params: Any) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(params, max_iter=1)

    for optimizer, evaluations in (
        (once, 1),
        (own.Deaf, 1),
        (own.Consuming, 1),
        (own.SharpnessAware, 2),
        (own.Insistent, 2),
        (own.ClosureFirst, 2),  # the gradients that were there are gone
    ):
        forwards.clear()
        train(trial_with(optimizer, settings={"epochs": 1, "label": optimizer.__name__}), runs)
        assert sum(forwards) == 4 * evaluations, optimizer


@pytest.mark.parametrize("optimizer", [own.SharpnessAware, own.Insistent])
def test_sharpness_aware_steps_are_those_of_a_loop_written_down(optimizer: Any) -> None:
    torch.manual_seed(0)
    weight, inputs = torch.randn(3), torch.randn(8, 3)
    ours = torch.nn.Parameter(weight.clone())
    stepper = Stepper(optimizer([ours], lr=0.1, rho=0.5))

    def loss_at(at: torch.Tensor) -> torch.Tensor:
        return (inputs @ at).sigmoid().mean()

    def evaluate() -> torch.Tensor:
        ours.grad = None
        loss = loss_at(ours)
        loss.backward()
        return loss

    for _ in range(3):
        stepper.step(evaluate)
        start = weight.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_at(start), start)
        higher = (start + 0.5 * gradient / gradient.norm()).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_at(higher), higher)
        weight = weight - 0.1 * gradient
    torch.testing.assert_close(ours.detach(), weight)


def test_an_evaluation_is_made_at_averaged_weights(trial_with: Make, runs: Path) -> None:
    trial = trial_with(own.ScheduleFree)
    train(trial, runs)
    folder = RunFolder.of(runs, trial)
    state = checkpoint(folder)
    assert state["optimizer"]["param_groups"][0]["at_y"], "a checkpoint is one of the training"
    parts = assemble(trial, Path("nowhere"), torch.device("cpu"))
    parts.model.load_state_dict(state["model"])
    parts.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def loss() -> float:
        batches = parts.evaluated["test"].iterate(None, None)
        return sum(float(parts.task(parts.model, *each).sums["loss"]) for each in batches) / 50

    told = epochs(folder, "test/loss")[-1]
    assert loss() != pytest.approx(told, rel=1e-4)
    parts.optimizer.eval()
    assert loss() == pytest.approx(told, rel=1e-5)


def test_batch_norms_are_measured_at_averaged_weights_for_an_evaluation_alone(
    trial_with: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_with(own.ScheduleFree, model=own.Normed, settings={"epochs": 1}, lr=1.0)
    parts = assemble(trial, Path("nowhere"), torch.device("cpu"))
    trainer = Trainer(trial, parts, None, lambda: False)  # type: ignore[arg-type]
    for inputs, targets in parts.train.iterate(None, None):
        trainer._step(inputs, targets)
    trained = {name: value.clone() for name, value in parts.model.state_dict().items()}
    measured: list[torch.Tensor] = []
    evaluate = trainer._evaluate
    monkeypatch.setattr(
        trainer,
        "_evaluate",
        lambda: (measured.append(parts.model[2].running_mean.clone()), evaluate())[1],
    )
    trainer.evaluate()

    parts.optimizer.eval()
    with torch.no_grad():
        of_batches = [
            parts.model[1](inputs.flatten(1)).mean(0)
            for inputs, _ in parts.train.iterate(trainer._order(), None)
        ]
    torch.testing.assert_close(measured[0], torch.stack(of_batches).mean(0))
    assert not torch.allclose(measured[0], trained["2.running_mean"], rtol=0.1)
    for name in ("2.running_mean", "2.running_var", "2.num_batches_tracked"):
        assert torch.equal(parts.model.state_dict()[name], trained[name])
    assert parts.model[2].momentum == 0.1


def test_an_optimizer_that_is_stopped_keeps_knowing_that_it_needs_a_closure(
    trial_with: Make, runs: Path
) -> None:
    trial = trial_with(own.SharpnessAware)
    assert train(trial, runs, stop=StopAt(2)) is Ending.STOPPED
    assert checkpoint(RunFolder.of(runs, trial))["needs_closure"]


REFUSED = {
    "parameters that it leaves out": (
        own.of_matrices,
        r"optimizer 'sgd' leaves out 1.bias and 3.bias, so that nothing would train them.\n"
        r"  Give them to it, or set their requires_grad to False where the model is made.",
    ),
    "nothing": (own.nothing, r"optimizer 'sgd' made nothing, where a torch.optim.Optimizer is "),
    "a class": (lambda params: torch.optim.SGD, "made an object of type type, where"),
    "an error": (lambda params: {}["lr"], "optimizer 'sgd' cannot be made: KeyError: 'lr'."),
    "a state that cannot be kept": (
        own.Unloadable,
        r"optimizer 'sgd' keeps a Memo in state_dict\(\)\['state'\]\[0\]\['memo'\], which no "
        r"checkpoint can hold: those are loaded without running any code.\n  Let ",
    ),
}


@pytest.mark.parametrize(("optimizer", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_words(
    optimizer: Any, words: str, trial_with: Make, runs: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        train(trial_with(optimizer), runs)
    assert not list(runs.rglob("checkpoint.pt"))


def test_a_mistake_in_a_step_is_told_as_it_is(trial_with: Make, runs: Path) -> None:
    with pytest.raises(Exception, match="KeyError: 'momentun'"):
        train(trial_with(own.Broken), runs)


def test_a_schedule_needs_a_rate(trial_with: Make, runs: Path) -> None:
    trial = trial_with(own.WithoutRate, settings={"schedule": "cosine"})
    with pytest.raises(UsageError, match=r"schedule 'cosine': the optimizer has no learning rate "):
        train(trial, runs)


def check(optimizer: Any) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.2))

    def evaluate() -> torch.Tensor:
        network.zero_grad()
        loss: torch.Tensor = network(torch.ones(2, 3)).square().mean()
        loss.backward()
        return loss

    def make() -> Any:
        return optimizer(network.parameters(), lr=0.01)

    check_continuation("optimizer 'mine'", network, make, evaluate)


@pytest.mark.parametrize(
    "optimizer", [own.ScheduleFree, own.WrappingSharpnessAware, own.Both, own.Chancy, own.Deaf]
)
def test_an_optimizer_that_goes_on_where_it_was_is_accepted(optimizer: Any) -> None:
    check(optimizer)


def test_an_optimizer_that_forgets_its_steps_is_refused() -> None:
    words = r"^optimizer 'mine' does not go on where it was: .*\n  Keep it in self.state or in self"
    with pytest.raises(UsageError, match=words):
        check(own.Counting)
