"""What the names of other people's runs and tags say: optimizer, settings, seed; metric."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from deltagclip_cli.curves.run import Group
from deltagclip_cli.errors import UsageError
from deltagclip_cli.wording import printable

_ENDINGS = [
    re.compile(rf"(?:^|(?<=\d)(?!\d)|[._\- ]+){ending}$")
    for ending in (
        r"\d{8}[-_T]\d{6}(?:_(?P<seed>\d+))?",  # 20250519-143548_577689
        # 2025-05-19_14-35-48, 2025-05-19T14:35:48.123456+02:00
        r"\d{4}-\d\d-\d\d[-_T ]\d\d[-:.]?\d\d[-:.]?\d\d(?:\.\d{3,6})?(?:Z|[-+]\d\d:?\d\d)?",
        # May19_14-35-48_host: SummaryWriter's own; its comment, if any, tells runs apart
        r"[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d(?:_[^_=]+)?",
        r"(?i:seed)[-_=.]?(?P<seed>\d+)",
        r"version_0",  # Lightning's own; a version_1 may be another setting
    )
]


def without_ending(relative: PurePath) -> tuple[str, str | None]:
    """The name of a run without time-stamps and seeds at its end, and the last of those seeds.

    Args:
        relative: the path of its folder below the one that is searched.

    Returns:
        What runs of other seeds have in common with it, perhaps empty; None if there is no seed.
    """
    name, seed = relative.as_posix(), None
    shortened = True
    while shortened:
        shortened = False
        for ending in _ENDINGS:
            head, _, tail = name.rpartition("/")
            found = ending.search(tail)
            if found:
                seed = seed or found.groupdict().get("seed")
                name = f"{head}/{tail[: found.start()]}".strip("/")
                shortened = True
    return name, seed


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
            are settings. None takes the path without time-stamp and seed for the optimizer.

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
                f"--group {pattern}: not a regular expression: {error}.\n"
                "  One that is: (?P<optimizer>adam|sgd)_lr(?P<lr>[^_]+)_seed(?P<seed>\\d+)"
            ) from None
        if not self._pattern.groupindex:
            raise UsageError(
                f"--group {pattern}: it names no groups.\n"
                "  Write what tells runs apart as (?P<optimizer>…), (?P<seed>…), (?P<lr>…), …"
            )

    def read(self, root: str, relative: PurePath) -> Named | None:
        """What a name says; None if the pattern does not fit it.

        Args:
            root: the name of the folder that was searched.
            relative: the path of the run below it.
        """
        if self._pattern is None:
            name, seed = without_ending(relative)
            return Named(Group(printable(root), printable(name or root)), seed)
        found = self._pattern.search(relative.as_posix())
        if found is None:
            return None
        words = {key: printable(word) for key, word in found.groupdict().items() if word}
        seed = words.pop("seed", None)
        experiment = words.pop("experiment", printable(root))
        optimizer = words.pop("optimizer", printable(root))
        return Named(Group(experiment, optimizer, words), seed)


# ------------------------------------------------------------------- metrics

_SETS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
_QUANTITIES = {"loss": "loss", "acc": "accuracy", "accuracy": "accuracy", "top1": "accuracy"}
_SINGLE = {
    "grad_norm": "optim/grad_norm",
    "lr": "optim/lr",
    "learning_rate": "optim/lr",
}


def standard_name(tag: str) -> str:
    """What this project calls a metric that others call ``test_acc``, ``Loss/train`` or ``lr``.

    A tag that says something else stays as it is.
    """
    words = [word for word in re.split(r"[/_\-. ]+", tag.lower()) if word]
    match words:
        case [one, other] if one in _SETS and other in _QUANTITIES:
            return f"{_SETS[one]}/{_QUANTITIES[other]}"
        case [one, other] if one in _QUANTITIES and other in _SETS:
            return f"{_SETS[other]}/{_QUANTITIES[one]}"
    return _SINGLE.get("_".join(words), tag)


def standard_names(tags: Iterable[str]) -> dict[str, str]:
    """A name for each tag of a run; two tags never get the same."""
    tags = list(tags)
    names: dict[str, str] = {}
    taken = set(tags)
    for tag in tags:
        name = standard_name(tag)
        if name != tag and name in taken:
            name = tag
        taken.add(name)
        names[tag] = name
    return names
