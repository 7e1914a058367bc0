"""The certificate of a run, from its files, and as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from deltagclip_cli.core import NotYetError, UsageError, write_text
from deltagclip_cli.results.read.run import Numbers, Run
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.schema import obstacles
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.theory.descent import floor_of, objection
from deltagclip_cli.theory.trajectory import Course, course_of, is_measured
from deltagclip_cli.theory.verdict import Line, Theorem, Verdict


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
