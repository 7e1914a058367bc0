"""Runs to export, exports that are killed in the middle, and what is there afterwards."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from run_cases import Record, finish, lines, make_run, record
from tiny_spec import trials_of
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import load_target
from deltagclip_cli.runs.folder import RunFolder

METRIC = "test/accuracy"
EPOCHS = 4

History = list[tuple[int, float]]
"""The steps and the values of a metric, as often as they are there."""


def records(trial: int, epochs: int = EPOCHS, shift: float = 0.0) -> list[Record]:
    """What a trial measured: numbers that no rounding leaves alone."""
    return [
        {
            **record(epoch, 0.1 + 0.2 + trial / 7, **{METRIC: shift + trial / 7 + epoch / 300}),
            "time": 1.8e9 + epoch / 7,
        }
        for epoch in range(1, epochs + 1)
    ]


def make_runs(folder: Path) -> list[RunFolder]:
    """Eight runs: of the last four, one has diverged, one goes on, and one failed at once."""
    trials = trials_of(folder, "seeds=[0, 1, 2, 3]", f"epochs={EPOCHS}")
    ends = {4: (2, "diverged"), 5: (1, None), 6: (0, None)}
    found = []
    for number, trial in enumerate(trials):
        epochs, status = ends.get(number, (EPOCHS, "finished"))
        found.append(make_run(folder / "runs", trial, lines(*records(number, epochs)), status))
    found[6].metrics_file.unlink()
    found[6].error_file.write_text("ValueError: no\n")
    return found


def go_on(folder: RunFolder, number: int = 5) -> None:
    """Let the run that goes on come to its end."""
    folder.metrics_file.write_bytes(lines(*records(number)))
    finish(folder)


def grow(folder: RunFolder, number: int = 4) -> None:
    """Let the run that diverged do so an epoch later."""
    folder.metrics_file.write_bytes(lines(*records(number, 3)))
    finish(folder, "diverged")


def train_again(folder: RunFolder, number: int = 0) -> None:
    """What ``--force`` does: other numbers at the same steps."""
    folder.metrics_file.write_bytes(lines(*records(number, shift=1.0)))
    finish(folder)


def export(*words: str) -> tuple[int, str]:
    """Export in this process; return the exit code and what was printed."""
    done = CliRunner().invoke(app, ["export", *words], catch_exceptions=False)
    return done.exit_code, done.output


def killed_export(*words: str, at: str, call: int) -> bool:
    """Export in a process that kills itself; return whether it got so far.

    Args:
        at: the function that it calls, and before which it is killed, as ``module:attribute``.
        call: the number of the call, from 1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child calls no other thread
        child = os.fork()
    if child == 0:
        try:
            _kill_at(at, call)
            os._exit(export(*words)[0])
        finally:
            os._exit(99)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _kill_at(name: str, call: int) -> None:
    module, _, path = name.partition(":")
    *owners, attribute = path.split(".")
    owner = load_target(f"{module}:{owners[0]}") if owners else import_module(module)
    function: Callable[..., Any] = getattr(owner, attribute)
    calls = Counter[str]()

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        if calls[name] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, attribute, counting)


def compared() -> dict[str, float]:
    """The value of each run that ``compare --json`` counts, by its identity."""
    words = ["compare", "--json", "--metric", METRIC]
    answer = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    return {
        RunFolder(Path(run["folder"])).trial().identity: run["value"]
        for experiment in answer["experiments"]
        for setting in experiment["settings"]
        for run in setting["runs"]
        if run["value"] is not None
    }


def measured(folders: list[RunFolder]) -> dict[str, History]:
    """What the run folders have, by the identities of the trials."""
    return {
        folder.trial().identity: [(each["step"], each[METRIC]) for each in folder.metrics()]
        for folder in folders
    }


def in_csv(place: str) -> dict[str, History]:
    """What is in ``metrics.csv``; each run has one row in ``runs.csv``."""
    with open(Path(place, "runs.csv"), newline="") as file:
        ids = [row["identity"] for row in csv.DictReader(file)]
    with open(Path(place, "metrics.csv"), newline="") as file:
        return _by_id(ids, list(csv.DictReader(file)))


def in_parquet(place: str) -> dict[str, History]:
    """What is in ``metrics.parquet``; each run has one row in ``runs.parquet``."""
    from pyarrow import parquet

    ids = parquet.read_table(Path(place, "runs.parquet"))["identity"].to_pylist()
    return _by_id(ids, parquet.read_table(Path(place, "metrics.parquet")).to_pylist())


def _by_id(ids: list[str], rows: list[dict[str, Any]]) -> dict[str, History]:
    assert len(set(ids)) == len(ids)
    found: dict[str, History] = {name: [] for name in ids}
    for row in rows:
        found[row["identity"]].append((int(row["step"]), float(row[METRIC])))
    return found


def in_wandb(place: str) -> dict[str, History]:
    """What is in the offline folders, of which each run has one."""
    from deltagclip_cli.export.wandb_folders import records

    found: dict[str, History] = {}
    for file in Path(place).glob("wandb/offline-run-*/*.wandb"):
        run = ""
        for each in records(file):
            if each.HasField("run"):
                run = each.run.run_id
                assert run not in found
                found[run] = []
            items = {
                "".join(item.nested_key) or item.key: item.value_json for item in each.history.item
            }
            if METRIC in items:
                found[run].append((each.history.step.num, json.loads(items[METRIC])))
    return found


def in_trackio(place: str) -> dict[str, History]:
    """What the local project has."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found: dict[str, History] = {}
    for run in trackio.Api().runs("tiny"):
        assert run.id not in found
        logs = SQLiteStorage.get_logs("tiny", run.name, run_id=run.id)
        found[run.id] = [(each["step"], each[METRIC]) for each in logs if METRIC in each]
    return found


@dataclass
class MlflowServer:
    """A tracking server of MLflow, with its files in a folder."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", str(self.folder / "mlruns")]
        environment = {"MLFLOW_ALLOW_FILE_STORE": "1", "MLFLOW_DISABLE_TELEMETRY": "1"}
        with (self.folder / "server.txt").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options, *store],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        for _ in range(3000):
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.txt").read_text()
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def die_in_the_middle(self, patch: pytest.MonkeyPatch) -> None:
        """Die when a client of this process sends the second part of a run."""
        from mlflow import MlflowClient

        send, what_happens = MlflowClient.log_batch, iter([lambda: None, self.kill])

        def sending(*args: Any, **kwargs: Any) -> Any:
            next(what_happens, lambda: None)()
            return send(*args, **kwargs)

        patch.setattr(MlflowClient, "log_batch", sending)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def kill(self) -> None:
        """End it and the processes that it has started, at once."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that nobody is given while the context lasts; a server that asks for it may listen."""
    with socket.socket() as holding:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.bind(("127.0.0.1", 0))
        yield int(holding.getsockname()[1])


def in_mlflow(uri: str) -> dict[str, History]:
    """What a tracking store has."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    if experiment is None:
        return {}
    found: dict[str, History] = {}
    for run in client.search_runs([experiment.experiment_id]):
        name = run.data.tags["deltagclip.id"]
        assert name not in found
        history = client.get_metric_history(run.info.run_id, METRIC)
        found[name] = sorted((each.step, each.value) for each in history)
    return found
