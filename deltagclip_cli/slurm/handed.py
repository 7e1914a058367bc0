"""Trials that are handed out: for searches whose next trial follows from what has ended.

One process, the controller, knows what is to be run, and says so with a file for each trial::

    runs/<experiment>/.handed/
      <optimizer label>~<run>.json  a trial, and why it is to be given up, if it is
      beat                          written again and again while the controller works
      over                          there is nothing left to do

Workers take whatever of it nobody works on, as the claims on run folders tell. How a trial ends
stands in its run folder, as ever. So it does no harm to kill any of them: what is handed out stays
so, and a controller that begins again hands out the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import DeltaGClipError, check_writable, read_file, write_text
from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import End, PlannedQueue, Queue
from deltagclip_cli.plan.planned import Fits, Planned, Unit, has_room, look_up
from deltagclip_cli.runs.folder import ENDED, State, is_worked_on
from deltagclip_cli.spec.trial import Trial, trial_to_run

if TYPE_CHECKING:
    from deltagclip_cli.launch.sweep_view import QuietView

WORKER = "task-"  # begins the name of a task that has no trial of its own
_SECONDS_BETWEEN_LOOKS = 0.5
_SILENCE_SECONDS = 600.0  # of a controller, after which an idle worker waits no longer
_OVER = (*ENDED, State.PRUNED)


def task_name(experiment: str, number: int, what: str) -> str:
    """Return the name, in the place of a run folder, of a task that has no trial of its own."""
    return f"{experiment}/search/{WORKER}{number}-{what}"


class Handed:
    """The folder of the trials of an experiment that are handed out."""

    def __init__(self, runs: Path, experiment: str) -> None:
        self.path = runs / experiment / ".handed"
        self._runs = runs

    @property
    def is_over(self) -> bool:
        """True if there is nothing left to do."""
        return (self.path / "over").exists()

    @property
    def last_beat(self) -> str:
        """Something that changes while a controller works; empty if none has."""
        with suppress(OSError):
            return read_file(self.path / "beat").decode(errors="replace")
        return ""

    def names(self) -> list[str]:
        """Return the names of all trials that are handed out."""
        return sorted(file.name for file in self.path.glob("*~*.json"))

    def read(self, name: str) -> tuple[Trial, str] | None:
        """Return a trial and why it is to be given up; None if it is not handed out any more."""
        with suppress(OSError, ValueError, LookupError):
            written: Mapping[str, Any] = json.loads(read_file(self.path / name))
            return trial_to_run(written["trial"], self._runs), str(written["give_up"])
        return None

    def open(self) -> None:
        """Say that there is something to do."""
        check_writable(self.path)
        (self.path / "over").unlink(missing_ok=True)
        self.beat()

    def beat(self) -> None:
        """Say that the controller works still."""
        write_text(self.path / "beat", f"{time.time()}\n")

    def hand_out(self, trial: Trial, give_up: str = "") -> None:
        """Let a trial be run, or be given up."""
        told = {"trial": trial.model_dump(mode="json"), "give_up": give_up}
        write_text(self.path / name_of(trial), json.dumps(told) + "\n")

    def take_back(self, name: str) -> None:
        """Hand a trial out no longer."""
        (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Say that there is nothing left to do."""
        check_writable(self.path)
        write_text(self.path / "over", "")


def name_of(trial: Trial) -> str:
    """Return the name of the file that hands out a trial."""
    return f"{trial.label}~{Path(trial.folder).name}.json"


class HandingRunner:
    """Has trials run by workers elsewhere; makes all that a queue says, and is its only caller.

    Args:
        workers: how many trials run at a time.
        should_stop: when it says yes, nothing more is handed out; what is, goes on.
    """

    def __init__(self, handed: Handed, workers: int, should_stop: Callable[[], bool]) -> None:
        self._handed, self._should_stop = handed, should_stop
        self.slots: Sequence[Slot] = [Slot("a worker", "auto")] * workers
        self.call = None

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Do nothing: workers see to their data."""

    def run(self, queue: Queue, watcher: QuietView) -> None:
        self._handed.open()
        try:
            self._run(queue, watcher)
        except DeltaGClipError:  # there is nothing that workers could wait for
            self._handed.close()
            raise

    def _run(self, queue: Queue, watcher: QuietView) -> None:
        out: dict[str, tuple[Planned, str]] = {}
        while not self._should_stop():
            while unit := queue.take():
                (planned,) = unit
                self._handed.hand_out(planned.trial)
                out[name_of(planned.trial)] = planned, ""
                watcher.started(unit, self.slots[0])
            for name in {*self._handed.names()} - {*out}:
                self._handed.take_back(name)  # which a controller left that was killed
            for name in list(out):
                out[name] = self._looked_at(queue, *out[name])
                if self._has_ended(*out[name]):
                    planned, _ = out.pop(name)
                    end = End(planned.folder.state, planned.folder.reason)
                    watcher.ended(planned, end)
                    queue.ended(planned, end)
                    self._handed.take_back(name)
            if not out and queue.is_over():
                self._handed.close()
                return
            self._handed.beat()
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _looked_at(self, queue: Queue, planned: Planned, told: str) -> tuple[Planned, str]:
        """Say of a running trial that it is to be given up, as soon as that is so."""
        reason = told or queue.give_up(planned)
        if reason and not told:
            self._handed.hand_out(planned.trial, reason)
        return planned, reason

    def _has_ended(self, planned: Planned, given_up: str) -> bool:
        if is_worked_on(planned.folder):
            return False
        return bool(given_up) or planned.folder.state in _OVER


class HandedQueue(PlannedQueue):
    """The trials that are handed out and that nobody works on, as a worker takes them.

    Args:
        number: of the worker: several begin to look at different places.
    """

    def __init__(self, handed: Handed, runs: Path, number: int) -> None:
        super().__init__(())
        self._handed, self._runs, self._number = handed, runs, number
        self._looked_at = -1e9
        self._beat, self._changed = "", time.monotonic()
        self._given_up: dict[str, tuple[float, str]] = {}

    @property
    def is_deserted(self) -> bool:
        """True if the controller has been silent for long."""
        now, beat = time.monotonic(), self._handed.last_beat
        if beat != self._beat:
            self._beat, self._changed = beat, now
        return now - self._changed > _SILENCE_SECONDS

    def take(self, fits: Fits = has_room) -> Unit:
        now = time.monotonic()
        if now - self._looked_at < _SECONDS_BETWEEN_LOOKS:
            return ()
        self._looked_at = now
        names = self._handed.names()
        first = self._number % max(1, len(names))
        for name in names[first:] + names[:first]:
            found = self._handed.read(name)
            if found is None or found[1]:
                continue
            (planned,) = look_up([found[0]], self._runs)
            if planned.state not in (*_OVER, State.RUNNING) and fits(planned):
                return (planned,)
        return ()

    def is_over(self) -> bool:
        return self._handed.is_over or self.is_deserted

    def give_up(self, planned: Planned) -> str:
        file = self._handed.path / name_of(planned.trial)
        with suppress(OSError):
            changed = file.stat().st_mtime
            if self._given_up.get(file.name, (0.0, ""))[0] != changed:
                found = self._handed.read(file.name)
                self._given_up[file.name] = changed, found[1] if found else ""
            return self._given_up[file.name][1]
        return ""

    def leave(self, planned: Planned) -> None:
        """Leave a trial to the process that works on it; it is handed out still."""
