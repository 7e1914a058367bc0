"""The points of a run as its files bring them, and what remains after restarts.

A program that goes on from a checkpoint writes some steps a second time, in a new
file or further on in the same one. What it wrote before from there on is superseded. Two rules say
what that is; a point that either of them drops is dropped.

1. TensorBoard's, as in its ``EventAccumulator``: the start of a session drops the points of *all*
   tags from its step on, if the file names a version of at least 2. In files that do not, a step
   below the highest one so far drops the points of the event's own tags from that step on.
2. For programs that start again without a word: a point drops those of *its own* tag with a higher
   step, and those with the same step if they are from an earlier file. This does not go for an
   earlier file that was still written when the later one began: that is no restart, but two
   writers, and the points of both are kept.

Points of one tag that have the same step and lie in one file are therefore all kept, in the order
in which they were written: that is how programs write that do not count. Order is that of the
files' names and of the records in them; clocks, which may differ between hosts, only tell whether
two files overlap. Points that were dropped and whose steps were not written again are told of, and
so are two writers of one tag.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deltagclip_cli.core import plural
from deltagclip_cli.results.read.run import Numbers

_MOST_TAGS = 3


@dataclass(frozen=True, eq=False)
class Scalars:
    """One tag's points in order of their steps, as read-only arrays (N,) of float64.

    Args:
        steps: as the program counted them; a step may be there more than once.
        wall_times: seconds since 1970.
        values: NaN and infinite where that was written; mostly of float32's precision.
    """

    steps: Numbers
    wall_times: Numbers
    values: Numbers


class Points:
    """The points of all tags of a run, in the order in which its files have them."""

    def __init__(self) -> None:
        self._points: dict[str, list[_Part]] = {}  # by tag, those of each file
        self._file = -1
        self._current: dict[str, _Part] = {}  # those of the file that is being read
        self._ends: dict[int, float] = {}  # of each file with points, the time of the last
        self._beside: set[int] = set()  # files that were still written when this one began
        self._mixed: dict[str, None] = {}

    def begin_file(self, number: int) -> None:
        """The next points are from the file of that number."""
        self._file = number
        self._current = {}

    def add(self, tag: str, step: int, wall_time: float, value: float) -> None:
        """Add a point, and drop what it supersedes."""
        part = self._current.get(tag)
        if part is None:
            part = self._begin(tag, wall_time)
        if wall_time > self._ends[self._file]:
            self._ends[self._file] = wall_time
        if part.earlier:
            self._drop_earlier(part, tag, step)
        part.add(step, wall_time, value)

    def drop_from(self, step: int, tags: Iterable[str] | None = None) -> None:
        """Drop the points of some tags, or of all, from a step on."""
        for tag in self._points if tags is None else tags:
            for part in self._points.get(tag, ()):
                part.drop_from(step)

    def scalars(self) -> dict[str, Scalars]:
        """What has not been superseded so far."""
        remaining = {
            tag: [part for part in parts if part.steps] for tag, parts in self._points.items()
        }
        return {tag: _frozen(parts) for tag, parts in remaining.items() if parts}

    def lost(self) -> str:
        """What was dropped and not written again, in words; empty if nothing was."""
        lost: dict[str, set[int]] = {}
        for tag, parts in self._points.items():
            if any(part.dropped for part in parts):
                again = set[int]().union(*(part.steps for part in parts))
                if steps := set[int]().union(*(part.dropped for part in parts)) - again:
                    lost[tag] = steps
        if not lost:
            return ""
        numbers = set[int]().union(*lost.values())
        first, last = min(numbers), max(numbers)
        where = f"step {first}" if first == last else f"steps between {first} and {last}"
        return (
            "a restart went back and did not write all steps again;"
            f" of {_named(lost)}, {where} from before it are left out"
        )

    def mixed(self) -> str:
        """Which tags two writers wrote at the same time, in words; empty if there are none."""
        if not self._mixed:
            return ""
        return (
            f"two writers wrote {_named(self._mixed)} at the same time; the points of both are kept"
        )

    def _begin(self, tag: str, wall_time: float) -> _Part:
        """Make room for the points of a tag in a file, of which this is the first."""
        if not self._current:  # no tag has any yet
            self._beside = {n for n, end in self._ends.items() if wall_time < end}
            self._ends[self._file] = wall_time
        parts = self._points.setdefault(tag, [])
        part = self._current[tag] = _Part(self._file, tuple(parts))
        parts.append(part)
        return part

    def _drop_earlier(self, new: _Part, tag: str, step: int) -> None:
        """Drop what a point supersedes in earlier files."""
        for part in new.earlier:
            if part.steps and step <= part.steps[-1]:
                if part.file in self._beside:
                    self._mixed[tag] = None
                else:
                    part.drop_from(step)


class _Part:
    """The points of one tag in one file that are not superseded; their steps never decrease.

    Args:
        file: its number.
        earlier: the points of the tag in earlier files.
    """

    def __init__(self, file: int, earlier: Sequence[_Part]) -> None:
        self.file = file
        self.earlier = earlier
        self.steps = array("q")
        self.wall_times = array("d")
        self.values = array("d")
        self.dropped = array("q")

    def add(self, step: int, wall_time: float, value: float) -> None:
        """Append a point, and drop those of higher steps."""
        if self.steps and step < self.steps[-1]:
            self.drop_from(step)
        self.steps.append(step)
        self.wall_times.append(wall_time)
        self.values.append(value)

    def drop_from(self, step: int) -> None:
        """Drop the points of this step and of higher ones."""
        kept = bisect_left(self.steps, step)
        self.dropped += self.steps[kept:]
        for numbers in (self.steps, self.wall_times, self.values):
            del numbers[kept:]


def _named(tags: Iterable[str]) -> str:
    """The first of some tags, and how many more there are."""
    first, more = list(tags)[:_MOST_TAGS], len(list(tags)) - _MOST_TAGS
    return ", ".join(first) + (f" and {plural(more, 'more tag')}" if more > 0 else "")


def _frozen(parts: Sequence[_Part]) -> Scalars:
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
