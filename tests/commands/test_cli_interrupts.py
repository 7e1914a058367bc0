"""A Ctrl-C at moments at which Python would show a traceback; those of a sweep are tried there."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGINNING = """
import atexit, os, signal, sys
from deltagclip_cli.commands import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
sys.argv = ["deltagclip", "--version"]

def interrupt(*words):
    if words[:1] in [(), ("deltagclip_cli.commands.app",)]:
        os.kill(os.getpid(), signal.SIGINT)
"""
LOADING = "sys.meta_path.insert(0, type('', (), {'find_spec': staticmethod(interrupt)}))"
PRINTING = "from deltagclip_cli.commands import app; app.typer.echo = lambda words: interrupt()"
LOADING_THE_COMMAND = """
from deltagclip_cli.commands import app
sys.argv = ["deltagclip", "list", "models"]
app.load_target = lambda target: interrupt()
""".strip()
CLEARING_UP = "atexit.register(interrupt)"


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (LOADING, "Interrupted."),
        (LOADING_THE_COMMAND, "Interrupted."),
        (PRINTING, ""),
        (CLEARING_UP, ""),
    ],
    ids=["loading", "loading the command", "printing", "clearing up"],
)
def test_an_interrupt_ends_a_command_with_130_and_no_traceback(moment: str, words: str) -> None:
    done = run(f"{BEGINNING}\n{moment}\nmain.main()")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert words in done.stderr


def test_who_is_to_hear_no_interrupt_hears_none() -> None:
    ignored = f"{BEGINNING}\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{LOADING}"
    assert run(f"{ignored}\nmain.main()").returncode == 0


SWALLOWED = """
import signal, sys, time
from deltagclip_cli.commands.main import interrupt_again

class Callback:
    def __init__(self, error):
        self.error = error
    def __del__(self):  # from which no error gets out
        raise self.error

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
sys.unraisablehook = interrupt_again
Callback(ValueError("shown"))
try:
    Callback(KeyboardInterrupt())
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_that_compiled_code_has_swallowed_comes_again() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n")
    assert "ValueError: shown" in done.stderr
    assert "KeyboardInterrupt" not in done.stderr
