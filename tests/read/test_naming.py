"""What is read from the names of other people's runs and tags."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deltagclip_cli.core import UsageError, printable
from deltagclip_cli.results.read.grouping import Named, Naming
from deltagclip_cli.results.read.names import Found, Name, PartKind
from deltagclip_cli.results.read.run import name_in_set, standard_name, standard_names

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "vit-tiny"


def one(naming: Naming, root: str, path: str) -> Named:
    """What is read of a run that is there alone."""
    ((named,), _) = naming.read([Found(root, Name.of(path))])
    return named


@pytest.mark.parametrize(
    ("text", "plain", "seed"),
    [
        ("vit.adam.1e-05.20250519-143548_577689", "vit.adam.1e-05", None),
        ("adam_20250519-143548", "adam", None),
        ("adam lr=0.1 · seed 3", "adam lr=0.1", "3"),  # as our own exports call it
        ("adam-20250519_143548", "adam", None),
        ("adam.20250519T143548", "adam", None),
        ("adam_20250519-1435", "adam", None),
        ("adam_2025-05-19_14-35-48", "adam", None),
        ("adam 2025-05-19 14:35:48", "adam", None),
        ("adam_2025-05-19T14:35:48", "adam", None),
        ("adam_2025-05-19T14:35:48.123456Z", "adam", None),
        ("adam_2025-05-19T14:35:48+02:00", "adam", None),
        ("adam_2025-05-19T143548", "adam", None),
        ("adam_2025_05_19_14_35_48", "adam", None),
        ("adam_2025.05.19-14.35.48", "adam", None),
        ("adam_19-05-2025_14h35m48s", "adam", None),
        ("adam_14-35-48_19-05-2025", "adam", None),
        ("adam_19May2025-143548", "adam", None),
        ("adam_20250519143548", "adam", None),
        ("20250519-143548.adam", "adam", None),
        ("adam_May19_14-35-48_host", "adam", None),
        ("adam/May19_14-35-48_gpu-7.cluster", "adam", None),
        ("adam_lr0.1seed3", "adam_lr0.1", "3"),
        ("adam_seed_3", "adam", "3"),
        ("adam-Seed=3", "adam", "3"),
        ("seed3_adam", "adam", "3"),
        ("seed0/adam", "adam", "0"),
        ("adam/lr0.1/seed-12", "adam/lr0.1", "12"),
        ("adam/version_0", "adam", None),
        ("adam_seed3_20250519-143548_77", "adam", "3"),  # the word goes before the number
        ("adam__seed3", "adam", "3"),
        ("a_seed1_b_seed2", "a_seed1_b", "2"),  # the last one, if there are two
        ("a_seed1_b_seed01", "a_b", "1"),
        ("seed3a", "a", "3"),
        ("linseed3/seeds4/num_seeds=5", "linseed3/seeds4/num_seeds=5", None),
    ],
)
def test_time_stamps_and_seeds_are_taken_out(text: str, plain: str, seed: str | None) -> None:
    name = Name.of(text)
    assert (name.plain, name.seed) == (plain, seed)


@pytest.mark.parametrize(
    "text",
    [
        "vit_cifar.adam.0.0005.1.0.0.001.1e-05",
        "resnet18",
        "lr0.1",
        "run-with-dropout",
        "mnist-2024",
        "resnet-20240101",
        "resnet-20240101_16",
        "a_2024-13-01_12-00-00",
        "lr=0.1667428360",
        "a_9667428360",
        "linseed3",
        "rerun3",
        "seed0.1",
        "seed1e-3",
        "subversion_0",
        "trial_7",
        "adam_run12",
        "20250519-1435487",
        "120250519-143548",
        "wandbx/events2",
        "deadbeef",
    ],
)
def test_what_may_be_a_setting_is_left_in(text: str) -> None:
    name = Name.of(text)
    assert (name.plain, name.seed) == (text, None)


def test_doubtful_parts_can_be_kept() -> None:
    name = Name.of("logs/a_May19_14-35-48_host-x/version_2")
    assert name.plain == "a"
    assert name.without({PartKind.HOST}) == "a_host-x"
    assert name.without({PartKind.VERSION, PartKind.PLACE}) == "logs/a/version_2"
    assert name.without(PartKind) == name.text


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("20250519-143548_577689", "577689"),
        ("2025-05-19_14-35-48", None),
        ("May19_14-35-48_host", None),
        ("seed_3", "3"),
        ("seed3/version_0", "3"),
        ("version_0", None),
    ],
)
def test_a_run_that_is_named_by_nothing_else_is_named_by_the_folder(
    name: str, seed: str | None
) -> None:
    named = one(Naming(), "logs", name)
    assert (named.group.experiment, named.group.optimizer, named.seed) == ("logs", "logs", seed)


def test_a_usual_name_says_no_settings() -> None:
    named = one(Naming(), "logs", "vit/adam.0.1_seed3")
    assert (named.group.experiment, named.group.optimizer) == ("logs", "vit/adam.0.1")
    assert (dict(named.group.settings), dict(named.group.conditions)) == ({}, {})
    assert named.seed == "3"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference runs are not on this machine")
def test_reference_runs_are_eight_groups_with_seeds() -> None:
    found = [Found("vit-tiny", Name.of(path.name)) for path in REFERENCE.iterdir()]
    named, doubts = Naming().read(found)
    assert all(each.seed is not None for each in named) and not doubts
    sizes = Counter(each.group.optimizer for each in named)
    assert sizes == {
        "vit-tiny_cifar.dgclip.0.2.1.0.0.01.0.0": 5,
        "vit-tiny_cifar.dgclip.0.2.1.0.0.001.0.0": 5,
        "vit-tiny_cifar.dgclip.0.2.1.0.0.0001.0.0": 5,
        "vit-tiny_cifar.dgclip.0.2.1.0.1e-05.0.0": 5,
        "vit-tiny_cifar.dgclip.0.2.1.0.1e-06.0.0": 5,
        "vit_cifar.adam.0.0005.1.0.0.001.1e-05": 10,
        "vit_cifar.dgclip.0.0005.1.0.0.001.1e-05": 10,
        "vit_cifar.dgclip.0.2.1.0.0.001.0.0": 10,
    }


# ------------------------------------------------------------------- --group


def test_a_pattern_says_experiment_optimizer_settings_and_seed() -> None:
    naming = Naming(r"^(?P<experiment>\w+)/(?P<optimizer>[a-z]+)_lr(?P<lr>[^_]+)(_s(?P<seed>.+))?$")
    named = one(naming, "logs", "mnist/adam_lr0.1_s3")
    assert (named.group.experiment, named.group.optimizer) == ("mnist", "adam")
    assert (dict(named.group.settings), named.seed) == ({"lr": "0.1"}, "3")
    without = one(naming, "logs", "mnist/adam_lr0.1")
    assert without.seed is None
    assert without.group == named.group


def test_what_a_pattern_does_not_say_is_the_name_of_the_folder() -> None:
    named = one(Naming(r"lr(?P<lr>[\d.]+)(?P<nesterov>n?)"), "logs", "sgd/lr0.1")
    assert (named.group.experiment, named.group.optimizer) == ("logs", "logs")
    assert dict(named.group.settings) == {"lr": "0.1"}  # an empty word says nothing


def test_a_pattern_does_not_fit_every_name() -> None:
    naming = Naming(r"(?P<optimizer>adam|sgd)")
    assert naming.fits(Name.of("adam")) and not naming.fits(Name.of("lion"))


@pytest.mark.parametrize("pattern", ["(?P<optimizer>", "*", "a{99999999999999999999}"])
def test_a_pattern_that_is_no_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"--group .*: not a regular expression"):
        Naming(pattern)


@pytest.mark.parametrize("pattern", ["", "adam", "(adam|sgd)"])
def test_a_pattern_without_named_groups_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="it names no groups"):
        Naming(pattern)


# --------------------------------------------------------- what can be shown

STRANGE = [
    ("a\x1b[31mb", r"a\x1b[31mb"),
    ("a\nb\tc", r"a\nb\tc"),
    ("a\udcffb", r"a\udcffb"),  # a byte that is no UTF-8, as Python reads it from a disk
    ("a\u202eb", r"a\u202eb"),  # turns the direction of what follows
    ("a\x9bb", r"a\x9bb"),
    ("<b>[red]$x_1$ \\x1b δ日本", "<b>[red]$x_1$ \\x1b δ日本"),
]


@pytest.mark.parametrize(("name", "shown"), STRANGE)
def test_names_are_written_so_that_a_terminal_does_not_obey_them(name: str, shown: str) -> None:
    assert printable(name) == shown
    usual = one(Naming(), f"root{name}", name).group
    assert (usual.experiment, usual.optimizer) == (f"root{shown}", shown)
    naming = Naming(r"(?s)^(?P<optimizer>(?P<experiment>(?P<x>(?P<seed>.*))))$")
    said = one(naming, "logs", name)
    group = said.group
    assert [group.experiment, group.optimizer, group.settings["x"], said.seed] == [shown] * 4
    silent = one(Naming(r"(?P<lr>\d)"), name, "1").group
    assert [silent.experiment, silent.optimizer] == [shown] * 2


# ---------------------------------------------------------------------- tags


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("test_acc", "test/accuracy"),
        ("train_loss", "train/loss"),
        ("Loss/train", "train/loss"),
        ("Accuracy/Test", "test/accuracy"),
        ("val-loss", "val/loss"),
        ("validation.accuracy", "val/accuracy"),
        ("eval/loss", "test/loss"),
        ("top1/valid", "val/accuracy"),
        ("lr", "optim/lr"),
        ("Learning Rate", "optim/lr"),
        ("grad/norm", "optim/grad_norm"),
        ("test/accuracy", "test/accuracy"),
        ("loss", "loss"),
        ("train_loss_epoch", "train_loss_epoch"),
        ("train/train", "train/train"),
        ("loss/loss", "loss/loss"),
        ("Perf/Memory", "Perf/Memory"),
        ("", ""),
        ("/_", "/_"),
    ],
)
def test_tags_get_the_names_of_this_project(tag: str, name: str) -> None:
    assert standard_name(tag) == name


def test_two_tags_never_get_the_same_name() -> None:
    assert standard_names(["test_acc", "Test/Acc", "lr"]) == {
        "test_acc": "test/accuracy",
        "Test/Acc": "Test/Acc",
        "lr": "optim/lr",
    }
    # What has the name already keeps it, though it comes later.
    assert standard_names(["test_acc", "test/accuracy"]) == {
        "test_acc": "test_acc",
        "test/accuracy": "test/accuracy",
    }


@pytest.mark.parametrize(
    ("folder", "tag", "name"),
    [
        ("train", "epoch_loss", "train/loss"),
        ("validation", "epoch_accuracy", "val/accuracy"),
        ("validation", "epoch_mse", "val/mse"),
        ("train", "epoch_learning_rate", "optim/lr"),
        ("validation", "evaluation_loss_vs_iterations", "val/evaluation_loss_vs_iterations"),
        ("Eval", "Loss", "test/loss"),
        ("train", "train/loss", "train/loss"),
        ("train", "train/entropy", "train/entropy"),
    ],
)
def test_folders_of_parts_of_the_data_say_what_a_metric_is_of(
    folder: str, tag: str, name: str
) -> None:
    assert name_in_set(folder, tag) == name
