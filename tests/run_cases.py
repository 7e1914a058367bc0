"""Run folders and folders of event files whose curves are known, made without training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from event_files import NAME, scalar, version, write

from deltagclip_cli.results.read.run import Run
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.trial import Course, Trial
from deltagclip_cli.training.sinks import Beginning, HeartbeatWriter

Record = dict[str, Any]

DIVERGED = {"where": "training", "step": 3, "epoch": 2}


def record(epoch: int, loss: Any = 0.5, **others: Any) -> Record:
    """What is written at the end of an epoch."""
    moment = {"epoch": epoch, "step": 2 * epoch, "time": 1e9 + epoch}
    return {**moment, "test/loss": loss, "perf/epoch_seconds": 0.25, **others}


def lines(*records: Any) -> bytes:
    """Records as they lie in ``metrics.jsonl``."""
    return "".join(json.dumps(each) + "\n" for each in records).encode()


def result_text(status: str = "finished", **others: Any) -> str:
    """What ``result.json`` holds of a run, whose last epoch is its second one.

    Args:
        status: how it ended.
        others: keys that differ from those of a run of a moment.
    """
    return json.dumps(
        {
            "status": status,
            "identity": "",
            "epochs": 2,
            "steps": 4,
            "last": {},
            "best": {},
            "regimes": None,
            "diverged": DIVERGED if status == "diverged" else None,
            "seconds": {"epochs": 1.0, "last_start": 1.0},
            **others,
        }
    )


def last_of(content: bytes) -> Record:
    """The last record of an epoch in a ``metrics.jsonl``; empty if there is none."""
    last: Record = {}
    for line in content.splitlines():
        with suppress(ValueError):
            read = json.loads(line)
            last = read if isinstance(read, dict) and "perf/epoch_seconds" in read else last
    return last


def make_run(
    root: Path, trial: Trial, content: bytes | None = None, status: str | None = None
) -> RunFolder:
    """A run folder.

    Args:
        root: the runs folder.
        trial: what was run.
        content: of ``metrics.jsonl``; None for a loss of 0.5 at every epoch.
        status: how it ended; None if it has not.
    """
    folder = RunFolder.of(root, trial)
    create(folder, trial)
    whole = lines(*(record(epoch) for epoch in range(1, trial.epochs + 1)))
    folder.metrics_file.write_bytes(whole if content is None else content)
    if status is not None:
        finish(folder, status)
    return folder


def finish(folder: RunFolder, status: str = "finished") -> None:
    """Write the result of a run that ended with what its metrics end with."""
    content = folder.metrics_file.read_bytes() if folder.metrics_file.exists() else b""
    trial, last = folder.trial(), last_of(content)
    metrics = {name: value for name, value in last.items() if "/" in name}
    epochs = last.get("epoch", trial.epochs)
    text = result_text(status, identity=trial.identity, epochs=epochs, last=metrics)
    folder.result_file.write_text(text)


def make_events(folder: Path, values: Mapping[str, Iterable[float]]) -> Path:
    """A folder with one event file that holds values by tag, at steps 0, 1, 2, ..."""
    events = [
        scalar(tag, step, value, wall_time=1e9 + 10 * step)
        for tag, each in values.items()
        for step, value in enumerate(each)
    ]
    write(folder / NAME, version(wall_time=1e9 - 5), *events)
    return folder


def by_folder(runs: Iterable[Run]) -> dict[str, Run]:
    """Runs by the names of their folders."""
    return {run.folder.name: run for run in runs}


def beating(
    held: HeldFolder | RunFolder,
    *,
    epochs: int,
    steps: int,
    epoch: int = 0,
    batch: int = 0,
    device: str = "cpu",
) -> HeartbeatWriter:
    """The writer of the heartbeat of a trial that begins, which has beaten once."""
    writer = HeartbeatWriter(HeldFolder(held) if isinstance(held, RunFolder) else held)
    course = Course(epochs * steps, in_pass=steps, in_round=steps)
    writer.begin(Beginning(cast(Any, None), device, course, step=epoch * steps + batch))
    return writer
