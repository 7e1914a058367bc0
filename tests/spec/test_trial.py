"""Trials: what changes their identity, what does not, and how an experiment becomes trials."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tiny_spec import TINY, trial_of, trials_of, write_spec

from deltagclip_cli.spec.document import parse
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Model
from deltagclip_cli.spec.trial import (
    Trial,
    differing_keys,
    differing_settings,
    distinguished,
    expand,
    make_trial,
    stacks_with,
)

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
        "checkpoint={epochs: 5, minutes: 3, keep: none}",
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
        "determinism=exact",
    ],
)
def test_what_does_not_change_the_numbers_leaves_the_identity(tmp_path: Path, words: str) -> None:
    assert trial_of(tmp_path, words).identity == trial_of(tmp_path).identity


CHANGES = [
    "seeds=[1]",
    "epochs=3",
    "precision=tf32",
    "determinism=fast",
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
    "data.validation=2",
    "data.validation=0.5",
    "early_stopping={metric: train/loss, patience: 2}",
    "early_stopping={metric: train/loss, patience: 3}",
    "early_stopping={metric: train/accuracy, patience: 2}",
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
        ("determinism=fast",),
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


def test_seeds_and_labels_may_be_chosen(tmp_path: Path) -> None:
    tiny = load_spec(write_spec(tmp_path), sets=["seeds=[3, 5]"]).experiments["tiny"]

    def chosen(**choice: Any) -> list[tuple[str, int]]:
        return [(trial.label, trial.seed) for trial in expand("tiny", tiny, **choice)]

    assert chosen(labels=["delta-gclip"]) == [("delta-gclip", 3), ("delta-gclip", 5)]
    assert chosen(seeds=[7, 7, 8], labels=["sgd", "sgd"]) == [("sgd", 7), ("sgd", 8)]
    assert chosen(seeds=iter([9])) == [("sgd", 9), ("delta-gclip", 9)]
    with pytest.raises(KeyError):
        chosen(labels=["sdg"])
    with pytest.raises(ValidationError):
        chosen(seeds=[0, -1])


def test_a_varied_experiment_is_what_it_would_be_if_it_were_written(tmp_path: Path) -> None:
    """Expanding checks each value once and shares what trials have in common; nothing else."""
    grid = "grid={model.hidden: [[8], [9]], epochs: [3, 4], lr: [1, 2], sgd: {nesterov: [true]}}"
    found = [t.folder for t in trials_of(tmp_path, grid, "seeds=[1, 2]") if t.label == "sgd"]
    written = [
        trial_of(
            tmp_path,
            f"model.hidden=[{hidden}]",
            f"epochs={epochs}",
            f"optimizers.sgd.lr={lr}",
            "optimizers.sgd.nesterov=true",
            f"seeds=[{seed}]",
        ).folder
        for hidden in (8, 9)
        for epochs in (3, 4)
        for lr in (1, 2)
        for seed in (1, 2)
    ]
    assert found == written
    assert len(set(found)) == 16


def test_what_is_varied_of_the_experiments_schedule_leaves_one_that_has_its_own(
    tmp_path: Path,
) -> None:
    own = "optimizers.sgd.schedule={name: cosine, floor: 0.5}"
    trials = trials_of(tmp_path, COSINE, own, "grid.schedule.floor=[0, 0.25]")
    floors = [(t.label, t.schedule.options["floor"]) for t in trials if t.schedule]
    assert floors == [("sgd", 0.5), ("delta-gclip", 0), ("delta-gclip", 0.25)]


def canonical_hash(settings: dict[str, Any]) -> str:
    """The identity as it is defined, made in one go."""

    def canonical(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: canonical(item) for key, item in value.items() if item is not None}
        if isinstance(value, list):
            return [canonical(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    text = json.dumps(canonical(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("sets", [(), (COSINE, ADAM, "data.augment=[flip]"), ("model=resnet18",)])
def test_the_identity_is_a_hash_of_all_settings_and_the_setting_of_all_but_the_seed(
    tmp_path: Path, sets: tuple[str, ...]
) -> None:
    for trial in trials_of(tmp_path, *sets, "seeds=[0, 3]"):
        assert trial.identity == canonical_hash(trial.settings)
        without = {key: value for key, value in trial.settings.items() if key != "seed"}
        assert trial.setting_hash == canonical_hash(without)


def test_seeds_of_one_setting_share_it_and_settings_do_not(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[1, 2, 3]", "grid.lr=[1, 2]")
    assert len({trial.identity for trial in trials}) == 12
    settings = [trial.setting_hash for trial in trials]
    assert [settings.count(setting) for setting in dict.fromkeys(settings)] == [3, 3, 3, 3]


def test_trials_stack_that_differ_in_what_each_member_has_for_itself(tmp_path: Path) -> None:
    first = trial_of(tmp_path, "stack=2")
    alike = ("seeds=[7]", "epochs=9", "accumulate=2", "optimizers.sgd.lr=3", COSINE)
    for word in alike:
        assert stacks_with(trial_of(tmp_path, "stack=2", word)) == stacks_with(first)
    for word in ("stack=3", "precision=bf16", "model.hidden=[9]", "data.batch_size=2"):
        assert stacks_with(trial_of(tmp_path, "stack=2", word)) != stacks_with(first)
    assert len(set(map(stacks_with, trials_of(tmp_path, "stack=2", "seeds=[1, 2]")))) == 1
    assert stacks_with(trial_of(tmp_path)) is None


def test_that_a_step_is_compiled_is_told_apart_where_the_spec_says_so(tmp_path: Path) -> None:
    plain = trial_of(tmp_path)
    assert trial_of(tmp_path, "compile=auto").identity == plain.identity
    assert "compile" not in plain.model_dump()
    trials = [trial_of(tmp_path, *words) for words in ((), ("compile=on",), ("compile=off",))]
    assert len({each.identity for each in trials}) == 3
    assert sorted(distinguished(trials).values()) == ["compile=auto", "compile=off", "compile=on"]


def test_a_copy_does_not_remember_what_it_was_copied_from(tmp_path: Path) -> None:
    trial = trial_of(tmp_path)
    before = (trial.identity, trial.setting_hash, trial.settings["epochs"])
    copied = trial.model_copy(update={"epochs": 9})
    assert copied.settings["epochs"] == 9
    assert (copied.identity, copied.setting_hash) == (
        canonical_hash(copied.settings),
        trial_of(tmp_path, "epochs=9").setting_hash,
    )
    assert (trial.identity, trial.setting_hash, trial.settings["epochs"]) == before
    other = trial.with_seed(5)
    assert other == trial_of(tmp_path, "seeds=[5]")
    assert other.identity == trial_of(tmp_path, "seeds=[5]").identity
    assert (other.setting_hash, other.settings["seed"]) == (trial.setting_hash, 5)


def test_settings_that_differ_are_named_each_with_its_word(tmp_path: Path) -> None:
    trials = {
        each.label + each.setting_hash: each
        for sets in ((), ("epochs=3",), ("optimizers.sgd.lr=0.5", "model.hidden=[4]"))
        for each in trials_of(tmp_path, *sets, "seeds=[0]")
    }
    of_sgd = {key: trial for key, trial in trials.items() if trial.label == "sgd"}
    assert list(differing_settings(of_sgd).values()) == [
        {"lr": "0.1", "epochs": "2", "model.hidden": "[8]"},
        {"lr": "0.1", "epochs": "3", "model.hidden": "[8]"},
        {"lr": "0.5", "epochs": "2", "model.hidden": "[4]"},
    ]
    conditions = differing_settings(trials, ["epochs", "model", "data"])
    assert list(conditions) == list(trials)
    assert all(list(words) == ["epochs", "model.hidden"] for words in conditions.values())


def words(folder: Path, *sets: str) -> dict[str, list[str]]:
    """The texts of each label, in order."""
    trials = trials_of(folder, *sets)
    texts = distinguished(trials)
    assert set(texts) == {("tiny", trial.label, trial.setting_hash) for trial in trials}
    return {
        label: list(
            dict.fromkeys(texts["tiny", label, t.setting_hash] for t in trials if t.label == label)
        )
        for label in dict.fromkeys(trial.label for trial in trials)
    }


@pytest.mark.parametrize(
    ("grid", "texts"),
    [
        ("{}", [""]),
        ("{sgd: {lr: [5]}}", [""]),
        ("{sgd: {lr: [1e-3, 1], momentum: [0.5]}}", ["lr=0.001", "lr=1"]),
        ("{sgd: {lr: [1e-5, 3e-10, 1e20]}}", ["lr=1e-5", "lr=3e-10", "lr=100000000000000000000"]),
        ("{sgd: {lr: [0.1234567, 2]}}", ["lr=0.123457", "lr=2"]),
        ("{sgd: {lr: [0.1234567, 0.1234568]}}", ["lr=0.1234567", "lr=0.1234568"]),
        ("{sgd: {nesterov: [true, false]}}", ["nesterov=true", "nesterov=off"]),
        (
            "{epochs: [1, 2], sgd: {lr: [1, 2]}}",
            ["lr=1 epochs=1", "lr=2 epochs=1", "lr=1 epochs=2", "lr=2 epochs=2"],
        ),
        ("{determinism: [exact, fast]}", ["determinism=exact", "determinism=fast"]),
        ("{model.hidden: [[8], [8, 9]]}", ["model.hidden=[8]", "model.hidden=[8,9]"]),
        (
            "{data.augment: [[], flip]}",
            ["data.augment=[]", "data.augment=[{name:flip,probability:0.5}]"],
        ),
        ("{model: [mlp, {name: wide_mlp, width: 9}]}", ["model=mlp", "model=wide_mlp"]),
        (
            "{schedule: [null, cosine, {name: cosine, floor: 1}, {name: steplr, step_size: 2}]}",
            [
                "schedule=off",
                "schedule=cosine schedule.floor=0",
                "schedule=cosine schedule.floor=1",
                "schedule=steplr",
            ],
        ),
    ],
)
def test_settings_of_a_label_are_told_apart_by_what_differs(
    tmp_path: Path, grid: str, texts: list[str]
) -> None:
    assert words(tmp_path, f"grid={grid}", "seeds=[0, 1]")["sgd"] == texts


def test_a_label_is_not_told_apart_by_what_only_another_varies(tmp_path: Path) -> None:
    assert words(tmp_path, "grid={delta-gclip: {lr: [1, 2]}}") == {
        "sgd": [""],
        "delta-gclip": ["lr=1", "lr=2"],
    }


def test_optimizers_of_one_label_are_told_apart_by_their_names(tmp_path: Path) -> None:
    old = trial_of(tmp_path, "optimizers.sgd=adam")
    new = trial_of(tmp_path)
    assert distinguished([old, new]) == {
        ("tiny", "sgd", old.setting_hash): "optimizer=adam",
        ("tiny", "sgd", new.setting_hash): "optimizer=sgd",
    }


def test_a_setting_that_two_labels_share_is_told_apart_within_each(tmp_path: Path) -> None:
    other = "optimizers.delta-gclip={name: sgd, lr: 0.1}"
    grid = "grid={sgd: {lr: [0.1, 0.2]}, delta-gclip: {momentum: [0, 0.5]}}"
    assert words(tmp_path, other, grid) == {
        "sgd": ["lr=0.1", "lr=0.2"],
        "delta-gclip": ["momentum=0", "momentum=0.5"],
    }


def seconds_to_plan(folder: Path, decays: int, seeds: int, expected: int) -> float:
    """The time that the processor needs, from the file to the folders."""
    sets = [
        f"grid={{sgd: {{lr: {{range: [1, 20], count: 20}}, "
        f"weight_decay: {{range: [0, 1], count: {decays}}}}}}}",
        f"seeds={list(range(seeds))}",
    ]
    begin = time.process_time()
    trials = trials_of(folder, *sets)
    folders = {trial.folder for trial in trials}
    seconds = time.process_time() - begin
    assert len(folders) == len(trials) == expected + seeds
    return seconds


def test_ten_thousand_trials_are_planned_in_a_moment(tmp_path: Path) -> None:
    """It takes 0.2 s; the limits leave room for a busy machine."""
    assert seconds_to_plan(tmp_path, decays=100, seeds=5, expected=10_000) < 1.5


def test_ten_times_the_settings_take_about_ten_times_as_long(tmp_path: Path) -> None:
    def best_of_three(decays: int, expected: int) -> float:
        return min(
            seconds_to_plan(tmp_path, decays=decays, seeds=1, expected=expected) for _ in range(3)
        )

    few = best_of_three(decays=10, expected=200)
    assert best_of_three(decays=100, expected=2_000) < 30 * few


def test_a_trial_is_what_is_written_under_optimizers_whatever_the_grid(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path), sets=["grid={sgd: {lr: [1, 2]}}"])
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


def test_what_the_points_of_a_grid_share_is_written_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumped: list[Model] = []
    dump = Model.model_dump

    def watched(self: Model, **how: Any) -> dict[str, Any]:
        dumped.append(self)
        return dump(self, **how)

    monkeypatch.setattr(Model, "model_dump", watched)
    grid = "grid={sgd: {lr: {log_range: [1e-3, 1], count: 50}}}"
    trials = trials_of(tmp_path, grid)
    assert len({trial.setting_hash for trial in trials}) == 51
    assert len(dumped) == 1
    for trial in trials:
        alone = trial.model_copy()
        assert (alone.canonical, alone.identity) == (trial.canonical, trial.identity)
