"""What may lie where a file is expected, and a user who may not read everything."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


def a_socket(path: Path) -> None:
    """Its path may be too long for the system's liking, so it is made from within its folder."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


OBSTACLES: dict[str, Callable[[Path], None]] = {
    "it is a named pipe, not a file": os.mkfifo,
    "it is a socket, not a file": a_socket,
    "it is a folder, not a file": Path.mkdir,
    "it is a device, not a file": lambda path: path.symlink_to("/dev/zero"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    "No such file or directory": lambda path: path.symlink_to("moved-away"),
}
"""How each is made, by what is said of it."""


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may read what all may read."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
