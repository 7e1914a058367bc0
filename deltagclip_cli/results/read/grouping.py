"""Which runs of other programs differ in nothing but their seed, as far as their names tell.

Names are read side by side: a part that is the same in all of them says nothing, and one that
differs may be a setting. When in doubt runs are kept apart, and a ``--group`` is suggested.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deltagclip_cli.results.read.events import Option
from deltagclip_cli.results.read.name_parts import DOUBTFUL, Name, PartKind
from deltagclip_cli.results.read.run import in_words

_FEWEST_DIGITS = 5  # of a number behind a time-stamp that is sure to be no setting
_HAS_SETTING = re.compile(r"\d\.\d|[=]")
_SEED = re.compile(r"(?:^|[./ ])(?:(?:rng|random|manual|global)_?)?seed$", re.IGNORECASE)
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
    """A run as it was found.

    Args:
        experiment: the name of the folder that was searched.
        name: of the run below that.
        options: the hyperparameters that the run itself tells.
    """

    experiment: str
    name: Name
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sorted:
    """What a run's name says beside others.

    Args:
        found: the run.
        label: what it has in common with runs of other seeds, perhaps nothing.
        settings: hyperparameters that tell it from runs of the same label.
        seed: None if nobody knows it.
        doubts: the kinds of parts of its name that may be no settings, and count as such.
        hosts: words that differ within its group, and count as names of hosts.
    """

    found: Found
    label: str
    settings: Mapping[str, str]
    seed: str | None
    doubts: Collection[PartKind] = ()
    hosts: Sequence[str] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The same for runs of a group, and for no others."""
        return (self.found.experiment, self.label, *in_words(self.settings))


def sort_runs(runs: Sequence[Found]) -> list[Sorted]:
    """Tell what each of some runs has in common with others, and its seed."""
    clusters: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, run in enumerate(runs):
        clusters[run.experiment, _label(run.name)].append(number)
    found: dict[int, Sorted] = {}
    for (_, label), numbers in clusters.items():
        members = [runs[number] for number in numbers]
        found |= zip(numbers, _sorted(label, members), strict=True)
    return [found[number] for number in range(len(runs))]


def _label(name: Name, kept: Collection[PartKind] = ()) -> str:
    """A name without its parts; a bare number says too little without the time-stamp beside it."""
    label = name.without(kept)
    is_bare = bool(label) and not any(c.isalpha() for c in label)
    return name.without({*kept, PartKind.STAMP, PartKind.DATE}) if is_bare else label


def _sorted(label: str, runs: Sequence[Found]) -> list[Sorted]:
    """Runs of the same label, told apart by their hyperparameters."""
    settings = _settings([run.options for run in runs])
    if not label and (name := next((k for k in settings[0] if _OPTIMIZER.search(k)), None)):
        labels = [words.pop(name) for words in settings]
    else:
        labels = [label] * len(runs)
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for number, words in enumerate(settings):
        alike[labels[number], tuple(words.values())].append(number)
    found: dict[int, Sorted] = {}
    for numbers in alike.values():
        first = numbers[0]
        members = [runs[number] for number in numbers]
        found |= zip(numbers, _told_apart(labels[first], settings[first], members), strict=True)
    return [found[number] for number in range(len(runs))]


def _told_apart(label: str, settings: Mapping[str, str], runs: Sequence[Found]) -> list[Sorted]:
    """Runs that have all but their seed in common, unless a doubtful part of a name differs."""
    seeds = [run.name.seed or _seed(run.options) for run in runs]
    numbers = [run.name.words(PartKind.NUMBER)[-1:] for run in runs]
    differing = [kind for kind in DOUBTFUL if len({run.name.words(kind) for run in runs}) > 1]
    if not any(seeds) and _are_no_settings(numbers):
        seeds = [(number[0].lstrip("0") or "0") if number else None for number in numbers]
        differing = [kind for kind in differing if kind is not PartKind.NUMBER]
    hosts: list[str] = []
    if None not in seeds and len(set(seeds)) == len(seeds):
        is_host = PartKind.HOST in differing and _are_hosts(
            [r.name.words(PartKind.HOST) for r in runs]
        )
        hosts = sorted({" ".join(run.name.words(PartKind.HOST)) for run in runs}) if is_host else []
        differing = [PartKind.HOST] if PartKind.HOST in differing and not is_host else []
    elif _are_sweeps([run.name.words(PartKind.STAMP) for run in runs], seeds):
        differing.append(PartKind.STAMP)
    kept = frozenset(differing)
    return [
        Sorted(run, _label(run.name, kept) if kept else label, settings, seed, kept, hosts)
        for run, seed in zip(runs, seeds, strict=True)
    ]


def _are_no_settings(numbers: Sequence[Sequence[str]]) -> bool:
    """Whether numbers behind time-stamps are microseconds, say: long, and never twice."""
    words = [word for each in numbers for word in each]
    is_long = any(len(word) >= _FEWEST_DIGITS for word in words)
    return is_long and len(set(words)) == len(words)


def _are_hosts(words: Iterable[Sequence[str]]) -> bool:
    """Whether what follows time-stamps differs as the names of machines do, in a whole number."""
    texts = [" ".join(each) for each in words]
    return len({re.sub(r"\d+", "0", t) for t in texts}) == 1 and not _HAS_SETTING.search(texts[0])


def _are_sweeps(stamps: Sequence[Sequence[str]], seeds: Sequence[str | None]) -> bool:
    """Whether seeds are there again under other time-stamps, each of which several runs share."""
    by_stamp: dict[Hashable, list[str | None]] = defaultdict(list)
    for stamp, seed in zip(stamps, seeds, strict=True):
        by_stamp[tuple(stamp)].append(seed)
    has_once = all(len(set(each)) == len(each) > 1 for each in by_stamp.values())
    return any(seeds) and len(by_stamp) > 1 and has_once


def _seed(options: Mapping[str, Option]) -> str | None:
    """The seed among some hyperparameters; that of the data, say, only if there is no other."""
    for pattern in (_SEED, _SEED_OF_SOMETHING):
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
    """Whether a hyperparameter tells settings apart; a text that is never twice names its run."""
    if _SEED_OF_SOMETHING.search(name) or _NO_SETTING.search(name):
        return False
    words = {None if value is None else _word(value) for value in values}
    is_name = len(words) == len(values) > 2 and not any(map(_is_number, words))
    return len(words) > 1 and not is_name


def _is_number(word: str | None) -> bool:
    try:
        float(word or "")
    except ValueError:
        return False
    return True


def _word(value: Option) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
