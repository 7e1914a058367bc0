"""Training on MNIST and on CIFAR-10 as JPEG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import ADAM, MOMENTUM, StopAt, assert_same_numbers, epochs, records, train

from deltagclip_cli.parts.datasets.dataset import Split, channel_statistics
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.loaded import load_dataset
from deltagclip_cli.training.trainer import Ending

EXPERIMENTS = Path(__file__).parents[2] / "experiments.yaml"
JPEGS = {
    "name": "image_folder",
    "path": "cifar10-jpeg",
    "image_size": 32,
    "batch_size": 20,
    "train_samples": 100,
    "test_samples": 20,
}
FOUR = {
    "delta-gclip": {"name": "delta_gclip", "lr": 0.5, "gamma": 0.25, "delta": 1e-3},
    "gclip": {"name": "gclip", "lr": 0.5, "gamma": 0.25},
    "sgd": {"name": "sgd", "lr": 0.1},
    "adam": {"name": "adam", "lr": 1e-3},
}


def of_mnist(label: str, *sets: str, name: str = "mnist-mlp") -> Trial:
    experiment = load_spec(EXPERIMENTS, [name], sets).experiments[name]
    return make_trial(name, experiment, label, experiment.seeds[0])


def of_jpegs(optimizer: dict[str, Any], **settings: Any) -> Trial:
    written = {"model": "resnet18", "data": JPEGS, "epochs": 2, "optimizers": {"tested": optimizer}}
    return make_trial("jpegs", Experiment.model_validate({**written, **settings}), "tested", 0)


def finished(trial: Trial, runs: Path, data: Path) -> RunFolder:
    assert train(trial, runs, data_dir=data) is Ending.FINISHED
    return RunFolder.of(runs, trial)


@pytest.mark.parametrize("label", ["delta-gclip", "gclip", "sgd", "adam"])
def test_mnist_is_learned_from_a_twelfth_of_it(label: str, runs: Path, real_data: Path) -> None:
    trial = of_mnist(label, "data.train_samples=5000", "data.test_samples=2000", "epochs=2")
    folder = finished(trial, runs, real_data)
    assert epochs(folder, "train/loss")[1] < epochs(folder, "train/loss")[0]
    assert epochs(folder, "test/accuracy")[-1] > 0.85


@pytest.mark.parametrize(
    "name", ["mnist-mlp", pytest.param("kan-mnist-small", marks=pytest.mark.slow)]
)
def test_mnist_stopped_in_mid_epoch_ends_with_the_same_bits(
    name: str, tmp_path: Path, real_data: Path
) -> None:
    fewer = ("data.train_samples=3000", "data.test_samples=500", "epochs=2")
    trial = of_mnist("delta-gclip", *fewer, name=name)
    whole = finished(trial, tmp_path / "whole", real_data)
    train(trial, tmp_path / "pieces", data_dir=real_data, stop=StopAt(17))
    train(trial, tmp_path / "pieces", data_dir=real_data, stop=StopAt(22))
    assert_same_numbers(finished(trial, tmp_path / "pieces", real_data), whole)


@pytest.mark.slow
def test_validation_of_mnist_is_of_every_digit_and_ends_the_training(
    tmp_path: Path, real_data: Path
) -> None:
    words = ["data.validation=5000", "data.train_samples=2000", "data.test_samples=500"]
    early = "early_stopping={metric: validation/loss, patience: 2}"
    trial = of_mnist("adam", *words, early, "epochs=40", "optimizers.adam.lr=0.01")
    for each in (trial, trial.with_seed(1)):
        made = load_dataset(each.data, real_data)
        assert isinstance(made.validation, Split) and isinstance(made.train, Split)
        counts = torch.bincount(made.validation.targets)
        assert (int(counts.sum()), int(counts.min())) == (5000, 452)  # of 60,000, 5,421 are fives
        assert len(made.train) == 2000
    whole = finished(trial, tmp_path / "whole", real_data)
    assert "ended early" in whole.reason
    train(trial, tmp_path / "pieces", data_dir=real_data, stop=StopAt(33))
    assert_same_numbers(finished(trial, tmp_path / "pieces", real_data), whole)


@pytest.mark.slow
def test_validation_of_jpegs_is_of_every_class_and_normalised_by_what_is_left(
    real_data: Path,
) -> None:
    written = {**JPEGS, "validation": 0.1, "train_samples": None, "test_samples": None}
    made = load_dataset(Data.model_validate(written), real_data)
    assert isinstance(made.validation, Split) and isinstance(made.train, Split)
    aside, left = (torch.bincount(each.targets) for each in (made.validation, made.train))
    assert torch.equal(aside * 9, left)
    assert (made.mean, made.std) == channel_statistics(made.train.inputs)


@pytest.mark.slow
@pytest.mark.parametrize("label", FOUR)
def test_a_residual_network_learns_jpegs(label: str, runs: Path, real_data: Path) -> None:
    folder = finished(of_jpegs(FOUR[label], epochs=4), runs, real_data)
    losses = epochs(folder, "train/loss")
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [FOUR["delta-gclip"], ADAM, MOMENTUM])
def test_a_residual_network_stopped_in_mid_epoch_ends_with_the_same_bits(
    optimizer: dict[str, Any], tmp_path: Path, real_data: Path
) -> None:
    trial = of_jpegs(optimizer, data={**JPEGS, "augment": ["random_crop", "flip"]})
    whole = finished(trial, tmp_path / "whole", real_data)
    train(trial, tmp_path / "pieces", data_dir=real_data, stop=StopAt(8))
    assert_same_numbers(finished(trial, tmp_path / "pieces", real_data), whole)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["delta-gclip", "adam"])
def test_the_experiment_on_mnist_reaches_97_percent(
    label: str, runs: Path, real_data: Path
) -> None:
    folder = finished(of_mnist(label), runs, real_data)
    assert records(folder)[-1]["test/accuracy"] >= 0.97


@pytest.mark.slow
def test_the_small_experiment_with_a_kan_reaches_95_percent(runs: Path, real_data: Path) -> None:
    folder = finished(of_mnist("delta-gclip", name="kan-mnist-small"), runs, real_data)
    assert records(folder)[-1]["test/accuracy"] >= 0.95
