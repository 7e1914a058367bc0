"""The log of a run, whatever program wrote it: points of metrics, and what else it says.

A program that goes on from a checkpoint writes some steps a second time, in a new file or further
on in the same one. What it wrote from there on before is superseded:

1. The start of a session, where a log has one, drops the points of *all* tags from its step on, as
   in TensorBoard.
2. For programs that start again without a word: a point drops those of *its own* tag with a higher
   step, and those with the same step if they are from an earlier file. This does not go for an
   earlier file that was still written when the later one began: that is no restart, but two
   writers, and the points of both are kept.

Points of one tag that have the same step and lie in one file are therefore all kept, as they were
written: that is how programs write that do not count. Order is that of the files' names and of the
records in them; clocks, which may differ between hosts, only tell whether two files overlap.
Points that were dropped and whose steps were not written again are told of, and so are two writers
of one tag.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from deltagclip_cli.core import listed

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Numbers, Option, Outcome


@dataclass(frozen=True, eq=False)
class Scalars:
    """One tag's points in order of their steps, as read-only arrays (N,) of float64."""

    steps: Numbers  # as the program counted them; a step may be there more than once
    wall_times: Numbers  # seconds since 1970; NaN where the log has no times
    values: Numbers  # NaN and infinite where that was written


@dataclass(frozen=True, eq=False)
class Log:
    """The content of a log."""

    # by tag, in order of first appearance; each has at least one point
    scalars: Mapping[str, Scalars]
    # a sentence for each file that is cut off, damaged or cannot be read, and on what restarts
    # dropped; it begins with the path of a file, or of the folder if that cannot be listed
    problems: Sequence[str] = ()
    # when the run was begun, in seconds since 1970; None if nothing says so
    begin: float | None = None
    options: Mapping[str, Option] = field(default_factory=dict)  # hyperparameters that it tells
    whole: bool = True  # whether all of it could be read
    name: str | None = None  # what the program calls the run; None for the path of its files
    experiment: str | None = None  # what the program calls the runs that belong together
    # how it ended, and why it did not finish; None where the log does not tell
    outcome: Outcome | None = None
    reason: str = ""
    written_at: float | None = None  # of points without times: when the last was written
    counts_epochs: bool = False  # whether the steps are epochs


class _Part:
    """The points of one tag in one file that are not superseded; their steps never decrease."""

    def __init__(self, file: int, earlier: Sequence[_Part]) -> None:
        self.file = file
        self.earlier = earlier
        self.steps = array("d")
        self.wall_times = array("d")
        self.values = array("d")
        self.dropped = array("d")

    def add(self, step: float, wall_time: float, value: float) -> None:
        """Append a point, and drop those of higher steps."""
        if self.steps and step < self.steps[-1]:
            self.drop_from(step)
        self.steps.append(step)
        self.wall_times.append(wall_time)
        self.values.append(value)

    def drop_from(self, step: float) -> None:
        """Drop the points of this step and of higher ones."""
        kept = bisect_left(self.steps, step)
        self.dropped += self.steps[kept:]
        for numbers in (self.steps, self.wall_times, self.values):
            del numbers[kept:]


class Points:
    """The points of a run, one after the other, and what remains of them."""

    def __init__(self) -> None:
        self._parts: dict[str, list[_Part]] = {}  # by tag, those of each file
        self._file = -1
        self._current: dict[str, _Part] = {}  # those of the file that is being read
        self._ends: dict[int, float] = {}  # of each file with points, the time of the last
        self._beside: set[int] = set()  # files that were still written when this one began
        self._mixed: dict[str, None] = {}

    def next_file(self) -> None:
        """Take what follows for the points of another file."""
        self._file, self._current = self._file + 1, {}

    def restart(self, step: float) -> None:
        """Drop the points of all tags from a step on."""
        for parts in self._parts.values():
            for part in parts:
                part.drop_from(step)

    def add(self, tag: str, step: float, wall_time: float, value: float) -> None:
        """Add a point, and drop what it supersedes."""
        part = self._current.get(tag)
        if part is None:
            part = self._begin(tag, wall_time)
        if wall_time > self._ends[self._file]:
            self._ends[self._file] = wall_time
        for each in part.earlier:
            if each.steps and step <= each.steps[-1]:
                if each.file in self._beside:
                    self._mixed[tag] = None
                else:
                    each.drop_from(step)
        part.add(step, wall_time, value)

    def _begin(self, tag: str, wall_time: float) -> _Part:
        """Make room for the points of a tag in a file, of which this is the first."""
        if not self._current:  # no tag has any yet
            self._beside = {n for n, end in self._ends.items() if wall_time < end}
            self._ends[self._file] = wall_time
        parts = self._parts.setdefault(tag, [])
        part = self._current[tag] = _Part(self._file, tuple(parts))
        parts.append(part)
        return part

    def scalars(self) -> dict[str, Scalars]:
        """Return what has not been superseded."""
        remaining = {
            tag: [part for part in parts if part.steps] for tag, parts in self._parts.items()
        }
        return {tag: _joined(parts) for tag, parts in remaining.items() if parts}

    def lost(self) -> str:
        """Tell in words what was dropped and not written again; nothing if nothing was."""
        lost: dict[str, set[float]] = {}
        for tag, parts in self._parts.items():
            again = {step for part in parts for step in part.steps}
            if steps := {step for part in parts for step in part.dropped} - again:
                lost[tag] = steps
        if not lost:
            return ""
        steps = set[float]().union(*lost.values())
        return (
            "a restart went back and did not write all steps again; of"
            f" {listed(list(lost))}, steps from {min(steps):.12g} to {max(steps):.12g} are left out"
        )

    def mixed(self) -> str:
        """Tell in words which tags two writers wrote at the same time; nothing if none."""
        if not self._mixed:
            return ""
        tags = listed(list(self._mixed))
        return f"two writers wrote {tags} at the same time; the points of both are kept"


def _joined(parts: Sequence[_Part]) -> Scalars:
    """The points of all files in order of their steps; of equal ones, in order of the files."""
    steps, *others = (
        np.concatenate([np.array(getattr(part, name), dtype=np.float64) for part in parts])
        for name in ("steps", "wall_times", "values")
    )
    if len(parts) > 1:
        order = np.argsort(steps, kind="stable")
        steps, *others = (numbers[order] for numbers in (steps, *others))
    for numbers in (steps, *others):
        numbers.flags.writeable = False
    return Scalars(steps, *others)
