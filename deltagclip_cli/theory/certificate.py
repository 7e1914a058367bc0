"""The certificate of a run, from its files, as a file and as tables."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from deltagclip_cli.core import (
    NOTHING,
    NotYetError,
    UsageError,
    plural,
    short,
    with_error,
    write_text,
)
from deltagclip_cli.results.compare.comparison import by_size
from deltagclip_cli.results.compare.tables import Sheet, line
from deltagclip_cli.results.read.run import Group, Numbers, Run, in_words
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.schema import obstacles
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.theory.verdict import (
    Course,
    Line,
    Theorem,
    Verdict,
    course_of,
    floor_of,
    is_measured,
    objection,
)

HOW_MEASURED = (
    "β and μ are the largest and the least that were measured along the way: a line that holds was"
    " not refuted there, which is less than proved, and one that is violated is so by these alone."
)


@dataclass(frozen=True)
class Certificate:
    """What of the theorem held in a run.

    Args:
        run: the run.
        trial: what was trained.
        theorem: applied to it.
    """

    run: Run
    trial: Trial
    theorem: Theorem

    @property
    def course(self) -> Course:
        """Of the run."""
        return self.theorem.course

    @cached_property
    def lines(self) -> Sequence[Line]:
        """Every statement of the theorem."""
        return self.theorem.lines()

    @property
    def holds(self) -> bool:
        """Whether every line does."""
        return all(line.verdict is Verdict.HOLDS for line in self.lines)

    def record(self) -> dict[str, Any]:
        """Everything as plain data; a number that is not finite is null."""
        course, theorem = self.course, self.theorem
        record = {
            "experiment": self.trial.experiment,
            "optimizer": self.trial.label,
            "seed": self.trial.seed,
            "identity": self.trial.identity,
            "folder": str(self.run.folder),
            "steps": len(course.steps),
            "measured_at": course.steps[course.measured].tolist(),
            "holds": self.holds,
            "lines": [
                {
                    "name": line.name,
                    "statement": line.statement,
                    "verdict": str(line),
                    "step": line.step,
                    "measured": line.measured,
                    "bound": line.bound,
                    "reason": line.reason,
                }
                for line in self.lines
            ],
            "lambda_min": _ends(course.lambda_min),
            "lambda_max": _ends(course.lambda_max),
            "beta": _ends(course.beta),
            "eta": _ends(course.rates),
            "delta": None if theorem.objection else theorem.delta,
            "mu": theorem.mu,
            "smallest_ratio": course.empirical_mu,
            "loss": _ends(course.losses),
            "distance": _ends(course.distances),
            "factor": course.factor,
            "factor_bound": theorem.rate,
            "regimes": course.regimes,
        }
        plain: dict[str, Any] = _finite(record)
        return plain

    def write(self) -> None:
        """Write ``certificate.json`` into the run folder.

        Raises:
            ClaimedError: another process works there.
            UsageError: that is not possible.
        """
        folder = RunFolder(self.run.folder)
        file = folder.certificate_file
        try:
            with hold(folder):
                write_text(file, json.dumps(self.record(), indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror}.") from None


@cache
def certificate_of(run: Run) -> Certificate:
    """The certificate of a run, which a report asks for in several places.

    Raises:
        UsageError: there is none: the theorem says nothing about such runs, or its numbers were not
            measured.
        NotYetError: they are on their way.
    """
    trial = run.trial
    if trial is None:
        raise UsageError(f"{run.folder}: not a run of this program, so nothing is known of it.")
    found = obstacles(trial)
    if found:
        reasons = "".join(f"\n  {each.key}: {each.reason}" for each in found)
        raise UsageError(f"{run.folder}: there is no certificate of this run.{reasons}")
    if trial.certificate is not None and not run.curves:
        raise NotYetError(
            f"{run.folder}: it has not come to the end of its first epoch yet.\n"
            "  deltagclip status shows how far it is."
        )
    if not is_measured(run.curves):
        raise UsageError(
            f"{run.folder}: its numbers of the theorem were not measured.\n"
            "  Write certificate: {every: 10} into the experiment, and train it with --force."
        )
    options = trial.settings["optimizer"]
    reason = objection(options)
    delta = 0.0 if reason else floor_of(options)
    course = course_of(run.curves, trial.precision)
    return Certificate(run, trial, Theorem(course, delta, reason, _kinks(course, trial)))


def _kinks(course: Course, trial: Trial) -> str:
    """Why L need not be β-smooth; empty if it is."""
    if course.is_smooth:
        return ""
    activation = trial.model.options.get("activation")
    if course.is_smooth is None:
        return "nobody looked whether the network is smooth, and L β-smooth"
    named = f" (activation: {activation})" if activation else ", such as ReLU"
    return f"L need not be β-smooth: the network has operations that are not smooth{named}"


def _ends(values: Numbers) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (math.nan, math.nan)
    return {
        "start": float(values[0]),
        "end": float(values[-1]),
        "least": float(low),
        "largest": float(high),
    }


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
    return value


# ---- tables


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
