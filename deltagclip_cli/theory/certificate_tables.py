"""Certificates as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deltagclip_cli.core import NOTHING, plural, short, with_error
from deltagclip_cli.results.compare.comparison import by_size
from deltagclip_cli.results.compare.text_table import Sheet, line
from deltagclip_cli.results.read.run import Group, in_words
from deltagclip_cli.theory.certificate import Certificate
from deltagclip_cli.theory.verdict import Verdict

HOW_MEASURED = (
    "β and μ are the largest and the least that were measured along the way: a line that holds was"
    " not refuted there, which is less than proved, and one that is violated is so by these alone."
)


def certificate_sheet(certificate: Certificate) -> Sheet:
    """Every line of a run's certificate with its numbers."""
    run, course = certificate.run, certificate.course
    words = " ".join([run.group.name, *in_words(run.group.conditions)])
    return Sheet(
        title=f"{run.group.experiment} · {words} · seed {run.seed}: "
        f"{plural(len(course.steps), 'step')}",
        columns=["line", "verdict", "measured", "bound"],
        lines=[
            line([f"{each.name}: {each.statement}", str(each), *map(short, each.numbers)])
            for each in certificate.lines
        ],
        notes=[*_reasons(certificate), _spectrum(certificate), _steps(certificate)],
    )


def _reasons(certificate: Certificate) -> list[str]:
    names: dict[str, list[str]] = {}
    for each in certificate.lines:
        if each.reason:
            names.setdefault(each.reason, []).append(each.name)
    return [f"{', '.join(lines)}: {reason}." for reason, lines in names.items()]


def _spectrum(certificate: Certificate) -> str:
    course = certificate.course
    parts = [
        f"{name} {short(values[0])} to {short(values[-1])}"
        for name, values in (
            ("λ_min", course.lambda_min),
            ("λ_max", course.lambda_max),
            ("β", course.beta),
        )
    ]
    times = plural(len(course.measured), "time")
    return f"{', '.join(parts)}, measured {times}; smallest PL* ratio {short(course.empirical_mu)}."


def _steps(certificate: Certificate) -> str:
    course = certificate.course
    words = [f"loss {short(course.losses[0])} to {short(course.losses[-1])}"]
    if course.regimes is not None:
        words.append(", ".join(f"{count} {name}" for name, count in course.regimes.items()))
    return f"{'; steps: '.join(words)}."


def verdict_sheet(title: str, certificates: Sequence[Certificate]) -> Sheet:
    """What each line came to for each setting, over its seeds."""
    names = [each.name for each in certificates[0].lines]
    name = _names(certificates)
    return Sheet(
        title=title,
        columns=["optimizer", "n", *names, "plain", "clipped", "floored"],
        lines=[
            line(
                [
                    name(group),
                    str(len(own)),
                    *(_verdict([each.lines[place] for each in own]) for place in range(len(names))),
                    *_regimes(own),
                ]
            )
            for group, own in _by_group(certificates)
        ],
        notes=[
            "; ".join(f"{each.name}: {each.statement}" for each in certificates[0].lines) + ".",
            HOW_MEASURED,
        ],
    )


def _verdict(lines: Sequence[object]) -> str:
    """The one verdict of all seeds, or how many have which."""
    counts = Counter(map(str, lines))
    if len(counts) == 1:
        return next(iter(counts))
    short_words = Counter(word.partition(" at ")[0] for word in map(str, lines))
    return ", ".join(f"{count} {word}" for word, count in short_words.items())


def _regimes(certificates: Sequence[Certificate]) -> list[str]:
    known = [each.course.regimes for each in certificates if each.course.regimes is not None]
    if not known:
        return [NOTHING] * 3
    return [short(float(np.mean([each[name] for each in known]))) for name in known[0]]


def numbers_sheet(title: str, certificates: Sequence[Certificate]) -> Sheet:
    """λ_min, μ, β and the rate of each setting, over its seeds: such as against the width."""
    columns: dict[str, Callable[[Certificate], float]] = {
        "λ_min at w_0": lambda each: float(each.course.lambda_min[0]),
        "μ": lambda each: each.theorem.mu,
        "PL* ratio": lambda each: each.course.empirical_mu,
        "β at w_0": lambda each: float(each.course.beta[0]),
        "β": lambda each: each.theorem.beta,
        "L ratio a step": lambda each: each.course.factor,
        "1 - ηδμ": lambda each: each.theorem.rate,
    }
    name = _names(certificates)
    return Sheet(
        title=title,
        columns=["optimizer", "n", "lines that hold", *columns],
        lines=[
            line(
                [
                    name(group),
                    str(len(own)),
                    _held(own),
                    *(_mean([value(each) for each in own]) for value in columns.values()),
                ]
            )
            for group, own in _by_group(certificates)
        ],
        notes=[
            "Means ± standard errors over seeds. μ is the least λ_min and β the largest curvature"
            " along the way; the PL* ratio is the smallest. The last two: by what a step multiplied"
            " the loss (geometric mean), and by what the theorem says it does at least.",
        ],
    )


def _held(certificates: Sequence[Certificate]) -> str:
    held = [sum(e.verdict is Verdict.HOLDS for e in each.lines) for each in certificates]
    low, high, total = min(held), max(held), len(certificates[0].lines)
    return f"{low} of {total}" if low == high else f"{low} to {high} of {total}"


def _mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return NOTHING
    error = float(np.std(finite, ddof=1)) / math.sqrt(len(finite)) if len(finite) > 1 else None
    return with_error(float(np.mean(finite)), error)


def _names(certificates: Sequence[Certificate]) -> Callable[[Group], str]:
    """What names a group: with its conditions, where they differ."""
    several = len({tuple(each.run.group.conditions.values()) for each in certificates}) > 1
    return lambda group: " ".join([group.name, *(in_words(group.conditions) if several else [])])


def _by_group(certificates: Sequence[Certificate]) -> list[tuple[Group, list[Certificate]]]:
    groups: dict[Group, list[Certificate]] = {}
    for each in certificates:
        groups.setdefault(each.run.group, []).append(each)
    return sorted(groups.items(), key=lambda item: _order(item[0]))


def _order(group: Group) -> tuple[Any, ...]:
    """By optimizer, and then from the narrowest network to the widest."""
    return group.optimizer, *map(by_size, (*group.conditions.values(), *group.settings.values()))
