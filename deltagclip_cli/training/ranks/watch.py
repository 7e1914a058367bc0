"""Word that the processes of one trial have of each other, and the end of one that has no more.

A process that waits for another hears nothing of its end, or not for long. So each has two threads.
One tells the others that this process is there, and asks after them, at the store that the first
rank has; where that is halted, it gets no answer, and no clock of torch's ends its waiting. The
other thread, which never waits for anybody, judges what has been heard.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from deltagclip_cli.core import (
    ExitCode,
    LostNodeError,
    RankFailedError,
    RankLostError,
    UsageError,
)
from deltagclip_cli.training.ranks.several import is_of_others

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.ranks.process_group import Rendezvous

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 2.0
MEETING_SECONDS = 300.0  # without a word while all start, and load their code and data
SILENT_SECONDS = 30.0  # afterwards: the process is halted, or its node is gone
BEHIND_SECONDS = 50.0  # of one for which the others wait
_ENDING_SECONDS = 20.0
_TOLD_SECONDS = 5.0  # until it is known why the others could not be reached
_TELLING_SECONDS = 1.0  # of one that is known to be lost, if it can tell why


class Started(Protocol):
    """The processes that this one has started."""

    def lost(self) -> str:
        """Say which has ended otherwise than it should, if one has."""

    def kill(self) -> None:
        """End all of them at once."""


class Beats:
    """Tells the others that this process is there, and hears whether they are.

    Attributes:
        arrivals: how often this process has come as far as to wait for the others.
        heard: for each rank that has told something, what it told last.
        names: which process each of these is.
        answers: how often the store has answered.
        has_lost_store: whether the first rank, whose store it is, has ended.
    """

    def __init__(self, rendezvous: Rendezvous, count: int) -> None:
        self._rendezvous, self._count = rendezvous, count
        self.arrivals = self.answers = 0
        self.heard: dict[int, bytes] = {}
        self.names: dict[int, str] = {}
        self.has_lost_store = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Tell no more, and ask no more."""
        self._is_over.set()
        self._thread.join(PERIOD_SECONDS)

    def _run(self) -> None:
        number = self._rendezvous.rank
        try:
            store = self._rendezvous.store()
            store.set(f"who/{number}", f"process {os.getpid()} on {socket.gethostname()}")
            while not self._is_over.wait(PERIOD_SECONDS if self.answers else 0):
                store.set(f"beat/{number}", f"{self.answers} {self.arrivals}")
                for other in range(self._count):
                    if store.check([f"beat/{other}"]):
                        self.heard[other] = store.get(f"beat/{other}")
                        if other not in self.names:
                            self.names[other] = store.get(f"who/{other}").decode()
                self.answers += 1
        except RuntimeError:
            self.has_lost_store = True


class Watch:
    """Looks whether the others still come along.

    When one is lost, it says so, and ends the children, which frees whoever waits for them. Not
    always does gloo notice, so that it ends this process in the end.
    """

    def __init__(
        self,
        held: HeldFolder,
        trial: Trial,
        rendezvous: Rendezvous,
        children: Started,
        beats: Beats,
    ) -> None:
        self._held, self._count, self._devices = held, trial.ranks, trial.devices
        self._rendezvous, self._children, self._beats = rendezvous, children, beats
        self._is_over = threading.Event()
        self._found = threading.Event()
        self._met, self._silence = 0.0, MEETING_SECONDS
        self._lost = ""  # which rank, and what became of it
        self._is_alone = False  # with a first rank that says nothing
        self._looked, self._clock, self._halted = time.monotonic(), 0.0, 0.0
        self._answers, self._answered = -1, 0.0
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._moved: dict[int, tuple[int, float]] = {}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def arrive(self) -> None:
        """Take notice that this process has come as far as to wait for the others."""
        self._beats.arrivals += 1

    def meet(self, store: TCPStore) -> None:
        """Wait until all are there; raise if one cannot come."""
        store.set(f"here/{self._rendezvous.rank}", "")
        everyone = [f"here/{number}" for number in range(self._count)]
        while not store.check(everyone):
            if self._found.is_set() or store.check(["failed"]):
                raise RankLostError(self._lost or "another rank has failed")
            time.sleep(0.05)
        # One that was here as soon as it was there may not have been heard yet.
        self._met, self._silence = self._clock, SILENT_SECONDS

    def end(self) -> None:
        """Watch no more."""
        self._is_over.set()
        self._thread.join()

    def explain(self, error: Exception) -> None:
        """Raise why another rank has made this one fail, if one has."""
        if not is_of_others(error):
            return
        self._wait_until_it_is_known()
        with suppress(RuntimeError):
            store = self._rendezvous.store()
            until = time.monotonic() + _TELLING_SECONDS
            while not store.check(["failed"]) and time.monotonic() < until:
                time.sleep(0.05)
            if store.check(["failed"]):
                told = json.loads(store.get("failed"))
                said = f"rank {told['rank']} ({told['who']}): {told['reason']}"
                if told["kind"] == "usage":
                    raise UsageError(said) from error
                if told["kind"] == "lost":
                    raise RankLostError(said) from error
                raise RankFailedError(said, told["traceback"]) from error
        kind = LostNodeError if LostNodeError.reason in self._lost else RankLostError
        raise kind(self._lost or "another rank has ended") from error

    def _wait_until_it_is_known(self) -> None:
        """Wait until it is found which rank is lost, or one has said that it failed.

        Of one whose node is gone nothing tells but its silence.
        """
        are_far = self._count > self._devices
        until = time.monotonic() + _TOLD_SECONDS + (SILENT_SECONDS if are_far else 0)
        with suppress(RuntimeError):
            store = self._rendezvous.store()
            while time.monotonic() < until:
                if self._found.wait(0.1) or store.check(["failed"]):
                    return

    def _run(self) -> None:
        """Look again and again."""
        while not self._is_over.wait(PERIOD_SECONDS):
            self._lost = self._ended() or self._silent() or self._behind()
            if self._lost:
                self._give_up()
                return

    def _ended(self) -> str:
        """Say which rank has ended, if one has."""
        # A process that was halted itself, as Slurm does to suspend a job, has heard nobody.
        elapsed, self._looked = time.monotonic() - self._looked, time.monotonic()
        self._clock += min(elapsed, 2 * PERIOD_SECONDS)
        self._halted = max(self._halted, elapsed)
        if self._beats.has_lost_store:
            return "rank 0 has ended"
        lost = self._children.lost()
        if lost and self._halted > SILENT_SECONDS:
            lost += f", as rank {self._rendezvous.rank} was halted for {self._halted:.0f} seconds"
        return lost

    def _silent(self) -> str:
        """Say which rank tells nothing any more, if one does."""
        now = self._clock
        if self._beats.answers != self._answers:
            self._answers, self._answered = self._beats.answers, now
            heard = self._beats.heard.copy()
            for other in range(self._count):
                beat = heard.get(other, b"")
                if other not in self._seen or self._seen[other][0] != beat:
                    self._seen[other] = beat, now
        seen = self._seen if now - self._answered <= 2 * PERIOD_SECONDS else {}
        since = {0: (b"", self._answered), **seen}  # whoever has the store answers for it
        for other, (_, last) in since.items():
            if now - max(last, self._met) > self._silence:
                self._is_alone = other == 0
                return f"{self._name(other)} has told nothing for {self._silence:.0f} seconds"
        return ""

    def _behind(self) -> str:
        """Say for which rank the others wait, if it is for long."""
        for other, (beat, _) in self._seen.items():
            arrivals = int(beat.split()[1]) if beat else 0
            if self._moved.get(other, (-1, 0))[0] != arrivals:
                self._moved[other] = arrivals, self._clock
        most = max((arrivals for arrivals, _ in self._moved.values()), default=0)
        for other, (arrivals, since) in self._moved.items():
            if arrivals < most and self._clock - since > BEHIND_SECONDS:
                waits = f"the others wait for it since {BEHIND_SECONDS:.0f} seconds"
                return f"{self._name(other)} hangs: {waits}"
        return ""

    def _name(self, number: int) -> str:
        who = f"rank {number}"
        if number in self._beats.names:
            who += f" ({self._beats.names[number]})"
        if number // self._devices != self._rendezvous.rank // self._devices:
            return f"{LostNodeError.reason}: {who}"
        return who

    def _give_up(self) -> None:
        """Say which rank is lost, and free whoever waits for it; else end this process."""
        self._found.set()
        said = self._lost[0].upper() + self._lost[1:]
        if self._rendezvous.rank == 0:
            logger.warning("%s.", said)
        elif self._rendezvous.rank == 1 and self._is_alone:  # it holds the log, too
            sys.stderr.write(
                f"{said}, so the other ranks end.\n"
                "  If it is halted, wake it (kill -CONT) or end it: the same command continues.\n"
            )
            sys.stderr.flush()
        self._children.kill()
        if not self._is_over.wait(_ENDING_SECONDS):
            self._held.record_stop(self._lost)
            self._held.release()
            logger.warning("The trial is interrupted; the same command continues.")
            os._exit(ExitCode.STOPPED)
