"""The theorem, applied to the trajectory of a run: what was recorded, and the verdicts on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deltagclip_cli.core import REGIME_FRACTIONS, REGIMES
from deltagclip_cli.theory.probe import EIGENVALUES, ROUNDING, falls_short, slack

if TYPE_CHECKING:
    from deltagclip_cli.results.read.run import Curve, Numbers

FORMULAS = {
    "rate": "η ≤ 1/β",
    "kernel": "λ_min > 0",
    "step size": "δ ≤ h/η ≤ 1",
    "PL*": "‖∇L‖²/(2L) ≥ μ",
    "descent": "L(w⁺) ≤ L(w) - h(1 - βh/2)‖∇L‖²",
    "decay": "L(w_t) ≤ (1 - ηδμ)^t L(w_0)",
    "path": "‖w_t - w_0‖ ≤ η√(2βL_0) Σ(1 - ηδμ)^(s/2)",
    "ball": "‖w_t - w_0‖ ≤ 2√(2βL_0)/(δμ)",
}
"""The statements of the theorem, by a word for each; the first two are premises."""

# Options that make a step other than w - h·g: the value with which they do not, and what they do.
_PLAIN: dict[str, tuple[Any, str]] = {
    "momentum": (0, "momentum adds earlier gradients to the step"),
    "weight_decay": (0, "weight_decay adds the weights to the gradient"),
    "norm_scope": ("global", "each tensor has a step size of its own"),
    "maximize": (False, "the loss is maximised"),
}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A run of T steps, of which each record has what belongs to the weights before the step.

    At M of the steps the kernel and the Hessian were measured. NaN is what was not measured, what
    was not finite, and the step size of an optimizer that has none.
    """

    steps: NDArray[np.int64]  # their numbers, from 1, (T,)
    losses: Numbers  # L(w) = ½‖F(w) - y‖², (T,)
    gradients: Numbers  # ‖∇L(w)‖, (T,)
    rates: Numbers  # η, (T,)
    step_sizes: Numbers  # h, (T,)
    distances: Numbers  # ‖w - w_0‖, (T,)
    measured: NDArray[np.intp]  # places of the M steps among the T
    lambda_min: Numbers  # least eigenvalue of the tangent kernel, (M,)
    lambda_max: Numbers  # its largest, (M,)
    lambda_error: Numbers  # how far off these two may be, (M,)
    beta: Numbers  # largest eigenvalue of the Hessian, (M,)
    is_smooth: bool | None  # whether the network is known to be; None if nobody looked
    regimes: Mapping[str, int] | None  # numbers of steps; None for what does not clip
    rounding: float  # relative, of one number of the training

    @property
    def slack(self) -> float:
        """Return what rounding may add to the root of a loss."""
        return slack(float(self.losses[0]), self.rounding)

    @property
    def ratios(self) -> Numbers:
        """‖∇L‖²/(2L), which is at least μ where L is μ-PL*, (T,)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.gradients**2 / (2 * self.losses))

    @property
    def doubts(self) -> Numbers:
        """Return what rounding may have done to the root of each loss, relatively, (T,)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.slack / np.sqrt(self.losses))

    @property
    def empirical_mu(self) -> float:
        """The smallest ratio that rounding has not touched."""
        known = self.ratios[self.doubts < 0.01]
        return float(np.nanmin(known)) if len(known) else math.nan

    @property
    def factor(self) -> float:
        """By what the loss was multiplied in a step, on (geometric) average."""
        with np.errstate(all="ignore"):
            ratio = self.losses[-1] / self.losses[0]
            return float(ratio ** (1 / max(1, len(self.losses) - 1)))


def is_measured(curves: Mapping[str, Curve]) -> bool:
    """Tell whether a run has what a certificate needs."""
    return "theory/lambda_min" in curves and "theory/beta" in curves


def trajectory_of(curves: Mapping[str, Curve], precision: str) -> Trajectory:
    """Return the trajectory of a run that :func:`is_measured`, trained in ``fp64`` or ``fp32``."""
    loss = curves["train/loss"]

    def values(name: str) -> Numbers:
        return curves[name].values if name in curves else np.full(len(loss.values), np.nan)

    measured = np.flatnonzero(np.isfinite(values("theory/points")))
    smooth = values("theory/smooth")[measured[0]]
    shares = {name: curves.get(metric) for name, metric in REGIME_FRACTIONS.items()}
    counts = {
        name: round(float(np.nansum(share.values))) for name, share in shares.items() if share
    }
    return Trajectory(
        steps=loss.steps.astype(np.int64),
        losses=values("theory/points")[measured[0]] * loss.values,
        gradients=values("optim/grad_norm"),
        rates=values("optim/lr"),
        step_sizes=values("optim/step_size"),
        distances=values("theory/distance"),
        measured=measured,
        lambda_min=values("theory/lambda_min")[measured],
        lambda_max=values("theory/lambda_max")[measured],
        lambda_error=values("theory/lambda_error")[measured],
        beta=values("theory/beta")[measured],
        is_smooth=bool(smooth) if np.isfinite(smooth) else None,
        regimes=counts if len(counts) == len(REGIMES) else None,
        rounding=ROUNDING[precision],
    )


def objection_to(optimizer: Mapping[str, Any]) -> str:
    """Say why an optimizer is not descent with one step size in [ηδ, η]; empty if it is."""
    if optimizer["name"] not in ("delta_gclip", "gclip", "sgd"):
        return f"{optimizer['name']} is not gradient descent with one step size"
    for option, (plain, why) in _PLAIN.items():
        if optimizer.get(option, plain) != plain:
            return why
    return ""


def floor_of(optimizer: Mapping[str, Any]) -> float:
    """Return δ, the least part of η that a step has. SGD has 1, for its h is η; GClip has 0."""
    match optimizer["name"]:
        case "sgd":
            return 1.0
        case "gclip":
            return 0.0
    return min(1.0, float(optimizer["delta"]))


class Verdict(StrEnum):
    """The outcome of a statement."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNDECIDED = "not decided"
    NOT_MET = "premise not met"


@dataclass(frozen=True)
class Statement:
    """One statement of the theorem, as it was judged."""

    name: str  # one of FORMULAS
    verdict: Verdict  # what it came to
    # where it is violated, or not decided, first; else where the numbers are from; None if there
    # are none
    step: int | None = None
    measured: float | None = None  # the left side there
    bound: float | None = None  # the right side there
    # which premise is not met, and whether the statement held all the same; or what stands between
    # a statement that is violated, or not decided, and a proof of that
    reason: str = ""

    @property
    def formula(self) -> str:
        return FORMULAS[self.name]

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

    Source: arXiv 2404.08624, with the learning rate of each step where a schedule changes it.
    """

    trajectory: Trajectory
    delta: float  # δ; that of an optimizer that is not gradient descent does not matter
    objection: str  # why the optimizer's steps are not those of the theorem; empty if they are
    kinks: str = ""  # why L need not be β-smooth; empty if it is

    @cached_property
    def beta(self) -> float:
        """β; infinite if it could not be measured everywhere."""
        betas = self.trajectory.beta
        return float(betas.max()) if np.isfinite(betas).all() else math.inf

    @cached_property
    def mu(self) -> float:
        """μ; NaN if it could not be measured everywhere."""
        return float(self.trajectory.lambda_min.min())

    @cached_property
    def loss_bounds(self) -> Numbers:
        """Π (1 - ηδμ) · L(w_0), (T,); NaN without a δ."""
        return np.asarray(self._shrinking * self.trajectory.losses[0])

    @cached_property
    def distance_bounds(self) -> Numbers:
        """√(2βL(w_0)) · Σ η Π √(1 - ηδμ), (T,); NaN without a δ."""
        ways = self.trajectory.rates * np.sqrt(self._shrinking)
        return np.asarray(self._speed * np.concatenate([[0.0], np.cumsum(ways)[:-1]]))

    @cached_property
    def radius(self) -> float:
        """2√(2βL(w_0)) / (δμ): what the sum above never exceeds, whatever the schedule."""
        return 2 * self._speed / (self.delta * self.mu) if self.delta * self.mu > 0 else math.inf

    @property
    def rate(self) -> float:
        """1 - ηδμ, by which a step multiplies the loss at least; a geometric mean."""
        count = len(self.trajectory.losses) - 1
        return float(self._shrinking[-1] ** (1 / count)) if count else math.nan

    @cached_property
    def _speed(self) -> float:
        """√(2βL(w_0)), than which the gradient of a β-smooth loss is no longer."""
        return math.sqrt(2 * self.beta * self.trajectory.losses[0])

    @cached_property
    def _shrinking(self) -> Numbers:
        if not self.delta:
            return np.full_like(self.trajectory.rates, np.nan)
        factors = np.clip(1 - self.trajectory.rates * self.delta * self.mu, 0, None)
        return np.concatenate([[1.0], np.cumprod(factors)[:-1]])

    def statements(self) -> list[Statement]:
        """Judge every statement, premises first."""
        rate, kernel = self._rate(), self._kernel()
        has_floor = self.objection or self.delta > 0
        floor = "" if has_floor else "δ > 0: without a floor the theorem promises no rate"
        all_missing = "; ".join(filter(None, [rate.reason, floor, kernel.reason]))
        radii = np.full_like(self.trajectory.distances, self.radius)
        return [
            rate,
            kernel,
            self._step_sizes(missing=self.objection),
            self._ratio(missing=kernel.reason),
            self._judge_losses("descent", rate.reason, self._descent_bounds()),
            self._judge_losses("decay", all_missing, self.loss_bounds),
            self._judge_distances("path", all_missing, self.distance_bounds),
            self._judge_distances("ball", all_missing, radii),
        ]

    def _rate(self) -> Statement:
        """Judge η ≤ 1/β, with room for what η = 1/β loses in its rounding."""
        if self.objection:
            return Statement("rate", Verdict.NOT_MET, reason=self.objection)
        rates = self.trajectory.rates
        at = _first(~(rates * self.beta <= 1 + EIGENVALUES))
        reason = "; ".join(filter(None, [self.kinks, "" if at is None else "η > 1/β"]))
        at = int(rates.argmax()) if at is None else at
        verdict = Verdict.NOT_MET if reason else Verdict.HOLDS
        return self._statement("rate", verdict, at, rates[at], 1 / self.beta, reason)

    def _kernel(self) -> Statement:
        """A kernel is singular if its least eigenvalue cannot be told from 0."""
        lambda_min, places = self.trajectory.lambda_min, self.trajectory.measured
        at = _first(~(lambda_min > self.trajectory.lambda_error))
        verdict, reason = Verdict.NOT_MET, "λ_min = 0, within rounding"
        if at is None:
            at, verdict, reason = int(lambda_min.argmin()), Verdict.HOLDS, ""
        return self._statement("kernel", verdict, places[at], lambda_min[at], 0.0, reason)

    def _step_sizes(self, missing: str) -> Statement:
        ratios = self.trajectory.step_sizes / self.trajectory.rates
        allowed = 16 * self.trajectory.rounding
        low, high = self.delta * (1 - allowed), 1 + allowed
        is_broken = (ratios < low) | (ratios > high)
        at = _first(is_broken)
        shown = _lowest(ratios) if at is None else at
        bounds = np.full_like(ratios, 1.0 if ratios[shown] > high else self.delta)
        return self._judge("step size", missing, is_broken, ratios, bounds, shown)

    def _ratio(self, missing: str) -> Statement:
        """Judge the ratios; a λ_min that was not measured may be below μ: none contradicts it."""
        trajectory, ratios = self.trajectory, self.trajectory.ratios
        is_short = np.asarray(falls_short(ratios, self.mu, trajectory.doubts))
        is_measured = np.zeros_like(is_short)
        is_measured[trajectory.measured] = True
        is_broken = is_short & is_measured
        if missing or is_broken.any() or not is_short.any():
            bounds = np.full_like(ratios, self.mu)
            return self._judge("PL*", missing, is_broken, ratios, bounds, _lowest(ratios))
        at = int(is_short.argmax())
        step = trajectory.steps[at]
        reason = f"λ_min was not measured at step {step}, and may be below μ there"
        return self._statement("PL*", Verdict.UNDECIDED, at, ratios[at], self.mu, reason)

    def _descent_bounds(self) -> Numbers:
        """L(w) - h(1 - βh/2)‖∇L‖² of the weights before; for the first, their loss."""
        losses, sizes = self.trajectory.losses, self.trajectory.step_sizes[:-1]
        squares = self.trajectory.gradients[:-1] ** 2
        with np.errstate(all="ignore"):
            bounds = losses[:-1] - sizes * (1 - self.beta * sizes / 2) * squares
        return np.concatenate([losses[:1], bounds])

    def _judge_losses(self, name: str, missing: str, bounds: Numbers) -> Statement:
        """A loss is broken above its bound by more than rounding; also if it is not finite."""
        losses = self.trajectory.losses
        with np.errstate(invalid="ignore"):
            roots = np.sqrt(np.clip(bounds, 0, None)) + self.trajectory.slack
            is_above = ~(np.sqrt(losses) <= roots) & ~np.isnan(bounds)
        return self._judge(name, missing, is_above, losses, bounds)

    def _judge_distances(self, name: str, missing: str, bounds: Numbers) -> Statement:
        distances = self.trajectory.distances
        is_outside = distances > bounds * (1 + EIGENVALUES)
        return self._judge(name, missing, is_outside, distances, bounds)

    def _judge(
        self,
        name: str,
        missing: str,
        is_broken: NDArray[np.bool_],
        left: Numbers,
        right: Numbers,
        shown: int = -1,
    ) -> Statement:
        """Judge by what is missing and by where it is broken first; ``shown`` if nowhere."""
        at = _first(is_broken)
        if missing and not (math.isfinite(left[shown]) and math.isfinite(right[shown])):
            return Statement(name, Verdict.NOT_MET, reason=missing)
        shown = shown if at is None else at
        numbers = left[shown], right[shown]
        if not missing and at is None:
            return self._statement(name, Verdict.HOLDS, shown, *numbers)
        if not missing:
            measured, steps = len(self.trajectory.measured), len(self.trajectory.steps)
            reason = (
                f"by β and μ of {measured} of {steps} steps: between them β may be more, μ less"
            )
            if name == "step size" or measured == steps:
                reason = ""
            return self._statement(name, Verdict.VIOLATED, shown, *numbers, reason)
        kept = "kept all the same" if at is None else f"broken at step {self.trajectory.steps[at]}"
        return self._statement(name, Verdict.NOT_MET, shown, *numbers, f"{missing} ({kept})")

    def _statement(
        self, name: str, verdict: Verdict, at: int, left: float, right: float, reason: str = ""
    ) -> Statement:
        step = int(self.trajectory.steps[at])
        return Statement(name, verdict, step, float(left), float(right), reason)


def _first(is_so: NDArray[np.bool_]) -> int | None:
    places = np.flatnonzero(is_so)
    return int(places[0]) if len(places) else None


def _lowest(values: Numbers) -> int:
    return int(np.nanargmin(values)) if np.isfinite(values).any() else 0
