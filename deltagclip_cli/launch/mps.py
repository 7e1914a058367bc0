"""NVIDIA's MPS, by which processes that share a GPU compute at once instead of taking turns.

Its daemon is started for one sweep, with folders of its own, and ended with it, whatever ends it.
It has no limit on the share of a client: what one leaves idle the others then use.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

MOST_CLIENTS = 48  # of one GPU, since Volta
_PROGRAM = "nvidia-cuda-mps-control"
_PATIENCE_SECONDS = 15.0  # with each answer of the daemon
_SECONDS_BETWEEN_LOOKS = 0.1
_MOST_BYTES = 60  # of the 107 of a socket's path: names of the daemon's own come behind
# Waits for the end of its input, which is that of whoever started it, even by a kill.
_GUARD = 'cat >/dev/null; echo quit | timeout 60 "$0" >/dev/null 2>&1; rm -rf -- "$1"'


class _RefusedError(Exception):
    """MPS cannot be had here, for a reason in words."""


@contextmanager
def mps() -> Iterator[Mapping[str, str]]:
    """Have MPS serve while the context lasts; gives what a client needs in its environment.

    A daemon of somebody else that serves already is left alone, and used. Where MPS is missing or
    not permitted, that is logged, and clients take turns.
    """
    with ExitStack() as stack:
        environment: Mapping[str, str] = {}
        try:
            program = shutil.which(_PROGRAM)
            if program is None:
                raise _RefusedError(f"there is no {_PROGRAM} on the PATH")
            if _answer(program, "get_server_list", os.environ) is None:
                environment = stack.enter_context(_daemon(program))
            else:
                logger.info("MPS serves here already, and is left as it is.")
        except _RefusedError as error:
            logger.warning(
                "Trials that share a GPU take turns on it, which is slower: MPS cannot be used "
                "(%s). --trials-per-gpu 1 gives each the whole GPU.",
                error,
            )
        yield environment


@contextmanager
def _daemon(program: str) -> Iterator[Mapping[str, str]]:
    """Start a daemon and its server, and end both."""
    base = tempfile.gettempdir()
    short = base if len(os.fsencode(base)) <= _MOST_BYTES else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="mps-", dir=short))
    environment = {
        "CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"),
        "CUDA_MPS_LOG_DIRECTORY": str(folder / "log"),
    }
    for each in environment.values():
        Path(each).mkdir()
    full = {**os.environ, **environment}
    # A daemon gives GPUs that were chosen by numbers new ones, which clients would choose among.
    if not full.get("CUDA_VISIBLE_DEVICES", "").startswith(("GPU-", "MIG-")):
        full.pop("CUDA_VISIBLE_DEVICES", None)
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=full,
        start_new_session=True,  # a Ctrl-C is not for it
    )
    assert guard.stdin is not None, "as it was asked for"
    try:
        _start(program, full, folder / "log")
        logger.info("MPS serves the trials that share a GPU.")
        yield environment
    finally:
        guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(2 * _PATIENCE_SECONDS)


def _start(program: str, environment: Mapping[str, str], log: Path) -> None:
    """Start the daemon, and have it start the server, which says whether it may."""
    said = log / "start.log"
    with said.open("wb") as output:  # no pipe: the daemon keeps it open
        try:
            done = subprocess.run(
                [program, "-d"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                timeout=_PATIENCE_SECONDS,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise _RefusedError(str(error)) from None
    if done.returncode:
        raise _RefusedError(_last_line(said) or f"{program} ended with {done.returncode}")
    _answer(program, f"start_server -uid {os.getuid()}", environment)
    end = time.monotonic() + _PATIENCE_SECONDS
    while not (_answer(program, "get_server_list", environment) or "").strip():
        if time.monotonic() > end:
            lines = [_last_line(log / name) for name in ("server.log", "control.log")]
            raise _RefusedError(next(filter(None, lines), "its server does not start"))
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _answer(program: str, command: str, environment: Mapping[str, str]) -> str | None:
    """Return what the daemon says to a command; None if there is no daemon that answers."""
    try:
        done = subprocess.run(
            [program],
            input=f"{command}\n",
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    there = (
        done.returncode == 0 and "Cannot find MPS control daemon" not in done.stdout + done.stderr
    )
    return done.stdout if there else None


def _last_line(file: Path) -> str:
    with suppress(OSError):
        lines = file.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
