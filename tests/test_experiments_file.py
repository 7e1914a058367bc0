"""The experiments that come with the project: all valid, and with the paper's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltagclip_cli.spec.load import Spec, load_spec
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.trials import expand

FILE = Path(__file__).parents[1] / "experiments.yaml"


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec(FILE)


def settings(experiment: Experiment) -> dict[str, tuple[Any, ...]]:
    """Name, η, γ, δ and weight decay of each optimizer, as the paper's tables give them."""
    names = ("lr", "gamma", "delta", "weight_decay")
    return {
        label: (each.name, *(each.options.get(name) for name in names))
        for label, each in experiment.optimizers.items()
    }


def test_these_experiments_are_there(spec: Spec) -> None:
    assert list(spec.experiments) == [
        "quickstart",
        "mnist-mlp",
        "resnet18-cifar10",
        "vae-fashion-mnist",
        "vit-tiny-cifar10",
        "vit-small-cifar10",
        "bert-emotion",
        "bert-emotion-small",
    ]


def test_each_has_a_title_seeds_and_our_optimizer(spec: Spec) -> None:
    titles = [experiment.title for experiment in spec.experiments.values()]
    assert all(len(title) > 10 for title in titles)
    assert len(set(titles)) == len(titles)
    for experiment in spec.experiments.values():
        assert len(experiment.seeds) >= 3
        assert experiment.optimizers["delta-gclip"].name == "delta_gclip"


def test_no_two_trials_share_a_folder(spec: Spec) -> None:
    folders = [t.folder for name, e in spec.experiments.items() for t in expand(name, e)]
    assert len(folders) == len(set(folders)) == 12 + 12 + 15 + 12 + 30 + 20 + 6 + 6


def test_resnet18_on_cifar10_is_the_papers(spec: Spec) -> None:
    experiment = spec.experiments["resnet18-cifar10"]
    assert settings(experiment) == {
        "delta-gclip": ("delta_gclip", 5, 0.25, 1e-3, 5e-4),
        "delta-gclip-1e-8": ("delta_gclip", 5, 0.25, 1e-8, 5e-4),
        "gclip": ("gclip", 5, 0.25, None, 5e-4),
        "sgd": ("sgd", 1, None, None, 5e-4),
        "adam": ("adam", 1e-4, None, None, 5e-4),
    }
    assert experiment.model.name == "resnet18"
    data = experiment.data
    assert (data.name, data.batch_size, data.normalize) == ("cifar10", 512, "dataset")
    assert [(each.name, each.options) for each in data.augment] == [
        ("random_crop", {"padding": 4}),
        ("flip", {"probability": 0.5}),
    ]
    assert experiment.epochs == 200
    assert experiment.task.options == {"loss": "cross_entropy", "reduction": "mean"}
    assert experiment.schedule is not None
    assert experiment.schedule.name == "multistep"
    assert experiment.schedule.options == {"milestones": [100, 150], "factor": 0.1}


def test_the_vae_on_fashion_mnist_is_the_papers(spec: Spec) -> None:
    experiment = spec.experiments["vae-fashion-mnist"]
    assert settings(experiment) == {
        "delta-gclip": ("delta_gclip", 1e-3, 200, 0.1, 0),
        "gclip": ("gclip", 1e-3, 200, None, 0),
        "sgd": ("sgd", 1e-4, None, None, 0),
        "adam": ("adam", 1e-3, None, None, 0),
    }
    assert (experiment.model.name, experiment.task.name) == ("vae", "autoencode")
    data = experiment.data
    assert (data.name, data.batch_size, data.normalize) == ("fashion_mnist", 100, "none")
    assert experiment.epochs == 200
    assert experiment.schedule is not None
    assert experiment.schedule.options == {"milestones": [99, 149], "factor": 0.1}


@pytest.mark.parametrize(
    ("name", "model", "optimizers"),
    [
        (
            "vit-tiny-cifar10",
            "vit_tiny",
            {
                "delta-gclip": ("delta_gclip", 0.2, 1, 1e-3, 0),
                "adam": ("adam", 5e-4, None, None, 1e-5),
                "sgd": ("sgd", 0.1, None, None, 0),
            },
        ),
        (
            "vit-small-cifar10",
            "vit_small",
            {
                "delta-gclip": ("delta_gclip", 0.2, 1, 1e-3, 0),
                "adam": ("adam", 5e-4, None, None, 5e-5),
            },
        ),
    ],
)
def test_the_vision_transformers_on_cifar10_are_the_papers(
    spec: Spec, name: str, model: str, optimizers: dict[str, Any]
) -> None:
    experiment = spec.experiments[name]
    assert settings(experiment) == optimizers
    assert experiment.model.name == model
    data = experiment.data
    assert (data.name, data.batch_size, data.image_size) == ("cifar10", 64, 64)
    assert [each.name for each in data.augment] == ["random_resized_crop"]
    assert list(data.augment[0].options["scale"]) == [0.05, 1.0]
    assert experiment.epochs == 100
    assert experiment.schedule is None
    assert len(set(experiment.seeds)) == 10
    assert experiment.precision == "fp32"


def test_distilbert_on_emotion_is_the_papers(spec: Spec) -> None:
    experiment = spec.experiments["bert-emotion"]
    assert settings(experiment) == {
        "delta-gclip": ("delta_gclip", 5e-4, 1, 1e-3, 0),
        "adamw": ("adamw", 1e-5, None, None, 0.01),
    }
    assert experiment.optimizers["adamw"].options["eps"] == 1e-8
    assert experiment.model.options == {"pretrained": "distilbert-base-uncased"}
    data = experiment.data
    assert (data.name, data.batch_size, data.options) == ("emotion", 32, {"max_length": 300})
    assert experiment.epochs == 100
    assert experiment.task.options == {"loss": "cross_entropy", "reduction": "mean"}


def test_the_quickstart_is_full_batch_descent_in_double_precision(spec: Spec) -> None:
    experiment = spec.experiments["quickstart"]
    assert experiment.data.batch_size == "full"
    assert experiment.precision == "fp64"
    assert experiment.task.options == {"loss": "squared", "reduction": "sum"}
    assert experiment.data.target.startswith("deltagclip_cli.")


def test_every_experiment_named_in_the_comments_is_there(spec: Spec) -> None:
    lines = [line for line in FILE.read_text().splitlines() if "deltagclip train" in line]
    assert len(lines) == 2
    for line in lines:
        words = line.split("deltagclip train")[1].split()
        assert words[0] in spec.experiments
        if "--optimizer" in words:
            label = words[words.index("--optimizer") + 1]
            assert label in spec.experiments[words[0]].optimizers
