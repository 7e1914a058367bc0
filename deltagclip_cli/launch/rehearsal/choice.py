"""Which of many trials are tried, so that all kinds of settings are and it takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from deltagclip_cli.spec.component import Component
from deltagclip_cli.spec.trial import Trial

_MOST_VALUES = 20  # of one real number
_MOST_KEPT = 1000  # of them, as trials

_Numbers = tuple[tuple[str, float], ...]


def few(trials: Iterable[Trial]) -> list[Trial]:
    """Trials among which is every combination of settings that are no real numbers.

    Of a real number all values are there, alone, or of many some, with the least and the largest:
    what a part takes of them is what lies between two limits. A number's sign counts as another
    setting. Seeds make no difference.
    """
    kinds: dict[tuple[str, ...], dict[str, dict[float, Trial]]] = {}
    last: list[tuple[Component | None, tuple[str, _Numbers]]] = [(None, ("", ()))] * 5
    for trial in trials:
        parts = (trial.model, trial.data, trial.task, trial.optimizer, trial.schedule)
        last = [  # trials that follow one another have most of their parts in common
            before if part is before[0] else (part, _split(part))
            for part, before in zip(parts, last, strict=True)
        ]
        texts, numbers = zip(*(split for _, split in last), strict=True)
        others = (trial.experiment, trial.label, str(trial.epochs), trial.precision)
        values = kinds.setdefault((*others, *texts), {"": {0.0: trial}})
        for place, each in enumerate(numbers):
            for name, value in each:
                by_value = values.setdefault(f"{place}.{name}", {})
                by_value.setdefault(value, trial)
                if len(by_value) > _MOST_KEPT:
                    values[f"{place}.{name}"] = _spread(by_value)
    chosen = [
        trial
        for values in kinds.values()
        for by_value in values.values()
        for trial in _spread(by_value).values()
    ]
    return list({id(trial): trial for trial in chosen}.values())


def _split(part: Component | None) -> tuple[str, _Numbers]:
    """All of a part but the size of its real numbers, as text; and those."""
    if part is None:
        return "", ()
    plain = part.model_dump()
    numbers = tuple((key, item) for key, item in plain.items() if isinstance(item, float))
    signs = {key: (number > 0) - (number < 0) for key, number in numbers}
    return json.dumps({**plain, **signs}, default=repr), numbers


def _spread(by_value: Mapping[float, Trial]) -> dict[float, Trial]:
    """Some of many values, with the least and the largest."""
    values = sorted(by_value)
    steps = min(len(values), _MOST_VALUES) - 1
    places = {n * (len(values) - 1) // steps for n in range(steps + 1)} if steps else {0}
    return {values[place]: by_value[values[place]] for place in sorted(places)}
