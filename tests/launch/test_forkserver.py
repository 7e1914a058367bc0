"""The processes that workers are: what is left of one that ended before its training began."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from textwrap import indent

import pytest
from sweep_cases import Place, wait_for
from tiny_spec import trial_of

from deltagclip_cli.core import ExitCode
from deltagclip_cli.launch import forkserver as module
from deltagclip_cli.launch.forkserver import ForkServer
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create, hold

CALL = """
import time
from deltagclip_cli.launch import forkserver
forkserver._LOADED = []  # torch takes seconds
forkserver.ForkServer().call(time.sleep, 0, should_stop=lambda: False)
"""


# Starts a process that will not stop, or a fork server that loads for long.
STUBBORN = """
from deltagclip_cli.launch import forkserver
forkserver._LOADED = []
there = forkserver.ForkServer()
there.open()
work = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('at work', 'w');"
work += "time.sleep(600)"
there.call(exec, work, should_stop=lambda: False)
"""
SLOW = """
import os, time
from deltagclip_cli.launch import forkserver
forkserver._LOADED = ["slow_to_load"]
there = forkserver.ForkServer()
there.open()
there.call(time.sleep, 0, should_stop=lambda: False)
"""


WITH_CHILDREN = """
from deltagclip_cli.launch import forkserver
forkserver._LOADED = []
work = "import multiprocessing; child = multiprocessing.get_context('fork').Process(target=print);"
work += "child.start(); child.join(); assert child.exitcode == 0"
there = forkserver.ForkServer()
there.open()
there.call(exec, work, should_stop=lambda: False)
"""


def start(place: Place, program: str, *, slow: int = 99) -> subprocess.Popen[bytes]:
    """Start a program, whose fork servers load for minutes the first few times."""
    (place.path / "slow_to_load.py").write_text(
        "import os, time; open('loading', 'a').write('.');"
        f"time.sleep(600 if os.path.getsize('loading') <= {slow} else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(place.path)}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=place.path, env=environment, stderr=subprocess.PIPE
    )


def loads(place: Place, times: int = 1) -> bool:
    file = place.path / "loading"
    return file.exists() and file.stat().st_size >= times


def test_a_call_may_have_processes_of_its_own_as_those_that_fetch_data_are(tmp_path: Path) -> None:
    with start(Place(tmp_path), WITH_CHILDREN) as parent:
        assert parent.wait(60) == 0, parent.stderr.read() if parent.stderr else ""


@pytest.mark.slow
def test_a_process_that_will_not_stop_ends_soon_after_its_parent(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with start(place, STUBBORN) as parent:
        wait_for((place.path / "at work").exists, "the fork to be at work")
        assert len(place.processes()) == 4, "a tracker, a server and its fork"
        parent.kill()
    place.wait_until_left(patience=60)


def test_who_has_loaded_the_data_of_a_sweep_that_was_killed_says_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_become_independent", lambda: None)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    receiver.close()
    module._call(int, (), sender)
    assert capfd.readouterr() == ("", "")


def test_a_fork_server_that_is_killed_is_started_again_a_few_times(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with start(place, SLOW, slow=2) as parent:
        for times in (1, 2):
            wait_for(lambda times=times: loads(place, times), "the fork server to load")
            (server,) = place.fork_servers()
            os.kill(server, signal.SIGKILL)
        _, errors = parent.communicate()
    assert (parent.returncode, errors.decode()) == (0, "")


def test_a_resource_tracker_that_is_killed_is_not_told_of(server: ForkServer) -> None:
    """It had nothing of ours, and Python's warning about it, here an error, helps nobody."""
    assert server.call(os.getpid, should_stop=lambda: False)
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    os.kill(tracker, signal.SIGKILL)
    wait_for(lambda: ") Z " in Path(f"/proc/{tracker}/stat").read_text(), "its end")
    assert server.call(os.getpid, should_stop=lambda: False)


def test_a_fork_server_that_is_killed_each_time_is_given_up(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with start(place, SLOW) as parent:
        for times in (1, 2, 3, 4):
            wait_for(lambda times=times: loads(place, times), "the fork server to load")
            (server,) = place.fork_servers()
            os.kill(server, signal.SIGKILL)
        _, errors = parent.communicate()
    assert b"the process that loads the data was killed 4 times" in errors


# It was sent to the group of the terminal, before the fork had left that.
INTERRUPTED = """
import multiprocessing, os, signal
from deltagclip_cli.launch import forkserver

sentinel, _ = os.pipe()
multiprocessing.parent_process = lambda: type("", (), {"sentinel": sentinel})
signal.pthread_sigmask(signal.SIG_BLOCK, forkserver._SIGNALS)
os.kill(os.getpid(), signal.SIGINT)
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.kill(os.getpid(), signal.SIGINT)
forkserver._become_independent()
"""


def test_an_interrupt_in_the_middle_of_a_fork_is_not_for_the_worker() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def server() -> ForkServer:
    return ForkServer()


@pytest.mark.slow
def test_the_last_words_of_a_worker_are_what_it_added_to_its_log(
    server: ForkServer, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    log.write_text("epoch 1/2\n")
    worker = server.start(["worker", str(tmp_path), "--nonsense"], log, {})
    wait([worker.sentinel])
    assert worker.exit_code == 2
    assert "No such option: --nonsense" in worker.last_words()
    assert "epoch" not in worker.last_words()
    log.unlink()
    assert worker.last_words() == ""
    worker.forget()


@pytest.mark.slow
def test_a_worker_says_nothing_in_the_folder_of_another(server: ForkServer, tmp_path: Path) -> None:
    trial = trial_of(tmp_path)
    folder = RunFolder.of(tmp_path / "runs", trial)
    create(folder, trial)
    with hold(folder):
        worker = server.start(["worker", str(folder.path)], folder.log_file, {})
        wait([worker.sentinel])
    assert worker.exit_code == ExitCode.CLAIMED
    assert worker.last_words() == ""
    worker.forget()


@pytest.mark.parametrize("name", ["x" * 120, "r\udcff\n", "nowhere"])
def test_the_folder_for_temporary_files_may_be_any(tmp_path: Path, name: str) -> None:
    """The path of a socket has at most 107 bytes."""
    folder = tmp_path / name
    if name != "nowhere":
        folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", CALL], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_files_in_the_current_folder_are_no_modules_of_the_server(tmp_path: Path) -> None:
    program, here = tmp_path / "program.py", tmp_path / "here"
    program.write_text(f"if __name__ == '__main__':\n{indent(CALL, '    ')}")
    here.mkdir()
    for name in ("random", "tempfile", "torch"):
        (here / f"{name}.py").write_text("raise ValueError")
    done = subprocess.run([sys.executable, program], cwd=here, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


LOADED = """
import torch
from importlib import import_module
from deltagclip_cli.launch.forkserver import _LOADED

def touched(*arguments):
    raise AssertionError("a fork of this process could not use the GPU any more")

for name in ("_cuda_init", "_cuda_getDeviceCount"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, touched)
for name in _LOADED:
    import_module(name)
"""


@pytest.mark.slow
def test_what_workers_are_forks_of_has_not_touched_a_gpu() -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True)
