"""Runs in a tracking store of MLflow: a server, a database or, where MLflow allows it, a folder.

MLflow gives runs names of its own, so that a run is found again by a tag. What is there of it is
looked up before anything is sent, and only what is missing is: a server that ends in the middle
leaves nothing that would be there twice.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deltagclip_cli.core import UsageError, claimed, shortened
from deltagclip_cli.export.destination import Change, Destination, ExportStoppedError, write_error
from deltagclip_cli.export.exported import ExportedRun
from deltagclip_cli.results.read.run import Outcome, Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as StoredRun
    from sqlalchemy import URL

_ID, _FINGERPRINT = "deltagclip.id", "deltagclip.fingerprint"
_STATES = {Outcome.FINISHED: "FINISHED", Outcome.FAILED: "FAILED", Outcome.DIVERGED: "FAILED"}
_NO_LETTERS = re.compile(r"[^\w/.\-: ]")
_MOST_TAGS, _MOST_METRICS, _MOST_RUNS = 100, 1000, 1000  # that a server takes or gives at once
_MOST_LETTERS = 250  # of a name
_MOST_LETTERS_OF_A_VALUE = 5000
_CHANGING = {"group", "conditions", "settings", "folder", "state", "reason"}
_FULL_WORDS, _FULL = "disk is full", "the disk is full; free space there"
_WRONG = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED")

T = TypeVar("T")

At = tuple[str, int]
"""A metric and a step."""

Measured = tuple[int, float]
"""A time in milliseconds, and a value."""


@contextmanager
def tracking_store(place: str | None) -> Iterator[Destination]:
    """Open the store at a URI: ``place``, else the one that MLflow uses itself."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of 7, which take minutes
    from mlflow import MlflowClient, get_tracking_uri
    from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE

    where = place or get_tracking_uri()
    allows_folders = bool(MLFLOW_ALLOW_FILE_STORE.get())  # type: ignore[no-untyped-call]
    if "://" not in where and where != "databricks" and not allows_folders:
        raise UsageError(
            f"--into {where}: MLflow keeps no runs in plain folders any more.\n"
            f"  Say --into sqlite:///{where}.db for a file, or http://HOST:PORT for a server."
        )
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints tracebacks
    with ExitStack() as stack:
        with _told(where):
            if where.startswith("sqlite"):
                stack.enter_context(_held_database(where))
            client = MlflowClient(where)
        yield TrackingStore(client)


@contextmanager
def _held_database(where: str) -> Iterator[None]:
    """Be the only export that writes in a file, which is made if it is not there."""
    from sqlalchemy import make_url

    url = make_url(where)
    file = Path(url.database or ":memory:")
    if file.name == ":memory:":
        yield
        return
    lock = file.with_name(f".{file.name}.deltagclip.lock")
    with claimed(lock, f"{file}: another export writes there."):
        if not file.exists():
            _make_whole(url, file)
        yield


def _make_whole(url: URL, file: Path) -> None:
    """Make a database, which appears when all of its tables are there.

    MLflow makes them in many steps, and never goes on with a database that has some of them.
    """
    from mlflow import MlflowClient

    unready = file.with_name(f".{file.name}.unready")
    parts = [unready, Path(f"{unready}-journal")]
    for part in parts:  # of an export that was killed
        part.unlink(missing_ok=True)
    try:
        MlflowClient(str(url.set(database=str(unready))))
        unready.rename(file)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


@dataclass
class TrackingStore:
    """A tracking store, which has an experiment for each of ours."""

    client: MlflowClient

    @property
    def where(self) -> str:
        return str(self.client.tracking_uri)

    @property
    def next_step(self) -> str:
        if self.where.startswith("http"):
            return ""
        return shlex.join(["mlflow", "ui", "--backend-store-uri", self.where])

    def send(self, runs: Sequence[Run]) -> Iterator[Change]:
        """Send what is missing of each run."""
        experiments: dict[str, tuple[str, dict[str, StoredRun]]] = {}
        for run in map(ExportedRun.of, runs):
            with _told(self.where):
                if run.experiment not in experiments:
                    experiments[run.experiment] = self._experiment(run.experiment)
                number, there = experiments[run.experiment]
                change = self._send(run, number, there.get(run.id))
            yield change

    def _experiment(self, name: str) -> tuple[str, dict[str, StoredRun]]:
        """Return the number of an experiment, and the runs that were sent to it, by their ids."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return self.client.create_experiment(name), {}
        runs: dict[str, StoredRun] = {}
        page = None
        while page != "":
            some = self.client.search_runs(
                [found.experiment_id],
                max_results=_MOST_RUNS,
                order_by=["attributes.start_time ASC"],
                page_token=page,
            )
            for each in some:
                first = runs.setdefault(each.data.tags.get(_ID, ""), each)
                if first is not each and _ID in each.data.tags:  # of two exports at once
                    self.client.delete_run(each.info.run_id)
            page = some.token or ""
        return found.experiment_id, runs

    def _send(self, run: ExportedRun, experiment: str, stored: StoredRun | None) -> Change:
        from mlflow.entities import Param, RunTag

        if stored is not None and stored.data.tags.get(_FINGERPRINT) == run.fingerprint:
            return Change.SAME
        metrics, change = stored_metrics(run), Change.NEW if stored is None else Change.GROWN
        there = {} if stored is None else self._there(stored)
        settings = _settings(run)
        if stored is not None and (
            any(metrics.get(at) != value for at, value in there.items())
            or any(settings.get(name) != value for name, value in stored.data.params.items())
        ):
            self.client.delete_run(stored.info.run_id)
            change, there, stored = Change.REPLACED, {}, None
        if stored is None:
            begun = None if run.begun_at is None else int(1000 * run.begun_at)
            stored = self.client.create_run(experiment, begun, {_ID: run.id}, run.name)
        number = stored.info.run_id
        self._log({at: value for at, value in metrics.items() if at not in there}, number)
        missing = [each for each in settings.items() if each[0] not in stored.data.params]
        for some in _parts(missing, _MOST_TAGS):
            self.client.log_batch(number, params=[Param(name, value) for name, value in some])
        self._describe(run, number)
        self.client.log_batch(number, tags=[RunTag(_FINGERPRINT, run.fingerprint)])  # the last word
        return change

    def _there(self, stored: StoredRun) -> dict[At, Measured]:
        return {
            (each.key, each.step): (each.timestamp, each.value)
            for name in stored.data.metrics
            for each in self.client.get_metric_history(stored.info.run_id, name)
        }

    def _log(self, metrics: Mapping[At, Measured], number: str) -> None:
        from mlflow.entities import Metric

        for some in _parts(list(metrics.items()), _MOST_METRICS):
            listed = [Metric(name, value, time, step) for (name, step), (time, value) in some]
            self.client.log_batch(number, metrics=listed)

    def _describe(self, run: ExportedRun, number: str) -> None:
        """Write what may change: how it stands, and what it is called beside others."""
        from mlflow.entities import RunTag

        said = {"group": run.group, **run.config, **run.standing}
        tags = [RunTag(f"deltagclip.{_name(n)}", _value(v)) for n, v in said.items() if _changes(n)]
        for some in _parts(tags, _MOST_TAGS):
            self.client.log_batch(number, tags=some)
        self.client.update_run(number, name=run.name)
        ended = run.result["ended_at"]
        if run.run.outcome in _STATES:
            end = int(1000 * ended) if isinstance(ended, float) else None
            self.client.set_terminated(number, _STATES[run.run.outcome], end)
        else:
            state = "RUNNING" if run.result["state"] == "running" else "KILLED"
            self.client.update_run(number, state)


def stored_metrics(run: ExportedRun) -> dict[At, Measured]:
    """Return each value by its metric and its step, with its time in milliseconds."""
    names: dict[str, str] = {}
    for name in sorted({name for point in run.points for name in point.metrics}):
        names[name] = _name(name)
        while list(names.values()).count(names[name]) > 1:
            names[name] += "_"
    return {
        (names[name], point.step): (int(1000 * point.time), float(value))
        for point in run.points
        for name, value in point.metrics.items()
    }


def _settings(run: ExportedRun) -> dict[str, str]:
    """Return what is a parameter, which MLflow never lets change."""
    return {_name(name): _value(v) for name, v in run.config.items() if not _changes(name)}


def _changes(name: str) -> bool:
    """Return whether what is said of a run may change as it goes on, or as others come."""
    return name in _CHANGING or name.startswith("circumstances.")


def _value(value: object) -> str:
    return shortened(str(value), _MOST_LETTERS_OF_A_VALUE)


def _name(name: str) -> str:
    """Return a name of which MLflow allows every letter."""
    return _NO_LETTERS.sub("_", name)[:_MOST_LETTERS]


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Tell in our words what a store says that it cannot do."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        why = shortened(str(error).partition("\n")[0])
        raise ExportStoppedError(where, _FULL if _FULL_WORDS in why else why) from None
    except OSError as error:  # of a file
        raise write_error(where, error) from None
    except ImportError as error:  # of a database
        raise UsageError(f"--into {where}: its library is not installed: {error}.") from None
    except MlflowException as error:
        why = shortened(" ".join(str(error).split()), _MOST_LETTERS)
        if error.error_code in _WRONG:
            raise UsageError(
                f"{where}: MLflow refuses it: {why}\n  Say another store with --into."
            ) from None
        if "Connection" in why or "Max retries" in why:
            why = "no server answers there"
        elif _FULL_WORDS in why:
            why = _FULL
        raise ExportStoppedError(where, why) from None
