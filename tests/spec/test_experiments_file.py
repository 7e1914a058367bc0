"""The experiments that come with the project: all valid, and with the paper's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltagclip_cli.results.compare import published
from deltagclip_cli.spec.data_settings import Normalization
from deltagclip_cli.spec.load import Spec, load_spec
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import expand

FILE = Path(__file__).parents[2] / "experiments.yaml"


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
    trials = {name: len(list(expand(name, each))) for name, each in spec.experiments.items()}
    assert trials == {
        "quickstart": 4 * 3,
        "wide-mlp-width": 4 * 2 * 3,
        "mnist-mlp": 4 * 3,
        "resnet18-cifar10": 5 * 3,
        "resnet18-cifar10-constant": 5 * 3,
        "resnet18-cifar10-no-decay": 2 * 5 * 3,
        "resnet18-cifar10-grid": 6 * 4 * 2 + 6 * 4 + 6 + 6,
        "vae-fashion-mnist": 4 * 3,
        "vae-fashion-mnist-constant": 4 * 3,
        "vit-tiny-cifar10": 4 * 10,
        "vit-tiny-cifar10-delta": 5 * 5,
        "vit-tiny-cifar10-grid": 7 * 3,
        "vit-small-cifar10": 2 * 10,
        "vit-small-cifar10-delta": 5 * 10,
        "kan-mnist": 5 * 5,
        "bert-emotion": 2 * 3,
        "vit-tiny-cifar10-floor": (4 * 3 + 3) * 3,
        "vit-tiny-cifar10-rivals": 2 * 4 * 3,
        "vit-tiny-cifar10-cosine": 3 * 3,
        "resnet18-cifar10-rivals": 3 * 3 * 3,
        "resnet18-cifar10-small": 3 * 3,
        "vit-tiny-cifar10-small": 2 * 3,
        "vae-mnist-small": 4 * 3,
        "kan-mnist-small": 5 * 3,
        "bert-emotion-small": 2 * 3,
        "gpt-10m": 5 * 3,
    }


def test_each_has_a_title_seeds_and_our_optimizer(spec: Spec) -> None:
    titles = [experiment.title for experiment in spec.experiments.values()]
    assert all(len(title) > 10 for title in titles)
    assert len(set(titles)) == len(titles)
    for experiment in spec.experiments.values():
        assert len(experiment.seeds) >= 3 or "grid" in experiment.tags
        assert experiment.optimizers["delta-gclip"].name == "delta_gclip"


def test_those_of_the_paper_and_no_others_say_which_figure_they_repeat(spec: Spec) -> None:
    figures = {name: each.figure for name, each in spec.experiments.items() if each.figure}
    assert list(figures) == [
        name for name, each in spec.experiments.items() if "paper" in each.tags
    ]
    assert len(set(figures.values())) == len(figures)


@pytest.mark.parametrize("tag", ["paper", "open", "small", "vit", "kan", "bert", "ablation"])
def test_a_tag_chooses_experiments(spec: Spec, tag: str) -> None:
    chosen = load_spec(FILE, tags=[tag]).experiments
    assert 1 < len(chosen) < len(spec.experiments)
    assert all(tag in each.tags for each in chosen.values())


def test_what_was_published_has_an_experiment_with_its_setting(spec: Spec) -> None:
    for name in published.experiments():
        options = [
            {"name": each.name, **each.options}
            for each in spec.experiments[name].optimizers.values()
        ]
        for figure in published.published(name, "test/accuracy"):
            if figure.optimizer:
                assert any(figure.optimizer.items() <= each.items() for each in options), (
                    figure.title
                )


def test_no_two_trials_share_a_folder(spec: Spec) -> None:
    folders = [t.folder for name, e in spec.experiments.items() for t in expand(name, e)]
    assert len(folders) == len(set(folders))


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
                "delta-gclip-small-step": ("delta_gclip", 5e-4, 1, 1e-3, 1e-5),
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


def test_the_kan_on_mnist_is_the_papers(spec: Spec) -> None:
    experiment = spec.experiments["kan-mnist"]
    assert settings(experiment) == {
        "delta-gclip": ("delta_gclip", 1, 0.5, 0.5, 1e-4),
        "gclip": ("gclip", 1, 0.5, None, 1e-4),
        "sgd": ("sgd", 0.1, None, None, 1e-4),
        "adam": ("adam", 1e-3, None, None, 1e-4),
        "adamw": ("adamw", 1e-3, None, None, 1e-4),
    }
    schedules = {label: each.schedule for label, each in experiment.optimizers.items()}
    decays = {label: (s.name, s.options["gamma"]) for label, s in schedules.items() if s}
    assert decays == dict.fromkeys(("sgd", "adam", "adamw"), ("exponentiallr", 0.8))
    assert experiment.schedule is None
    model, data = experiment.model, experiment.data
    assert (model.name, list(model.options["hidden"])) == ("kan", [64])
    assert (model.options["grid"], model.options["order"]) == (5, 3)
    assert tuple(model.options["grid_range"]) == (-1, 1)
    assert (data.name, data.batch_size) == ("mnist", 64)
    assert data.normalize == Normalization(mean=[0.5], std=[0.5])
    assert (experiment.epochs, experiment.seeds) == (10, [100, 200, 300, 400, 500])


def test_the_small_kan_on_mnist_is_the_papers_but_for_its_length(spec: Spec) -> None:
    experiment, small = spec.experiments["kan-mnist"], spec.experiments["kan-mnist-small"]
    for part in ("model", "data", "task", "precision", "optimizers", "schedule"):
        assert getattr(small, part) == getattr(experiment, part)
    assert small.epochs < experiment.epochs


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
    assert experiment.certificate is not None


def test_the_widths_are_compared_at_a_rate_of_their_own(spec: Spec) -> None:
    experiment = spec.experiments["wide-mlp-width"]
    assert experiment.certificate is not None
    assert {each.options["lr"] for each in experiment.optimizers.values()} == {"auto"}
    trials = list(expand("wide-mlp-width", experiment, seeds=[0], labels=["delta-gclip"]))
    assert [each.model.options["width"] for each in trials] == [64, 128, 256, 512]


def test_every_experiment_named_in_the_comments_is_there(spec: Spec) -> None:
    lines = [line for line in FILE.read_text().splitlines() if "deltagclip train" in line]
    assert len(lines) == 2
    for line in lines:
        words = line.split("deltagclip train")[1].split()
        assert words[0] in spec.experiments
        if "--optimizer" in words:
            label = words[words.index("--optimizer") + 1]
            assert label in spec.experiments[words[0]].optimizers
