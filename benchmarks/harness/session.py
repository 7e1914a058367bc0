"""What a benchmark is handed: how thorough it is to be, on what, and a clock for its contenders."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Times

Step = Callable[[], Any]


class Skipped(Exception):
    """What a benchmark needs is not here; its words say what."""


@dataclass(frozen=True)
class Session:
    """One run of one benchmark.

    Args:
        device: ``cpu`` or ``cuda``.
        quick: whether small sizes and few rounds are enough, a few seconds altogether.
        folder: an empty one, which is removed afterwards.
    """

    device: str
    quick: bool
    folder: Path

    def new_folder(self) -> Path:
        """Another empty one."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def write(self, name: str, content: str) -> Path:
        """A file in ``folder``, such as a spec."""
        file = self.folder / name
        file.write_text(content, encoding="utf-8")
        return file

    def need(self, *words: str, what: str) -> None:
        """Skip where a program is missing or does not answer."""
        try:
            done = subprocess.run(words, capture_output=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            raise Skipped(f"needs {what}: {words[0]!r} does not run here") from None
        if done.returncode:
            raise Skipped(f"needs {what}: {words[0]!r} ended with {done.returncode} here")

    def turns(
        self,
        contenders: Mapping[str, Step],
        rounds: int,
        *,
        warm_up: int = 1,
        untimed: int = 0,
        made_anew: bool = False,
    ) -> Times:
        """Time contenders in turns, so that a busy machine slows all of them.

        Args:
            contenders: what is timed, by name.
            rounds: those that count.
            warm_up: rounds before those.
            untimed: calls in each turn before the one that is timed, so that it finds the caches as
                it leaves them itself.
            made_anew: whether contenders are functions that make, untimed, what is timed once.
        """
        times = Times({name: [] for name in contenders})
        for round_ in range(warm_up + rounds):
            for name, contender in contenders.items():
                step = contender() if made_anew else contender
                for _ in range(untimed):
                    step()
                seconds = self.seconds(step)
                if round_ >= warm_up:
                    times[name].append(seconds)
        return times

    def seconds(self, step: Step) -> float:
        """What one call takes, until the device has done it."""
        if self.device == "cuda":
            return _seconds_on_the_gpu(step)
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin


def _seconds_on_the_gpu(step: Step) -> float:
    import torch

    torch.cuda.synchronize()
    begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000
