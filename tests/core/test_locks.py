"""Claims: one holder at a time, free again with the end of the process, and no trace is needed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deltagclip_cli.core import ClaimedError, claimed, is_claimed
from deltagclip_cli.core.files import _tell_of_missing_locks

HOLD = """
import fcntl, os, sys
from pathlib import Path
from deltagclip_cli.core import claimed
if number := int(sys.argv[2]):  # a file system without locks
    def flock(file, how):
        raise OSError(number, os.strerror(number))
    fcntl.flock = flock
with claimed(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
""".strip()


def holder(file: Path, number: int = 0) -> subprocess.Popen[str]:
    """Another process that holds the claim until its input ends, perhaps where locks fail."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file), str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_claim_of_another_process_is_seen_and_refused(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with holder(file) as process:
        assert is_claimed(file)
        with pytest.raises(ClaimedError, match="in use"), claimed(file, "in use"):
            raise AssertionError
        process.communicate("")
    assert not is_claimed(file)


def test_a_claim_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with holder(file) as process:
        process.kill()
        process.communicate()
    assert file.exists()
    assert not is_claimed(file)
    with claimed(file, "in use"):
        pass


def test_asking_whether_a_claim_is_held_does_not_get_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.touch()
    asking = threading.Event()

    def ask() -> None:
        while not asking.is_set():
            is_claimed(file)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(200):
            with claimed(file, "in use", patience=60):  # the asker may lose the processor
                pass
    finally:
        asking.set()
        asker.join()


def test_a_file_that_does_not_exist_is_not_made_by_asking(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path / "nowhere" / ".lock")
    assert not is_claimed(tmp_path / ".lock")
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with holder(file) as process:
        assert process.stdin is not None
        ending = threading.Timer(0.1, process.stdin.close)
        ending.start()
        with claimed(file, "in use", patience=60):
            assert process.stdin.closed
        ending.join()


# ---------------------------------------------------------------- file systems without locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_without_locks_the_processes_of_a_machine_still_see_each_other(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    _tell_of_missing_locks.cache_clear()
    file = tmp_path / ".lock"
    assert not is_claimed(file)
    with holder(file, number) as process:
        assert is_claimed(file)
        with pytest.raises(ClaimedError, match="in use"), claimed(file, "in use"):
            raise AssertionError
        process.kill()
        process.communicate()
    assert not is_claimed(file)
    with claimed(file, "in use"):
        assert is_claimed(file)
        assert not is_claimed(tmp_path / ".another.lock")
    (told,) = caplog.messages
    assert told.startswith(f"The file system keeps no locks ({os.strerror(number)}).")


def test_a_claim_on_a_file_that_its_holder_removes_is_one_on_the_next(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with claimed(file, "in use"):
        file.unlink()
        with claimed(file, "in use"):
            assert is_claimed(file)
    assert not is_claimed(file)


def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with claimed(tmp_path / ".lock", "in use"):
        pass
