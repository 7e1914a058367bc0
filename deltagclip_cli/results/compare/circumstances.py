"""Which settings of a comparison were trained in other circumstances than the rest.

Such as another number of threads: it changes the bits, and is no part of what is compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deltagclip_cli.core import listed, ranges
from deltagclip_cli.results.compare.comparison import Comparison

_MOST_CAMPS = 3


@dataclass(frozen=True)
class Camp:
    """The runs of a comparison that had the same circumstances.

    Args:
        circumstances: those in which it differs from other camps, a word for each name.
        seeds: of its runs, by the names of their settings.
        whole: the settings of which all runs are here.
    """

    circumstances: Mapping[str, str]
    seeds: Mapping[str, Sequence[Hashable]]
    whole: frozenset[str]

    @property
    def runs(self) -> int:
        """How many runs it has."""
        return sum(map(len, self.seeds.values()))


def camps(comparison: Comparison) -> list[Camp]:
    """The camps of the runs that have a value, the largest first; none if all are alike."""
    counted = [(row.group.name, run) for row in comparison.rows for run in row.counted.values()]
    known: dict[str, set[str]] = defaultdict(set)
    for _, run in counted:
        for name, word in run.circumstances.items():
            known[name].add(word)
    differing = [name for name, words in known.items() if len(words) > 1]
    if not differing:
        return []
    seeds: dict[tuple[str, ...], dict[str, list[Hashable]]] = defaultdict(dict)
    for setting, run in counted:
        words = tuple(run.circumstances.get(name, "unknown") for name in differing)
        seeds[words].setdefault(setting, []).append(run.seed_or_folder)
    sizes = {row.group.name: len(row.counted) for row in comparison.rows}
    found = [
        Camp(
            dict(zip(differing, words, strict=True)),
            each,
            frozenset(name for name, its in each.items() if len(its) == sizes[name]),
        )
        for words, each in seeds.items()
    ]
    return sorted(found, key=lambda camp: -camp.runs)


def circumstances_note(comparison: Comparison) -> Iterator[str]:
    """A sentence on runs that had other circumstances than most; nothing if all are alike."""
    found = camps(comparison)
    if not found:
        return
    most, *others = found
    told = [_in_words(camp) for camp in others[:_MOST_CAMPS]]
    if len(others) > _MOST_CAMPS:
        told.append(f"{sum(camp.runs for camp in others[_MOST_CAMPS:])} runs in yet others")
    rest = ", ".join(f"{name} {word}" for name, word in most.circumstances.items())
    yield (
        f"Trained in unlike circumstances, which change the bits: {'; '.join(told)}; all else with"
        f" {rest}."
    )


def _in_words(camp: Camp) -> str:
    settings = listed([_with_seeds(name, camp) for name in camp.seeds])
    words = ", ".join(f"{name} {word}" for name, word in camp.circumstances.items())
    return f"{settings} with {words}"


def _with_seeds(name: str, camp: Camp) -> str:
    if name in camp.whole:
        return name
    seeds = [seed for seed in camp.seeds[name] if isinstance(seed, int)]
    return f"{name} ({'seed' if len(seeds) == 1 else 'seeds'} {ranges(seeds)})"
