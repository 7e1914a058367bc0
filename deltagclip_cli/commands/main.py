"""The entry point, which a Ctrl-C ends at any moment: with exit code 130, without a traceback.

Nothing slow is imported before that holds.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing takes longer to load than all this
if TYPE_CHECKING:
    from types import FrameType

_INTERRUPTED = 130  # ExitCode.INTERRUPTED


def main() -> None:
    """Run the command that ``sys.argv`` names."""
    interrupt = Interrupt()
    interrupt.listen()
    sys.unraisablehook = interrupt_again
    try:
        from deltagclip_cli.terminal import streams

        streams.prepare()
        from deltagclip_cli.commands.app import app

        app(prog_name="deltagclip")
    except KeyboardInterrupt:
        interrupt.leave()
    except SystemExit as ending:
        if interrupt.has_come and ending.code == 1:  # which some typers make of it
            interrupt.leave()
        raise
    finally:
        interrupt.end()


class Interrupt:
    """The handler of Ctrl-C: it raises KeyboardInterrupt and, once the command is over, exits."""

    def __init__(self) -> None:
        self.has_come = False
        self._is_over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.has_come = True
        if self._is_over:
            os._exit(_INTERRUPTED)  # Python shows a traceback of what it was clearing up
        raise KeyboardInterrupt

    def listen(self) -> None:
        """Begin to listen, unless whoever started this process wants it to hear no Ctrl-C."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)

    def leave(self) -> None:
        """Print that the command was interrupted, and exit."""
        self.end()
        print("Interrupted.", file=sys.stderr, flush=True)
        raise SystemExit(_INTERRUPTED) from None

    def end(self) -> None:
        """Take the command to be over."""
        self._is_over = True


def interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeat a Ctrl-C that was lost; of anything else that is ignored, tell as Python does.

    In callbacks of compiled code, such as that which builds pydantic's models, Python cannot pass a
    KeyboardInterrupt on: it prints a traceback, and the program would go on.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        import threading

        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)
