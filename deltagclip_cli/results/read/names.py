"""The parts of the name of a run, and what names say side by side.

A name is the path of a run below the folder that is searched. The word *seed* with a number is a
seed wherever it stands; time-stamps and the random names that tools give to runs are left out. Of
some other parts nobody knows from one name whether they are settings: they are told by their kind.

Names are read side by side: a part that is the same in all of them says nothing, and one that
differs may be a setting. When in doubt runs are kept apart, and a ``--group`` is suggested.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from deltagclip_cli.core import as_number
from deltagclip_cli.results.read.run import Option, in_words

# Time-stamps in the forms in which programs write them.
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_HOUR, _SIXTY = r"(?:[01]\d|2[0-3])", r"[0-5]\d"
_NAME = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[-_, ]{1,2})?"

_DATES = (
    rf"{_YEAR}[-_.]?{_MONTH}[-_.]?{_DAY}",
    # 12-09-2021, of which nobody knows whether it is in September
    rf"(?:{_DAY}[-_.]{_MONTH}|{_MONTH}[-_.]{_DAY})[-_.]{_YEAR}",
    rf"(?<![A-Za-z]){_WEEKDAY}{_NAME}[-_ ]{{0,2}}(?:{_DAY}|[1-9])(?:[-_, ]{{1,2}}{_YEAR})?",
    rf"{_DAY}[-_ ]?{_NAME}(?:[-_ ]?{_YEAR})?",
)
_TIMES = (
    rf"{_HOUR}[-:.]?{_SIXTY}(?:[-:.]?{_SIXTY})?",
    rf"{_HOUR}_{_SIXTY}_{_SIXTY}",
    rf"{_HOUR}h{_SIXTY}(?:m?{_SIXTY}s?|m)?",
)
_ZONE = r"(?:[.,]\d{3,6})?(?:Z|\+\d\d:?\d\d|-\d\d:\d\d)?"
_DATE, _TIME = f"(?:{'|'.join(_DATES)})", f"(?:{'|'.join(_TIMES)}){_ZONE}"

_NO_DIGIT_BEFORE, _NO_DIGIT_AFTER = r"(?<!\d)", r"(?!\d)"

STAMP = re.compile(
    _NO_DIGIT_BEFORE
    + "(?:"
    + "|".join(
        (
            rf"{_DATE}(?:T|[-_ @/.,]{{1,3}}){_TIME}(?:[_ ]{_YEAR})?",  # the year last: time.ctime()
            rf"{_HOUR}[-:.]{_SIXTY}[-:.]{_SIXTY}[-_ /]{{1,2}}{_DATE}",
            rf"\d\d{_MONTH}{_DAY}[-_]{_HOUR}{_SIXTY}{_SIXTY}",  # 210912-230820
            rf"{_YEAR}{_MONTH}{_DAY}{_HOUR}{_SIXTY}{_SIXTY}",
            r"(?<!\d\.)1[4-9]\d{8}(?:\d{3}|\.\d+)?",  # (milli)seconds since 1970, from 2014 on
        )
    )
    + ")"
    + _NO_DIGIT_AFTER
)
"""A date and a time; a date alone may be a version of something."""

DATE = re.compile(rf"{_NO_DIGIT_BEFORE}{_YEAR}-{_MONTH}-{_DAY}{_NO_DIGIT_AFTER}")
"""A date alone, in the one form that is nothing else."""

SUMMARY_WRITER = re.compile(rf"(?<![A-Za-z]){_NAME}\d\d_\d\d-\d\d-\d\d(?=_|$|/)")
"""The stamp that torch's ``SummaryWriter`` puts before the host's name and a comment."""


class PartKind(StrEnum):
    """The kind of a part of a name."""

    SEED = "seed"
    STAMP = "time-stamp"
    HOST = "host"  # what follows torch's time-stamp: a host's name, perhaps with a comment
    NUMBER = "number behind the time-stamp"
    VERSION = "version"
    DATE = "date"
    PLACE = "folder"


DOUBTFUL = (PartKind.HOST, PartKind.NUMBER, PartKind.VERSION, PartKind.DATE, PartKind.PLACE)
"""The kinds of parts that may be settings."""

_GONE = "\0"
_AROUND = r"[._\-+,=@~&:|· ]*"
_GONE_RUN = rf"\0(?:{_AROUND}\0)*"
_BETWEEN = re.compile(
    rf"(?P<before>{_AROUND})(?:[(\[{{]{_GONE_RUN}[)\]}}]|{_GONE_RUN})(?P<after>{_AROUND})"
)
_TEXT = re.compile(rf"(?=[^\0]){_AROUND}([^\0]*?){_AROUND}(?=\0|$)")
_COMPONENT = r"(?:(?<=/)|(?<=^))"

_TOOLS = (
    re.compile(rf"{_COMPONENT}(?:offline-)?run-\d{{8}}_\d{{6}}(?:-[0-9a-z]{{6,8}}(?=/|$))?"),  # W&B
    re.compile(r"(?:(?<=_)|(?<=/)|(?<=^))[0-9a-f]{5,8}_\d{5}_\d+(?=_|/|$)"),  # Ray Tune
    re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z])"),  # Guild AI, MLflow
    re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9A-Za-z])"),
)
# CleanRL: the environment, the experiment, the seed and the time.
_CLEANRL = re.compile(r"(?<=__)(\d+)__1\d{9}(?=/|$)")
_OWN = "rng|random|rnd|manual|global|torch|numpy|np|python|training"
_PARTIAL = "data|dataset|env|split|init|model|shuffle|sampler|train|val|test|eval"
_SEED = re.compile(
    rf"(?:(?<![A-Za-z])(?:(?i:(?P<partial>{_PARTIAL})|{_OWN})[-_]?)?(?i:seed)|(?<=[a-z])Seed"
    r"|(?<![A-Za-z])(?i:seeds)(?=/))"
    r"(?:_|[^\w\0,;(){}\[\]]){0,3}(?P<open>[(\[{])?(?P<seed>\d+)(?(open)[)\]}])"
    r"(?!\d|\.\d|e[-+]?\d)"
)
_NUMBER = re.compile(r"(?<=\0)[._\-/](\d+)(?=$|[/._\-\0])")
_VERSION = re.compile(rf"{_COMPONENT}version_\d+(?=/|$)")
_PLACES = re.compile(
    rf"{_COMPONENT}(?i:\.?guild|events?|files|lightning_logs|logs?|runs|summar(?:y|ies)"
    r"|tb(?:_?logs?)?|tensor_?board(?:_?logs?)?|vis_data|wandb)(?=/|$)"
)


@dataclass(frozen=True)
class Part:
    """Something in a name that is no plain text."""

    start: int
    end: int
    kind: PartKind


@dataclass(frozen=True)
class Name:
    """A name and its parts."""

    text: str  # the path of the run, with ``/``
    parts: tuple[Part, ...]  # in order, none within another
    seed: str | None  # a number without leading zeros; None if there is none

    @classmethod
    def of(cls, text: str) -> Name:
        """Take a name apart, first what is surest."""
        rest = text.replace(_GONE, "?")  # without what was found so far
        parts: list[Part] = []

        def take(spans: Iterable[tuple[int, int]], kind: PartKind) -> None:
            nonlocal rest
            for start, end in spans:
                parts.append(Part(start, end, kind))
                rest = rest[:start] + _GONE * (end - start) + rest[end:]

        def all_of(pattern: re.Pattern[str]) -> list[tuple[int, int]]:
            group = 1 if pattern.groups else 0
            return [found.span(group) for found in pattern.finditer(rest)]

        seed = None
        if found := _CLEANRL.search(rest):
            seed = _number(found[1])
            take([found.span(1)], PartKind.SEED)
        for pattern in _TOOLS:
            take(all_of(pattern), PartKind.STAMP)
        hosts = [found.end() for found in SUMMARY_WRITER.finditer(rest)]
        take(all_of(STAMP), PartKind.STAMP)
        seeds = list(_SEED.finditer(rest))
        # One of the data, say, counts only where there is no other; of several, the last.
        if seeds := [each for each in seeds if not each["partial"]] or seeds:
            seed = _number(seeds[-1]["seed"])
            take([each.span() for each in seeds if _number(each["seed"]) == seed], PartKind.SEED)
        for begin in hosts:
            end = rest.find("/", begin)
            take(_texts(rest, begin, len(rest) if end < 0 else end), PartKind.HOST)
        take(all_of(_NUMBER), PartKind.NUMBER)
        take(all_of(_VERSION), PartKind.VERSION)
        take(all_of(_PLACES), PartKind.PLACE)
        take(all_of(DATE), PartKind.DATE)
        return cls(text, tuple(sorted(parts, key=lambda part: part.start)), seed)

    def words(self, kind: PartKind) -> tuple[str, ...]:
        """The parts of a kind as they are written."""
        return tuple(self.text[p.start : p.end] for p in self.parts if p.kind is kind)

    def without(self, kept: Collection[PartKind] = ()) -> str:
        """The plain text, and the parts of the kinds that are to be kept; perhaps empty."""
        rest = self.text
        for part in self.parts:
            if part.kind not in kept:
                gone = _GONE * (part.end - part.start)
                rest = rest[: part.start] + gone + rest[part.end :]
        return "/".join(filter(None, map(_joined, rest.split("/"))))

    @cached_property
    def plain(self) -> str:
        """The plain text alone."""
        return self.without()


def _joined(component: str) -> str:
    """A folder's name without what is gone from it."""

    def between(found: re.Match[str]) -> str:
        before, after = component[: found.start()], component[found.end() :]
        if not before or not after or before[-1] in "([{" or after[0] in ")]}":
            return ""
        return found["before"] or found["after"] or "-"

    return _BETWEEN.sub(between, component)


def _texts(rest: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The places of text that is left in a piece of a name, without what separates it."""
    for found in _TEXT.finditer(rest[begin:end]):
        if found[1]:
            yield begin + found.start(1), begin + found.end(1)


def _number(digits: str) -> str:
    return digits.lstrip("0") or "0"


_FEWEST_DIGITS = 5  # of a number behind a time-stamp that is sure to be no setting
_HAS_SETTING = re.compile(r"\d\.\d|[=]")
_SEED_OPTION = re.compile(r"(?:^|[./ ])(?:(?:rng|random|manual|global)_?)?seed$", re.IGNORECASE)
_SEED_OF_SOMETHING = re.compile(r"seed$", re.IGNORECASE)
_OPTIMIZER = re.compile(r"(?:^|[./])(?:optim|optimi[sz]er|opt|algo(?:rithm)?)(?:[_.]name)?$")
# What says where, when and under which name a run was made.
_NO_SETTING = re.compile(
    r"(?:^|[._/ -])(?:dir|directory|folder|path|file|name|time|timestamp|date|id|host|hostname|port"
    r"|device|gpus?|resume|version|checkpoint|ckpt)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Found:
    """A run as it was found."""

    experiment: str  # the name of the folder that was searched
    name: Name  # of the run below that
    # the hyperparameters that the run itself tells
    options: Mapping[str, Option] = field(default_factory=dict)
    file: Path | None = None  # its log, where that may be one of several files of a run


@dataclass(frozen=True, eq=False)
class Sorted:
    """A run as its name reads beside others."""

    found: Found
    label: str  # what it has in common with runs of other seeds, perhaps nothing
    settings: Mapping[str, str]  # hyperparameters that tell it from runs of the same label
    seed: str | None  # None if nobody knows it
    # the kinds of parts of its name that may be no settings, and count as such
    doubts: Collection[PartKind] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The same for runs of a group, and for no others."""
        return (self.found.experiment, self.label, *in_words(self.settings))


def sort_runs(runs: Sequence[Found]) -> list[Sorted]:
    """Tell what each of some runs has in common with others, and its seed."""
    clusters: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for run in runs:
        clusters[run.experiment, _label(run.name)].append(run)
    found: dict[Found, Sorted] = {}
    for (_, label), members in clusters.items():
        settings = _settings([run.options for run in members])
        optimizer = next((name for name in settings[0] if _OPTIMIZER.search(name)), None)
        alike: dict[tuple[tuple[str, str], ...], list[Found]] = defaultdict(list)
        for run, words in zip(members, settings, strict=True):
            alike[tuple(words.items())].append(run)
        for items, same in alike.items():
            words = dict(items)
            own = label or words.pop(optimizer or "", "") or _optimizer(same[0].options)
            found |= {each.found: each for each in _told_apart(own, words, same)}
    return [found[run] for run in runs]


def _optimizer(options: Mapping[str, Option]) -> str:
    """The optimizer among some hyperparameters; nothing if none tells."""
    return next((_word(value) for name, value in options.items() if _OPTIMIZER.search(name)), "")


def _label(name: Name, kept: Collection[PartKind] = ()) -> str:
    """A name without its parts; a bare number says too little without the time-stamp beside it."""
    label = name.without(kept)
    is_bare = bool(label) and not any(c.isalpha() for c in label)
    return name.without({*kept, PartKind.STAMP, PartKind.DATE}) if is_bare else label


def _told_apart(label: str, settings: Mapping[str, str], runs: Sequence[Found]) -> list[Sorted]:
    """Runs that have all but their seed in common, unless a doubtful part of a name differs."""
    seeds = [run.name.seed or _seed(run.options) for run in runs]
    numbers = [run.name.words(PartKind.NUMBER)[-1:] for run in runs]
    differing = [kind for kind in DOUBTFUL if len({run.name.words(kind) for run in runs}) > 1]
    if not any(seeds) and _are_no_settings(numbers):
        seeds = [(number[0].lstrip("0") or "0") if number else None for number in numbers]
        differing = [kind for kind in differing if kind is not PartKind.NUMBER]
    if None not in seeds and len(set(seeds)) == len(seeds):
        is_host = PartKind.HOST in differing and _are_hosts(
            [r.name.words(PartKind.HOST) for r in runs]
        )
        differing = [PartKind.HOST] if PartKind.HOST in differing and not is_host else []
    elif _are_sweeps([run.name.words(PartKind.STAMP) for run in runs], seeds):
        differing.append(PartKind.STAMP)
    kept = frozenset(differing)
    return [
        Sorted(run, _label(run.name, kept) if kept else label, settings, seed, kept)
        for run, seed in zip(runs, seeds, strict=True)
    ]


def _are_no_settings(numbers: Sequence[Sequence[str]]) -> bool:
    """Tell whether numbers behind time-stamps are microseconds, say: long, and never twice."""
    words = [word for each in numbers for word in each]
    is_long = any(len(word) >= _FEWEST_DIGITS for word in words)
    return is_long and len(set(words)) == len(words)


def _are_hosts(words: Iterable[Sequence[str]]) -> bool:
    """Tell whether what follows time-stamps differs as hosts' names do, in a whole number."""
    texts = [" ".join(each) for each in words]
    return len({re.sub(r"\d+", "0", t) for t in texts}) == 1 and not _HAS_SETTING.search(texts[0])


def _are_sweeps(stamps: Sequence[Sequence[str]], seeds: Sequence[str | None]) -> bool:
    """Tell whether seeds come again under other time-stamps, each of which several runs share."""
    by_stamp: dict[Hashable, list[str | None]] = defaultdict(list)
    for stamp, seed in zip(stamps, seeds, strict=True):
        by_stamp[tuple(stamp)].append(seed)
    has_once = all(len(set(each)) == len(each) > 1 for each in by_stamp.values())
    return any(seeds) and len(by_stamp) > 1 and has_once


def _seed(options: Mapping[str, Option]) -> str | None:
    """The seed among some hyperparameters; that of the data, say, only if there is no other."""
    for pattern in (_SEED_OPTION, _SEED_OF_SOMETHING):
        for name, value in options.items():
            if pattern.search(name) and not isinstance(value, bool):
                return _word(value)
    return None


def _settings(options: Sequence[Mapping[str, Option]]) -> list[dict[str, str]]:
    """The hyperparameters in which some runs differ."""
    names = dict.fromkeys(name for each in options for name in each)
    differing = [name for name in names if _is_setting(name, [each.get(name) for each in options])]
    return [{name: _word(each[name]) for name in differing if name in each} for each in options]


def _is_setting(name: str, values: Sequence[Option | None]) -> bool:
    """Tell whether it makes settings differ; a text that is never twice names its run."""
    is_optimizer = _OPTIMIZER.search(name) is not None
    if _SEED_OF_SOMETHING.search(name) or (_NO_SETTING.search(name) and not is_optimizer):
        return False
    words = {None if value is None else _word(value) for value in values}
    is_name = len(words) == len(values) > 2 and all(as_number(word or "") is None for word in words)
    return len(words) > 1 and not is_name


def _word(value: Option) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
