"""Training from a trial to its numbers: what is measured, in which order, from which start."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    VAE,
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    numbers,
    records,
    result,
    train,
    trial_of,
)

from deltagclip_cli.core import UsageError, derive_seed
from deltagclip_cli.optim import TABLE
from deltagclip_cli.parts.datasets.batches import Batches
from deltagclip_cli.parts.tasks.classify import Classify
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.meter import REGIMES
from deltagclip_cli.training.program import Eager
from deltagclip_cli.training.sinks import Record, Sink
from deltagclip_cli.training.trainer import Ending, Trainer

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")

OPTIMIZERS = {
    "delta_gclip": DELTA_GCLIP,
    "delta_gclip, a norm for each tensor": {**DELTA_GCLIP, "norm_scope": "parameter"},
    "gclip": {"name": "gclip", "lr": 0.2, "gamma": 0.9},
    "sgd": SGD,
    "sgd with momentum": MOMENTUM,
    "adam": ADAM,
    "AdamW": {"name": "AdamW", "lr": 1e-2},
    "LBFGS": {"name": "LBFGS", "lr": 0.1, "max_iter": 4},
    "RMSprop": {"name": "RMSprop", "lr": 1e-3},
    "Adagrad": {"name": "Adagrad", "lr": 0.05},
    "NAdam": {"name": "NAdam", "lr": 1e-2},
    "Rprop": {"name": "Rprop", "lr": 1e-3},
}


def finished(trial: Trial, runs: Path, **options: Any) -> RunFolder:
    """Train to the end."""
    assert train(trial, runs, **options) is Ending.FINISHED
    return RunFolder.of(runs, trial)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_the_loss_falls(optimizer: dict[str, Any], runs: Path) -> None:
    folder = finished(trial_of(optimizer, epochs=6), runs)
    assert epochs(folder, "train/loss")[-1] < 0.7 * epochs(folder, "train/loss")[0]
    assert epochs(folder, "test/loss")[-1] < epochs(folder, "test/loss")[0]
    assert epochs(folder, "test/accuracy")[-1] > 0.5
    assert folder.state == "finished"


def test_every_optimizer_of_torch_trains_or_says_why_not(runs: Path) -> None:
    refused = {}
    for name in TABLE.all():
        optimizer = {"lr": 0.01, "gamma": 1.0, "delta": 0.1} if "gclip" in name else {"lr": 1e-3}
        if name == "gclip":
            del optimizer["delta"]
        try:
            finished(trial_of({"name": name, **optimizer}, epochs=1, label=name), runs)
        except UsageError as error:
            refused[name] = str(error)
        except Exception as error:
            refused[name] = str(error)
    assert set(refused) == {"muon"} & TABLE.all().keys(), "old versions of torch have none"
    assert "2D" in refused.get("muon", "2D")
    assert len(TABLE.all()) - len(refused) >= 13


def test_one_epoch_and_another_are_those_of_a_loop_written_down_literally(runs: Path) -> None:
    trial = trial_of(SGD, epochs=2)
    folder = finished(trial, runs)

    parts = assemble(trial, NOWHERE, CPU)
    model, images = parts.model, parts.train
    for number, record in enumerate(records(folder)):
        generator = torch.Generator().manual_seed(derive_seed(0, "order", number))
        order = torch.randperm(100, generator=generator)
        losses, right, norms = 0.0, 0, []
        for inputs, targets in images.iterate(order, None):
            logits = model(inputs)
            loss = functional.cross_entropy(logits, targets)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(model.parameters(), gradients, strict=True):
                    weight -= 0.2 * gradient
            losses += loss.item() * len(targets)
            right += int((logits.argmax(1) == targets).sum())
            norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        assert record["train/loss"] == pytest.approx(losses / 100, rel=1e-6)
        assert record["train/accuracy"] == right / 100
        assert record["optim/grad_norm"] == pytest.approx(norms[0], rel=1e-5)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(checkpoint(folder)["model"][name], weight)


def test_an_evaluation_weighs_samples_and_not_batches(runs: Path) -> None:
    """50 test images in batches of 32 and 18."""
    trial = trial_of()
    folder = finished(trial, runs)
    parts = assemble(trial, NOWHERE, CPU)
    parts.model.load_state_dict(checkpoint(folder)["model"])
    batches = list(parts.evaluated["test"].iterate(None, None))
    assert [len(targets) for _, targets in batches] == [32, 18]

    inputs, targets = (torch.cat(column) for column in zip(*batches, strict=True))
    with torch.no_grad():
        logits = parts.model(inputs)
        by_batch = [functional.cross_entropy(parts.model(x), y).item() for x, y in batches]
    loss = functional.cross_entropy(logits, targets).item()
    right = int((logits.argmax(1) == targets).sum())
    assert records(folder)[-1]["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert records(folder)[-1]["test/loss"] != pytest.approx(sum(by_batch) / 2, rel=1e-5)
    assert records(folder)[-1]["test/accuracy"] == right / 50


COMMON = {"epoch", "step", "time", "train/loss", "train/accuracy", "test/loss", "test/accuracy"}
COMMON |= {"optim/lr", "optim/grad_norm", "perf/samples_per_second", "perf/epoch_seconds"}
REGIME_NAMES = {f"optim/{name}_fraction" for name in REGIMES}


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [
        (DELTA_GCLIP, {"optim/step_size", *REGIME_NAMES}),
        (SGD, {"optim/step_size", *REGIME_NAMES}),
        (MOMENTUM, set()),
        (ADAM, set()),
    ],
    ids=["delta_gclip", "sgd", "sgd with momentum", "adam"],
)
def test_metrics_have_their_agreed_names(
    optimizer: dict[str, Any], more: set[str], runs: Path
) -> None:
    folder = finished(trial_of(optimizer), runs)
    assert [set(record) for record in records(folder)] == [COMMON | more] * 3
    assert [(record["epoch"], record["step"]) for record in records(folder)] == [
        (1, 4),
        (2, 8),
        (3, 12),
    ]


def regime(norm: float, gamma: float, delta: float) -> str:
    if norm <= gamma:
        return "plain"
    return "floored" if gamma / norm <= delta else "clipped"


def test_regimes_are_those_of_a_literal_count(runs: Path) -> None:
    trial = trial_of(log_every=1, epochs=4)
    folder = finished(trial, runs)
    steps = [record for record in records(folder) if "step/optim/grad_norm" in record]
    totals = dict.fromkeys(REGIMES, 0)
    for record in records(folder):
        if "optim/grad_norm" not in record:
            continue
        norms = [step["step/optim/grad_norm"] for step in steps if step["epoch"] == record["epoch"]]
        counted = [regime(norm, 0.7, 0.8) for norm in norms]
        shares = {name: record[f"optim/{name}_fraction"] for name in REGIMES}
        assert shares == {name: counted.count(name) / 4 for name in REGIMES}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-15)
        assert record["optim/grad_norm"] == pytest.approx(sum(norms) / 4, rel=1e-12)
        sizes = [0.2 * min(1, max(0.8, 0.7 / norm)) for norm in norms]
        assert record["optim/step_size"] == pytest.approx(sum(sizes) / 4, rel=1e-6)
        for name in counted:
            totals[name] += 1
    assert result(folder)["regimes"] == totals
    assert all(totals.values()), "the test is to see all three regimes"


def test_gradient_descent_makes_plain_steps_of_the_full_size(runs: Path) -> None:
    folder = finished(trial_of(SGD), runs)
    for record in records(folder):
        assert record["optim/step_size"] == pytest.approx(record["optim/lr"], rel=1e-7)
        assert [record[f"optim/{name}_fraction"] for name in REGIMES] == [1, 0, 0]
    assert result(folder)["regimes"] == {"plain": 12, "clipped": 0, "floored": 0}


def test_an_optimizer_without_regimes_has_none(runs: Path) -> None:
    assert result(finished(trial_of(ADAM), runs))["regimes"] is None


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that is emptied when a training begins, as the parts are tried out before."""
    notes: list[Any] = []
    begin = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self: (notes.clear(), begin(self))[1])
    return notes


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, noted: list[Any]) -> list[torch.Tensor]:
    """Every batch that a model gets, of training and of evaluation."""
    batches, iterate = noted, Batches.iterate

    def watched(self: Batches, *args: Any, **kwargs: Any) -> Any:
        for inputs, targets in iterate(self, *args, **kwargs):
            batches.append(inputs.clone())
            yield inputs, targets

    monkeypatch.setattr(Batches, "iterate", watched)
    return batches


AUGMENTED = {"augment": [{"name": "random_crop", "padding": 2}, "flip"]}


@pytest.mark.parametrize("data", [{}, AUGMENTED], ids=["plain", "augmented"])
def test_at_one_seed_all_optimizers_see_the_same_batches(
    data: dict[str, Any], runs: Path, seen: list[torch.Tensor]
) -> None:
    by_optimizer = []
    for optimizer in (DELTA_GCLIP, ADAM, {"name": "LBFGS", "max_iter": 2}):
        finished(trial_of(optimizer, data=data), runs)
        by_optimizer.append(list(seen))
    first = by_optimizer[0]
    assert len(first) == 3 * (4 + 2)
    assert not torch.equal(first[0], first[6]), "an epoch has an order of its own"
    for others in by_optimizer[1:]:
        assert all(map(torch.equal, first, others))
    finished(trial_of(ADAM, data=data, seed=1), runs)
    assert not torch.equal(first[0], seen[0]), "a seed has an order of its own"


def test_at_one_seed_all_optimizers_start_from_the_same_weights() -> None:
    starts = [
        assemble(trial_of(optimizer, seed=seed), NOWHERE, CPU).model.state_dict()
        for optimizer, seed in ((DELTA_GCLIP, 0), (ADAM, 0), (ADAM, 1))
    ]
    for name in starts[0]:
        assert torch.equal(starts[0][name], starts[1][name])
        assert not torch.equal(starts[1][name], starts[2][name])


def test_only_training_images_are_augmented(runs: Path, seen: list[torch.Tensor]) -> None:
    finished(trial_of(epochs=1), runs)
    plain = list(seen)
    finished(trial_of(epochs=1, data=AUGMENTED), runs)
    assert not any(map(torch.equal, plain[:4], seen[:4]))
    assert all(map(torch.equal, plain[4:], seen[4:]))


def test_the_loss_falls_with_augmented_images(runs: Path) -> None:
    trial = trial_of(ADAM, data={**AUGMENTED, "noise": 0.1}, epochs=15)
    losses = epochs(finished(trial, runs), "train/loss")
    assert losses[-1] < 0.8 * losses[0]


def test_a_model_knows_whether_it_is_trained_or_evaluated(
    runs: Path, monkeypatch: pytest.MonkeyPatch, noted: list[Any]
) -> None:
    modes, call = noted, Classify.__call__

    def watched(self: Classify, model: Any, *args: Any) -> Any:
        modes.append((model.training, torch.is_grad_enabled()))
        return call(self, model, *args)

    monkeypatch.setattr(Classify, "__call__", watched)
    finished(trial_of(epochs=2), runs)
    assert modes == ([(True, True)] * 4 + [(False, False)] * 2) * 2


def test_double_precision_is_used_throughout(runs: Path) -> None:
    folder = finished(trial_of(ADAM, precision="fp64"), runs)
    state = checkpoint(folder)
    assert {weight.dtype for weight in state["model"].values()} == {torch.float64}
    assert state["optimizer"]["state"][0]["exp_avg"].dtype == torch.float64
    single = finished(trial_of(ADAM), runs)
    assert epochs(folder, "train/loss") == pytest.approx(epochs(single, "train/loss"), rel=1e-5)
    assert epochs(folder, "train/loss") != epochs(single, "train/loss")


def test_bf16_computes_in_half_precision_and_keeps_weights_in_single(
    runs: Path, monkeypatch: pytest.MonkeyPatch, noted: list[Any]
) -> None:
    dtypes, call = noted, Classify.__call__

    def watched(self: Classify, model: Any, inputs: Any, targets: Any) -> Any:
        dtypes.append(model(inputs).dtype)
        return call(self, model, inputs, targets)

    monkeypatch.setattr(Classify, "__call__", watched)
    folder = finished(trial_of(precision="bf16", epochs=6), runs)
    assert set(dtypes) == {torch.bfloat16}
    assert {weight.dtype for weight in checkpoint(folder)["model"].values()} == {torch.float32}
    assert epochs(folder, "train/loss")[-1] < 0.7 * epochs(folder, "train/loss")[0]


def test_records_between_epochs_come_every_so_many_steps(runs: Path) -> None:
    """12 batches of 8 and one of 4; every 5 steps of each epoch."""
    folder = finished(trial_of(log_every=5, data={"batch_size": 8}, epochs=2), runs)
    found = [(r["epoch"], r["step"], "step/train/loss" in r) for r in records(folder)]
    assert found == [
        (1, 5, True),
        (1, 10, True),
        (1, 13, False),
        (2, 18, True),
        (2, 23, True),
        (2, 26, False),
    ]
    names = [set(record) for record in records(folder) if "step/train/loss" in record]
    assert (
        names
        == [
            {"epoch", "step", "time", "step/train/loss", "step/train/accuracy"}
            | {"step/optim/lr", "step/optim/grad_norm", "step/optim/step_size"}
        ]
        * 4
    )


def test_records_between_epochs_hold_the_means_since_the_last_one(runs: Path) -> None:
    each = finished(trial_of(log_every=1, label="each"), runs)
    pairs = finished(trial_of(log_every=2, label="pairs"), runs)
    losses = epochs(each, "step/train/loss")
    assert epochs(pairs, "step/train/loss") == pytest.approx(
        [
            weighted
            for first in range(0, 12, 4)
            for weighted in (
                (losses[first] + losses[first + 1]) / 2,
                (32 * losses[first + 2] + 4 * losses[first + 3]) / 36,
            )
        ]
    )


def test_records_between_epochs_change_no_number_of_an_epoch(runs: Path) -> None:
    often = numbers(finished(trial_of(log_every=1, label="often"), runs))
    assert [r for r in often if "train/loss" in r] == numbers(finished(trial_of(), runs))


SCHEDULES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "multistep": (
        {"name": "multistep", "milestones": [1, 3], "factor": 0.5},
        [0.2, 0.1, 0.1, 0.05],
    ),
    "cosine": ({"name": "cosine"}, [0.2, 0.170710678, 0.1, 0.029289322]),
    "warm-up": ({"name": "multistep", "milestones": [3], "warmup": 1}, [0.1, 0.2, 0.2, 0.02]),
    "a schedule of torch": ({"name": "ExponentialLR", "gamma": 0.5}, [0.2, 0.1, 0.05, 0.025]),
    "steps": (
        {"name": "multistep", "milestones": [5, 9], "factor": 0.5, "unit": "step"},
        [0.2, 0.1, 0.05, 0.05],
    ),
}


@pytest.mark.parametrize(("schedule", "rates"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_sets_the_rate_of_each_epoch(
    schedule: dict[str, Any], rates: list[float], runs: Path
) -> None:
    folder = finished(trial_of(SGD, schedule=schedule, epochs=4), runs)
    assert epochs(folder, "optim/lr") == pytest.approx(rates)
    assert len(set(epochs(folder, "optim/step_size"))) > 1


def test_the_rate_that_is_told_is_the_one_that_the_step_was_made_with(runs: Path) -> None:
    schedule = {"name": "ExponentialLR", "gamma": 0.9, "unit": "step", "warmup": 3}
    folder = finished(trial_of(SGD, schedule=schedule, log_every=1), runs)
    rates = epochs(folder, "step/optim/lr")
    assert rates == pytest.approx(epochs(folder, "step/optim/step_size"), rel=1e-6)
    assert rates[:5] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.18])
    assert epochs(folder, "optim/lr") == rates[3::4]


def test_an_optimizer_may_have_a_schedule_of_its_own(runs: Path) -> None:
    own = {"name": "multistep", "milestones": [1], "factor": 0.25}
    shared = {"name": "multistep", "milestones": [2]}
    folder = finished(trial_of({**SGD, "schedule": own}, schedule=shared), runs)
    assert epochs(folder, "optim/lr") == pytest.approx([0.2, 0.05, 0.05])


def test_a_plateau_is_one_of_the_training_loss(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    told: list[float] = []
    step = ReduceLROnPlateau.step
    monkeypatch.setattr(
        ReduceLROnPlateau, "step", lambda self, loss: (told.append(loss), step(self, loss))
    )
    folder = finished(trial_of(schedule={"name": "ReduceLROnPlateau"}), runs)
    assert told == epochs(folder, "train/loss")


def test_a_variational_autoencoder_learns(runs: Path) -> None:
    folder = finished(trial_of(ADAM, **VAE, epochs=20), runs)
    record = records(folder)[-1]
    assert record["train/loss"] < 0.9 * records(folder)[0]["train/loss"]
    assert record["train/loss"] == pytest.approx(
        record["train/reconstruction"] + record["train/divergence"], rel=1e-5
    )
    assert "test/reconstruction" in record
    assert not any("accuracy" in name for name in record)
    assert "train/accuracy" not in result(folder)["best"]


def test_the_noise_of_an_evaluation_does_not_disturb_training(runs: Path) -> None:
    """The larger test set draws more noise, and more often."""
    small = finished(trial_of(ADAM, **VAE), runs)
    data = {"test": 50, "test_samples": 7, "evaluation_batch_size": 2}
    large = finished(trial_of(ADAM, **{**VAE, "data": {**VAE["data"], **data}}), runs)
    assert epochs(small, "test/loss") != epochs(large, "test/loss")
    assert epochs(small, "train/loss") == epochs(large, "train/loss")


def test_all_data_in_one_batch_make_a_step_of_gradient_descent_an_epoch(runs: Path) -> None:
    data = {"name": "sphere", "points": 24, "dimension": 8, "batch_size": "full"}
    trial = trial_of(SGD, epochs=10)
    trial = trial.model_copy(update={"data": type(trial.data).model_validate(data)})
    folder = finished(trial, runs)
    assert [record["step"] for record in records(folder)] == list(range(1, 11))
    losses = epochs(folder, "train/loss")
    assert losses == sorted(losses, reverse=True)


def test_a_stop_is_heard_between_epochs_of_one_step(runs: Path) -> None:
    trial = trial_of(data={"batch_size": "full"}, epochs=5)
    assert train(trial, runs, stop=StopAt(2)) is Ending.STOPPED
    folder = RunFolder.of(runs, trial)
    assert len(records(folder)) == 2
    assert checkpoint(folder)["epoch"] == 2


def test_sinks_are_told_of_every_batch_and_every_epoch(runs: Path) -> None:
    class Witness(Sink):
        def __init__(self) -> None:
            self.batches: list[tuple[int, int]] = []
            self.epochs: list[int] = []

        def batch(self, step: int, samples: int) -> None:
            self.batches.append((step, samples))

        def epoch(self, record: Record) -> None:
            assert "test/loss" in record
            self.epochs.append(record["epoch"])

    witness = Witness()
    finished(trial_of(epochs=2), runs, sinks=[witness])
    assert witness.batches == [*enumerate(2 * [32, 32, 32, 4], start=1)]
    assert witness.epochs == [1, 2]


def test_the_result_holds_the_last_and_the_best(runs: Path) -> None:
    """A rate that is too large at the end makes the last epoch not the best one."""
    schedule = {"name": "multistep", "milestones": [3], "factor": 100}
    folder = finished(trial_of(SGD, schedule=schedule, epochs=5), runs)
    read, all_records = json.loads(folder.result_file.read_text()), records(folder)
    assert read["status"] == "finished"
    assert (read["epochs"], read["steps"]) == (5, 20)
    assert read["last"] == {k: v for k, v in all_records[-1].items() if "/" in k}
    for name, pick in (("train/loss", min), ("test/loss", min), ("test/accuracy", max)):
        values = epochs(folder, name)
        best = pick(values)
        epoch = values.index(best) + 1
        assert read["best"][name] == {"value": best, "epoch": epoch, "step": 4 * epoch}
    assert read["best"]["train/loss"]["epoch"] < 5
    assert read["seconds"]["epochs"] == pytest.approx(sum(epochs(folder, "perf/epoch_seconds")))
    assert read["seconds"]["last_start"] >= read["seconds"]["epochs"]


def test_the_same_trial_gives_the_same_bits(tmp_path: Path) -> None:
    for settings in ({}, {"data": AUGMENTED}, VAE):
        trial = trial_of(ADAM, **settings)
        one, other = (finished(trial, tmp_path / name) for name in ("one", "other"))
        assert_same_numbers(one, other)


@pytest.mark.parametrize("where", ["training", "evaluation"])
def test_a_loss_that_is_not_finite_ends_the_trial_as_diverged(
    where: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of({"name": "sgd", "lr": 1e30}, epochs=4, log_every=1)
    if where == "evaluation":  # only the last step of the first epoch goes too far
        schedule = {"name": "multistep", "milestones": [3], "factor": 1e35, "unit": "step"}
        trial = trial_of({"name": "sgd", "lr": 1e-3}, epochs=4, schedule=schedule)
    assert train(trial, runs) is Ending.DIVERGED
    folder = RunFolder.of(runs, trial)
    record = records(folder)[-1]
    read = json.loads(folder.result_file.read_text())
    assert read["status"] == folder.state == "diverged"
    assert read["epochs"] == 1
    assert read["diverged"]["where"] == where
    if where == "training":
        assert record["train/loss"] is None
        assert "test/loss" not in record
        first = epochs(folder, "step/train/loss").index(None) + 1
        assert 1 < first < 4
        assert read["diverged"] == {"epoch": 1, "step": first, "where": where}
    else:
        assert record["test/loss"] is None
        assert read["diverged"] == {"epoch": 1, "step": 4, "where": where}
        assert len(records(folder)) == 1


def test_an_epoch_that_is_resumed_in_its_middle_lasts_as_long_as_its_parts(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only steps move, two seconds each, and starts that end after one or two."""
    now, step = 1000.0, Eager.step

    def slow(self: Eager, *batch: Any) -> Any:
        nonlocal now
        now += 2.0
        return step(self, *batch)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(Eager, "step", slow)
    trial = trial_of(epochs=2)
    folder = RunFolder.of(runs, trial)
    for steps, seconds in ((1, 2.0), (2, 6.0)):
        assert train(trial, runs, stop=StopAt(steps)) is Ending.STOPPED
        assert checkpoint(folder)["seconds"] == seconds
        now += 500.0
    assert train(trial, runs) is Ending.FINISHED
    assert [record["perf/epoch_seconds"] for record in records(folder)] == [8.0, 8.0]
    assert json.loads(folder.result_file.read_text())["seconds"]["epochs"] == 16.0
    assert records(folder)[0]["perf/samples_per_second"] == 4 / 2.0, "of this start alone"
