"""How runs of other programs ended, which no file of theirs says."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deltagclip_cli.core import plural
from deltagclip_cli.results.read.events import event_files
from deltagclip_cli.results.read.run import Group, Outcome, Run

_PAUSES = 3  # as long as the longest so far, after which nothing more is expected
_SECONDS_UNTIL_WRITTEN = 120.0  # torch's SummaryWriter writes what it holds so often
_LONGEST_SECONDS = 86400.0
_GROWING = "still growing"
_A_MOMENT = 1.0  # seconds in which a script writes all its points, and no training does
_CLOCKS_DIFFER = 600.0  # seconds, at most, between the machine of the run and that of the disk


@dataclass(frozen=True)
class Written:
    """How the files of a run were written.

    Args:
        last: when the last point was made, in seconds since 1970.
        whole: whether all files could be read to their ends.
    """

    last: float
    whole: bool


def with_outcomes(runs: Mapping[Run, Written]) -> list[Run]:
    """Tell of each run whether it has ended, is still growing, or has diverged.

    A run grows if its files were written a short time ago, which is measured by how often it
    writes. One that has come to the very step at which others of its group ended has ended, too.
    """
    now = time.time()
    open_ = {run: why for run, how in runs.items() if (why := _why_open(run, how, now))}
    ends: dict[Group, set[float]] = defaultdict(set)
    for run in runs:
        if run not in open_:
            ends[run.group].add(_last_step(run))
    return [
        _diverged(run)
        or (
            replace(run, outcome=Outcome.UNFINISHED, reason=open_[run])
            if run in open_ and _last_step(run) not in ends[run.group]
            else run
        )
        for run in runs
    ]


def on_growth(runs: Sequence[Run]) -> list[str]:
    """A sentence on runs that are still growing; none if there are none."""
    growing = [run for run in runs if run.reason.startswith(_GROWING)]
    if not growing:
        return []
    (first, *others) = growing
    more = f" So {'is' if len(others) == 1 else 'are'} {plural(len(others), 'other')}."
    return [f"{first.folder}: {first.reason}.{more if others else ''}"]


def _diverged(run: Run) -> Run | None:
    for name, curve in run.curves.items():
        is_loss = "loss" in re.split(r"[^a-z]+", name.lower()) or name.lower().endswith("loss")
        if is_loss and not np.isfinite(curve.values[-1]):
            at = curve.steps[-1]
            reason = f"{name} is {curve.values[-1]:g} at its last step, {at:.0f}"
            return replace(run, outcome=Outcome.DIVERGED, reason=reason)
    return None


def _last_step(run: Run) -> float:
    return max(float(curve.steps[-1]) for curve in run.curves.values())


def _why_open(run: Run, how: Written, now: float) -> str:
    """Why the last values of a run are not those of its end; empty if nothing says so.

    The clocks of this machine, of the disk and of the run's machine may differ a little. Files
    that were written long after their last point are copies.
    """
    if not how.whole:
        return f"its event files cannot be read to their ends, from step {_last_step(run):.0f} on"
    if abs(now - how.last) > _LONGEST_SECONDS + _CLOCKS_DIFFER:
        return ""
    pause = _pause(run)
    written = max(_times(run), default=0.0)
    age = abs(now - written)
    if age > pause or abs(written - how.last) > pause + _CLOCKS_DIFFER:
        return ""
    return f"{_GROWING}: at step {_last_step(run):.0f}, written {age:.0f} seconds ago"


def _pause(run: Run) -> float:
    """The longest time in which nothing is written while a run still grows."""
    seconds = np.unique(np.concatenate([curve.seconds for curve in run.curves.values()]))
    longest = float(np.diff(seconds, prepend=0.0).max())
    pause = max(_PAUSES * longest, min(float(seconds[-1]), _SECONDS_UNTIL_WRITTEN))
    return min(pause, _LONGEST_SECONDS) if seconds[-1] >= _A_MOMENT else 0.0


def _times(run: Run) -> Iterator[float]:
    for folder in (run.folder, *run.parts):
        try:
            for path in event_files(folder):
                yield os.stat(path).st_mtime
        except OSError:
            continue
