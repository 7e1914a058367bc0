"""What the names of other people's runs say: optimizer, settings, seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deltagclip_cli.core import UsageError, printable, stopped
from deltagclip_cli.results.read.doubts import notes_on
from deltagclip_cli.results.read.grouping import Found, Sorted, sort_runs
from deltagclip_cli.results.read.name_parts import Name
from deltagclip_cli.results.read.run import Group


@dataclass(frozen=True)
class Named:
    """What the name of a run says.

    Args:
        group: what it has in common with other runs.
        seed: None if it has none.
    """

    group: Group
    seed: str | None


class Naming:
    """Reads names of runs.

    Args:
        pattern: a regular expression that is searched in the path below the searched folder. Its
            named groups ``experiment``, ``optimizer`` and ``seed`` are what they say, all others
            are settings. None takes the path without time-stamps and seeds for the optimizer.

    Raises:
        UsageError: the pattern is not a regular expression, or has no named groups.
    """

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern: re.Pattern[str] | None = None
        if pattern is None:
            return
        try:
            self._pattern = re.compile(pattern)
        except (re.error, OverflowError) as error:
            raise UsageError(
                f"--group {pattern}: not a regular expression: {stopped(error)}\n"
                "  One that is: (?P<optimizer>adam|sgd)_lr(?P<lr>[^_]+)_seed(?P<seed>\\d+)"
            ) from None
        if not self._pattern.groupindex:
            raise UsageError(
                f"--group {pattern}: it names no groups.\n"
                "  Write what tells runs apart as (?P<optimizer>…), (?P<seed>…), (?P<lr>…), …"
            )

    def fits(self, name: Name) -> bool:
        """Whether a name can be read; every one can without a pattern."""
        return self._pattern is None or self._pattern.search(name.text) is not None

    def read(self, runs: Sequence[Found]) -> tuple[list[Named], list[str]]:
        """What the names of some runs say, all of which fit, and sentences on what is in doubt."""
        if self._pattern is not None:
            return [_matched(self._pattern, run) for run in runs], []
        in_order = sort_runs(runs)
        return [_named(each) for each in in_order], notes_on(in_order)


def _matched(pattern: re.Pattern[str], run: Found) -> Named:
    found = pattern.search(run.name.text)
    assert found is not None
    words = {key: printable(word) for key, word in found.groupdict().items() if word}
    seed = words.pop("seed", None)
    experiment = words.pop("experiment", printable(run.experiment))
    optimizer = words.pop("optimizer", printable(run.experiment))
    return Named(Group(experiment, optimizer, words), seed)


def _named(run: Sorted) -> Named:
    experiment = run.found.experiment
    words = {printable(name): printable(word) for name, word in run.settings.items()}
    group = Group(printable(experiment), printable(run.label or experiment), words)
    return Named(group, None if run.seed is None else printable(run.seed))
