"""An export of the runs of a place: once, or again and again until all of them have ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from deltagclip_cli.core import NotYetError, UsageError, plural
from deltagclip_cli.export.destination import Change, Destination, ExportStoppedError
from deltagclip_cli.export.exported import once
from deltagclip_cli.results.read.run import Outcome, Reading, Run
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.runs.folder import RunFolder, State

_SECONDS_BETWEEN = 15.0
_SHARE_OF_TIME = 0.1  # that reading and sending may take while runs are followed

Shown = Callable[[Iterable[Change], int], Iterable[Change]]
"""Shows changes as they come, of which there are so many, and passes them on."""


@dataclass(frozen=True)
class Round:
    """One look at all runs, and what came of it."""

    changes: Counter[Change] = field(default_factory=Counter)
    problems: Sequence[str] = ()
    going_on: int = 0  # how many of the runs that there are have not ended

    def __str__(self) -> str:
        counts = [f"{self.changes[each]:,} {each}" for each in Change if self.changes[each]]
        return f"{plural(self.changes.total(), 'run')}: {', '.join(counts)}"

    @property
    def is_news(self) -> bool:
        """True if anything was sent."""
        return self.changes.total() > self.changes[Change.SAME]


def export(place: Place, destination: Destination, shown: Shown) -> Round:
    """Send every run of a place to a destination, as far as it is not there yet."""
    return _sent(place.read(), destination, shown)


def _sent(reading: Reading, destination: Destination, shown: Shown) -> Round:
    runs, problems = once(reading.runs)
    changes = Counter(shown(destination.send(runs), len(runs)))
    return Round(changes, [*reading.problems, *problems], sum(map(_goes_on, runs)))


def follow(
    place: Place, destination: Destination, shown: Shown, awaited: Callable[[], int]
) -> Iterator[Round]:
    """Yield a round after the other, until no run goes on.

    What stops a round but the first, such as a server that is restarted, is a problem that the next
    one may be without.

    Args:
        awaited: says how many trials are to begin or to go on, as far as a spec and a queue know.
    """
    is_first = True
    while True:
        begin, left = time.monotonic(), awaited()  # before reading: what ends meanwhile is read
        found = Round(going_on=1)
        try:
            if (reading := _read(place, is_awaited=left > 0)) is not None:
                found = _sent(reading, destination, shown)
                is_first = False
        except ExportStoppedError as error:
            if is_first:
                raise
            found = Round(problems=[str(error)], going_on=1)
        yield found
        if not (found.going_on or left):
            return
        time.sleep(max(_SECONDS_BETWEEN, (time.monotonic() - begin) / _SHARE_OF_TIME))


def _read(place: Place, *, is_awaited: bool) -> Reading | None:
    """Read the runs of a place; None if the first one is still to begin."""
    try:
        return place.read()
    except NotYetError:
        return None
    except UsageError:  # its folder is being made
        if is_awaited:
            return None
        raise


def _goes_on(run: Run) -> bool:
    if run.outcome is not Outcome.UNFINISHED:
        return False
    return run.trial is None or RunFolder(run.folder).state is not State.PRUNED
