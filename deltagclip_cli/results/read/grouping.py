"""Runs of other programs in groups: by ``--group``, or by their names alone.

Names that leave doubts are told of, with a ``--group`` that unites runs of which nobody knows
whether they are repetitions.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.core import UsageError, plural, printable, stopped
from deltagclip_cli.results.read.names import Found, Name, PartKind, Sorted, sort_runs
from deltagclip_cli.results.read.run import Group

_MOST_NAMES = 3
_WHATS = {
    PartKind.HOST: "what follows the time-stamp",
    PartKind.NUMBER: "the number behind the time-stamp",
    PartKind.VERSION: "the version",
    PartKind.DATE: "the date",
    PartKind.PLACE: "a folder",
}
_INTEGER = re.compile(r"(?<!\d)(?<!\d[.e])(?<!\de[-+])\d+(?!\d|\.\d|e[-+]?\d)")
_SEED = r"[\W_]*(?i:seed)[\W_]*(?P<seed>\d+)"
_PATTERNS = (
    rf"^(?P<optimizer>.+?){_SEED}",  # adam_seed3/job-8107
    rf"^\D*\d+[\W_]+(?P<optimizer>.+?){_SEED}",  # job-8107/adam_seed3
    r"^(?P<optimizer>.+?)(?:[\W_]*(?P<seed>\d+)\D*)?$",  # adam_3, adam/version_3/tb, adam
    r"^(?P<seed>\d+)[\W_]+(?P<optimizer>.+)$",  # 3/adam
    r"^(?P<optimizer>.+)[\W_]+(?P<seed>\d+)[\W_]+(?P<setting>.+)$",  # adam-3-lr0.1
    r"^(?P<optimizer>[^/]+)/.*?(?P<seed>\d+)\D*$",  # adam/2024-01-01_12-07-31/s3
    r"^(?P<optimizer>.+?)(?P<seed>\d+)[\W_]\d[\d\W_]*$",  # adam_s3_20240101_120731
)
"""Suggestions, the first that fits: which of the numbers in a name is the seed."""


@dataclass(frozen=True)
class Named:
    """The group of a run and its seed, as far as its name says them."""

    group: Group
    seed: str | None


class Naming:
    """Reads names of runs.

    A pattern is a regular expression that is searched in the path below the searched folder. Its
    groups ``experiment``, ``optimizer`` and ``seed`` are what they say, all others are settings.
    Without one, the path without time-stamps and seeds is the optimizer.
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
        """Tell whether a name can be read; every one can without a pattern."""
        return self._pattern is None or self._pattern.search(name.text) is not None

    def read(self, runs: Sequence[Found]) -> tuple[list[Named], list[str]]:
        """Read the names of some runs, all of which fit; return sentences on doubts as well."""
        if self._pattern is not None:
            matched = [_matched(self._pattern, run) for run in runs]
            return matched, _on_files_beside(runs, matched)
        in_order = sort_runs(runs)
        sizes = Counter(run.key for run in in_order)
        notes = [*_on_what_is_apart(in_order, sizes), *_on_what_is_one(in_order, sizes)]
        return [_named(each) for each in in_order], notes


def _matched(pattern: re.Pattern[str], run: Found) -> Named:
    found = pattern.search(run.name.text)
    assert found is not None
    words = {key: printable(word) for key, word in found.groupdict().items() if word}
    seed = words.pop("seed", None)
    experiment = words.pop("experiment", printable(run.experiment))
    optimizer = words.pop("optimizer", printable(run.experiment))
    return Named(Group(experiment, optimizer, words), seed)


def _on_files_beside(runs: Sequence[Found], named: Sequence[Named]) -> list[str]:
    """Files that lie in one folder and count as repetitions without a seed."""
    beside: dict[tuple[Group, Path], list[str]] = defaultdict(list)
    for run, name in zip(runs, named, strict=True):
        if run.file is not None and name.seed is None:
            beside[name.group, run.file.parent].append(run.file.name)
    found = {folder: names for (_, folder), names in beside.items() if len(names) > 1}
    if not found:
        return []
    files, (folder, names) = sum(map(len, found.values())), next(iter(found.items()))
    return [
        f"{files} files count as repetitions, without a seed, of {plural(len(found), 'folder')}"
        f" (in {printable(str(folder))}, {_few(names)}). If those of a folder are of one run, n is"
        " too large. Call the seed in their names (?P<seed>…)."
    ]


def _named(run: Sorted) -> Named:
    experiment = run.found.experiment
    words = {printable(name): printable(word) for name, word in run.settings.items()}
    group = Group(printable(experiment), printable(run.label or experiment), words)
    return Named(group, None if run.seed is None else printable(run.seed))


def _on_what_is_apart(runs: Sequence[Sorted], sizes: Counter[tuple[str, ...]]) -> list[str]:
    """Runs that were kept apart, and may be repetitions."""
    seeds = Counter(_regardless(run) for run in runs if run.seed is not None)
    doubted = [run for run in runs if run.doubts and seeds[_regardless(run)] < 2]
    pattern, united = suggested(runs)
    found = []
    for kind, what in _WHATS.items():
        if words := [" ".join(r.found.name.words(kind)) for r in doubted if kind in r.doubts]:
            found.append(
                f"{len(words)} runs differ in {what} ({_few(words)}), which may be a setting, and"
                " are kept apart."
            )
    numbered = [run for run in united if sizes[run.key] == 1 and run not in doubted]
    if texts := [run.found.name.text for run in numbered]:
        found.append(
            f"{len(texts)} settings have one run each, and a number tells them apart"
            f" ({_few(texts)})."
        )
    if not found:
        return []
    how = f"add {_option(pattern)}" if pattern else "say with --group where the seed is"
    return [f"{' '.join(found)} If they are repetitions, {how}"]


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


def suggested(runs: Sequence[Sorted]) -> tuple[str, list[Sorted]]:
    """Return a ``--group`` that reads every run and unites more, and what it unites; else nothing.

    What is together stays so, and no seed comes twice: one that the name says is the seed.
    """
    for pattern in _PATTERNS:
        groups: dict[tuple[str, ...], dict[str | None, Sorted]] = defaultdict(dict)
        labels: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for run in runs:
            words = _words(pattern, run)
            if words is None:
                break
            seed = words.pop("seed")
            group = (run.found.experiment, *(word or "" for word in words.values()))
            if groups[group].setdefault(seed, run) is not run and seed is not None:
                break
            labels[group].add(run.label)
        else:
            several = [group for group in groups if len(labels[group]) > 1]
            before = {(run.found.experiment, run.label) for run in runs}
            if several and sum(map(len, labels.values())) == len(before):
                return pattern, [run for group in several for run in groups[group].values()]
    return "", []


def _words(pattern: str, run: Sorted) -> dict[str, str | None] | None:
    """Return what a pattern reads in a name; None if it takes something for a seed that is none."""
    found = re.search(pattern, run.found.name.text)
    if found is None:
        return None
    number, known = found["seed"], run.found.name.seed
    is_seed = found.span("seed") in [each.span() for each in _INTEGER.finditer(found.string)]
    if number is not None and not (is_seed and known in (None, number.lstrip("0") or "0")):
        return None
    return found.groupdict()
