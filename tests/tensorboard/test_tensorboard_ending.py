"""``deltagclip tensorboard`` as a process: it follows runs, stops in order, and leaves nothing."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard_cases import Shown, eventually, sweep

pytestmark = pytest.mark.slow


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    """The command on a sweep, about to be ended."""
    sweep(tmp_path / "runs")
    found = Shown(tmp_path)
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_tensorboard_and_removes_its_folder(
    number: signal.Signals, code: int, shown: Shown
) -> None:
    assert shown.page.startswith("http://localhost:") and len(shown.children()) >= 1
    assert shown.end(number) == (code, "Ctrl-C stops TensorBoard.\n")
    assert shown.is_put_away()


def test_who_is_killed_leaves_no_process(shown: Shown) -> None:
    assert shown.children()
    shown.process.kill()
    assert eventually(lambda: not shown.children())


def test_ports_that_are_taken_are_passed_by_unless_they_were_asked_for(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", seeds=1)
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = Shown(tmp_path, "--port", port)
        _, words = refused.process.communicate(timeout=300)
        assert refused.process.returncode == 2
        assert f"error: --host localhost --port {port}: TensorBoard could not bind" in words
        assert "Say another --host or --port." in words and refused.is_put_away()


def test_a_host_that_is_not_this_machine_is_refused(tmp_path: Path) -> None:
    sweep(tmp_path / "runs", seeds=1)
    refused = Shown(tmp_path, "--host", "203.0.113.7")
    _, words = refused.process.communicate(timeout=300)
    assert refused.process.returncode == 2
    assert "error: --host 203.0.113.7: " in words and refused.is_put_away()
