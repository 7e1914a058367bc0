"""Where a comparison looks for runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.read.tree import Place


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with experiments, folders of their names and others beside it."""
    for name in ("cwd/runs/one", "cwd/runs/two", "cwd/one", "cwd/logs/of", "logs", "cwd/logs"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "folder"),
    [
        ("one", "runs/one"),
        ("./one", "one"),
        ("logs", "logs"),
        ("logs/of", "logs/of"),
        ("runs/two", "runs/two"),
        ("../logs", "../logs"),
        ("..", ".."),
        (".", "."),
    ],
)
def test_a_name_is_an_experiment_and_a_path_is_a_path(here: Path, target: str, folder: str) -> None:
    assert Place([target], Path("runs")).folders() == [Path(folder)]


def test_without_words_the_runs_folder_is_meant(here: Path) -> None:
    assert Place([], Path("runs")).folders() == [Path("runs")]


@pytest.mark.parametrize(
    ("target", "hint"),
    [("", ""), ("three", ""), ("../one", " - did you mean 'one'?"), ("runs/three", "")],
)
def test_what_is_not_there_is_told_with_what_is(here: Path, target: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Place([target], Path("runs")).folders()
    assert str(caught.value) == (
        f"{target}: neither an experiment in runs nor a folder.\n  experiments: one, two{hint}"
    )


def test_a_runs_folder_that_is_not_there_is_told(here: Path) -> None:
    with pytest.raises(UsageError, match="elsewhere: there is no such folder"):
        Place([], Path("elsewhere")).folders()
