"""What this project calls the metrics of other programs."""

from __future__ import annotations

import re
from collections.abc import Iterable

SETS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
"""What folders and tags call the parts of the data, and what this project does."""

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
        case [one, other] if one in SETS and other in _QUANTITIES:
            return f"{SETS[one]}/{_QUANTITIES[other]}"
        case [one, other] if one in _QUANTITIES and other in SETS:
            return f"{SETS[other]}/{_QUANTITIES[one]}"
    return _SINGLE.get("_".join(words), tag)


def name_in_set(name: str, tag: str) -> str:
    """What a metric is called that some program wrote into a folder for one part of the data.

    Args:
        name: of the folder, one of :data:`SETS`.
        tag: such as Keras' ``epoch_loss``.
    """
    bare = tag.removeprefix("epoch_")
    standard = standard_name(bare)
    if standard != bare or standard.partition("/")[0] in SETS.values():
        return standard
    return f"{SETS[name.lower()]}/{_QUANTITIES.get(bare.lower(), bare)}"


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
