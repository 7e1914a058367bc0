"""Loaded by the fork server first, so that it ends when the process that wants it does.

Python's fork server looks whether it is still wanted when it has loaded everything, which on a busy
machine takes half a minute. Linux ends it at once, wherever it is by then.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from types import TracebackType

PARENT = "DELTAGCLIP_FORK_SERVER_OF"  # names the process, in the environment
_PR_SET_PDEATHSIG = 1


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of a worker to which a parent that was killed did not say what to do."""
    if not issubclass(kind, (EOFError, pickle.UnpicklingError)):
        sys.__excepthook__(kind, error, trace)


if PARENT in os.environ:
    parent = int(os.environ.pop(PARENT))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), signal.SIGKILL)
    sys.excepthook = _tell
