"""Runs in local projects of Trackio: a file of SQLite for each experiment.

The library's own storage is called, not its ``init`` and ``log``: those give runs random names and
send what they are told later, from a thread. Here a run and what was measured of it are written in
one transaction, and each point has a name, under which it is there once.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from deltagclip_cli.core import UsageError
from deltagclip_cli.export.destination import Change, Destination, ExportStoppedError, held_folder
from deltagclip_cli.export.exported import ExportedRun, Point
from deltagclip_cli.results.read.run import Run

_FINGERPRINT = "_fingerprint"  # in the configuration of a run: that of all that is there of it
_NOTHING = (Point(0, 0.0, {"epoch": 0}),)  # for the library, what has no points is no run


@contextmanager
def local_projects(place: str | None) -> Iterator[Destination]:
    """Open the folder of local projects: ``place``, else the one that Trackio uses itself."""
    if place is not None:
        os.environ["TRACKIO_DIR"] = place  # which the library reads once, when it is imported
    from trackio.utils import TRACKIO_DIR

    with held_folder(TRACKIO_DIR):
        yield LocalProjects()


@dataclass
class LocalProjects:
    """The local projects of this process."""

    experiment: str = ""  # the last one that was sent

    @property
    def where(self) -> str:
        from trackio.utils import TRACKIO_DIR

        return str(TRACKIO_DIR)

    @property
    def next_step(self) -> str:
        words = shlex.join(["trackio", "show", "--project", self.experiment])
        return f"TRACKIO_DIR={shlex.quote(self.where)} {words}" if self.experiment else ""

    def send(self, runs: Sequence[Run]) -> Iterator[Change]:
        """Write what is missing of each run."""
        for run in map(ExportedRun.of, runs):
            self.experiment = run.experiment
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    change = _send(run)
            except ValueError as error:  # of a name that it keeps for itself
                raise UsageError(f"{run.experiment}: {error}") from None
            except (OSError, sqlite3.Error) as error:
                raise ExportStoppedError(self.where, f"cannot be written: {error}") from None
            yield change


def _send(run: ExportedRun) -> Change:
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.validate_project_name(run.experiment)
    points = tuple(replace(each, time=_moment(each).timestamp()) for each in run.points or _NOTHING)
    config = SQLiteStorage.get_run_config(run.experiment, run.name, run_id=run.id)
    if config is not None and config.get(_FINGERPRINT) == run.fingerprint:
        return Change.SAME
    there = _points(run) if config is not None else ()
    change = Change.NEW if config is None else Change.GROWN
    if there != points[: len(there)]:
        SQLiteStorage.delete_run(run.experiment, run.name, run_id=run.id)
        change, there = Change.REPLACED, ()
    missing = points[len(there) :] or points[-1:]  # without a point, the settings are not written
    begun = datetime.fromtimestamp(run.begun_at or points[0].time, UTC).isoformat()
    SQLiteStorage.bulk_log(
        run.experiment,
        run.name,
        [dict(each.metrics) for each in missing],
        [each.step for each in missing],
        [_moment(each).isoformat() for each in missing],
        {
            **run.config,
            **run.standing,
            "_Group": run.group,
            "_Created": begun,
            _FINGERPRINT: run.fingerprint,
        },
        [f"{run.id}-{each.step}" for each in missing],
        run_id=run.id,
    )
    return change


def _points(run: ExportedRun) -> tuple[Point, ...]:
    """Return what is there of a run, in the order of the steps."""
    from trackio.sqlite_storage import SQLiteStorage

    found = SQLiteStorage.get_logs(run.experiment, run.name, run_id=run.id)
    return tuple(_point(each) for each in sorted(found, key=lambda each: each["step"]))


def _moment(point: Point) -> datetime:
    """Return the time of a point as exactly as it is kept there: in microseconds."""
    return datetime.fromtimestamp(point.time, UTC)


def _point(log: dict[str, Any]) -> Point:
    step, moment = log.pop("step"), datetime.fromisoformat(log.pop("timestamp"))
    return Point(step, moment.timestamp(), log)
