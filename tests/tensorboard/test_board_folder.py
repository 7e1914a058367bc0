"""The folder that TensorBoard looks at while runs go on: it sees what is new and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_cases import make_planner, planned, points_of, sweep
from event_files import LATER, NAME
from run_cases import make_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltagclip_cli.tensorboard.mirror import BoardFolder
from deltagclip_cli.tensorboard.plan import Files, Plan
from deltagclip_cli.tensorboard.snapshot import snapshot


def plan(**runs: Files) -> Plan:
    return Plan({name.replace("__", "/"): files for name, files in runs.items()}, [])


def content(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.lstat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_an_update_that_changes_nothing_touches_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "runs")
    planner, board = make_planner(tmp_path / "runs"), BoardFolder(tmp_path / "board")
    assert board.update(planned(tmp_path / "runs", planner)) > 0
    before = content(tmp_path / "board")
    assert board.update(planned(tmp_path / "runs", planner)) == 0
    assert content(tmp_path / "board") == before


def test_new_epochs_reach_the_mean_of_a_loader_that_is_open(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep(runs, epochs=2)
    planner, board = make_planner(runs), BoardFolder(tmp_path / "board")
    board.update(planned(runs, planner))
    mean = tmp_path / "board" / "tiny/sgd/mean"
    loader = EventAccumulator(str(mean), size_guidance={"scalars": 0})
    loader.Reload()
    assert [event.step for event in loader.Scalars("test/loss")] == [1, 2]
    sweep(runs, epochs=4, seeds=2)  # two of three seeds go on: old means stay, new ones follow
    board.update(planned(runs, planner))
    loader.Reload()
    assert [event.step for event in loader.Scalars("test/loss")] == [1, 2, 3, 4]
    fresh = points_of(mean, "test/loss")
    assert [(event.step, event.value) for event in loader.Scalars("test/loss")] == fresh


def test_new_runs_are_added_and_those_that_are_gone_are_removed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folders = sweep(runs, seeds=2)
    planner, board = make_planner(runs), BoardFolder(tmp_path / "board")
    board.update(planned(runs, planner))
    sweep(runs, seeds=3)
    board.update(planned(runs, planner))
    assert (tmp_path / "board" / "tiny/sgd/seed-2").is_dir()
    for folder in folders:
        for path in folder.path.iterdir():
            path.unlink()
    board.update(planned(runs, planner))
    left = {path.parent.name for path in (tmp_path / "board").rglob("run.*")}
    assert left == {"seed-2"}
    assert not (tmp_path / "board" / "tiny/sgd/seed-0").exists()


def test_what_is_written_anew_has_another_name_that_sorts_behind_the_old_one(
    tmp_path: Path,
) -> None:
    board = BoardFolder(tmp_path)
    names: list[str] = []
    for number in range(12):
        board.update(plan(a__b=Files((), f"{number}".encode())))
        *before, now = sorted((tmp_path / "a/b").iterdir())
        assert now.read_bytes() == f"{number}".encode()
        assert [path.name for path in before] == names[-1:], "a slow loader may still be there"
        names.append(now.name)
    assert names == sorted(set(names))


def test_a_run_that_starts_again_with_another_file_is_linked_to_that(tmp_path: Path) -> None:
    old, new = (tmp_path / name for name in (NAME, LATER))
    board = BoardFolder(tmp_path / "board")
    board.update(plan(a=Files([old], b"x")))
    board.update(plan(a=Files([new], b"x")))
    names = sorted(path.name for path in (tmp_path / "board" / "a").iterdir())
    assert names == ["0.000000001.tfevents", f"run.{LATER}"], "a description, then the run itself"


def test_a_file_with_the_longest_name_there_is_can_be_linked(tmp_path: Path) -> None:
    target = tmp_path / ("tfevents" + "x" * 247)
    target.touch()
    BoardFolder(tmp_path / "board").update(plan(a=Files([target])))
    (link,) = (tmp_path / "board" / "a").iterdir()
    assert link.resolve() == target and "tfevents" in link.name


def test_a_run_leaves_without_those_below_it(tmp_path: Path) -> None:
    board = BoardFolder(tmp_path)
    board.update(plan(a=Files((), b"x"), a__b=Files((), b"y")))
    board.update(plan(a__b=Files((), b"y")))
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.tfevents")] == [
        "a/b/0.000000002.tfevents"
    ]


# -------------------------------------------------------------------------------- snapshots


@pytest.mark.parametrize("name", [NAME, "metrics.jsonl", "result.json", "trial.yaml"])
def test_a_snapshot_sees_what_grows_and_what_is_new(name: str, tmp_path: Path) -> None:
    before = snapshot([tmp_path])
    file = tmp_path / "a" / "b" / name
    file.parent.mkdir(parents=True)
    file.write_text("x")
    new = snapshot([tmp_path])
    assert new != before
    file.write_text("xy")
    assert snapshot([tmp_path]) != new


def test_a_snapshot_sees_past_strange_names_and_links_to_themselves(tmp_path: Path) -> None:
    make_events(tmp_path / "my-tfevents/a", {"test/loss": [1.0]})
    for name in ("aloop", "zloop"):
        (tmp_path / name).symlink_to(name)
    make_events(tmp_path / "middle", {"test/loss": [1.0]})
    assert len(snapshot([tmp_path])) == 2


def test_hidden_folders_are_looked_at_where_there_is_nothing_else(tmp_path: Path) -> None:
    make_events(tmp_path / "a" / ".guild" / "runs" / "b", {"loss": [1]})
    (hidden,) = snapshot([tmp_path])
    make_events(tmp_path / "a" / "c", {"loss": [1]})
    (shown,) = snapshot([tmp_path])
    assert (".guild" in hidden, ".guild" in shown) == (True, False)


def test_a_snapshot_does_not_see_what_changes_no_curve(tmp_path: Path) -> None:
    before = snapshot([tmp_path])
    for name in ("progress.json", "checkpoint.pt", "log.txt"):
        (tmp_path / name).write_text("x")
    assert snapshot([tmp_path]) == before


def test_a_snapshot_follows_links_but_not_in_circles_and_past_what_it_may_not_see(
    tmp_path: Path,
) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / NAME).touch()
    (tmp_path / "runs" / "a" / "up").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "a" / LATER).symlink_to(tmp_path / "nowhere")
    (tmp_path / "runs" / NAME).touch()
    found = snapshot([tmp_path / "runs", tmp_path / "gone"])
    assert {str(Path(path).relative_to(tmp_path)) for path in found} == {
        f"runs/other/{NAME}",
        f"runs/{NAME}",
    }
