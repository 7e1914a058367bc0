"""What is said of names that leave doubts, with a ``--group`` that settles them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from deltagclip_cli.core import plural
from deltagclip_cli.results.read.grouping import Sorted
from deltagclip_cli.results.read.name_parts import DOUBTFUL, PartKind
from deltagclip_cli.results.read.suggestion import suggested

_MOST_NAMES = 3
_WHATS = {
    PartKind.HOST: "what follows the time-stamp",
    PartKind.NUMBER: "the number behind the time-stamp",
    PartKind.VERSION: "the version",
    PartKind.DATE: "the date",
    PartKind.PLACE: "a folder",
}
assert set(_WHATS) == set(DOUBTFUL)


def notes_on(runs: Sequence[Sorted]) -> list[str]:
    """A sentence or two on each doubt that names leave; none if they leave none."""
    sizes = Counter(run.key for run in runs)
    return [*_on_what_is_apart(runs, sizes), *_on_hosts(runs), *_on_what_is_one(runs, sizes)]


def _on_what_is_apart(runs: Sequence[Sorted], sizes: Counter[tuple[str, ...]]) -> list[str]:
    """Runs that were kept apart, and may be repetitions."""
    seeds = Counter(_regardless(run) for run in runs if run.seed is not None)
    doubted = [run for run in runs if run.doubts and seeds[_regardless(run)] < 2]
    alone = [run for run in runs if sizes[run.key] == 1]
    suggestion = suggested(runs, doubted, alone)
    found = []
    for kind, what in _WHATS.items():
        if words := [" ".join(r.found.name.words(kind)) for r in doubted if kind in r.doubts]:
            found.append(
                f"{len(words)} runs differ in {what} ({_few(words)}), which may be a setting, and"
                " are kept apart."
            )
    others = set(suggestion.numbered) - set(doubted)
    if texts := [run.found.name.text for run in suggestion.numbered if run in others]:
        found.append(
            f"{len(texts)} settings have one run each, and a number tells them apart"
            f" ({_few(texts)})."
        )
    if not found:
        return []
    pattern = suggestion.pattern
    how = "say with --group where the seed is" if pattern is None else f"add {_option(pattern)}"
    return [f"{' '.join(found)} If they are repetitions, {how}"]


def _on_hosts(runs: Sequence[Sorted]) -> list[str]:
    words = [word for run in runs for word in run.hosts]
    what = f"Seeds of one setting differ in {_WHATS[PartKind.HOST]} ({_few(words)})"
    return [f"{what}, which is taken for a host's name."] if words else []


def _on_what_is_one(runs: Sequence[Sorted], sizes: Counter[tuple[str, ...]]) -> list[str]:
    """Runs that nothing tells apart but when they were made."""
    merged = [
        run.found.name.text
        for run in runs
        if run.seed is None and sizes[run.key] > 1 and not (run.settings or run.doubts)
    ]
    if not merged:
        return []
    return [
        f"{len(merged)} runs differ from others in nothing but time-stamps or random names"
        f" ({_few(merged)}), and count as repetitions. If they are not, add"
        f" {_option('(?P<optimizer>.+)')}"
    ]


def _regardless(run: Sorted) -> tuple[object, ...]:
    """The same for runs that differ in doubtful parts of their names only."""
    settings = tuple(run.settings.items())
    return run.found.experiment, run.found.name.plain, settings, run.seed


def _few(words: Sequence[str]) -> str:
    """Some words, of many only the first."""
    words = list(dict.fromkeys(words))
    more = len(words) - _MOST_NAMES
    return ", ".join(words[:_MOST_NAMES]) + (f" and {plural(more, 'other')}" if more > 0 else "")


def _option(pattern: str) -> str:
    return f"--group {shlex.quote(pattern)}"
