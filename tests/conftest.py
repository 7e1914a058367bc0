"""Fixtures for all tests: real data where there is some, and no way to the network."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_fakes import FakeSlurm

from deltagclip_cli.core import claimed

# Several processes run tests at once, each of which would else take all cores for small sums.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test has several, none spins

# Else W&B connects to its maker a minute after it was used, in the middle of another test.
os.environ["WANDB_ERROR_REPORTING"] = "false"

# Tests and package are compiled once, not by every process anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


gc.disable()  # until all tests are collected: what they import is needed to the end

_UNPACK = Path(__file__).parents[2] / "shared" / "data" / "unpack"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that none is left to one process at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Never look through what was imported and collected for garbage again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _never_wait_for_the_disk() -> None:
    """Let ``fsync`` refuse what is closed and do nothing else, as no test cuts the power."""

    def fsync(descriptor: int) -> None:
        os.fstat(descriptor)

    os.fsync = fsync


_never_wait_for_the_disk()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A data folder with MNIST, CIFAR-10 as JPEG files and ``emotion``; skips where there is none.

    It lies outside the repository and is laid out once for all runs of the tests.
    """
    if not _UNPACK.is_file():
        pytest.skip("the real data sets are not on this machine")
    folder = Path(tempfile.gettempdir(), "deltagclip-test-data")
    folder.mkdir(exist_ok=True)
    with claimed(folder / ".unpack.lock", "", patience=600):
        subprocess.run([str(_UNPACK), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those that pytest makes are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _is_local(host: Any) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return bool(host == socket.gethostname())
    return address.is_loopback


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that looks a host up or connects to one, other than this machine."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            pytest.fail(f"a test connected to {address}")
        connect(self, address)

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            pytest.fail(f"a test looked up {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture
def fake_slurm(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> FakeSlurm:
    """Slurm's commands that are made up, with an empty queue; the real ones cannot be found."""
    slurm = FakeSlurm(tmp_path_factory.mktemp("slurm"))
    monkeypatch.setenv("PATH", str(slurm.bin))
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))]:
        monkeypatch.delenv(name)
    return slurm
