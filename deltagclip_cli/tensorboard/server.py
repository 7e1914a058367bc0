"""TensorBoard as a child process that ends with its parent, in whatever way that ends.

``python -m deltagclip_cli.tensorboard.server FOLDER OPTION…`` loads TensorBoard and waits for a
line of input, which says that there is something to show. Then it starts TensorBoard with these
options, prints its address as a line, and runs until its input is closed: by its parent, or by the
system if that was killed. At last it removes the folder, unless its parent has done so.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

REFUSED = 3
"""The exit code that says that it cannot listen where it was told to."""


def serve(folder: str, options: Sequence[str]) -> int:
    """Run TensorBoard until the input is closed; gives the exit code."""
    from tensorboard import program

    _raise_open_files()
    tensorboard = program.TensorBoard()
    try:
        tensorboard.configure(argv=["tensorboard", *options])
        if sys.stdin.readline():
            address = tensorboard.launch()
            with suppress(BrokenPipeError):  # the parent may be gone by now
                print(address, flush=True)
                sys.stdin.read()
    except program.TensorBoardServerException as error:
        print(error.msg, file=sys.stderr)
        return REFUSED
    except SystemExit:  # such as for a host of which nobody knows; it has said why
        return REFUSED
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def most_open_files() -> int:
    """How many files a process may have open at most, if it asks for it."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _raise_open_files() -> None:
    """Allow as many open files as may be: TensorBoard keeps that of every run open."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], sys.argv[2:]))
