"""The command line, called in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from invocation import Invoke
from tiny_spec import write_spec
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app


@pytest.fixture
def deltagclip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call the command in a folder that holds the spec ``spec.yaml`` and nothing else."""
    write_spec(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELTAGCLIP_DATA", raising=False)

    def invoke(*words: str, catch: bool = False) -> Result:
        return CliRunner().invoke(app, list(words), catch_exceptions=catch)

    return invoke


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the spec ``spec.yaml`` and a finished trial of it under ``runs``."""
    folder = tmp_path_factory.mktemp("trained")
    write_spec(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["train", "tiny", "--spec", "spec.yaml", "--device", "cpu", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "deltagclip_cli", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder / "answer.json").write_text(done.stdout)
    return folder
