"""MLflow's runs: ``mlruns/<experiment>/<run>/`` of its file store, and ``mlflow.db`` of its SQLite.

Both are read as they lie there, without its library: the client would change the database to the
version that it knows, and has no file store any more in its newest ones.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from deltagclip_cli.core import MOST_BYTES, as_number, open_file, read_file
from deltagclip_cli.results.read.log import Log, Points
from deltagclip_cli.results.read.run import Outcome
from deltagclip_cli.spec.document import parse

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Option

META = "meta.yaml"
DATABASES = ("mlflow.db", "mlruns.db")
_STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_UNNAMED = ("", "Default")  # of experiments
_OF_THE_MACHINE = "system/"  # what metrics of the machine's load begin with
_MILLISECONDS = 1e3
_PAUSES = (0.0, 0.1, 0.3, 1.0, 3.0)  # in seconds, before each attempt to copy a database

_RUNS = """
select runs.run_uuid, runs.name, runs.status, runs.start_time, experiments.name
from runs left join experiments using (experiment_id)
where runs.lifecycle_stage = 'active' order by runs.start_time, runs.run_uuid
"""
_METRICS = "select run_uuid, key, timestamp, value, step, is_nan from metrics order by rowid"
_PARAMS = "select run_uuid, key, value from params"


class _LoggedRun:
    """The content of a run as it is put together."""

    def __init__(self, state: str, begin: Any, name: Any, experiment: Any) -> None:
        self.state = state
        self.begin = begin / _MILLISECONDS if isinstance(begin, int | float) and begin else None
        self.name = str(name or "") or None
        self.experiment = None if str(experiment or "") in _UNNAMED else str(experiment)
        self.options: dict[str, Option] = {}
        self._points: dict[str, list[tuple[float, float, float]]] = {}  # step, time, value

    def add(self, key: str, time: float, value: float, step: float) -> None:
        """Add a point, ``time`` in milliseconds since 1970."""
        if not key.startswith(_OF_THE_MACHINE):
            self._points.setdefault(key, []).append((step, time / _MILLISECONDS, value))

    def log(self, place: Path, problems: Iterable[str] = (), *, whole: bool = True) -> Log:
        """Return all of it; a metric for which nobody counted has the numbers of its points.

        Args:
            place: of the run, for what is told of it.
        """
        points = Points()
        points.next_file()
        for key, found in self._points.items():
            is_counted = any(step for step, *_ in found)
            for number, (step, at, value) in enumerate(found):
                points.add(key, step if is_counted else number, at, value)
        outcome, reason = _ended(self.state)
        return Log(
            points.scalars(),
            [*problems, *([f"{place}: {lost}."] if (lost := points.lost()) else [])],
            self.begin,
            self.options,
            whole=whole,
            name=self.name,
            experiment=self.experiment,
            outcome=outcome,
            reason=reason,
        )


def _ended(state: str) -> tuple[Outcome, str]:
    match state:
        case "FINISHED":
            return Outcome.FINISHED, ""
        case "FAILED":
            return Outcome.FAILED, "MLflow says that it failed"
    return Outcome.UNFINISHED, f"MLflow says that it is {state.lower() or 'in no state'}"


def is_mlflow_run(folder: Path) -> bool:
    """Tell whether a folder with :data:`META` is that of a run, not of an experiment."""
    return (folder / "metrics").is_dir()


def read_mlflow_run(folder: Path) -> Log:
    """Read a run of a file store; of files that are damaged, everything before that."""
    meta = _yaml(folder / META)
    if not meta:
        return Log({}, [f"{folder / META}: cannot be read."], whole=False)
    if meta.get("lifecycle_stage", "active") != "active":
        return Log({}, [f"{folder}: was deleted in MLflow, so it is left out."])
    status, experiment = meta.get("status"), _yaml(folder.parent / META).get("name")
    state = _STATES.get(status, "") if isinstance(status, int) else str(status)
    name = meta.get("run_name") or _text(folder / "tags" / "mlflow.runName")
    run = _LoggedRun(state, meta.get("start_time"), name, experiment)
    problems: list[str] = []
    for path in _files(folder / "metrics"):
        key = path.relative_to(folder / "metrics").as_posix()
        try:
            for point in _points(path):
                run.add(key, *point)
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}.")
    for path in _files(folder / "params"):
        run.options[path.relative_to(folder / "params").as_posix()] = _text(path)
    return run.log(folder, problems, whole=not problems)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _yaml(path: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError, yaml.YAMLError):
        data = parse(read_file(path).decode())
        if isinstance(data, dict):
            return data
    return {}


def _text(path: Path) -> str:
    with suppress(OSError):
        return read_file(path, MOST_BYTES).decode(errors="replace").strip()
    return ""


def _points(path: Path) -> Iterator[tuple[float, float, float]]:
    """Yield time, value and step of each line; ValueError, with what is wrong, at the first bad."""
    with open_file(path) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise ValueError("its last line has no end; it is cut off, or still being written")
            cells = [as_number(word) for word in line.decode(errors="replace").split()[:3]]
            cells = [*cells, 0.0] if len(cells) == 2 else cells  # before MLflow counted steps
            if len(cells) < 3 or None in cells:
                raise ValueError(f"damaged in line {number}; what follows was not read")
            time, value, step = (math.nan if each is None else each for each in cells)
            yield time, value, step


def read_mlflow_database(path: Path) -> tuple[dict[str, Log], list[str]]:
    """Read all runs of a database that were not deleted, by their ids, and what is wrong.

    What is read is a copy, so that nothing is written there, no lock keeps a server waiting, and
    SQLite can take up what a server that runs, or was killed, has left beside it.
    """
    runs: dict[str, _LoggedRun] = {}
    problems: list[str] = []
    try:
        with _copy(path) as file, closing(sqlite3.connect(file)) as database:
            for each, name, state, begin, experiment in database.execute(_RUNS):
                runs[each] = _LoggedRun(str(state), begin, name, experiment)
            for each, key, value in database.execute(_PARAMS):
                if each in runs:
                    runs[each].options[key] = value
            for each, key, time, value, step, is_nan in database.execute(_METRICS):
                if each in runs:
                    runs[each].add(key, time, math.nan if is_nan else value, step)
    except (OSError, sqlite3.Error) as error:
        problems = [f"{path}: not read to its end, or no database of MLflow: {error}."]
    return {each: run.log(path / each, whole=not problems) for each, run in runs.items()}, problems


@contextmanager
def _copy(path: Path) -> Iterator[Path]:
    """Copy a database as it was at one moment, with what SQLite keeps beside it."""
    with TemporaryDirectory() as folder:
        for pause in _PAUSES:
            time.sleep(pause)
            before, copy = _parts(path), Path(folder, str(pause))
            copy.mkdir()
            with suppress(FileNotFoundError):  # one is not there any more
                for part in before:
                    with open_file(part) as there, open(copy / part.name, "wb") as here:
                        shutil.copyfileobj(there, here)
            if _parts(path) == before:
                break
            shutil.rmtree(copy)
        else:
            raise OSError("it is written to all the time; read it again when that is over")
        yield copy / path.name


def _parts(path: Path) -> dict[Path, tuple[int, int]]:
    """Return the files of a database that are there, with their sizes and times.

    A log has what is not in the database yet, a journal what is to be undone there.
    """
    found = {}
    for part in (path, Path(f"{path}-wal"), Path(f"{path}-journal")):
        with suppress(FileNotFoundError):
            status = part.stat()
            found[part] = (status.st_size, status.st_mtime_ns)
    return found
