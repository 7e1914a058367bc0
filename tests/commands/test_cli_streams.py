"""Whatever the streams, the terminal and the folders are like, a command does its work."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_spec import TINY, write_spec

TITLE = "δ ≤ 1 é\x1b[31m\x9b31m\u202e"
HOSTILE = TINY.replace("A network that trains in a blink", json.dumps(TITLE)[1:-1]).replace(
    "title: ", 'title: "'
)
HOSTILE = HOSTILE.replace("u202e", 'u202e"')


def run(
    folder: Path, *words: str, before: str = "", shell: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Call the command in a process of its own, perhaps with redirections of the shell."""
    command = " ".join([before, sys.executable, "-m", "deltagclip_cli", *words, shell])
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        timeout=300,
    )


def on_a_terminal(
    folder: Path, *words: str, columns: int = 80, **environment: str
) -> tuple[int, str]:
    """The exit code and what is shown on a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "deltagclip_cli", *words],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    shown = b""
    try:
        while more := os.read(ours, 65536):
            shown += more
    except OSError as error:  # of the end of a terminal
        assert error.errno == errno.EIO
    os.close(ours)
    return process.wait(60), shown.decode()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_spec(tmp_path, HOSTILE)
    return tmp_path


LIST = ("list", "--spec", "spec.yaml")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"\u03b4 \u2264 1 \xe9\x1b[31m\x9b31m\u202e"),
        ("cp437", b"\xeb \xf3 1 \x82" + rb"\x1b[31m\x9b31m\u202e"),
    ],
)
def test_what_an_encoding_lacks_is_written_out_and_nothing_is_obeyed(
    place: Path, encoding: str, shown: bytes
) -> None:
    done = run(place, *LIST, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"tiny\t" + shown + b"\t")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_is_whole_in_every_encoding(place: Path, encoding: str) -> None:
    done = run(place, *LIST, "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding))[0]["about"] == TITLE
    assert b"\x1b" not in done.stdout


def test_an_error_is_shown_harmlessly_too(place: Path) -> None:
    done = run(place, "list", "--spec", "'\x1b[31m-δ.yaml'", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith(rb"error: \x1b[31m-\u03b4.yaml: ")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_opened_on_nothing(place: Path, closed: str) -> None:
    done = run(place, "sweep", "tiny", "--spec", "spec.yaml", "--dry-run", "--json", shell=closed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (closed == "2>&-")


def test_a_reader_that_leaves_is_no_error(place: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "deltagclip_cli", *LIST]
    done = subprocess.run(words, cwd=place, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [LIST, (*LIST, "--json"), ["--help"], ["compare", "--help"]])
def test_an_answer_that_a_full_disk_does_not_take_is_an_error(
    place: Path, words: Sequence[str]
) -> None:
    done = run(place, *words, shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr == b"error: the output cannot be written: No space left on device.\n"


def test_a_completion_script_that_a_full_disk_does_not_take_is_an_error(place: Path) -> None:
    asked = {"before": "bash -c '", "shell": "> /dev/full; exit $?'"}  # it is for who calls it
    done = run(place, "--show-completion", **asked)
    assert done.returncode == 1
    assert done.stderr == b"error: the output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("redirection", ["> /dev/full", "2> /dev/full", "| true", ">&- 2>&-"])
@pytest.mark.slow
def test_nothing_cosmetic_ends_a_training(place: Path, redirection: str) -> None:
    words = ["sweep", "tiny", "--spec", "spec.yaml", "--jobs", "2"]
    done = run(place, *words, shell=redirection, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert len(list(place.glob("runs/tiny/*/seed-*/result.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "shown"), [("r\udcff\x1b[31m", rb"'r\udcff\x1b[31m'"), ("-dash", b"-dash")]
)
def test_a_folder_of_any_name_is_trained_in(place: Path, runs: str, shown: bytes) -> None:
    words = ["sweep", "tiny", "--spec", "spec.yaml", "--jobs", "1", "--runs", f"'{runs}'"]
    done = run(place, *words, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"deltagclip compare tiny --runs " + shown in done.stdout
    done = run(place, "compare", "--runs", f"'{runs}'", "--json")
    assert len(json.loads(done.stdout)["experiments"]) == 1


def test_a_working_folder_that_is_gone_is_said(place: Path) -> None:
    (place / "gone").mkdir()
    done = run(place / "gone", *LIST, shell="2>&1", before="rmdir ../gone;")
    assert done.returncode == 2
    assert done.stdout.startswith(b"error: the working folder is not there any more")


def test_a_reason_is_shown_harmlessly(place: Path) -> None:
    """As it may come of another program, or of somebody else's folder."""
    folder = place / "runs/tiny/sgd/seed-0-00000000"
    folder.mkdir(parents=True)
    (folder / "error.txt").write_text("[red]\x1b]0;title\x9b2J\u202e:fire:\n")
    code, shown = on_a_terminal(place, "status", columns=200)
    assert code == 0
    assert r"[red]\x1b]0;title\x9b2J\u202e:fire:" in shown
