"""Runs of other programs in groups: by ``--group``, or by their names alone.

Names that leave doubts are told of, with a ``--group`` that unites runs of which nobody knows
whether they are repetitions.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deltagclip_cli.core import UsageError, plural, printable, stopped
from deltagclip_cli.results.read.names import Found, Name, Part, PartKind, Sorted, sort_runs
from deltagclip_cli.results.read.run import Group

_MOST_NAMES = 3
_WHATS = {
    PartKind.HOST: "what follows the time-stamp",
    PartKind.NUMBER: "the number behind the time-stamp",
    PartKind.VERSION: "the version",
    PartKind.DATE: "the date",
    PartKind.PLACE: "a folder",
}
_MOST_FORMS = 6  # of what stands beside the seeds, in one expression
_SEPARATORS = frozenset("._-+,=@~&:# /")
_BETWEEN = rf"[{re.escape(''.join(_SEPARATORS))}]"
_INTEGER = re.compile(r"(?<!\d)(?<!\d[.e])(?<!\de[-+])\d+(?!\d|\.\d|e[-+]?\d)")
# What stands before the number of a repetition, and belongs to no label.
_REPETITION = re.compile(
    rf"(?:(?:^|{_BETWEEN})(?:exp|fold|idx?|iter|job|n|no|nr|rep|repeat|rs|run|s|sd|task|trial|try|v"
    rf"|version))?{_BETWEEN}*$",
    re.IGNORECASE,
)
# What of a side counts as the label: from the first plain text to the last, the last one alone, or
# the whole with its time-stamps.
_READINGS: Sequence[tuple[bool, Sequence[PartKind]]] = (
    (False, ()),
    (True, ()),
    (False, (PartKind.STAMP, PartKind.DATE)),
)

_Place = tuple[int, int, str]
"""The place in a name that is its seed, or may be: begin, end, and an expression for the seed."""


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


def notes_on(runs: Sequence[Sorted]) -> list[str]:
    """A sentence or two on each doubt that names leave; none if they leave none."""
    sizes = Counter(run.key for run in runs)
    return [*_on_what_is_apart(runs, sizes), *_on_hosts(runs), *_on_what_is_one(runs, sizes)]


def _on_what_is_apart(runs: Sequence[Sorted], sizes: Counter[tuple[str, ...]]) -> list[str]:
    """Runs that were kept apart, and may be repetitions."""
    seeds = Counter(_regardless(run) for run in runs if run.seed is not None)
    doubted = [run for run in runs if run.doubts and seeds[_regardless(run)] < 2]
    alone = [run for run in runs if sizes[run.key] == 1]
    numbered, pattern = suggested(runs, doubted, alone)
    found = []
    for kind, what in _WHATS.items():
        if words := [" ".join(r.found.name.words(kind)) for r in doubted if kind in r.doubts]:
            found.append(
                f"{len(words)} runs differ in {what} ({_few(words)}), which may be a setting, and"
                " are kept apart."
            )
    if texts := [run.found.name.text for run in numbered if run not in doubted]:
        found.append(
            f"{len(texts)} settings have one run each, and a number tells them apart"
            f" ({_few(texts)})."
        )
    if not found:
        return []
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


def suggested(
    runs: Sequence[Sorted], doubted: Sequence[Sorted], alone: Sequence[Sorted]
) -> tuple[list[Sorted], str | None]:
    """Return the runs that nothing but a number tells apart, and a ``--group`` that unites runs.

    Args:
        runs: all that were found.
        doubted: those whose names have doubtful parts, which are to be the seeds.
        alone: those of which a number is to be the seed, or to be left out where that is known.
    """
    # Where the files tell the seed and the name has it as a bare number, that counts as a label.
    numbered = _numbered([run for run in alone if not run.found.name.words(PartKind.SEED)])
    beside = _beside_seeds(runs, alone)
    places = {run: place for run in doubted if (place := _doubtful_place(run))} | numbered
    read = [beside.get(run, run) for run in runs]
    pattern = _pattern(read, places) if places or beside else None
    return [*numbered, *beside], pattern


def _doubtful_place(run: Sorted) -> _Place | None:
    """A doubtful part of a name as its seed; None if it can be none."""
    name = run.found.name
    for part in reversed(name.parts) if run.seed is None else ():
        if part.kind in run.doubts and part.kind in (PartKind.NUMBER, PartKind.VERSION):
            return _digits_of(name, part)
        if part.kind in run.doubts and part.kind is PartKind.HOST:
            stamps = [p for p in name.parts if p.kind is PartKind.STAMP and p.end <= part.start]
            end = name.text.find("/", part.end)
            return stamps[-1].start, len(name.text) if end < 0 else end, "[^/]+"
    return None


def _known_place(run: Sorted) -> _Place | None:
    """The place of the seed that is known from the name, or else of what counts for one."""
    name = run.found.name
    kinds = (PartKind.STAMP,) if run.seed is None else (PartKind.SEED, PartKind.NUMBER)
    for kind in kinds:
        if parts := [part for part in name.parts if part.kind is kind]:
            start, end = parts[-1].start, parts[-1].end
            if run.seed is not None:
                return _digits_of(name, parts[-1])
            return start, end, _masked(name.text[start:end], kind)
    return None


def _digits_of(name: Name, part: Part) -> _Place:
    *_, found = re.finditer(r"\d+", name.text[part.start : part.end])
    return part.start + found.start(), part.start + found.end(), r"\d+"


def _numbered(runs: Sequence[Sorted]) -> dict[Sorted, _Place]:
    """Runs that would be repetitions if one number of their names were the seed."""
    alike: dict[tuple[str, str], list[Sorted]] = defaultdict(list)
    for run in runs:
        alike[run.found.experiment, _INTEGER.sub("#", _visible(run.found.name))].append(run)
    return {run: place for same in alike.values() for run, place in _last_number(same).items()}


def _visible(name: Name) -> str:
    """A name without the numbers that are surely no seeds."""
    text = name.text
    for part in name.parts:
        if part.kind not in (PartKind.VERSION, PartKind.NUMBER):
            text = text[: part.start] + "\0" * (part.end - part.start) + text[part.end :]
    return text


def _last_number(runs: Sequence[Sorted]) -> dict[Sorted, _Place]:
    """The last number that unites names of one form if it is left out."""
    texts = [_visible(run.found.name) for run in runs]
    numbers = [list(_INTEGER.finditer(text)) for text in texts]
    for place in reversed(range(len(numbers[0]))):
        spans = [each[place].span() for each in numbers]
        rests = [text[:start] + text[end:] for text, (start, end) in zip(texts, spans, strict=True)]
        if len({re.sub(r"\0+", "", rest) for rest in rests}) < len(runs):
            return {run: (*span, r"\d+") for run, span in zip(runs, spans, strict=True)}
    return {}


def _beside_seeds(runs: Sequence[Sorted], alone: Sequence[Sorted]) -> dict[Sorted, Sorted]:
    """Runs that would be seeds of one setting without a number, and how they are read without it.

    A job's number, say: no run of such a name has another seed of the same setting beside it.
    """
    alike: dict[tuple[str, str], list[Sorted]] = defaultdict(list)
    for run in runs:
        if run.found.name.words(PartKind.SEED):
            form = re.sub(r"\0+", "\0", _INTEGER.sub("#", _visible(run.found.name)))
            alike[run.found.experiment, form].append(run)
    found: dict[Sorted, Sorted] = {}
    for same in alike.values():
        if set(alone).issuperset(same) and len({run.seed for run in same}) > 1:
            for run, (start, end, _) in _last_number(same).items():
                name = run.found.name
                parts = [*name.parts, Part(start, end, PartKind.STAMP)]
                name = replace(name, parts=tuple(sorted(parts, key=lambda part: part.start)))
                found[run] = replace(run, found=replace(run.found, name=name))
    return found


def _pattern(runs: Sequence[Sorted], places: Mapping[Sorted, _Place]) -> str | None:
    """One that reads every run, keeps together what is, and unites more; None if there is none."""
    where = {run: places.get(run) or _known_place(run) for run in runs}
    known = [(run.found.name, place) for run, place in where.items() if place is not None]
    for only_last, kept in _READINGS:
        before = [_side(name, 0, start, kept, only_last) for name, (start, _, _) in known]
        behind = [_side(name, e, len(name.text), kept, only_last) for name, (_, e, _) in known]
        seeds = _either([seed for _, (_, _, seed) in known])
        pattern = _expression(before, behind, seeds, is_for_all=len(known) == len(runs))
        if pattern is not None and pattern.isprintable() and _fits(pattern, where):
            return pattern
    return None


def _fits(pattern: str, places: Mapping[Sorted, _Place | None]) -> bool:
    """Tell whether an expression finds these seeds, and unites more runs than are united."""
    expression = re.compile(pattern)
    groups: dict[tuple[str, ...], set[object]] = defaultdict(set)
    seeds = []
    for run, place in places.items():
        found = expression.search(run.found.name.text)
        if found is None or found.span("seed") != (place[:2] if place else (-1, -1)):
            return False
        words = found.groupdict()
        seed = words.pop("seed")
        group = (run.found.experiment, *words.values())
        groups[run.key].add(group)
        seeds += [(*group, seed)] if place else []
    united = set[object]().union(*groups.values())
    keeps_together = all(len(each) == 1 for each in groups.values())
    return keeps_together and len(united) < len(groups) and len(set(seeds)) == len(seeds)


_Side = tuple[str, str, str]
"""One side of a seed: an expression for what is no plain text at its beginning, the text from the
first that is plain to the last, and an expression for what follows."""


def _expression(
    before: Sequence[_Side], behind: Sequence[_Side], seeds: str | None, *, is_for_all: bool
) -> str | None:
    """An expression made of what stands before and behind the seeds."""
    ahead, after = ({text for _, text, _ in sides} for sides in (before, behind))
    is_label_behind = len(ahead) == 1 and after != {""} and (len(after) > 1 or ahead == {""})
    first = _around(before, None if is_label_behind else "optimizer")
    last = _around(behind, "optimizer" if is_label_behind else "setting")
    if first is None or last is None or seeds is None:
        return None
    seed = f"{first[1]}(?P<seed>{seeds}){''.join(last)}"
    return f"^{first[0]}{seed if is_for_all else f'(?:{seed})?'}$"


def _side(name: Name, start: int, end: int, kept: Sequence[PartKind], only_last: bool) -> _Side:
    text = name.text
    hidden = {
        place
        for part in name.parts
        if part.kind not in kept
        for place in range(part.start, part.end)
    }
    stop = end
    if end < len(text):  # before the seed
        shown = "".join("\0" if place in hidden else text[place] for place in range(start, end))
        stop = start + _REPETITION.search(shown).start()  # type: ignore[union-attr]
    plain = [p for p in range(start, stop) if p not in hidden and text[p] not in _SEPARATORS]
    if not plain:
        return "", "", _like(name, start, end)
    first, last = plain[0], plain[-1] + 1
    if only_last:
        within = max((p for p in hidden if p < last), default=first)
        first = next(p for p in plain if p >= within)
    return _like(name, start, first), text[first:last], _like(name, last, end)


def _like(name: Name, start: int, end: int) -> str:
    """An expression for a piece of a name that holds for other times, numbers and hosts."""
    pieces, at = [], start
    for part in (part for part in name.parts if part.end > start and part.start < end):
        begin, stop = max(part.start, start), min(part.end, end)
        pieces += [_literal(name.text[at:begin]), _masked(name.text[begin:stop], part.kind)]
        at = stop
    return "".join([*pieces, _literal(name.text[at:end])])


def _masked(text: str, kind: PartKind) -> str:
    if kind is PartKind.HOST:
        return "[^/]*"
    words = r"[A-Za-z0-9]+" if kind is PartKind.STAMP else r"\d+"
    return "".join(
        _literal(piece) if number % 2 == 0 else (r"\d+" if piece.isdigit() else r"\w+")
        for number, piece in enumerate(re.split(f"({words})", text))
    )


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\-", "-")


def _around(sides: Sequence[_Side], group: str | None) -> tuple[str, str] | None:
    """Expressions for the text with what comes before it, and for what follows."""
    lead, tail = _either([lead for lead, _, _ in sides]), _either([tail for _, _, tail in sides])
    if lead is None or tail is None:
        return None
    texts = {text for _, text, _ in sides}
    if texts == {""}:
        return lead, tail
    is_setting = group == "optimizer" or (group is not None and len(texts) > 1)
    text = f"(?P<{group}>.+?)" if is_setting else _literal(next(iter(texts)))
    return f"{lead}{text}", tail


def _either(forms: Sequence[str]) -> str | None:
    """One of some expressions; None if there are too many."""
    different = list(dict.fromkeys(forms))
    if len(different) > _MOST_FORMS:
        return None
    return different[0] if len(different) == 1 else f"(?:{'|'.join(different)})"
