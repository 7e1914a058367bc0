"""TensorBoard on the runs of a place, kept up to date until somebody stops it."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.text import Text

from deltagclip_cli.core import DeltaGClipError, UsageError
from deltagclip_cli.results.read.events import EventCache, default_cache_folder
from deltagclip_cli.results.read.run import Reading
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.tensorboard import server
from deltagclip_cli.tensorboard.address import address_of_charts
from deltagclip_cli.tensorboard.mirror import BoardFolder
from deltagclip_cli.tensorboard.plan import Plan, Planner
from deltagclip_cli.tensorboard.snapshot import snapshot
from deltagclip_cli.tensorboard.tags import OwnTags
from deltagclip_cli.terminal.console import make_console, print_problems, shown_reading

_SECONDS_BETWEEN = 30.0
_SHARE_OF_TIME = 0.05  # that looking at the runs again may take
_SECONDS_TO_END = 10.0
_FILES_OF_ITS_OWN = 250  # what TensorBoard opens besides event files, connections among it
_MANY_FILES = 2000
_MOST_PINNED = 4  # charts on top of a page
_LAST_WORDS = 2000


@dataclass(frozen=True)
class Listening:
    """Where TensorBoard listens.

    Args:
        host: a name or an address of this machine.
        port: None for the first free one from TensorBoard's usual one on.
    """

    host: str
    port: int | None

    def __str__(self) -> str:
        """In the words of the command line."""
        port = "" if self.port is None else f" --port {self.port}"
        return f"--host {self.host}{port}"


def show(place: Place, listening: Listening, *, opens: bool, quiet: bool) -> None:
    """Show the runs of a place in TensorBoard until a signal comes.

    Args:
        place: where the runs are.
        listening: where TensorBoard listens.
        opens: open its page in a browser.
        quiet: print the address and errors only.

    Raises:
        UsageError: there are no runs, or TensorBoard cannot listen there.
        DeltaGClipError: TensorBoard ended by itself.
        SystemExit: a signal came that asks to stop.
    """
    with (
        _stopping_in_order(),
        tempfile.TemporaryDirectory(prefix="deltagclip-tensorboard-") as made,
    ):
        folder = Path(made)
        board = Board(place, folder / "runs", quiet=quiet)
        reading = board.read()
        with TensorBoard.started(folder, listening, _options(reading)) as tensorboard:
            board.write(reading)
            if not quiet:
                print_problems(board.problems(reading), all_in="deltagclip report")
            plan, address = board.plan, tensorboard.open()
            address = address_of_charts(address, plan.runs, plan.metrics[:_MOST_PINNED])
            _announce(address, opens=opens, quiet=quiet)
            while not tensorboard.ends_within(board.pause):
                board.refresh()
            raise tensorboard.ended()


class Board:
    """What TensorBoard shows, made of what was read.

    Args:
        place: where the runs are.
        folder: made for TensorBoard.
        quiet: show no progress.
    """

    def __init__(self, place: Place, folder: Path, *, quiet: bool) -> None:
        self._place = place
        self._quiet = quiet
        self._folder = BoardFolder(folder)
        self._planner = Planner(time.time(), OwnTags(EventCache(default_cache_folder())))
        self._most = server.most_open_files() - _FILES_OF_ITS_OWN
        self._seen = snapshot(place.folders())
        self._left_out = 0
        self.plan = Plan({}, [])
        self.pause = _SECONDS_BETWEEN

    def read(self) -> Reading:
        """Read the runs.

        Raises:
            UsageError: there are none.
        """
        return self._place.read(shown_reading(quiet=self._quiet))

    def write(self, reading: Reading) -> int:
        """Write what is to be shown of some runs; gives how many of TensorBoard's runs changed."""
        whole = self._planner.plan(reading)
        self.plan = whole.within(self._most)
        self._left_out = whole.count - self.plan.count
        return self._folder.update(self.plan)

    def refresh(self) -> int:
        """Show what has changed since the last time; gives how many of TensorBoard's runs did."""
        begin = time.monotonic()
        changed = 0
        # Folders may be moved or removed while TensorBoard is open: it then shows what it has.
        with suppress(UsageError):
            seen = snapshot(self._place.folders())
            if seen != self._seen:
                changed = self.write(self._place.read())
                self._seen = seen
        self.pause = max(_SECONDS_BETWEEN, (time.monotonic() - begin) / _SHARE_OF_TIME)
        return changed

    def problems(self, reading: Reading) -> list[str]:
        """What the person at the terminal should know."""
        if not self._left_out:
            return list(reading.problems)
        return [
            *reading.problems,
            f"TensorBoard may open {self._most} event files here, so {self._left_out} are left out:"
            " first the HParams of single runs, then bands, then runs.\n"
            "  More are possible with a higher limit (ulimit -Hn), or name fewer experiments.",
        ]


@dataclass(frozen=True, eq=False)
class TensorBoard:
    """The process of TensorBoard.

    It loads itself while the folder is being written, and looks at that when told to.

    Args:
        process: a child of this one.
        listening: where it is to listen.
        log: what it says.
    """

    process: subprocess.Popen[str]
    listening: Listening
    log: Path

    @classmethod
    @contextmanager
    def started(
        cls, folder: Path, listening: Listening, options: Sequence[str]
    ) -> Iterator[TensorBoard]:
        """TensorBoard on ``runs`` in a folder; it ends with the context."""
        log, runs = folder / "log.txt", folder / "runs"
        runs.mkdir()
        words = [f"--logdir={runs}", f"--host={listening.host}", *options]
        if listening.port is not None:
            words.append(f"--port={listening.port}")
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", server.__name__, str(folder), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for this process, which then ends that one
            )
        try:
            yield cls(process, listening, log)
        finally:
            _end(process)

    def open(self) -> str:
        """Let it look at the folder; gives its address, as soon as it answers there.

        Raises:
            UsageError: it cannot listen where it was told to.
            DeltaGClipError: it ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        address = self.process.stdout.readline().strip()
        if not address:
            raise self.ended()
        return address

    def ends_within(self, seconds: float) -> bool:
        """Wait; whether it ended meanwhile."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def ended(self) -> DeltaGClipError:
        """Why it is no longer there."""
        code = self.process.wait()
        words = self.log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
        if code == server.REFUSED:
            why = words.splitlines()[-1] if words else "TensorBoard cannot listen there"
            return UsageError(f"{self.listening}: {why}.\n  Say another --host or --port.")
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return DeltaGClipError(f"TensorBoard ended {how}. Its last words:\n{words or '(none)'}")


def _end(process: subprocess.Popen[str]) -> None:
    """Close the input, which ends TensorBoard and its data server; kill what does not obey."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # it has ended before it read what was written
        process.stdin.close()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _options(reading: Reading) -> list[str]:
    seconds = 5 if len(reading.runs) < _MANY_FILES else 30
    return [
        # 0 would mean all to the loader, and none to the page.
        "--samples_per_plugin=scalars=100000000",
        f"--reload_interval={seconds}",
        # For the slow loader, where there is no fast one: a run may write several files at once.
        "--reload_multifile=true",
        "--window_title=deltagclip",
    ]


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
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
