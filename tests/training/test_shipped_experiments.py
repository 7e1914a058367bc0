"""Every experiment that comes with the project trains, with each of its optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_bert, write_cifar, write_emotion, write_mnist
from torchvision import datasets
from training_cases import StopAt, records, train

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand
from deltagclip_cli.training.trainer import Ending

pytestmark = pytest.mark.slow  # the networks have their full size

FILE = Path(__file__).parents[2] / "experiments.yaml"
SPEC = load_spec(FILE)
OPTIMIZERS = [(name, label) for name, each in SPEC.experiments.items() for label in each.optimizers]

# Files in the formats of the real ones, with so few samples that three steps take seconds.
SMALL = {
    "cifar10": ["data.batch_size=6"],
    "emotion": ["data.batch_size=20", "data.max_length=20"],
    "fashion_mnist": ["data.batch_size=10"],
    "image_folder": ["data.batch_size=6", "data.train_samples=20", "data.test_samples=4"],
    "mnist": ["data.batch_size=10"],
    "sphere": [],
    "tokens": ["data.window=16", "data.batch_size=4"],
}


@pytest.fixture(scope="module")
def made_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with 20 to 30 made samples of each data set."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        write_mnist(root, "MNIST")
        write_mnist(root, "FashionMNIST")
        write_cifar(root, datasets.CIFAR10, patch)
        _write_pictures(root / "cifar10-jpeg")
        write_emotion(root)
        (root / "tinyshakespeare.txt").write_text("To be, or not to be, he asked. " * 30)
        yield root


def _write_pictures(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for split, samples in (("train", 10), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(samples):
                pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.jpg")


@pytest.mark.parametrize(("name", "label"), OPTIMIZERS)
def test_an_optimizer_of_an_experiment_makes_two_steps(
    name: str, label: str, made_data: Path, runs: Path, tmp_path: Path
) -> None:
    written = SPEC.experiments[name]
    sets = ["log_every=1", *SMALL[written.data.name]]
    if written.model.name == "bert":
        sets.append(f"model.pretrained={write_bert(tmp_path / 'bert')}")
    experiment = load_spec(FILE, [name], sets).experiments[name]
    trial = next(expand(name, experiment, [0], [label]))
    assert train(trial, runs, stop=StopAt(2), data_dir=made_data) is Ending.STOPPED
    steps = records(RunFolder.of(runs, trial))
    assert max(record["step"] for record in steps) == 2
    assert all(np.isfinite(record["step/train/loss"]) for record in steps if "step/lr" in record)
