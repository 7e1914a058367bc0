"""Runs as offline folders of Weights & Biases, which ``wandb sync`` uploads.

Nothing is sent from here. A run has one folder, which is written beside the others and takes its
place when it is whole; if the run has changed since, another one takes its place. So what is there
is never a part of a run, and never a part of it twice.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltagclip_cli.core import read_file, shortened
from deltagclip_cli.export.destination import (
    Change,
    Destination,
    ExportStoppedError,
    held_folder,
    write_error,
)
from deltagclip_cli.export.exported import ExportedRun
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.read.wandb_logs import whole_records

_MARK = "deltagclip.json"  # in a folder: which run, and the fingerprint of all that is there of it
_NO_PROJECT = str.maketrans(dict.fromkeys("/\\#?%:", "_"))
_MOST_LETTERS = 128  # of a name
_MOST_SECONDS = 10.0  # of one pause


@contextmanager
def offline_folders(place: str | None) -> Iterator[Destination]:
    """Open ``PLACE/wandb``, where the tools of W&B look for offline runs."""
    folder = Path(place or ".") / "wandb"
    with held_folder(folder) as unready:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        import wandb

        try:
            yield OfflineFolders(folder, unready)
        finally:
            wandb.teardown()


@dataclass
class OfflineFolders:
    """Offline runs in a folder called ``wandb``."""

    folder: Path
    unready: Path

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def next_step(self) -> str:
        return f"wandb sync {shlex.quote(str(self.folder))}/offline-run-*"

    def send(self, runs: Sequence[Run]) -> Iterator[Change]:
        """Write a folder for each run of which there is none that has all of it."""
        there = self._there()
        for run in map(ExportedRun.of, runs):
            old = there.get(run.id, {})
            if run.fingerprint in old.values():
                yield Change.SAME
                continue
            try:
                self._replace(list(old), self._write(run))
            except OSError as error:
                raise write_error(str(self.folder), error) from None
            yield Change.REPLACED if old else Change.NEW

    def _there(self) -> dict[str, dict[Path, str]]:
        """Return the folders of each run, by its id, with their fingerprints."""
        found: dict[str, dict[Path, str]] = {}
        for mark in self.folder.glob(f"offline-run-*/{_MARK}"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(read_file(mark))
                found.setdefault(content["id"], {})[mark.parent] = content["fingerprint"]
        return found

    def _write(self, run: ExportedRun) -> Path:
        """Write the folder of a run where nobody looks for it yet."""
        import wandb

        settings: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "root_dir": str(self.unready.resolve()),
            "disable_code": True,
            "disable_git": True,
            "x_disable_machine_info": True,  # which is that of whoever exports
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
            "x_start_time": run.begun_at or time.time(),
        }
        offline = wandb.init(
            mode="offline",
            id=run.id,
            project=shortened(run.experiment.translate(_NO_PROJECT), _MOST_LETTERS),
            group=shortened(run.group, _MOST_LETTERS),
            name=shortened(run.name, _MOST_LETTERS),
            config=run.config,
            settings=wandb.Settings(**settings),
        )
        for point in run.points:
            offline.log({**point.metrics, "_timestamp": point.time}, step=point.step)
        offline.summary.update(run.standing)
        written = Path(offline.dir).parent
        offline.finish(exit_code=0 if run.run.outcome is Outcome.FINISHED else 1)
        self._await(written, run)
        content = {"id": run.id, "fingerprint": run.fingerprint}
        (written / _MARK).write_text(json.dumps(content) + "\n")
        return written

    def _replace(self, old: Sequence[Path], new: Path) -> None:
        for number, path in enumerate(old):
            path.rename(self.unready / f"old-{number}")
        new.rename(self.folder / new.name)
        for number, _ in enumerate(old):
            shutil.rmtree(self.unready / f"old-{number}", ignore_errors=True)

    def _await(self, written: Path, run: ExportedRun) -> None:
        """Wait until all of a run is on the disk: another process writes it, and says nothing."""
        file, pause = written / f"run-{run.id}.wandb", 0.01
        while not _is_whole(file, len(run.points)):
            if pause > _MOST_SECONDS:
                raise ExportStoppedError(
                    str(self.folder), "a run is not written whole, as on a full disk"
                )
            time.sleep(pause)
            pause *= 1.5


def _is_whole(file: Path, points: int) -> bool:
    kinds: Counter[str] = Counter()
    with suppress(OSError, ValueError):
        kinds.update(record.WhichOneof("record_type") for record in records(file))
    return kinds["exit"] == 1 and kinds["history"] == points


def records(file: Path) -> Iterator[Any]:
    """Yield the records of a file that ends in ``.wandb``; ValueError behind the last whole one."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    return map(Record.FromString, whole_records(file.read_bytes()))
