"""Optimizers of one's own: each is stepped, evaluated and continued in the way that it wants."""

from __future__ import annotations

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
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.continuation import check_continuation, reloaded
from deltagclip_cli.training.program import Eager
from deltagclip_cli.training.stepping import Stepper
from deltagclip_cli.training.trainer import Ending, Trainer

NORMED = {"name": "own_optimizers.py:Normed"}  # a model with a batch norm and dropout


def trial_with(name: str, settings: Any = None, **options: Any) -> Trial:
    """A trial with an optimizer of ``own_optimizers.py``."""
    return trial_of({"name": f"own_optimizers.py:{name}", **options}, **(settings or {}))


WORKING = {
    "train() and eval()": "ScheduleFree",
    "a closure that is needed": "SharpnessAware",
    "a closure that the step insists on": "Insistent",
    "an optimizer inside": "WrappingSharpnessAware",
    "two optimizers inside": "Both",
    "a closure that is called first": "ClosureFirst",
    "a step without a closure": "WithoutClosure",
    "a closure that is never called": "Deaf",
    "gradients that are gone after a step": "Consuming",
    "a rate that is a tensor": "with_tensor_rate",
    "no rate": "WithoutRate",
    "groups of its own": "by_layers",
    "buffers that it was not given": "Reaching",
    "a state of more digits": "Exact",
    "chance": "Chancy",
    "no base class": "Wrapped",
    "gradients of gradients, and chance of its own": "SecondOrder",
    "a member of an enumeration in its groups": "InWords",
    "a queue in its state": "Delayed",
}


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")  # gradients are dropped
@pytest.mark.parametrize("optimizer", WORKING.values(), ids=WORKING)
def test_an_optimizer_of_ones_own_trains_and_continues_with_the_same_bits(
    optimizer: str, tmp_path: Path
) -> None:
    schedule = {"name": "exponentiallr", "gamma": 0.9, "unit": "step"}
    no_schedule = optimizer in ("WithoutRate", "Wrapped")
    settings = {"model": NORMED, "schedule": None if no_schedule else schedule}
    trial = trial_with(optimizer, settings)
    assert train(trial, tmp_path / "whole") is Ending.FINISHED
    assert train_in_pieces(trial, tmp_path / "pieces", 3) > 1
    whole, pieces = (RunFolder.of(tmp_path / name, trial) for name in ("whole", "pieces"))
    assert_same_numbers(pieces, whole)
    losses = epochs(whole, "train/loss")
    assert losses[-1] < 0.9 * losses[0]
    assert all(norm > 0 for norm in epochs(whole, "optim/grad_norm"))


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "Around", "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
        {"name": "Around", "optimizer": "own_optimizers.py:Wrapped"},
        {
            "name": "MakingSharpnessAware",
            "base_optimizer": {"name": "sgd", "momentum": 0.9},
            "lr": 0.1,
        },
    ],
    ids=["an optimizer", "one that is written too", "what makes one"],
)
def test_an_optimizer_that_takes_another_trains_and_continues_with_the_same_bits(
    optimizer: dict[str, Any], tmp_path: Path
) -> None:
    trial = trial_with(**optimizer)
    assert train(trial, tmp_path / "whole") is Ending.FINISHED
    assert train_in_pieces(trial, tmp_path / "pieces", 5) > 1
    whole, pieces = (RunFolder.of(tmp_path / name, trial) for name in ("whole", "pieces"))
    assert_same_numbers(pieces, whole)
    losses = epochs(whole, "train/loss")
    assert losses[-1] < 0.9 * losses[0]


def test_an_optimizer_without_a_rate_tells_none(runs: Path) -> None:
    trial = trial_with("WithoutRate", {"log_every": 2})
    assert train(trial, runs) is Ending.FINISHED
    assert not any("lr" in name for each in records(RunFolder.of(runs, trial)) for name in each)


def test_a_rate_that_is_a_tensor_is_told_as_it_was_in_the_step(runs: Path) -> None:
    schedule = {"name": "exponentiallr", "gamma": 0.5}
    trial = trial_with("with_tensor_rate", {"schedule": schedule})
    train(trial, runs)
    assert epochs(RunFolder.of(runs, trial), "optim/lr") == pytest.approx([0.01, 0.005, 0.0025])


def test_a_step_that_wants_the_closure_once_costs_one_evaluation(
    monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    """L-BFGS asks for what is there; SAM asks for the loss elsewhere."""
    forwards: list[bool] = []
    forward = Eager.forward
    monkeypatch.setattr(
        Eager,
        "forward",
        lambda self, *batch: (forwards.append(torch.is_grad_enabled()), forward(self, *batch))[1],
    )

    for optimizer, evaluations in (
        ("once", 1),
        ("Deaf", 1),
        ("Consuming", 1),
        ("SharpnessAware", 2),
        ("Insistent", 2),
        ("ClosureFirst", 2),  # the gradients that were there are gone
    ):
        forwards.clear()
        train(trial_with(optimizer, {"epochs": 1}), runs)
        assert sum(forwards) == (1 + 4) * evaluations, optimizer  # one step is tried before


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


def test_a_first_step_that_fails_without_a_closure_is_taken_back() -> None:
    """One of them says at once that it needs a closure, the other falls over it on its way."""
    ends = []
    for optimizer in (own.SharpnessAware, own.WrappingSharpnessAware):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        stepper = Stepper(optimizer([weight], rho=0.5))

        def evaluate(weight: torch.nn.Parameter = weight) -> torch.Tensor:
            weight.grad = None
            loss = weight.pow(4).sum()
            loss.backward()
            return loss

        stepper.step(evaluate)
        ends.append(weight.detach())
    torch.testing.assert_close(*ends)


def test_an_evaluation_is_made_at_averaged_weights(runs: Path) -> None:
    trial = trial_with("ScheduleFree")
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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = trial_with("ScheduleFree", {"model": NORMED, "epochs": 1}, lr=1.0)
    parts = assemble(trial, Path("nowhere"), torch.device("cpu"))
    trainer = Trainer(trial, parts, None, lambda: False)  # type: ignore[arg-type]
    for inputs, targets in parts.train.iterate(None, None):
        trainer.program.step([(inputs, targets)], 0)
    trained = {name: value.clone() for name, value in parts.model.state_dict().items()}
    measured: list[torch.Tensor] = []
    evaluate = trainer._evaluate
    monkeypatch.setattr(
        trainer,
        "_evaluate",
        lambda *of: (measured.append(parts.model[2].running_mean.clone()), evaluate(*of))[1],
    )
    trainer.evaluate()

    parts.optimizer.eval()
    number = trainer.course.pass_of(trainer.step) - 1
    with torch.no_grad():
        of_batches = [
            parts.model[1](inputs.flatten(1)).mean(0)
            for inputs, _ in parts.train.iterate(trainer._order(number), None)
        ]
    torch.testing.assert_close(measured[0], torch.stack(of_batches).mean(0))
    assert not torch.allclose(measured[0], trained["2.running_mean"], rtol=0.1)
    for name in ("2.running_mean", "2.running_var", "2.num_batches_tracked"):
        assert torch.equal(parts.model.state_dict()[name], trained[name])
    assert parts.model[2].momentum == 0.1


def test_an_optimizer_that_is_stopped_keeps_knowing_that_it_needs_a_closure(runs: Path) -> None:
    trial = trial_with("SharpnessAware")
    assert train(trial, runs, stop=StopAt(2)) is Ending.STOPPED
    assert checkpoint(RunFolder.of(runs, trial))["needs_closure"]


REFUSED = {
    "parameters that it leaves out": (
        "of_matrices",
        r"optimizer 'own_optimizers.py:of_matrices' leaves out 1.bias and 3.bias, so that nothing "
        r"would train them.\n  Give them to it, or set their requires_grad to False where ",
    ),
    "nothing": ("nothing", r":nothing' made nothing, where a torch.optim.Optimizer is needed.\n"),
    "no groups": ("Ungrouped", r"type Ungrouped, where .* is needed.\n  That has no param_groups."),
    "a class": ("a_class", "made an object of type type, where"),
    "an error": (
        "without_key",
        r"cannot be made: KeyError: 'lr'.\n  \S*own_optimizers.py:\d+: in without_key: return ",
    ),
    "a state that cannot be kept": (
        "Unloadable",
        r":Unloadable' keeps a Memo in state_dict\(\)\['state'\]\[0\]\['memo'\], which no "
        r"checkpoint can hold: those are loaded without running any code.\n  Let ",
    ),
}


@pytest.mark.parametrize(("optimizer", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_words(optimizer: str, words: str, runs: Path) -> None:
    with pytest.raises(UsageError, match=words):
        train(trial_with(optimizer), runs)
    assert not list(runs.rglob("checkpoint.pt"))


def test_a_mistake_in_a_step_is_told_as_it_is(runs: Path) -> None:
    with pytest.raises(Exception, match="KeyError: 'momentun'"):
        train(trial_with("Broken"), runs)


def test_a_schedule_needs_a_rate(runs: Path) -> None:
    trial = trial_with("WithoutRate", {"schedule": "cosine"})
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

    def make() -> Stepper:
        return Stepper(optimizer(network.parameters(), lr=0.01))

    check_continuation("optimizer 'mine'", network, make, evaluate)


@pytest.mark.parametrize(
    "optimizer",
    [
        *(own.ScheduleFree, own.WrappingSharpnessAware, own.Both, own.Chancy, own.Deaf),
        *(own.Delayed, own.Remembering),
    ],
)
def test_an_optimizer_that_goes_on_where_it_was_is_accepted(optimizer: Any) -> None:
    check(optimizer)


def test_an_optimizer_that_forgets_its_steps_is_refused() -> None:
    words = r"^optimizer 'mine' does not go on where it was: .*\n  Keep it in self.state or in self"
    with pytest.raises(UsageError, match=words):
        check(own.Counting)


def test_a_network_that_counts_beside_its_buffers_is_refused_and_not_the_optimizer() -> None:
    weight, calls = torch.nn.Parameter(torch.ones(2)), iter(range(1, 100))
    network = torch.nn.ParameterList([weight])

    def evaluate() -> torch.Tensor:
        weight.grad = torch.full((2,), 1.0 / next(calls))
        return torch.zeros(())

    def make() -> Stepper:
        return Stepper(torch.optim.SGD([weight], lr=0.1))

    words = "neither ParameterList has in its buffers nor optimizer 'sgd' in its state"
    with pytest.raises(UsageError, match=words):
        check_continuation("optimizer 'sgd'", network, make, evaluate)


def test_queues_and_objects_come_back_from_a_checkpoint_as_they_were() -> None:
    def begun() -> tuple[torch.nn.Parameter, Stepper]:
        weight = torch.nn.Parameter(torch.ones(2))
        return weight, Stepper(own.Remembering([weight]))

    weight, stepper = begun()
    for number in range(4):
        weight.grad = torch.full((2,), float(number))
        stepper.optimizer.step()
    state = reloaded(stepper.state_dict())
    other, again = begun()
    again.load_state_dict(state)
    (memory,) = again.optimizer.state[other]["memory"]
    assert (type(memory), memory.kind) == (own.Memory, own.Kind.SHORT)
    assert memory.gradients.maxlen == 3
    assert [each.tolist() for each in memory.gradients] == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    assert memory.gradients[0].dtype == torch.float64


@pytest.mark.parametrize("name", [".subprocess:Popen", ":Gone", ":__name__", ":random.Random"])
def test_a_checkpoint_makes_objects_of_the_package_of_its_optimizer_alone(name: str) -> None:
    stepper = Stepper(own.Delayed([torch.nn.Parameter(torch.ones(2))]))
    state = stepper.state_dict()
    state["optimizer"]["state"][0] = {"memo": {"stands for": name, "holds": {}}}
    with pytest.raises(
        UsageError, match=f"own_optimizers{name} in it, which optimizer Delayed does not have."
    ):
        stepper.load_state_dict(state)
