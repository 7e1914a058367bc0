"""Trials: what changes their identity, what does not, and how an experiment becomes trials."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from tiny_spec import TINY, trial_of, trials_of

from deltagclip_cli.spec.document import parse
from deltagclip_cli.trials import Trial, differing_keys, make_trial

COSINE = "schedule={name: cosine, floor: 0.1}"
ADAM = "optimizers.sgd={name: adam, lr: 1, betas: [0.5, 0.9]}"


def test_the_identity_of_a_trial_does_not_change_between_versions(tmp_path: Path) -> None:
    """Run folders of earlier versions are found again only if this stays as it is."""
    trial = trial_of(tmp_path, "schedule={name: multistep, milestones: [1]}", "data.augment=flip")
    assert trial.settings == {
        "seed": 0,
        "epochs": 2,
        "precision": "fp32",
        "model": {"name": "mlp", "hidden": [8], "activation": "relu"},
        "data": {
            "name": "synthetic",
            "classes": 10,
            "channels": 3,
            "size": 4,
            "train": 8,
            "test": 8,
            "noise": 0.5,
            "data_seed": 0,
            "batch_size": 4,
            "evaluation_batch_size": 1000,
            "augment": [{"name": "flip", "probability": 0.5}],
            "normalize": "dataset",
        },
        "task": {"name": "classify", "loss": "cross_entropy", "reduction": "mean"},
        "optimizer": {
            "name": "sgd",
            "lr": 0.1,
            "momentum": 0,
            "dampening": 0,
            "weight_decay": 0,
        },
        "schedule": {
            "name": "multistep",
            "milestones": [1],
            "factor": 0.1,
            "warmup": 0,
            "unit": "epoch",
        },
    }
    assert trial.identity == "db4c86c4614157430bbfa28b1b46d5f5d29f15c923f17c8f4b29c19495760580"
    assert trial.folder == f"tiny/sgd/seed-0-{trial.identity[:8]}"


@pytest.mark.parametrize(
    "words",
    [
        "title=Another",
        "checkpoint={epochs: 5, minutes: 3}",
        "log_every=10",
        "slurm={partition: gpu, time: 04:00:00}",
        "seeds=[0, 1, 2]",
        "precision=fp32",
        "task={name: classify, loss: cross_entropy}",
        "schedule=",
        "optimizers.sgd.schedule=",
        "optimizers.sgd.nesterov=false",
        "optimizers.sgd.foreach=",
        "optimizers.sgd.momentum=0",
        "optimizers.sgd.weight_decay=0.0",
        "optimizers.sgd={lr: 0.1, name: SGD}",
        "optimizers.sgd.lr=1e-1",
        "optimizers.zzz=adam",
        "model={hidden: [8], activation: relu, name: mlp}",
        "data.augment=[]",
        "data.normalize=dataset",
        "data.image_size=",
        "data.noise=5e-1",
    ],
)
def test_what_does_not_change_the_numbers_leaves_the_identity(tmp_path: Path, words: str) -> None:
    assert trial_of(tmp_path, words).identity == trial_of(tmp_path).identity


CHANGES = [
    "seeds=[1]",
    "epochs=3",
    "precision=tf32",
    "optimizers.sgd.lr=0.2",
    "optimizers.sgd.momentum=0.9",
    "optimizers.sgd.foreach=true",
    "optimizers.sgd.nesterov=true",
    "optimizers.sgd.name=adam",
    "model.hidden=[8, 8]",
    "model.activation=tanh",
    "data.name=cifar10",
    "data.batch_size=8",
    "data.batch_size=full",
    "data.noise=0.25",
    "data.augment=flip",
    "data.augment={name: flip, probability: 0.25}",
    "data.image_size=8",
    "data.normalize=none",
    "data.train_samples=4",
    "data.test_samples=4",
    "task.loss=squared",
    "task.reduction=sum",
    "schedule=cosine",
    "schedule={name: cosine, floor: 0.1}",
    "schedule={name: cosine, warmup: 1}",
    "schedule={name: cosine, unit: step}",
    "optimizers.sgd.schedule={name: exponentiallr, gamma: 0.9}",
]


def test_whatever_changes_the_numbers_changes_the_identity(tmp_path: Path) -> None:
    text = TINY.replace("tiny:", "tiny:\n    task: {name: classify}")
    text = text.replace("size: 4, train: 8, test: 8", "size: 4")
    identities = {"": trial_of(tmp_path, text=text).identity}
    for words in CHANGES:
        sets = [words]
        if words == "data.name=cifar10":
            sets = ["data={name: cifar10, batch_size: 4}"]
        identities[words] = trial_of(tmp_path, *sets, text=text).identity
    assert len(set(identities.values())) == len(CHANGES) + 1


def test_names_choose_the_folder_but_not_the_identity(tmp_path: Path) -> None:
    one = trial_of(tmp_path)
    other = one.model_copy(update={"experiment": "other", "label": "label"})
    assert other.identity == one.identity
    assert other.folder == f"other/label/seed-0-{one.identity[:8]}"


@pytest.mark.parametrize(
    ("whole", "fraction"),
    [
        ("optimizers.sgd.lr=1", "optimizers.sgd.lr=1.0"),
        (ADAM, ADAM.replace("lr: 1,", "lr: 1.0,")),
        ("schedule={name: cosine, floor: 0}", "schedule={name: cosine, floor: 0.0}"),
        ("data.normalize={mean: [0], std: [1]}", "data.normalize={mean: [0.0], std: [1.0]}"),
        ("optimizers.sgd.momentum=1", "optimizers.sgd.momentum=1.0"),
    ],
)
def test_a_number_is_the_same_with_and_without_a_point(
    tmp_path: Path, whole: str, fraction: str
) -> None:
    assert trial_of(tmp_path, whole).identity == trial_of(tmp_path, fraction).identity


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lbfgs", "nadam", "asgd"])
def test_a_default_that_is_written_out_is_the_default(tmp_path: Path, name: str) -> None:
    omitted = trial_of(tmp_path, f"optimizers.sgd.name={name}")
    written = omitted.optimizer.model_dump(mode="json")
    words = yaml.safe_dump(written, default_flow_style=True, width=1000).strip()
    assert trial_of(tmp_path, f"optimizers.sgd={words}").identity == omitted.identity


@pytest.mark.parametrize(
    "sets",
    [
        (),
        (COSINE, ADAM),
        ("data.augment=[flip, random_crop]", "data.normalize={mean: [0.5], std: [1]}"),
        ("optimizers.sgd.schedule=", COSINE),
        ("optimizers.sgd.schedule={name: StepLR, step_size: 3}", "log_every=3"),
        ("model={name: torchvision:resnet18, zero_init_residual: true}", "precision=bf16"),
    ],
)
def test_a_trial_read_back_from_its_file_is_the_same(tmp_path: Path, sets: tuple[str, ...]) -> None:
    trial = trial_of(tmp_path, *sets)
    there = yaml.safe_dump(trial.model_dump(mode="json"), sort_keys=False)
    back = Trial.model_validate(parse(there))
    assert back.identity == trial.identity
    assert back == trial


def test_an_optimizer_has_its_own_schedule_or_the_experiments(tmp_path: Path) -> None:
    own = "optimizers.sgd.schedule={name: cosine, floor: 0.5}"
    none = "optimizers.sgd.schedule=null"
    assert trial_of(tmp_path).schedule is None
    for sets, floor in (((COSINE,), 0.1), ((own,), 0.5), ((COSINE, own), 0.5)):
        schedule = trial_of(tmp_path, *sets).schedule
        assert schedule is not None and schedule.options == {"floor": floor}
    constant = trial_of(tmp_path, COSINE, none)
    assert constant.schedule is None
    assert constant.identity == trial_of(tmp_path).identity


def test_the_same_schedule_here_or_there_is_one_trial(tmp_path: Path) -> None:
    own = COSINE.replace("schedule", "optimizers.sgd.schedule")
    assert trial_of(tmp_path, COSINE).identity == trial_of(tmp_path, own).identity


def test_an_experiment_is_every_optimizer_with_every_seed(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[3, 5]")
    assert [(trial.label, trial.seed) for trial in trials] == [
        ("sgd", 3),
        ("sgd", 5),
        ("delta-gclip", 3),
        ("delta-gclip", 5),
    ]


def test_a_grid_is_expanded_and_points_that_agree_are_one_trial(tmp_path: Path) -> None:
    grid = "grid={sgd: {lr: [1, 2, 1.0], zip: {momentum: [0, 0.5], weight_decay: [0, 0.1]}}}"
    points = [
        (trial.optimizer.options["lr"], trial.optimizer.options["momentum"])
        for trial in trials_of(tmp_path, grid)
        if trial.label == "sgd"
    ]
    assert points == [(1, 0), (1, 0.5), (2, 0), (2, 0.5)]


def test_repeated_seeds_are_one_trial(tmp_path: Path) -> None:
    assert [trial.seed for trial in trials_of(tmp_path, "seeds=[1, 1]")] == [1, 1]
    assert len({trial.folder for trial in trials_of(tmp_path, "seeds=[1, 1]")}) == 2


def test_a_thousand_trials_are_expanded_in_a_moment(tmp_path: Path) -> None:
    lrs, decays = list(range(1, 21)), [decay / 10 for decay in range(10)]
    sets = [f"grid={{sgd: {{lr: {lrs}, weight_decay: {decays}}}}}", "seeds=[0, 1, 2, 3, 4]"]
    begin = time.perf_counter()
    trials = trials_of(tmp_path, *sets)
    seconds = time.perf_counter() - begin
    assert len({trial.folder for trial in trials}) == len(trials) == 1005
    assert seconds < 5


def test_a_trial_is_what_is_written_under_optimizers_whatever_the_grid(tmp_path: Path) -> None:
    from deltagclip_cli.spec.load import load_spec

    trials_of(tmp_path)
    spec = load_spec(tmp_path / "spec.yaml", sets=["grid={sgd: {lr: [1, 2]}}"])
    trial = make_trial("tiny", spec.experiments["tiny"], "sgd", 9)
    assert (trial.seed, trial.optimizer.options["lr"]) == (9, 0.1)


def test_differences_are_named_by_dotted_keys() -> None:
    one = {"a": {"b": 1, "c": [1]}, "d": None, "same": {"x": 1}}
    other = {"a": {"b": 2, "c": [1, 2]}, "d": {"name": "x"}, "same": {"x": 1.0}, "new": "y"}
    assert differing_keys(one, other) == [
        "a.b (1 then, 2 now)",
        "a.c ([1] then, [1, 2] now)",
        "d (None then, {'name': 'x'} now)",
        "new (None then, 'y' now)",
    ]
    assert differing_keys(one, one) == []
