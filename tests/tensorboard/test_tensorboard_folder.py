"""The folder that TensorBoard looks at while runs go on: it sees what is new and nothing twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from event_files import LATER, NAME, scalar, version, write
from made_runs import run
from run_cases import make_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_cases import points_of, runs_in, sweep

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.tensorboard.server import LogFolder, address_of_charts, refresh, show


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of an optimizer that is going on."""
    for seed in range(2):
        make_events(tmp_path / "logs" / f"adam_seed{seed}", {"test/loss": [2.0, 1.0]})
    return tmp_path / "logs"


def first_shown(logs: Path) -> tuple[LogFolder, Place]:
    """What is shown of some runs for the first time, and where they are."""
    log_folder, place = LogFolder(logs.parent / "shown"), Place([str(logs)], logs)
    assert refresh(log_folder, place) > 0
    return log_folder, place


def content(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.lstat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_an_update_that_changes_nothing_touches_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "runs")
    log_folder = LogFolder(tmp_path / "shown")
    assert log_folder.update(runs_in(tmp_path / "runs")) > 0
    before = content(tmp_path / "shown")
    assert log_folder.update(runs_in(tmp_path / "runs")) == 0
    assert content(tmp_path / "shown") == before


def test_a_new_point_changes_the_means_and_nothing_else(logs: Path) -> None:
    log_folder, place = first_shown(logs)
    before = log_folder.shown
    write(logs / "adam_seed1" / NAME, scalar("test/loss", 2, 0.5, wall_time=1e9 + 20))
    assert refresh(log_folder, place) == 2
    changed = {path for path, files in log_folder.shown.items() if files != before[path]}
    assert changed == {"logs/adam", "logs/adam/mean"}, "one seed has no standard error there"
    assert refresh(log_folder, place) == 0


def test_a_new_run_is_added_with_its_charts_and_a_new_metric_with_another_layout(
    logs: Path,
) -> None:
    log_folder, place = first_shown(logs)
    make_events(logs / "sgd_seed0", {"test/loss": [3.0]})
    assert refresh(log_folder, place) > 0
    assert {"logs/sgd", "logs/sgd/seed-0", "logs/adam", "!layout-1"} <= set(log_folder.shown)
    make_events(logs / "sgd_seed0", {"test/loss": [3.0], "test/accuracy": [0.5]})
    assert refresh(log_folder, place) > 0
    assert "!layout-2" in log_folder.shown
    assert not (logs.parent / "shown" / "!layout-1").exists()


def test_runs_that_are_moved_away_stay_as_they_were(logs: Path) -> None:
    log_folder, place = first_shown(logs)
    before = content(logs.parent / "shown")
    shutil.rmtree(logs)
    assert refresh(log_folder, place) == 0
    assert content(logs.parent / "shown") == before


def test_without_runs_there_is_nothing_to_show(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no runs"):
        show(Place([str(tmp_path / "empty")], logs), "localhost", 0, opens=False, quiet=True)


def test_new_epochs_reach_the_mean_of_a_loader_that_is_open(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep(runs, epochs=2)
    log_folder = LogFolder(tmp_path / "shown")
    log_folder.update(runs_in(runs))
    mean = tmp_path / "shown" / "tiny/sgd/mean"
    loader = EventAccumulator(str(mean), size_guidance={"scalars": 0})
    loader.Reload()
    assert [event.step for event in loader.Scalars("test/loss")] == [1, 2]
    sweep(runs, epochs=4, seeds=2)  # two of three seeds go on: old means stay, new ones follow
    log_folder.update(runs_in(runs))
    loader.Reload()
    assert [event.step for event in loader.Scalars("test/loss")] == [1, 2, 3, 4]
    fresh = points_of(mean, "test/loss")
    assert [(event.step, event.value) for event in loader.Scalars("test/loss")] == fresh


def test_new_runs_are_added_and_those_that_are_gone_are_removed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folders = sweep(runs, seeds=2)
    log_folder = LogFolder(tmp_path / "shown")
    log_folder.update(runs_in(runs))
    sweep(runs, seeds=3)
    log_folder.update(runs_in(runs))
    assert (tmp_path / "shown" / "tiny/sgd/seed-2").is_dir()
    for folder in folders:
        shutil.rmtree(folder.path)
    log_folder.update(runs_in(runs))
    left = {path.parent.name for path in (tmp_path / "shown").rglob(NAME)}
    assert left == {"seed-2"}
    assert not (tmp_path / "shown" / "tiny/sgd/seed-0").exists()


def test_what_is_written_anew_has_another_name_that_sorts_behind_the_old_one(
    tmp_path: Path,
) -> None:
    log_folder = LogFolder(tmp_path)
    names: list[str] = []
    for number in range(12):
        log_folder.update([run("sgd", 0, [float(number)])])
        *before, now = sorted(path.name for path in (tmp_path / "tiny/sgd").glob("*.tfevents"))
        assert before == names[-1:], "a slow loader may still be there"
        names.append(now)
    assert names == sorted(set(names))


def test_a_run_that_starts_again_with_another_file_is_linked_to_that(logs: Path) -> None:
    log_folder, place = first_shown(logs)
    (logs / "adam_seed0" / NAME).rename(logs / "adam_seed0" / LATER)
    assert refresh(log_folder, place) == 1
    names = sorted(path.name for path in (logs.parent / "shown/logs/adam/seed-0").iterdir())
    assert names == [LATER]


def test_links_lead_to_the_files_of_the_runs_and_those_are_as_before(tmp_path: Path) -> None:
    folders = sweep(tmp_path / "runs")
    before = content(tmp_path / "runs")
    log_folder = tmp_path / "shown"
    LogFolder(log_folder).update(runs_in(tmp_path / "runs"))
    links = {path.resolve() for path in log_folder.rglob("*") if path.is_symlink()}
    assert links == {(folder.path / NAME).resolve() for folder in folders}
    assert content(tmp_path / "runs") == before
    assert points_of(log_folder / "tiny/sgd/seed-1", "test/loss")[0] == (1, 1 + 1 / 8 + 1 + 0.5)


def test_a_run_in_a_folder_of_runs_is_linked_without_those(tmp_path: Path) -> None:
    make_events(tmp_path / "logs" / "outer", {"loss": [1.0]})
    write(tmp_path / "logs" / "outer" / "inner" / NAME, version(), scalar("loss", 1, 2.0))
    log_folder = tmp_path / "shown"
    LogFolder(log_folder).update(runs_in(tmp_path / "logs"))
    assert not any(path.is_symlink() and path.is_dir() for path in log_folder.rglob("*"))
    assert sum(path.is_symlink() for path in log_folder.rglob("*")) == 2


def test_the_address_chooses_what_was_made_for_charts_and_means_if_there_are_any() -> None:
    server = "http://localhost:6006/"
    with_means = address_of_charts(server, ["e/a", "e/a/mean", "e/a/seed-0"])
    assert with_means.startswith(f"{server}?smoothing=0&") and "&runFilter=/mean#" in with_means
    assert "regexInput=%5E%5B%5E/%5D%2B/%5B%5E/%5D%2B%24" in with_means
    assert "runFilter" not in address_of_charts(server, ["e/a", "e/a/seed-0"])
