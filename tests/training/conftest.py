"""Fixtures for the tests of training: a small file of experiments, and the command in process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from training_cases import ADAM, DELTA_GCLIP, SGD, TINY, Done
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.runs.folder import RunFolder

Deltagclip = Callable[..., Done]


@pytest.fixture(autouse=True)
def settings_of_torch_restored() -> Iterator[None]:
    """One thread, for small work is slower on two; afterwards all is as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    for name in ("deltagclip_cli", "py.warnings"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def tiny_spec(tmp_path: Path) -> Path:
    """A file with ``tiny``, an experiment of a fraction of a second, and ``wild``, which diverges.

    They have 4 steps an epoch, 3 epochs, and optimizers that go well and one that does not.
    """
    wild = {"name": "sgd", "lr": 1e30}
    document = {
        "experiments": {
            "tiny": {**TINY, "optimizers": {"delta-gclip": DELTA_GCLIP, "adam": ADAM, "sgd": SGD}},
            "wild": {**TINY, "optimizers": {"sgd": wild}},
        }
    }
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.fixture
def deltagclip(tiny_spec: Path, runs: Path) -> Deltagclip:
    """Runs a command on the tiny experiments in this process: ``deltagclip("train", "tiny")``."""

    def run(command: str, *arguments: object) -> Done:
        common = ("--spec", tiny_spec, "--runs", runs) if command == "train" else ()
        words = [command, *map(str, (*common, *arguments))]
        done = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def only_folder(runs: Path) -> Callable[[], RunFolder]:
    """Finds the one run folder that was made."""

    def find() -> RunFolder:
        (path,) = runs.glob("*/*/*")
        return RunFolder(path)

    return find
