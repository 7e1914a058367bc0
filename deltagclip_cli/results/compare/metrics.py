"""Which metric is compared, and whether more of it is better."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from deltagclip_cli.core import COMPARED_METRICS, NotYetError, UsageError, more_is_better
from deltagclip_cli.results.compare.mode import Mode
from deltagclip_cli.results.read.run import Run, standard_name
from deltagclip_cli.spec.faults import nearest

_MOST_NAMES = 12


def choose_metric(runs: Iterable[Run], asked: str | None, words: str = "--metric") -> str:
    """The name of a metric that some run has.

    Args:
        runs: whose metrics there are.
        asked: its name, or one that other people use for it; None takes the first of
            :data:`COMPARED_METRICS` that there is.
        words: those of the user that ask for it.

    Raises:
        UsageError: no run has it; the message lists those there are, nearest first.
        NotYetError: no run has any.
    """
    there = _names(runs)
    wanted = COMPARED_METRICS if asked is None else (asked, standard_name(asked))
    found = next((name for name in wanted if name in there), None)
    if found is not None:
        return found
    if not there:
        raise NotYetError(
            "There is nothing to compare yet: no run has come to the end of its first epoch.\n"
            "  deltagclip status shows how far they are."
        )
    what = f"{words} is needed" if asked is None else f"{words}: no run has that metric"
    raise UsageError(f"{what}.\n  metrics: {nearest_first(asked or '', there)}")


def usual_metric(runs: Iterable[Run]) -> str | None:
    """The first of :data:`COMPARED_METRICS` that some run has."""
    there = _names(runs)
    return next((name for name in COMPARED_METRICS if name in there), None)


def _names(runs: Iterable[Run]) -> dict[str, None]:
    return dict.fromkeys(name for run in runs for name in run.curves)


def nearest_first(word: str, names: Iterable[str]) -> str:
    """Names in the order of their likeness to a word, as a list for a message, with a hint."""

    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()

    ordered = sorted(names, key=likeness, reverse=True) if word else list(names)
    more = len(ordered) - _MOST_NAMES
    listed = ", ".join(ordered[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"{listed}{nearest(word, ordered)}" if word and word not in ordered else listed


def higher_is_better(metric: str, mode: Mode | None, words: str) -> bool:
    """Whether more of a metric is better.

    Args:
        metric: its name.
        mode: what the user says; None leaves it to the name.
        words: those of the user that ask for the metric.

    Raises:
        UsageError: nobody says it and the name does not tell.
    """
    found = (mode is Mode.MAX) if mode is not None else more_is_better(metric)
    if found is None:
        raise UsageError(
            f"{words}: the name of {metric} does not tell whether more of it is better.\n"
            "  Say --mode max or --mode min."
        )
    return found
