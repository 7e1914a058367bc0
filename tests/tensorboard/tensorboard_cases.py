"""A finished sweep as it lies on the disk, and what TensorBoard's own reader finds in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from event_files import NAME, scalar, version, write
from run_cases import finish, lines, make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_spec import trials_of

from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Run
from deltagclip_cli.results.read.tree import read_tree
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tensorboard.contents import Contents, Files

EPOCHS = 4
METRICS = ("train/loss", "test/loss", "test/accuracy", "optim/lr")
Curve = list[tuple[int, float]]


def values_of(trial: Trial, epochs: int) -> dict[str, list[float]]:
    """Curves that differ between optimizers and seeds, of numbers that float32 can hold."""
    base = (trial.label == "sgd") + trial.seed**2 / 8
    return {
        metric: [base + number + 1 / 2**epoch for epoch in range(1, epochs + 1)]
        for number, metric in enumerate(METRICS)
    }


def sweep(root: Path, *sets: str, seeds: int = 3, epochs: int = EPOCHS) -> list[RunFolder]:
    """The runs of two optimizers in a runs folder, with as many epochs as are over."""
    root.mkdir(parents=True, exist_ok=True)
    words = (f"seeds={list(range(seeds))}", f"epochs={EPOCHS}", *sets)
    return [write_run(root, trial, epochs) for trial in trials_of(root.parent, *words)]


def write_run(root: Path, trial: Trial, epochs: int) -> RunFolder:
    """A run, as far as it has come."""
    values = values_of(trial, epochs)
    records = []
    for i in range(epochs):
        moment = {"epoch": i + 1, "step": 2 * (i + 1), "time": 1e9 + i, "perf/epoch_seconds": 1.0}
        records.append({**moment, **{metric: each[i] for metric, each in values.items()}})
    status = "finished" if epochs == trial.epochs else None
    folder = RunFolder.of(root, trial)
    if not folder.trial_file.exists():
        make_run(root, trial, b"")
    folder.metrics_file.write_bytes(lines(*records))
    if status:
        finish(folder, status)
    (folder.path / NAME).unlink(missing_ok=True)
    events = [
        scalar(metric, i + 1, each[i], wall_time=1e9 + i)
        for i in range(epochs)
        for metric, each in values.items()
    ]
    write(folder.path / NAME, version(wall_time=1e9), *events)
    return folder


def points_of(folder: Path, tag: str) -> Curve:
    """A curve as TensorBoard's slow loader reads it."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def contents_of(root: Path, pattern: str | None = None) -> dict[str, Files]:
    """What is shown of the runs in a folder."""
    return Contents(1e9).of(runs_in(root, pattern))


def runs_in(root: Path, pattern: str | None = None) -> Sequence[Run]:
    """The runs in a folder."""
    return read_tree([root], Naming(pattern)).runs


def eventually(holds: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Whether something comes to be before long."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _let_signals_in() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # who started the tests may have them ignored
        signal.signal(number, signal.SIG_DFL)


class Shown:
    """The command ``deltagclip tensorboard``, and what its TensorBoard answers.

    Args:
        folder: where it runs; holds the runs folder ``runs``.
        words: of the command line.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deltagclip_cli", "tensorboard", *words],
            cwd=folder,
            env={**environment, "XDG_CACHE_HOME": str(folder / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_let_signals_in,
        )
        assert self.process.stdout is not None
        self.page = self.process.stdout.readline().strip()

    @property
    def server(self) -> str:
        """The address without what it chooses to show."""
        return self.page.partition("?")[0]

    def get(self, path: str, **query: str) -> Any:
        """What the server answers to a question."""
        words = f"?{urlencode(query)}" if query else ""
        with urlopen(f"{self.server}data/{path}{words}", timeout=300) as answer:
            return json.load(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the server answers to a question with a body."""
        request = Request(
            f"{self.server}data/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def children(self) -> list[int]:
        """TensorBoard's data server: whatever names the temporary folder."""
        named = os.fsencode(self.temporary)
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has just ended
                if named in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def is_put_away(self) -> bool:
        """Whether nothing is left of it, or nothing is before long."""
        return eventually(lambda: not self.children() and not any(self.temporary.iterdir()))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; gives the exit code and what it said on stderr."""
        self.process.send_signal(number)
        _, words = self.process.communicate(timeout=300)
        return self.process.returncode, words
