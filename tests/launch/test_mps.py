"""MPS: started for what shares a GPU, ended whatever happens, and done without where it must."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_gpus import FakeDriver

from deltagclip_cli.launch import mps as module
from deltagclip_cli.launch.mps import mps


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver(tmp_path / "bin")
    made.folder.mkdir()
    made.write()
    monkeypatch.setenv("PATH", made.path)
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return made


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def test_a_daemon_has_folders_of_its_own_and_ends_with_what_it_served(driver: FakeDriver) -> None:
    with mps() as environment:
        pipe, log = (Path(environment[f"CUDA_MPS_{each}_DIRECTORY"]) for each in ("PIPE", "LOG"))
        assert pipe.is_dir() and log.is_dir() and pipe.parent == log.parent
        assert pipe.parent.stat().st_mode & 0o077 == 0
        assert driver.asked[0] == f"start {pipe} {log} all"
        assert driver.asked[1] == f"start_server -uid {os.getuid()}"
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert driver.asked[-1] == "quit" and not pipe.parent.exists()


def test_an_error_ends_the_daemon_too(driver: FakeDriver) -> None:
    with pytest.raises(KeyboardInterrupt), mps():
        raise KeyboardInterrupt
    assert driver.asked[-1] == "quit"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_kill_of_whoever_started_the_daemon_ends_it(
    driver: FakeDriver, tmp_path: Path, number: signal.Signals
) -> None:
    code = (
        "import signal, time; from deltagclip_cli.launch.mps import mps\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
        "with mps() as e: print(e['CUDA_MPS_PIPE_DIRECTORY'], flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    pipe = Path(process.stdout.readline().strip())
    os.killpg(process.pid, number)  # as a terminal does
    process.wait()
    process.stdout.close()
    assert eventually(lambda: driver.asked[-1] == "quit" and not pipe.parent.exists())


def test_a_daemon_of_somebody_else_is_left_alone(
    driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
    with caplog.at_level(logging.INFO), mps() as environment:
        assert environment == {}
    assert "left as it is" in caplog.text
    assert "quit" not in driver.asked
    subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", check=True)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ({"refusal": "An instance of this daemon is not permitted here"}, "not permitted here"),
        ({"server": 'echo "Failed to start: 801" >"$CUDA_MPS_LOG_DIRECTORY/server.log"'}, "801"),
        ({"server": ":"}, "its server does not start"),
        (None, "there is no nvidia-cuda-mps-control"),
    ],
)
def test_without_mps_trials_take_turns_which_is_said_once(
    program: dict[str, str] | None,
    reason: str,
    driver: FakeDriver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = count(step=20)  # which pass at each look at the clock
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    if program is None:
        (driver.folder / "nvidia-cuda-mps-control").unlink()
    else:
        driver.write(**program)  # type: ignore[arg-type]
    with mps() as environment:
        assert environment == {}
    assert len(caplog.records) == 1
    assert "take turns" in caplog.text and reason in caplog.text
    started = [each for each in driver.asked if each.startswith("start ")]
    assert not started or driver.asked[-1] == "quit"


@pytest.mark.parametrize(
    ("visible", "daemons"), [("0,1", "all"), ("GPU-1,GPU-0", "GPU-1,GPU-0"), ("MIG-3", "MIG-3")]
)
def test_a_daemon_does_not_give_gpus_new_numbers(
    visible: str, daemons: str, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with mps():
        pass
    assert driver.asked[0].endswith(f" {daemons}")


def test_the_path_of_a_socket_stays_short(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 70)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with mps() as environment:
        assert environment["CUDA_MPS_PIPE_DIRECTORY"].startswith("/tmp/mps-")
