"""Sweeps of which several processes at once are killed at random, with others beside them.

A handful of kills by default; for more of them, and their figures::

    DELTAGCLIP_KILLS=300 pytest -m slow -s tests/sweep/test_sweep_kills.py
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sweep_cases import Done, Place, Sweep, assert_same_numbers, assert_tells_people

KILLS = int(os.environ.get("DELTAGCLIP_KILLS", "12"))
SEED = int(os.environ.get("DELTAGCLIP_KILLS_SEED", "0"))
SECONDS_TO_LIVE = 120.0  # for what a killed sweep leaves, which may have to load torch first
TRIALS = 22

# Most are over at once, so that kills meet beginnings and ends; some go on for a while.
SPEC = """\
experiments:
  short: &short
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 2
    seeds: [0, 1, 2, 3]
    optimizers:
      sgd: {name: sgd, lr: 0.1, weight_decay: 0, momentum: 0.9}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1, delta: 1e-3}
  long:
    <<: *short
    epochs: 300
    log_every: 3
    checkpoint: {epochs: 3}
    optimizers:
      sgd: {name: sgd, lr: 0.1, weight_decay: 0, momentum: 0.9}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1, delta: 1e-3}
  stacked:
    <<: *short
    epochs: 100
    checkpoint: {epochs: 3}
    stack: 4
    seeds: [0, 1, 2]
"""

READERS = [
    ["status"],
    ["status", "--json"],
    ["sweep", "--dry-run", "--jobs", "2"],
    ["compare", "short", "long"],
]


@dataclass
class Tally:
    """What was done, what was wrong, and how long what was left behind lived."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    readers: int = 0
    lives: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = f"{self.kills.total()} kills in {self.rounds} rounds: {dict(self.kills)}"
        longest = f"{max(self.lives):.2f} s" if self.lives else "none"
        return f"{total}; {self.readers} readers; the longest life after a sweep: {longest}"

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Go on after a fault, which fails the test in the end."""
        try:
            yield
        except AssertionError as error:
            self.faults.append(f"{where}: {error}")
            print(f"FAULT {self.faults[-1]}", flush=True)


class Killer:
    """Disturbs the sweeps of one place until everything in it is finished.

    Args:
        place: a folder with the trials of ``SPEC``.
        chance: decides what befalls whom and when.
        tally: of all places.
    """

    def __init__(self, place: Place, chance: random.Random, tally: Tally) -> None:
        self._place = place
        self._chance = chance
        self._tally = tally
        self._running: list[Sweep] = []
        self._readers: list[subprocess.Popen[str]] = []

    def disturb(self) -> None:
        """Start what is not running, look on, and kill some of it."""
        for _ in range(self._chance.choice([1, 1, 2]) - len(self._running)):
            self._running.append(self._start())
        if self._chance.random() < 0.3:
            self._read()
        if self._chance.random() < 0.7:
            self._wait_for_workers()
        time.sleep(self._chance.choice([0.2, 1.0, 3.0]) * self._chance.random())
        self._tally.rounds += 1
        for pid, kind in self._victims():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._tally.kills[kind] += 1
        dead = [each for each in self._running if self._is_dead(each)]
        self._running = [each for each in self._running if each not in dead]
        if dead and self._chance.random() < 0.5:  # at once, while the workers of the dead one end
            self._running.append(self._start())
        for each in dead:
            self._see_end_of(each)

    def finish(self) -> None:
        """Let it be completed by a sweep that nothing befalls."""
        for each in self._running:
            self._see_words_of(each.finish())
        for process in self._readers:
            out, _ = process.communicate(timeout=300)
            self._see_words_of(Done(process.returncode, out))
        done = self._place.sweep()
        self._see_words_of(done)
        with self._tally.noting("the last sweep"):
            assert done.code == 0, done.out
        self._place.wait_until_left()

    def _start(self) -> Sweep:
        """A sweep whose processes can be told from those of others, by a word that does nothing."""
        return self._place.start("--data", f"data-{len(self._place.sweeps)}")

    def _wait_for_workers(self) -> None:
        """Loading takes most of the time, and would meet most of the kills."""
        end = time.monotonic() + 60
        while time.monotonic() < end and not self._place.workers():
            self._running = [each for each in self._running if not self._is_dead(each)]
            if not self._running:
                return
            time.sleep(0.02)

    def _is_dead(self, sweep: Sweep) -> bool:
        try:
            sweep.process.wait(0.05)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _victims(self) -> list[tuple[int, str]]:
        there = [(pid, self._kind(pid)) for pid in self._place.processes()]
        there = [(pid, kind) for pid, kind in there if kind]
        return self._chance.sample(there, self._chance.randint(min(1, len(there)), len(there)))

    def _kind(self, pid: int) -> str:
        command = _command(pid)
        if any(pid == each.process.pid for each in self._running):
            return "sweep"
        if "resource_tracker" in command:
            return "resource tracker"
        if "forkserver" in command:
            return "fork server or loader"
        return "worker" if " worker " in command else ""

    def _see_end_of(self, sweep: Sweep) -> None:
        number = self._place.sweeps.index(sweep)
        since, left = time.monotonic(), self._of(number)
        while left and time.monotonic() - since < SECONDS_TO_LIVE:
            time.sleep(0.02)
            left = self._of(number)
        life = time.monotonic() - since
        self._tally.lives.append(life)
        with self._tally.noting("what a sweep left"):
            assert life < SECONDS_TO_LIVE, f"{life:.1f} s after it: {left}"
        self._see_words_of(Done(0, sweep.output))

    def _see_words_of(self, done: Done) -> None:
        with self._tally.noting("words"):
            assert_tells_people(done)

    def _of(self, number: int) -> list[str]:
        """The processes of a sweep: workers say its data folder, others are its kin."""
        marks = {f"data-{number}", f"SWEEP=output-{number}.txt"}
        return [
            f"{pid} {_command(pid)}"
            for pid in self._place.processes()
            if marks & {*_command(pid).split(), *_environment(pid)}
        ]

    def _read(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "deltagclip_cli", *self._chance.choice(READERS)],
            cwd=self._place.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._readers.append(process)
        self._tally.readers += 1


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


def untidy(place: Place) -> list[str]:
    """What is in the run folders and does not belong there, and what went wrong by their logs."""
    found = []
    for name, folder in place.folders().items():
        names = {path.name for path in folder.path.iterdir() if path.suffix != ".part"} - FILES
        events = {each.name for each in folder.event_files()}
        if len(events) != 1 or names - events:
            found.append(f"{name}: {names}")
        log = folder.log_file.read_text()
        if "Traceback" in log or "Error" in log:
            found.append(f"{name}: {log}")
    return found


FILES = {"trial.yaml", "environment.json", "metrics.jsonl", "log.txt", "result.json", ".lock"}
FILES |= {"checkpoint.pt", "checkpoint.previous.pt"}
FILES |= {"owner.json", "progress.json"}  # of one that was killed when it had its result


@pytest.mark.slow
@pytest.mark.long
def test_kills_of_several_processes_at_once_leave_no_trace(
    make_place: Callable[..., Place],
) -> None:
    expected = make_place(SPEC)
    assert expected.sweep().code == 0
    chance, tally = random.Random(SEED), Tally()
    while tally.kills.total() < KILLS:
        place = make_place(SPEC)
        killer = Killer(place, chance, tally)
        while tally.kills.total() < KILLS and len(place.results()) < TRIALS:
            killer.disturb()
        killer.finish()
        with tally.noting("numbers"):
            assert_same_numbers(place, expected, count=TRIALS)
        with tally.noting("files"):
            assert untidy(place) == []
        print(tally, flush=True)
    assert tally.faults == []
