"""Reports of runs that were never run, and how somebody alters them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from run_cases import lines, make_run, record
from tiny_spec import write_spec
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.tuning.lock import fixed_plan
from deltagclip_cli.tuning.studies import Tuning

SPEC = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8, validation: 4}
    epochs: 2
    optimizers: {sgd: {name: sgd, lr: 0.1}, adam: {name: adam, lr: 0.001}}
    search:
      space: {sgd: {lr: {log_uniform: [0.01, 1]}}, adam: {lr: {log_uniform: [1e-4, 1e-2]}}}
    protocol: {draws: 1, seeds: [0, 1], fresh_seeds: 2, metric: validation/accuracy}
"""
START = {
    "started": "2026-11-24T02:01:46+00:00",
    "host": "node1",
    "python": "3.11.7",
    "deltagclip_cli": "0.1.0",
    "packages": {"torch": "2.15.0"},
    "device": "cpu x86",
    "threads": 1,
    "processor": "made up",
    "git": {"commit": "0123456789abcdef", "dirty": True},
}
PAGE = Path("runs/tiny/report/report.html")


def make_runs() -> list[RunFolder]:
    """Make the runs of a plan below ``runs``: two optimizers, a setting and two seeds of each."""
    experiment = load_spec(write_spec(Path(), SPEC), ["tiny"]).experiments["tiny"]
    _, tuning = fixed_plan(Tuning.of("tiny", experiment), Path("runs"))
    found = []
    for place, draw in enumerate(tuning.draws):
        for trial in tuning.trials(draw, tuning.search_seeds(draw.study)):
            accuracies = [0.5 + place / 50 + trial.seed / 100 + epoch / 10 for epoch in (1, 2)]
            metrics = lines(
                *(
                    record(epoch, **{"test/accuracy": each, "validation/accuracy": each - 0.03})
                    for epoch, each in enumerate(accuracies, 1)
                )
            )
            folder = make_run(Path("runs"), trial, metrics, status="finished")
            folder.environment_file.write_text(json.dumps([START], indent=1))
            found.append(folder)
    return found


def say(*words: str) -> Result:
    """Call the command line."""
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def make_report(*words: str) -> list[RunFolder]:
    """Make runs and their report without figures."""
    folders = make_runs()
    result = say("report", "tiny", "--format", "none", "--quiet", *words)
    assert result.exit_code == 0, result.output
    return folders


def digits_of(path: Path, near: str = "") -> list[int]:
    """The places of the digits of a file: all, or those of the first that follows some words."""
    content = path.read_bytes()
    start = content.index(near.encode()) + len(near.encode()) if near else 0
    places = [found.start() for found in re.finditer(rb"\d", content) if found.start() >= start]
    return places[:1] if near else places


@contextmanager
def altered(path: Path, place: int) -> Iterator[None]:
    """Another digit at a place of a file, while the context lasts."""
    before = path.read_bytes()
    digit = b"%d" % ((int(before[place : place + 1]) + 1) % 10)
    path.write_bytes(before[:place] + digit + before[place + 1 :])
    yield
    path.write_bytes(before)
