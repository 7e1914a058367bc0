"""The theorem, applied to the trajectory of a run: what was recorded, and the verdicts on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.core import REGIME_FRACTIONS, REGIMES
from deltagclip_cli.results.read.run import Curve, Numbers
from deltagclip_cli.theory.probe import EIGENVALUES, ROUNDING, falls_short, slack

NO_FLOOR = "δ > 0: without a floor the theorem promises no rate"


@dataclass(frozen=True, eq=False)
class Course:
    """A run of T steps, of which each record has what belongs to the weights before the step.

    Args:
        steps: their numbers, from 1, (T,).
        losses: L(w) = ½‖F(w) - y‖², (T,); NaN where it was not finite.
        gradients: ‖∇L(w)‖, (T,).
        rates: η, (T,).
        step_sizes: h, (T,); NaN where the optimizer has none.
        distances: ‖w - w_0‖, (T,); NaN where it was not measured.
        measured: the places of those steps at which the kernel and the Hessian were, (M,).
        lambda_min: least eigenvalue of the tangent kernel, (M,).
        lambda_max: its largest, (M,).
        lambda_error: how far off they may be, (M,).
        beta: largest eigenvalue of the Hessian, (M,).
        is_smooth: whether the network is known to be smooth; None if nobody looked.
        regimes: how many steps were plain, clipped and floored; None for what does not clip.
        rounding: relative, of one number of the training.
    """

    steps: NDArray[np.int64]
    losses: Numbers
    gradients: Numbers
    rates: Numbers
    step_sizes: Numbers
    distances: Numbers
    measured: NDArray[np.intp]
    lambda_min: Numbers
    lambda_max: Numbers
    lambda_error: Numbers
    beta: Numbers
    is_smooth: bool | None
    regimes: Mapping[str, int] | None
    rounding: float

    @property
    def slack(self) -> float:
        """What rounding may add to the root of a loss."""
        return slack(float(self.losses[0]), self.rounding)

    @property
    def ratios(self) -> Numbers:
        """‖∇L‖²/(2L), which is at least μ where L is μ-PL*, (T,)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.gradients**2 / (2 * self.losses))

    @property
    def doubts(self) -> Numbers:
        """What rounding may have done to the root of each loss, relatively, (T,)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.slack / np.sqrt(self.losses))

    @property
    def empirical_mu(self) -> float:
        """The smallest ratio that rounding has not touched."""
        known = self.ratios[self.doubts < 0.01]
        return float(np.nanmin(known)) if len(known) else float("nan")

    @property
    def factor(self) -> float:
        """By what the loss was multiplied in a step, on (geometric) average."""
        with np.errstate(all="ignore"):
            ratio = self.losses[-1] / self.losses[0]
            return float(ratio ** (1 / max(1, len(self.losses) - 1)))


def is_measured(curves: Mapping[str, Curve]) -> bool:
    """Whether a run has what a certificate needs."""
    return "theory/lambda_min" in curves and "theory/beta" in curves


def course_of(curves: Mapping[str, Curve], precision: str) -> Course:
    """The course of a run that :func:`is_measured`.

    Args:
        curves: of the run, by their metrics.
        precision: that it was trained in, ``fp64`` or ``fp32``.
    """
    loss = curves["train/loss"]

    def values(name: str) -> Numbers:
        return curves[name].values if name in curves else np.full(len(loss.values), np.nan)

    measured = np.flatnonzero(np.isfinite(values("theory/points")))
    points = values("theory/points")[measured[0]]
    smooth = values("theory/smooth")[measured]
    return Course(
        steps=loss.steps.astype(np.int64),
        losses=points * loss.values,
        gradients=values("optim/grad_norm"),
        rates=values("optim/lr"),
        step_sizes=values("optim/step_size"),
        distances=values("theory/distance"),
        measured=measured,
        lambda_min=values("theory/lambda_min")[measured],
        lambda_max=values("theory/lambda_max")[measured],
        lambda_error=values("theory/lambda_error")[measured],
        beta=values("theory/beta")[measured],
        is_smooth=bool(smooth[0]) if np.isfinite(smooth[0]) else None,
        regimes=_regimes(curves),
        rounding=ROUNDING[precision],
    )


def _regimes(curves: Mapping[str, Curve]) -> dict[str, int] | None:
    shares = {name: curves.get(REGIME_FRACTIONS[name]) for name in REGIMES}
    counts = {
        name: round(float(np.nansum(curve.values)))
        for name, curve in shares.items()
        if curve is not None
    }
    return counts if len(counts) == len(REGIMES) else None


# What makes a step other than w - h·g: an option, and the value with which it does not.
_PLAIN: dict[str, tuple[Any, str]] = {
    "momentum": (0, "momentum adds earlier gradients to the step"),
    "weight_decay": (0, "weight_decay adds the weights to the gradient"),
    "norm_scope": ("global", "each tensor has a step size of its own"),
    "maximize": (False, "the loss is maximised"),
}


def floor_of(optimizer: Mapping[str, Any]) -> float:
    """δ: the least part of η that a step has. SGD has 1, for its h is η; GClip has 0.

    Args:
        optimizer: its options, ``name`` among them; one of which :func:`objection` has nothing to
            say.
    """
    match optimizer["name"]:
        case "sgd":
            return 1.0
        case "gclip":
            return 0.0
    return min(1.0, float(optimizer["delta"]))


def objection(optimizer: Mapping[str, Any]) -> str:
    """Why the theorem says nothing of an optimizer; empty if it does."""
    if optimizer["name"] not in ("delta_gclip", "gclip", "sgd"):
        return f"{optimizer['name']} is not gradient descent with one step size"
    for option, (plain, why) in _PLAIN.items():
        if optimizer.get(option, plain) != plain:
            return why
    return ""


class Verdict(StrEnum):
    """What a line came to."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNDECIDED = "not decided"
    NOT_MET = "premise not met"


@dataclass(frozen=True)
class Line:
    """One statement of the theorem.

    Args:
        name: a word for it.
        statement: as a formula.
        verdict: what it came to.
        step: where it is violated, or not decided, first; else where the numbers are from; None if
            there are none.
        measured: the left side there.
        bound: the right side there.
        reason: which premise is not met, and whether the statement held all the same; or what
            stands between a line that is violated, or not decided, and a proof of that.
    """

    name: str
    statement: str
    verdict: Verdict
    step: int | None = None
    measured: float | None = None
    bound: float | None = None
    reason: str = ""

    @property
    def numbers(self) -> tuple[float | None, float | None]:
        """Both sides."""
        return self.measured, self.bound

    def __str__(self) -> str:
        if self.verdict in (Verdict.VIOLATED, Verdict.UNDECIDED):
            return f"{self.verdict} at step {self.step}"
        return str(self.verdict)


@dataclass(frozen=True)
class Theorem:
    """The theorem, applied to a run.

    β is the largest that was measured along the way, and μ the least λ_min: both are those of some
    of the points only, so that what holds is not proved, only not refuted, and what is violated is
    so by them alone.

    Args:
        course: of the run.
        delta: δ; that of an optimizer that is not gradient descent does not matter.
        objection: why the optimizer's steps are not those of the theorem; empty if they are.
        kinks: why L need not be β-smooth; empty if it is.

    Source: arXiv 2404.08624, with the learning rate of each step where a schedule changes it.
    """

    course: Course
    delta: float
    objection: str
    kinks: str = ""

    @cached_property
    def beta(self) -> float:
        """β; infinite if it could not be measured everywhere."""
        betas = self.course.beta
        return float(betas.max()) if np.isfinite(betas).all() else math.inf

    @cached_property
    def mu(self) -> float:
        """μ; NaN if it could not be measured everywhere."""
        return float(self.course.lambda_min.min())

    @cached_property
    def loss_bounds(self) -> Numbers:
        """Π (1 - ηδμ) · L(w_0), (T,); NaN without a δ."""
        return np.asarray(self._shrinking * self.course.losses[0])

    @cached_property
    def distance_bounds(self) -> Numbers:
        """√(2βL(w_0)) · Σ η Π √(1 - ηδμ), (T,); NaN without a δ."""
        ways = self.course.rates * np.sqrt(self._shrinking)
        return np.asarray(self._speed * np.concatenate([[0.0], np.cumsum(ways)[:-1]]))

    @cached_property
    def radius(self) -> float:
        """2√(2βL(w_0)) / (δμ): what the sum above never exceeds, whatever the schedule."""
        return 2 * self._speed / (self.delta * self.mu) if self.delta * self.mu > 0 else math.inf

    @property
    def rate(self) -> float:
        """1 - ηδμ, by which a step multiplies the loss at least; a geometric mean."""
        count = len(self.course.losses) - 1
        return float(self._shrinking[-1] ** (1 / count)) if count else math.nan

    @cached_property
    def _speed(self) -> float:
        """The gradient of a β-smooth loss is no longer than √(2βL)."""
        return math.sqrt(2 * self.beta * self.course.losses[0])

    @cached_property
    def _shrinking(self) -> Numbers:
        if not self.delta:
            return np.full_like(self.course.rates, np.nan)
        factors = np.clip(1 - self.course.rates * self.delta * self.mu, 0, None)
        return np.concatenate([[1.0], np.cumprod(factors)[:-1]])

    def lines(self) -> list[Line]:
        """Every statement, premises first."""
        return [
            self._smooth(),
            self._regular(),
            self._step_sizes(),
            self._ratio(),
            self._descent(),
            self._decay(),
            self._distance(),
            self._ball(),
        ]

    # -------------------------------------------------------------- premises

    def _smooth(self) -> Line:
        """With room for what η = 1/β loses in its rounding."""
        if self.objection:
            return Line("rate", "η ≤ 1/β", Verdict.NOT_MET, reason=self.objection)
        at = _first(~(self.course.rates * self.beta <= 1 + EIGENVALUES))
        reason = "; ".join(filter(None, [self.kinks, "" if at is None else "η > 1/β"]))
        at = int(self.course.rates.argmax()) if at is None else at
        verdict = Verdict.NOT_MET if reason else Verdict.HOLDS
        return self._line(
            *("rate", "η ≤ 1/β", verdict, at, self.course.rates[at], 1 / self.beta), reason=reason
        )

    def _regular(self) -> Line:
        """A kernel is singular if its least eigenvalue cannot be told from 0."""
        course = self.course
        at = _first(~(course.lambda_min > course.lambda_error))
        verdict = Verdict.HOLDS if at is None else Verdict.NOT_MET
        at = int(course.lambda_min.argmin()) if at is None else at
        return self._line(
            *("kernel", "λ_min > 0", verdict, int(course.measured[at]), course.lambda_min[at], 0.0),
            reason="" if verdict is Verdict.HOLDS else "λ_min = 0, within rounding",
        )

    @cached_property
    def _is_descent(self) -> list[str]:
        """What is missing for steps along the gradient."""
        return [self.objection] if self.objection else []

    @cached_property
    def _is_smooth(self) -> list[str]:
        """What is missing for steps along the gradient that are short enough."""
        reason = self._smooth().reason
        return [reason] if reason else []

    @cached_property
    def _is_regular(self) -> list[str]:
        """What is missing for PL*."""
        reason = self._regular().reason
        return [reason] if reason else []

    @cached_property
    def _all(self) -> list[str]:
        """What is missing for a rate of convergence."""
        floor = [] if self.objection or self.delta > 0 else [NO_FLOOR]
        return [*self._is_smooth, *floor, *self._is_regular]

    # ----------------------------------------------------------- conclusions

    def _step_sizes(self) -> Line:
        ratios = self.course.step_sizes / self.course.rates
        allowed = 16 * self.course.rounding
        low, high = self.delta * (1 - allowed), 1 + allowed
        is_broken = (ratios < low) | (ratios > high)
        at = _first(is_broken)
        shown = _lowest(ratios) if at is None else at
        bound = 1.0 if ratios[shown] > high else self.delta
        return self._judged(
            *("step size", "δ ≤ h/η ≤ 1", self._is_descent, is_broken, ratios),
            *(np.full_like(ratios, bound), shown),
        )

    def _ratio(self) -> Line:
        """Where λ_min was not measured it may be less than μ, and no ratio can contradict it."""
        course, ratios = self.course, self.course.ratios
        is_broken = np.asarray(falls_short(ratios, self.mu, course.doubts))
        is_measured = np.zeros_like(is_broken)
        is_measured[course.measured] = True
        if self._is_regular or not is_broken.any() or (is_broken & is_measured).any():
            return self._judged(
                *("PL*", "‖∇L‖²/(2L) ≥ μ", self._is_regular, is_broken & is_measured, ratios),
                *(np.full_like(ratios, self.mu), _lowest(ratios)),
            )
        at = int(is_broken.argmax())
        return self._line(
            *("PL*", "‖∇L‖²/(2L) ≥ μ", Verdict.UNDECIDED, at, ratios[at], self.mu),
            reason=f"λ_min was not measured at step {course.steps[at]}, and may be below μ there",
        )

    def _descent(self) -> Line:
        course = self.course
        sizes, squares = course.step_sizes[:-1], course.gradients[:-1] ** 2
        with np.errstate(all="ignore"):
            bounds = course.losses[:-1] - sizes * (1 - self.beta * sizes / 2) * squares
        bounds = np.concatenate([course.losses[:1], bounds])
        return self._judged(
            *("descent", "L(w⁺) ≤ L(w) - h(1 - βh/2)‖∇L‖²", self._is_smooth),
            *(self._exceeds(bounds), course.losses, bounds),
        )

    def _decay(self) -> Line:
        bounds = self.loss_bounds
        return self._judged(
            *("decay", "L(w_t) ≤ (1 - ηδμ)^t L(w_0)", self._all),
            *(self._exceeds(bounds), self.course.losses, bounds),
        )

    def _exceeds(self, bounds: Numbers) -> NDArray[np.bool_]:
        """Whether losses are above bounds by more than rounding; also if they are not finite."""
        with np.errstate(invalid="ignore"):
            roots = np.sqrt(np.clip(bounds, 0, None)) + self.course.slack
            is_above = ~(np.sqrt(self.course.losses) <= roots)
        return np.asarray(is_above & ~np.isnan(bounds))

    def _distance(self) -> Line:
        bounds = self.distance_bounds
        return self._judged(
            *("path", "‖w_t - w_0‖ ≤ η√(2βL_0) Σ(1 - ηδμ)^(s/2)", self._all),
            *(self._is_outside(bounds), self.course.distances, bounds),
        )

    def _ball(self) -> Line:
        bounds = np.full_like(self.course.distances, self.radius)
        return self._judged(
            *("ball", "‖w_t - w_0‖ ≤ 2√(2βL_0)/(δμ)", self._all),
            *(self._is_outside(bounds), self.course.distances, bounds),
        )

    def _is_outside(self, bounds: Numbers) -> NDArray[np.bool_]:
        return np.asarray(self.course.distances > bounds * (1 + EIGENVALUES))

    def _judged(
        self,
        name: str,
        statement: str,
        premises: list[str],
        is_broken: NDArray[np.bool_],
        left: Numbers,
        right: Numbers,
        shown: int = -1,
    ) -> Line:
        """A line by its premises and by where it is broken; the last numbers if nowhere."""
        at = _first(is_broken)
        if not premises:
            verdict = Verdict.HOLDS if at is None else Verdict.VIOLATED
            shown = shown if at is None else at
            reason = "" if at is None or name == "step size" else self._doubt
            return self._line(name, statement, verdict, shown, left[shown], right[shown], reason)
        if not math.isfinite(left[shown]) or not math.isfinite(right[shown]):
            return Line(name, statement, Verdict.NOT_MET, reason="; ".join(premises))
        shown = shown if at is None else at
        kept = "kept all the same" if at is None else f"broken at step {self.course.steps[at]}"
        return self._line(
            *(name, statement, Verdict.NOT_MET, shown, left[shown], right[shown]),
            reason=f"{'; '.join(premises)} ({kept})",
        )

    @property
    def _doubt(self) -> str:
        """What a line that is violated is violated by."""
        measured, steps = len(self.course.measured), len(self.course.steps)
        if measured == steps:
            return ""
        return f"by β and μ of {measured} of {steps} steps: between them β may be more, μ less"

    def _line(
        self,
        name: str,
        statement: str,
        verdict: Verdict,
        at: int,
        measured: float,
        bound: float,
        reason: str = "",
    ) -> Line:
        step = int(self.course.steps[at])
        return Line(name, statement, verdict, step, float(measured), float(bound), reason)


def _first(is_so: NDArray[np.bool_]) -> int | None:
    places = np.flatnonzero(is_so)
    return int(places[0]) if len(places) else None


def _lowest(values: Numbers) -> int:
    return int(np.nanargmin(values)) if np.isfinite(values).any() else 0
