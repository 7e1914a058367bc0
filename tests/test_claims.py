"""Claims: one holder at a time, free again with the end of the process, and no trace is needed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deltagclip_cli.claims import claimed, is_claimed
from deltagclip_cli.errors import ClaimedError

HOLD = """
import sys
from pathlib import Path
from deltagclip_cli.claims import claimed
with claimed(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
""".strip()


def holder(file: Path) -> subprocess.Popen[str]:
    """Another process that holds the claim until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)],
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
            with claimed(file, "in use"):
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
        begin = time.monotonic()
        with claimed(file, "in use"):
            assert time.monotonic() - begin > 0.05
        ending.join()
