"""A sweep that goes on while the real TensorBoard looks at it, with either of its loaders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from tensorboard_cases import Curve, eventually, sweep

from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.tensorboard.server import LogFolder, refresh

pytestmark = pytest.mark.slow


class Open:
    """A board on ``runs`` in a folder, and the server that shows it."""

    def __init__(
        self, folder: Path, board: LogFolder, place: Place, server: str, *, is_fast: bool
    ) -> None:
        self.folder, self.server, self.is_fast = folder, server, is_fast
        self.refresh = lambda: refresh(board, place)

    def get(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.server}data/plugin/{path}?{urlencode(query)}", timeout=300) as answer:
            return json.load(answer)

    def runs(self) -> set[str]:
        return set(self.get("scalars/tags"))

    def curve(self, run: str, tag: str) -> Curve:
        if run not in self.runs():
            return []
        return [(step, value) for _, step, value in self.get("scalars/scalars", run=run, tag=tag)]


@pytest.fixture(params=["true", "false"], ids=["fast", "slow"])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """TensorBoard on a sweep of three seeds of which two epochs are over."""
    sweep(tmp_path / "runs", epochs=2)
    board, place = LogFolder(tmp_path / "made"), Place([], tmp_path / "runs")
    board.update(place.read().runs)
    options = (f"--load_fast={request.param}", "--reload_interval=1", "--port=0")
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={tmp_path / 'made'}", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    server = next(word for line in process.stderr for word in line.split() if "http:/" in word)
    yield Open(tmp_path, board, place, server, is_fast=request.param == "true")
    process.terminate()
    process.communicate()


def test_means_that_change_are_shown_as_they_are_now(opened: Open) -> None:
    path = "tiny/sgd/mean"
    assert eventually(lambda: len(opened.curve(path, "test/loss")) == 2)
    sweep(opened.folder / "runs", epochs=3, seeds=2)
    opened.refresh()
    assert eventually(lambda: len(opened.curve(path, "test/loss")) == 3)
    sweep(opened.folder / "runs", epochs=4, seeds=2)
    sweep(opened.folder / "runs", epochs=4, seeds=3)
    opened.refresh()
    expected = [1 + (0 + 1 / 8 + 4 / 8) / 3 + 1 + 1 / 2**epoch for epoch in range(1, 5)]
    assert eventually(lambda: len(opened.curve(path, "test/loss")) == 4)
    assert [step for step, _ in opened.curve(path, "test/loss")] == [1, 2, 3, 4]
    values = [value for _, value in opened.curve(path, "test/loss")]
    assert values == pytest.approx(expected, rel=1e-6)


def test_runs_come_and_go_and_the_charts_with_them(opened: Open) -> None:
    assert eventually(lambda: "tiny/sgd/seed-2" in opened.runs())
    sweep(opened.folder / "runs", "optimizers.adam={name: adam}", epochs=2)
    shutil.rmtree(opened.folder / "runs" / "tiny" / "sgd")
    opened.refresh()
    assert eventually(lambda: {"tiny/adam", "tiny/adam/mean", "tiny/adam/seed-0"} <= opened.runs())
    if opened.is_fast:  # the other one never forgets a run
        assert eventually(lambda: not any("sgd" in run for run in opened.runs()))
