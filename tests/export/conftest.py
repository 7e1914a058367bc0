"""A folder with runs, from which is exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from export_cases import MlflowServer, make_runs, reserved_port

from deltagclip_cli.runs.folder import RunFolder


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """Run folders below ``runs`` of the folder in which the test works."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    return make_runs(tmp_path)


@pytest.fixture(scope="session")
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Trackio's projects, which is that of a process for ever."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder))
        import trackio  # noqa: F401
    return folder


@pytest.fixture
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that runs."""
    with reserved_port() as port:
        server = MlflowServer(tmp_path_factory.mktemp("mlflow"), port)
        server.start()
        yield server
        server.kill()
