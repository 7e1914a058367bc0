"""Other people's runs: folders with event files, their names, and how the runs ended."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import pytest
from event_files import LATER, NAME, run_of, scalar, tensor, version, write
from run_cases import by_folder, make_events

from deltagclip_cli.results.read.foreign import read_foreign_runs
from deltagclip_cli.results.read.found_logs import FoundLog
from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Reading


def read(root: Path, *folders: Path, pattern: str | None = None) -> Reading:
    """The runs of some folders below a root; of all there, if none is named."""
    found = folders or sorted({path.parent for path in root.rglob("*tfevents*")})
    return read_foreign_runs([FoundLog(each, root) for each in found], Naming(pattern))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def test_runs_are_grouped_by_what_their_names_have_in_common(logs: Path) -> None:
    for name in ("adam.20250519-143548_51234", "adam.20250519-143549_71234", "sgd/seed5"):
        make_events(logs / name, {"test_acc": [0.1, 0.2]})
    reading = read(logs)
    assert [(run.group.optimizer, run.seed) for run in reading.runs] == [
        ("adam", "51234"),
        ("adam", "71234"),
        ("sgd", "5"),
    ]
    assert {run.group.experiment for run in reading.runs} == {"logs"}
    assert [run.folder.name for run in reading.runs][2] == "seed5"
    assert list(reading.problems) == []


def test_runs_without_seeds_are_told_apart_by_their_folders(logs: Path) -> None:
    for name in ("adam_2025-05-19_14-35-48", "adam_2025-05-19_14-35-49"):
        make_events(logs / name, {"loss": [1.0]})
    one, other = read(logs).runs
    assert one.group == other.group
    assert one.seed is None is other.seed
    assert one.seed_or_folder != other.seed_or_folder


def test_a_pattern_groups_runs_and_names_those_that_it_does_not_fit(logs: Path) -> None:
    for name in ("adam-0.1-a", "adam-0.2-a", "sgd-0.1-b", "notes"):
        make_events(logs / name, {"loss": [1.0]})
    reading = read(logs, pattern=r"(?P<optimizer>\w+)-(?P<lr>[\d.]+)-(?P<seed>\w)$")
    assert [(run.group.name, run.seed) for run in reading.runs] == [
        ("adam lr=0.1", "a"),
        ("adam lr=0.2", "a"),
        ("sgd lr=0.1", "b"),
    ]
    assert list(reading.problems) == [
        f"{logs / 'notes'}: its name does not match --group, so it is left out."
    ]


@pytest.mark.parametrize("pattern", [None, r"(?P<optimizer>\w+)_seed(?P<seed>\d)"])
def test_a_run_alone_is_named_as_if_its_parent_had_been_searched(
    logs: Path, monkeypatch: pytest.MonkeyPatch, pattern: str | None
) -> None:
    run = make_events(logs / "adam_seed3", {"loss": [1.0]})
    (among,) = read(logs, pattern=pattern).runs
    (alone,) = read(run, run, pattern=pattern).runs
    assert alone.group == among.group
    assert (alone.group.optimizer, alone.seed) == ("adam", "3")
    monkeypatch.chdir(run)
    (here,) = read(Path("."), Path("."), pattern=pattern).runs
    assert (here.group, here.seed) == (alone.group, "3")


def test_a_root_is_known_by_its_own_name(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_events(logs / "seed3", {"loss": [1.0]})
    monkeypatch.chdir(logs)
    (run,) = read(Path("."), Path("seed3")).runs
    assert (run.group.experiment, run.group.optimizer) == ("logs", "logs")


# -------------------------------------------------------------------- curves


def test_a_curve_has_all_points_their_steps_and_seconds_from_the_first_file(logs: Path) -> None:
    make_events(logs / "a", {"test_acc": [0.5] * 1500})
    later = scalar("Loss/train", 7, 0.25, wall_time=1e9 + 70)
    write(logs / "a" / LATER, version(wall_time=1e9 + 50), later)
    (run,) = read(logs).runs
    assert list(run.curves) == ["test/accuracy", "train/loss"]
    accuracy = run.curves["test/accuracy"]
    assert accuracy.steps.tolist() == accuracy.epochs.tolist() == list(range(1500))
    assert accuracy.seconds[:3].tolist() == [5, 15, 25]
    assert accuracy.values.tolist() == [0.5] * 1500
    assert run.curves["train/loss"].seconds.tolist() == [75]


def test_without_the_time_of_a_file_seconds_are_since_the_first_point(logs: Path) -> None:
    for begin in (0.0, 2e9):
        points = [scalar("loss", step, 1.0, wall_time=1e9 + step) for step in (3, 4)]
        write(logs / f"{begin}" / NAME, version(wall_time=begin), *points)
    for run in read(logs).runs:
        assert run.curves["loss"].seconds.tolist() == [0, 1]


def test_scalars_of_both_forms_are_read_and_superseded_ones_are_not(logs: Path) -> None:
    write(logs / "a" / NAME, version(), *run_of("test_acc", range(4), 0.1), tensor("lr", 1, 0.5))
    write(logs / "a" / LATER, version(), *run_of("test_acc", range(2, 5), 0.2, begin=9))
    (run,) = read(logs).runs
    values = run.curves["test/accuracy"].values
    assert values.tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.2])
    assert run.curves["optim/lr"].values.tolist() == [0.5]


def test_tags_that_mean_the_same_are_both_kept(logs: Path) -> None:
    make_events(logs / "a", {"test_acc": [0.25], "acc/test": [0.75]})
    (run,) = read(logs).runs
    assert {name: curve.values.tolist() for name, curve in run.curves.items()} == {
        "test/accuracy": [0.25],
        "acc/test": [0.75],
    }


def test_names_come_out_so_that_a_terminal_does_not_obey_them(logs: Path) -> None:
    make_events(logs / "a\x1b[31m<b>[red]$x_1$\udcff", {"m\x1b]0;loss": [math.nan], "n": [1, 2]})
    make_events(logs / "a\x1b[31m<b>[red]$x_1$\udcff_seed1", {"n": [1, 2, 3]})
    run, _ = read(logs).runs
    assert run.group.name == r"a\x1b[31m<b>[red]$x_1$\udcff"
    assert list(run.curves) == [r"m\x1b]0;loss", "n"]
    assert run.reason == r"m\x1b]0;loss is nan at its last step, 0"


# ------------------------------------------------------------------ outcomes


def test_runs_that_do_not_grow_any_more_have_ended_whatever_their_length(logs: Path) -> None:
    make_events(logs / "adam_seed0", {"train_loss": [1, 1, 1], "test_acc": [0.5]})
    make_events(logs / "adam_seed1", {"train_loss": [1, 1], "test_acc": [0.5, 0.5]})
    reading = read(logs)
    assert [(run.outcome, run.reason) for run in reading.runs] == [(Outcome.FINISHED, "")] * 2
    assert list(reading.problems) == []


def logged_until(folder: Path, epochs: int, ago: float) -> None:
    """A run with an epoch a minute, whose last one was some seconds ago."""
    now = time.time()
    points = [
        scalar("loss", epoch, 1.0, now - ago - 60 * (epochs - epoch))
        for epoch in range(1, epochs + 1)
    ]
    write(folder / NAME, version(wall_time=now - ago - 60 * epochs), *points)


def test_a_run_that_was_written_a_short_time_ago_is_unfinished(logs: Path) -> None:
    logged_until(logs / "adam_seed0", epochs=5, ago=100)
    logged_until(logs / "adam_seed1", epochs=5, ago=200)  # more than three epochs
    logged_until(logs / "adam_seed2", epochs=4, ago=3600)
    growing, *others = read(logs).runs
    assert growing.outcome is Outcome.FINISHED  # at the very step where another one ended
    assert [run.outcome for run in others] == [Outcome.FINISHED] * 2
    logged_until(logs / "sgd_seed0", epochs=4, ago=100)
    logged_until(logs / "sgd_seed1", epochs=5, ago=3600)
    reading = read(logs)
    growing, ended = reading.runs[3:]
    assert list(reading.problems) == [f"{logs / 'sgd_seed0'}: {growing.reason}."]
    assert (growing.outcome, ended.outcome) == (Outcome.UNFINISHED, Outcome.FINISHED)
    assert re.fullmatch(r"still growing: at step 4, 10\d seconds ago", growing.reason)


def test_the_clock_of_another_machine_may_be_ahead_a_little(logs: Path) -> None:
    logged_until(logs / "adam", epochs=4, ago=-90)
    (run,) = read(logs).runs
    assert run.outcome is Outcome.UNFINISHED


def test_a_script_that_has_just_ended_has_ended(logs: Path) -> None:
    """It wrote all its points in a moment."""
    now = time.time()
    for seed, count in enumerate((12, 9, 17)):
        points = [scalar("val_acc", step, 0.5, now + step / 1000) for step in range(count)]
        write(logs / f"seed{seed}" / NAME, version(wall_time=now), *points)
    assert [run.outcome for run in read(logs).runs] == [Outcome.FINISHED] * 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_short_run_that_ends_with_no_finite_number_has_diverged(logs: Path, value: float) -> None:
    make_events(logs / "adam_seed0", {"acc": [0, 0, 0, 0], "loss": [1, 1, 1, 1]})
    make_events(logs / "adam_seed1", {"acc": [0, 0, 0], "loss": [1, value]})
    _, short = read(logs).runs
    assert short.outcome is Outcome.DIVERGED
    assert short.reason == f"loss is {value:g} at its last step, 1"


def test_a_run_that_came_back_to_finite_numbers_has_not_diverged(logs: Path) -> None:
    make_events(logs / "adam_seed0", {"loss": [1, 1, 1, 1]})
    make_events(logs / "adam_seed1", {"loss": [1, math.nan, 1]})
    assert [run.outcome for run in read(logs).runs] == [Outcome.FINISHED] * 2


def test_a_run_that_went_on_with_a_loss_that_was_not_finite_has_diverged(logs: Path) -> None:
    make_events(logs / "adam", {"train_loss": [1, math.nan], "test_acc": [0.5, 0.1]})
    make_events(logs / "sgd", {"train_loss": [1, 2], "sharpness": [0.5, math.nan]})
    adam, sgd = read(logs).runs
    assert (adam.outcome, adam.reason) == (
        Outcome.DIVERGED,
        "train/loss is nan at its last step, 1",
    )
    assert sgd.outcome is Outcome.FINISHED


def test_large_steps_are_told_in_full(logs: Path) -> None:
    write(logs / "a" / NAME, version(), *run_of("loss", [1_234_567], math.nan))
    (run,) = read(logs).runs
    assert run.reason == "loss is nan at its last step, 1234567"


# -------------------------------------------------------------------- damage


def test_a_folder_with_events_but_without_scalars_is_a_problem(logs: Path) -> None:
    write(logs / "empty" / NAME, version())
    make_events(logs / "good", {"loss": [1]})
    reading = read(logs)
    assert list(by_folder(reading.runs)) == ["good"]
    assert list(reading.problems) == [f"{logs / 'empty'}: there are no scalars in its log."]


def test_what_is_whole_of_damaged_files_is_read_and_they_are_named(logs: Path) -> None:
    for name in ("cut", "torn", "good"):
        make_events(logs / name, {"loss": [1, 2, 3]})
    cut, torn = logs / "cut" / NAME, logs / "torn" / NAME
    cut.write_bytes(cut.read_bytes()[:-1])
    torn.write_bytes(torn.read_bytes()[:-1] + b"\0")
    reading = read(logs)
    lengths = {name: len(run.curves["loss"].steps) for name, run in by_folder(reading.runs).items()}
    assert lengths == {"cut": 2, "torn": 2, "good": 3}
    assert [problem.partition(":")[0] for problem in reading.problems] == [str(cut), str(torn)]


def test_of_no_folders_nothing_is_read(logs: Path) -> None:
    assert read(logs) == Reading([], [])
