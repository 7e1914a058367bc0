"""TensorBoard on the runs of a place, kept up to date until somebody stops it."""

from __future__ import annotations

import io
import logging
import resource
import signal
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlencode

from rich.text import Text

from deltagclip_cli.core import DeltaGClipError, UsageError
from deltagclip_cli.tensorboard.contents import MEAN, Contents, Files
from deltagclip_cli.terminal.console import make_console, print_problems, read_shown

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Run
    from deltagclip_cli.results.read.tree import Place

_SECONDS_BETWEEN = 30.0
_SHARE_OF_TIME = 0.05  # that reading the runs again may take
_MANY_RUNS = 2000
_NOTHING = Files()


def show(place: Place, host: str, port: int | None, *, opens: bool, quiet: bool) -> NoReturn:
    """Show the runs of a place in TensorBoard until a signal comes.

    Args:
        host: a name or an address of this machine, where TensorBoard listens.
        port: None for the first free one from TensorBoard's usual one on.
        opens: open its page in a browser.
        quiet: print the address and errors only.
    """
    with (
        _stopping_in_order(),
        tempfile.TemporaryDirectory(prefix="deltagclip-tensorboard-") as made,
    ):
        reading = read_shown(place, quiet=quiet)
        folder = LogFolder(Path(made))
        folder.update(reading.runs)
        seconds = 5 if len(reading.runs) < _MANY_RUNS else 30
        _kept, address = start(made, host, port, f"--reload_interval={seconds}")
        if not quiet:
            print_problems(reading.problems, all_in="deltagclip report")
        _announce(address_of_charts(address, folder.shown), opens=opens, quiet=quiet)
        pause = _SECONDS_BETWEEN
        while True:
            time.sleep(pause)
            begin = time.monotonic()
            refresh(folder, place)
            pause = max(_SECONDS_BETWEEN, (time.monotonic() - begin) / _SHARE_OF_TIME)


def refresh(folder: LogFolder, place: Place) -> int:
    """Show what has changed since the last time; return how many of TensorBoard's runs did."""
    # Folders may be moved or removed while TensorBoard is open: it then shows what it has.
    with suppress(DeltaGClipError):
        return folder.update(place.read().runs)
    return 0


class LogFolder:
    """The folder that TensorBoard looks at, in which nothing else writes.

    TensorBoard's fast loader keeps every file open and reads what is appended; its slow one goes on
    to the next file by name and never back, and stays for ever at one that is gone. Neither sees
    that a file was written anew. So what changes is written into a file with a new name that sorts
    behind the old one, its first step makes TensorBoard forget the old points, and the old one
    stays until the next change. What describes a run never changes, but is written before the links
    are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents = Contents(time.time())
        self._number = 0
        self.shown: dict[str, Files] = {}

    def update(self, runs: Sequence[Run]) -> int:
        """Show these runs, and nothing else; return how many of TensorBoard's runs changed."""
        shown = self._contents.of(runs)
        changed = 0
        for path in {**self.shown, **shown}:
            before, now = self.shown.get(path, _NOTHING), shown.get(path, _NOTHING)
            if before != now:
                changed += 1
                self._write(self._folder / path, before, now)
        self.shown = shown
        return changed

    def _write(self, folder: Path, before: Files, now: Files) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if before.written != now.written:
            old = sorted(folder.glob("0.*.tfevents"))
            for path in old if now.written is None else old[:-1]:
                path.unlink()
        if now.written is not None and before.written != now.written:
            self._number += 1
            (folder / f"0.{self._number:09d}.tfevents").write_bytes(now.written)
        for target in set(before.links) - set(now.links):
            (folder / target.name).unlink()
        for target in set(now.links) - set(before.links):
            (folder / target.name).symlink_to(target)
        with suppress(OSError):  # the folder is needed, by its own files or by other runs below
            folder.rmdir()


def start(folder: str, host: str, port: int | None, *options: str) -> tuple[object, str]:
    """Run TensorBoard in a thread of this process; return it and its address.

    The process that reads the files for it ends with the object that is returned.
    """
    from tensorboard import program

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # it keeps the files of every run open
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    words = [
        f"--logdir={folder}",
        f"--host={host}",
        *([] if port is None else [f"--port={port}"]),
        # 0 would mean all to the loader, and none to the page.
        "--samples_per_plugin=scalars=100000000",
        # For the slow loader, where there is no fast one: a run may write several files at once.
        "--reload_multifile=true",
        "--window_title=deltagclip",
        *options,
    ]
    said = io.StringIO()
    server = program.TensorBoard()
    try:
        with redirect_stderr(said):
            server.configure(argv=["tensorboard", *words])
            address = server.launch()
    except (program.TensorBoardServerException, OSError, SystemExit) as error:
        why = [str(getattr(error, "msg", "")), *said.getvalue().splitlines()[::-1]]
        where = f"--host {host}" + ("" if port is None else f" --port {port}")
        raise UsageError(
            f"{where}: {next(filter(None, why), 'TensorBoard cannot listen there')}.\n"
            "  Say another --host or --port."
        ) from None
    return server, address


def address_of_charts(server: str, shown: Iterable[str]) -> str:
    """Return the address of the page Custom Scalars with the runs that were made for it.

    The page Time Series, one click from there, shows means if there are any. A setting
    has one colour, and nothing is smoothed: charts show what was measured.
    """
    has_means = any(path.endswith(f"/{MEAN}") for path in shown)
    query = {"smoothing": "0", "runColorGroup": "regex:^([^/]+/[^/]+)"}
    query |= {"runFilter": f"/{MEAN}"} if has_means else {}
    state = {"_smoothingWeight": "0", "regexInput": "^[^/]+/[^/]+$"}
    before, behind = (urlencode(each, quote_via=quote, safe="/:") for each in (query, state))
    return f"{server}?{before}#custom_scalars&{behind}"


def _announce(address: str, *, opens: bool, quiet: bool) -> None:
    if not quiet:
        make_console(stderr=True).print("Ctrl-C stops TensorBoard.", style="dim")
    console = make_console()
    if console.is_terminal:  # the whole is longer than a terminal is wide: a click opens it
        console.print(Text(address.partition("?")[0], style=f"link {address}"), soft_wrap=True)
    else:
        print(address, flush=True)
    if opens:
        webbrowser.open(address)


@contextmanager
def _stopping_in_order() -> Iterator[None]:
    """Let signals that ask to stop end this process as Ctrl-C does: everything is put away."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]
    before = {each: signal.signal(each, lambda n, frame: sys.exit(128 + n)) for each in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
