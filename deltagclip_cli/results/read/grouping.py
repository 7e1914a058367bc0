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
from enum import Enum

from deltagclip_cli.core import UsageError, plural, printable, stopped
from deltagclip_cli.results.read.names import (
    DOUBTFUL,
    Found,
    Name,
    Part,
    PartKind,
    Sorted,
    sort_runs,
)
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


@dataclass(frozen=True)
class Suggestion:
    """How runs would be united.

    Args:
        numbered: runs that nothing but a number tells apart.
        pattern: for ``--group``; None if none was found that does it.
    """

    numbered: Sequence[Sorted]
    pattern: str | None


@dataclass(frozen=True)
class _Slot:
    """Where the name of a run has its seed, or may have it.

    Args:
        name: of the run.
        start: where the seed begins.
        end: where it ends.
        seed: an expression for it.
    """

    name: Name
    start: int
    end: int
    seed: str = r"\d+"


def _slot_of_doubt(run: Sorted) -> _Slot | None:
    """A doubtful part of a name as its seed; None if it can be none."""
    name = run.found.name
    for part in reversed(name.parts):
        if part.kind not in run.doubts:
            continue
        if part.kind in (PartKind.NUMBER, PartKind.VERSION) and run.seed is None:
            return _digits_of(name, part)
        if part.kind is PartKind.HOST and run.seed is None:
            stamps = [p for p in name.parts if p.kind is PartKind.STAMP and p.end <= part.start]
            end = name.text.find("/", part.end)
            return _Slot(name, stamps[-1].start, len(name.text) if end < 0 else end, "[^/]+")
    return None


def _digits_of(name: Name, part: Part) -> _Slot:
    *_, found = re.finditer(r"\d+", name.text[part.start : part.end])
    return _Slot(name, part.start + found.start(), part.start + found.end())


def _known_slot(run: Sorted) -> _Slot | None:
    """Where the seed stands that is known from the name, or else what counts for one."""
    name = run.found.name
    for kind in (PartKind.SEED, PartKind.NUMBER):
        parts = [part for part in name.parts if part.kind is kind]
        if run.seed is not None and parts:
            return _digits_of(name, parts[-1])
    for part in reversed(name.parts):
        if run.seed is None and part.kind is PartKind.STAMP:
            text = name.text[part.start : part.end]
            return _Slot(name, part.start, part.end, _masked(text, PartKind.STAMP))
    return None


def _numbered(runs: Sequence[Sorted]) -> dict[Sorted, _Slot]:
    """Runs that would be repetitions if one number of their names were the seed."""
    alike: dict[tuple[str, str], list[Sorted]] = defaultdict(list)
    for run in runs:
        alike[run.found.experiment, _INTEGER.sub("#", _visible(run.found.name))].append(run)
    return {run: slot for members in alike.values() for run, slot in _slots(members).items()}


def _visible(name: Name) -> str:
    """A name without the numbers that are surely no seeds."""
    text = name.text
    for part in name.parts:
        if part.kind not in (PartKind.VERSION, PartKind.NUMBER):
            text = text[: part.start] + "\0" * (part.end - part.start) + text[part.end :]
    return text


def _slots(runs: Sequence[Sorted]) -> dict[Sorted, _Slot]:
    """The last number that unites names of one form if it is left out."""
    texts = [_visible(run.found.name) for run in runs]
    numbers = [list(_INTEGER.finditer(text)) for text in texts]
    for place in reversed(range(len(numbers[0]))):
        spans = [each[place].span() for each in numbers]
        rests = [text[:start] + text[end:] for text, (start, end) in zip(texts, spans, strict=True)]
        if len({re.sub(r"\0+", "", rest) for rest in rests}) < len(runs):
            return {
                run: _Slot(run.found.name, *span) for run, span in zip(runs, spans, strict=True)
            }
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
    known = set(alone)
    for members in alike.values():
        if known.issuperset(members) and len({run.seed for run in members}) > 1:
            found |= {run: _hiding(run, slot) for run, slot in _slots(members).items()}
    return found


def _hiding(run: Sorted, slot: _Slot) -> Sorted:
    part = Part(slot.start, slot.end, PartKind.STAMP)
    parts = tuple(sorted((*run.found.name.parts, part), key=lambda each: each.start))
    return replace(run, found=replace(run.found, name=replace(run.found.name, parts=parts)))


# ------------------------------------------------------------- the expression


def suggested(
    runs: Sequence[Sorted], doubted: Sequence[Sorted], alone: Sequence[Sorted]
) -> Suggestion:
    """An expression that takes some places of names for the seeds.

    Args:
        runs: all that were found.
        doubted: those whose names have doubtful parts, which are to be the seeds.
        alone: those without others of the same setting, of which a number is to be the seed, or
            to be left out where the seed is known.
    """
    # Where the files tell the seed and the name has it as a bare number, that counts as a label.
    numbered = _numbered([run for run in alone if not run.found.name.words(PartKind.SEED)])
    beside = _beside_seeds(runs, alone)
    slots = {run: slot for run in doubted if (slot := _slot_of_doubt(run))} | numbered
    read = [beside.get(run, run) for run in runs]
    return Suggestion([*numbered, *beside], _pattern(read, slots) if slots or beside else None)


class _Reading(Enum):
    """What of a side counts as the label."""

    WHOLE = "from the first plain text to the last"
    LAST = "the last plain text"
    STAMPED = "the whole, with time-stamps"


def _pattern(runs: Sequence[Sorted], slots: Mapping[Sorted, _Slot]) -> str | None:
    """One that reads every run, keeps together what is, and unites more; None if there is none."""
    places = {run: slots.get(run) or _known_slot(run) for run in runs}
    known = [slot for slot in places.values() if slot is not None]
    for how in _Reading:
        pattern = _expression(known, how, is_for_all=len(known) == len(runs))
        if pattern is not None and pattern.isprintable() and _fits(pattern, places):
            return pattern
    return None


def _fits(pattern: str, places: Mapping[Sorted, _Slot | None]) -> bool:
    """Whether an expression finds these seeds, and unites more runs than are united."""
    expression = re.compile(pattern)
    groups: dict[tuple[str, ...], set[object]] = defaultdict(set)
    seeds = []
    for run, slot in places.items():
        found = expression.search(run.found.name.text)
        if found is None or found.span("seed") != ((slot.start, slot.end) if slot else (-1, -1)):
            return False
        words = found.groupdict()
        seed = words.pop("seed")
        group = (run.found.experiment, *words.values())
        groups[run.key].add(group)
        seeds += [(*group, seed)] if slot else []
    united = set[object]().union(*groups.values())
    keeps_together = all(len(each) == 1 for each in groups.values())
    return keeps_together and len(united) < len(groups) and len(set(seeds)) == len(seeds)


def _expression(slots: Sequence[_Slot], how: _Reading, *, is_for_all: bool) -> str | None:
    """An expression made of what stands before and behind the seeds."""
    before = [_Side.of(slot.name, 0, slot.start, how) for slot in slots]
    behind = [_Side.of(slot.name, slot.end, len(slot.name.text), how) for slot in slots]
    ahead, after = ({side.text for side in sides} for sides in (before, behind))
    is_label_behind = len(ahead) == 1 and after != {""} and (len(after) > 1 or ahead == {""})
    first = _around(before, None if is_label_behind else "optimizer")
    last = _around(behind, "optimizer" if is_label_behind else "setting")
    seeds = _either([slot.seed for slot in slots])
    if first is None or last is None or seeds is None:
        return None
    head, tail = first
    seed = f"{tail}(?P<seed>{seeds}){''.join(last)}"
    return f"^{head}{seed if is_for_all else f'(?:{seed})?'}$"


@dataclass(frozen=True)
class _Side:
    """What stands on one side of a seed.

    Args:
        lead: an expression for what is no plain text at the beginning.
        text: from the first plain text to the last.
        tail: an expression for what follows that.
    """

    lead: str
    text: str
    tail: str

    @classmethod
    def of(cls, name: Name, start: int, end: int, how: _Reading) -> _Side:
        """A piece of a name."""
        kept = (PartKind.STAMP, PartKind.DATE) if how is _Reading.STAMPED else ()
        hidden = {
            place
            for part in name.parts
            if part.kind not in kept
            for place in range(part.start, part.end)
        }
        text = name.text
        stop = end
        if end < len(text):  # before the seed
            shown = "".join("\0" if place in hidden else text[place] for place in range(start, end))
            stop = start + _REPETITION.search(shown).start()  # type: ignore[union-attr]
        plain = [p for p in range(start, stop) if p not in hidden and text[p] not in _SEPARATORS]
        if not plain:
            return cls("", "", _like(name, start, end))
        first, last = plain[0], plain[-1] + 1
        if how is _Reading.LAST:
            within = max((p for p in hidden if p < last), default=first)
            first = next(p for p in plain if p >= within)
        return cls(_like(name, start, first), text[first:last], _like(name, last, end))


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
    lead, tail = (_either([getattr(side, name) for side in sides]) for name in ("lead", "tail"))
    if lead is None or tail is None:
        return None
    texts = {side.text for side in sides}
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
