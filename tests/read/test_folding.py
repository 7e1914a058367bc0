"""Folders that some writers put below that of their run are parts of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from event_files import NAME, scalar, session, version, write
from run_cases import make_events

from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.read.tree import read_tree


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def read(root: Path) -> list[Run]:
    """The runs below a folder, which is in order."""
    reading = read_tree([root], Naming())
    assert list(reading.problems) == []
    return list(reading.runs)


def groups(runs: list[Run]) -> list[tuple[str, object]]:
    return [(run.group.name, run.seed) for run in runs]


def names(run: Run) -> dict[str, list[float]]:
    return {name: curve.values.tolist() for name, curve in run.curves.items()}


def test_keras_train_and_validation_are_one_run(logs: Path) -> None:
    for run in ("adam_seed0", "adam_seed1", "sgd_seed0"):
        make_events(logs / run / "train", {"epoch_loss": [3, 2], "epoch_learning_rate": [1, 1]})
        make_events(logs / run / "validation", {"epoch_loss": [4, 3], "epoch_accuracy": [0, 1]})
    runs = read(logs)
    assert groups(runs) == [("adam", "0"), ("adam", "1"), ("sgd", "0")]
    assert names(runs[0]) == {
        "train/loss": [3, 2],
        "optim/lr": [1, 1],
        "val/loss": [4, 3],
        "val/accuracy": [0, 1],
    }
    assert [run.folder.name for run in runs] == ["adam_seed0", "adam_seed1", "sgd_seed0"]


def test_a_run_may_have_files_of_its_own_beside_those_of_its_parts(logs: Path) -> None:
    make_events(logs / "adam", {"loss": [3, 2]})
    make_events(logs / "adam" / "eval", {"accuracy": [0, 1]})
    (run,) = read(logs)
    assert names(run) == {"loss": [3, 2], "test/accuracy": [0, 1]}


def test_the_folder_that_is_searched_may_be_the_run(logs: Path) -> None:
    for part in ("train", "val"):
        make_events(logs / "adam_seed3" / part, {"loss": [1]})
    (run,) = read(logs / "adam_seed3")
    assert (run.group.experiment, run.group.name, run.seed) == ("logs", "adam", "3")
    (alone,) = read(logs / "adam_seed3" / "train")
    assert alone.group.experiment == "adam_seed3"


def test_a_run_named_test_among_others_is_a_run(logs: Path) -> None:
    for name in ("adam", "sgd", "test"):
        make_events(logs / name, {"loss": [1]})
    assert [run.group.name for run in read(logs)] == ["adam", "sgd", "test"]


def test_scalars_of_one_chart_are_one_run(logs: Path) -> None:
    """Of ``add_scalars("loss", {"train": …})`` and ``add_scalars("a/b", {"x": …})``."""
    for seed in range(2):
        run = logs / f"adam_seed{seed}"
        make_events(run, {"lr": [0.5]})
        make_events(run / "loss_train", {"loss": [3, 2]})
        make_events(run / "loss_val", {"loss": [4, 3]})
        make_events(run / "a_b_x", {"a/b": [1]})
        make_events(run / "a" / "c" / "y", {"a/c": [5]})  # as tensorboardX has them
    runs = read(logs)
    assert groups(runs) == [("adam", "0"), ("adam", "1")]
    assert names(runs[0]) == {
        "optim/lr": [0.5],
        "a/c/y": [5],
        "a/b/x": [1],
        "train/loss": [3, 2],
        "val/loss": [4, 3],
    }


def hyperparameters(run: Path, time: float, **options: bool | float | str) -> None:
    """What ``add_hparams`` writes."""
    folder = run / f"{1.7e9 + time}"
    write(folder / NAME, version(), session(options), scalar("hparam/accuracy", 0, 0.5))


def test_hyperparameters_give_the_settings_of_their_run(logs: Path) -> None:
    for number, lr in enumerate((0.1, 0.1, 0.01, 0.01)):
        run = make_events(logs / f"May19_14-35-0{number}_host", {"loss": [3, 2]})
        hyperparameters(run, number + 0.25, lr=lr, seed=number % 2, momentum=0.9)
    runs = read(logs)
    assert groups(runs) == [
        ("logs lr=0.1", "0"),
        ("logs lr=0.1", "1"),
        ("logs lr=0.01", "0"),
        ("logs lr=0.01", "1"),
    ]
    assert names(runs[0]) == {"loss": [3, 2], "hparam/accuracy": [0.5]}


def test_a_metric_that_is_there_twice_is_kept_under_the_name_of_its_folder(logs: Path) -> None:
    make_events(logs / "adam", {"loss": [3, 2], "train/loss": [5]})
    make_events(logs / "adam" / "train", {"loss": [4]})
    (run,) = read(logs)
    assert names(run) == {"loss": [3, 2], "train/loss": [5], "loss (train)": [4]}


def test_runs_below_a_folder_with_a_stray_file_are_runs(logs: Path) -> None:
    make_events(logs, {"loss": [1]})
    for name in ("adam", "sgd"):
        write(logs / name / NAME, session({"lr": 0.1}))
        make_events(logs / name, {"loss": [3, 2]})
    assert len(read(logs)) == 3


def test_a_run_diverges_with_any_of_its_parts(logs: Path) -> None:
    make_events(logs / "adam" / "train", {"epoch_loss": [1, math.nan]})
    make_events(logs / "adam" / "validation", {"epoch_accuracy": [1, 0]})
    (run,) = read(logs)
    assert (run.outcome, run.reason) == (
        Outcome.DIVERGED,
        "train/loss is nan at its last step, 1",
    )
