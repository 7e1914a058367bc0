"""The certificate of a run, from its files, as a file and as tables."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from deltagclip_cli.core import (
    NOTHING,
    REGIMES,
    NotYetError,
    UsageError,
    by_size,
    plural,
    short,
    standard_error,
    with_error,
)
from deltagclip_cli.results.compare.formats import plain_data
from deltagclip_cli.results.compare.tables import Column, Table, make_cells, make_table
from deltagclip_cli.results.read.run import Group, Numbers, Run, in_words
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.theorem import obstacles
from deltagclip_cli.theory.verdict import (
    FORMULAS,
    Statement,
    Theorem,
    Trajectory,
    Verdict,
    floor_of,
    is_measured,
    objection_to,
    trajectory_of,
)

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

HOW_MEASURED = (
    "β and μ are the largest and the least that were measured along the way: a line that holds was"
    " not refuted there, which is less than proved, and one that is violated is so by these alone."
)


@dataclass(frozen=True)
class Certificate:
    """The lines of the theorem that held in a run."""

    run: Run
    trial: Trial
    theorem: Theorem  # applied to it

    @property
    def trajectory(self) -> Trajectory:
        """Of the run."""
        return self.theorem.trajectory

    @cached_property
    def statements(self) -> Sequence[Statement]:
        """Of the theorem, every one."""
        return self.theorem.statements()

    @property
    def holds(self) -> bool:
        """Tell whether every statement does."""
        return all(each.verdict is Verdict.HOLDS for each in self.statements)

    def record(self) -> dict[str, Any]:
        """Return everything as plain data; a number that is not finite is null."""
        trajectory, theorem = self.trajectory, self.theorem
        record: dict[str, Any] = {
            "experiment": self.trial.experiment,
            "optimizer": self.trial.label,
            "seed": self.trial.seed,
            "identity": self.trial.identity,
            "folder": str(self.run.folder),
            "steps": len(trajectory.steps),
            "measured_at": trajectory.steps[trajectory.measured].tolist(),
            "holds": self.holds,
            "lines": [
                {
                    "name": each.name,
                    "statement": each.formula,
                    "verdict": str(each),
                    "step": each.step,
                    "measured": each.measured,
                    "bound": each.bound,
                    "reason": each.reason,
                }
                for each in self.statements
            ],
            "lambda_min": _ends(trajectory.lambda_min),
            "lambda_max": _ends(trajectory.lambda_max),
            "beta": _ends(trajectory.beta),
            "eta": _ends(trajectory.rates),
            "delta": None if theorem.objection else theorem.delta,
            "mu": theorem.mu,
            "smallest_ratio": trajectory.empirical_mu,
            "loss": _ends(trajectory.losses),
            "distance": _ends(trajectory.distances),
            "factor": trajectory.factor,
            "factor_bound": theorem.rate,
            "regimes": trajectory.regimes,
        }
        return {key: plain_data(value) for key, value in record.items()}

    def write(self) -> None:
        """Write ``certificate.json`` into the run folder; ClaimedError if a process works there."""
        folder = RunFolder(self.run.folder)
        file = folder.certificate_file
        try:
            with hold(folder) as held:
                held.write(file, json.dumps(self.record(), indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror}.") from None


@cache
def certificate_of(run: Run) -> Certificate:
    """Return the certificate of a run, which a report asks for in several places.

    Raises:
        UsageError: the theorem says nothing about such runs, or its numbers were not measured.
        NotYetError: they are on their way.
    """
    trial = run.trial
    if trial is None:
        raise UsageError(f"{run.folder}: not a run of this program, so nothing is known of it.")
    if found := obstacles(trial):
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
    objection = objection_to(options)
    delta = 0.0 if objection else floor_of(options)
    trajectory = trajectory_of(run.curves, trial.precision)
    kinks = _kinks(trajectory.is_smooth, trial)
    return Certificate(run, trial, Theorem(trajectory, delta, objection, kinks))


def certificates_of(runs: Sequence[Run]) -> list[Certificate]:
    """Return the certificates of those runs that have one."""
    found = []
    for run in runs:
        if is_measured(run.curves):
            try:
                found.append(certificate_of(run))
            except UsageError:  # such as another program's, with metrics of these names
                continue
    return found


def _kinks(is_smooth: bool | None, trial: Trial) -> str:
    """Say why L need not be β-smooth; empty if it is."""
    if is_smooth:
        return ""
    activation = trial.model.options.get("activation")
    if is_smooth is None:
        return "nobody looked whether the network is smooth, and L β-smooth"
    named = f" (activation: {activation})" if activation else ", such as ReLU"
    return f"L need not be β-smooth: the network has operations that are not smooth{named}"


def _ends(values: Numbers) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (math.nan, math.nan)
    numbers = {"start": values[0], "end": values[-1], "least": low, "largest": high}
    return {name: float(number) for name, number in numbers.items()}


def certificate_table(certificate: Certificate) -> Table:
    """Return every statement of a run's certificate with its numbers."""
    run, trajectory, statements = certificate.run, certificate.trajectory, certificate.statements
    words = " ".join([run.group.name, *in_words(run.group.conditions)])
    reasons: dict[str, list[str]] = {}
    for each in statements:
        if each.reason:
            reasons.setdefault(each.reason, []).append(each.name)
    spectrum = {"λ_min": trajectory.lambda_min, "λ_max": trajectory.lambda_max}
    spectrum["β"] = trajectory.beta
    ranges = [f"{name} {short(each[0])} to {short(each[-1])}" for name, each in spectrum.items()]
    times = plural(len(trajectory.measured), "time")
    ratio = short(trajectory.empirical_mu)
    training = f"loss {short(trajectory.losses[0])} to {short(trajectory.losses[-1])}"
    if trajectory.regimes is not None:
        counts = [f"{count} {name}" for name, count in trajectory.regimes.items()]
        training += f"; steps: {', '.join(counts)}"
    columns: list[Column[Statement]] = [
        Column("line", lambda each: f"{each.name}: {each.formula}"),
        Column("verdict", str),
        Column("measured", lambda each: short(each.measured)),
        Column("bound", lambda each: short(each.bound)),
    ]
    return make_table(
        title=f"{run.group.experiment} · {words} · seed {run.seed}: "
        f"{plural(len(trajectory.steps), 'step')}",
        columns=columns,
        things=statements,
        notes=[
            *(f"{', '.join(names)}: {reason}." for reason, names in reasons.items()),
            f"{', '.join(ranges)}, measured {times}; smallest PL* ratio {ratio}.",
            f"{training}.",
        ],
    )


def verdict_table(title: str, certificates: Sequence[Certificate]) -> Table:
    """Return what each statement came to for each setting, over its seeds."""
    rows = []
    for name, own in _by_setting(certificates):
        judged = zip(*(each.statements for each in own), strict=True)
        regimes = [counts for each in own if (counts := each.trajectory.regimes) is not None]
        steps = [NOTHING] * len(REGIMES)
        if regimes:
            steps = [short(float(np.mean([each[kind] for each in regimes]))) for kind in REGIMES]
        rows.append(make_cells([name, str(len(own)), *map(_verdict, judged), *steps]))
    formulas = [f"{name}: {formula}" for name, formula in FORMULAS.items()]
    notes = ["; ".join(formulas) + ".", HOW_MEASURED]
    return Table(title, ["optimizer", "n", *FORMULAS, *REGIMES], rows, notes)


def _verdict(statements: Sequence[Statement]) -> str:
    """Return the one verdict of all seeds, or how many have which."""
    words = list(map(str, statements))
    if len(set(words)) == 1:
        return words[0]
    counts = Counter(each.verdict for each in statements)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def numbers_table(title: str, certificates: Sequence[Certificate]) -> Table:
    """Return λ_min, μ, β and the rate of each setting: such as against the width."""
    columns: dict[str, Callable[[Certificate], float]] = {
        "λ_min at w_0": lambda each: float(each.trajectory.lambda_min[0]),
        "μ": lambda each: each.theorem.mu,
        "PL* ratio": lambda each: each.trajectory.empirical_mu,
        "β at w_0": lambda each: float(each.trajectory.beta[0]),
        "β": lambda each: each.theorem.beta,
        "L ratio a step": lambda each: each.trajectory.factor,
        "1 - ηδμ": lambda each: each.theorem.rate,
    }
    rows = []
    for name, own in _by_setting(certificates):
        held = [sum(s.verdict is Verdict.HOLDS for s in each.statements) for each in own]
        most = f"{min(held)} to {max(held)}" if min(held) < max(held) else str(held[0])
        means = [_mean([value(each) for each in own]) for value in columns.values()]
        rows.append(make_cells([name, str(len(own)), f"{most} of {len(FORMULAS)}", *means]))
    notes = [
        "Means ± standard errors over seeds. μ is the least λ_min and β the largest curvature"
        " along the way; the PL* ratio is the smallest. The last two: by what a step multiplied"
        " the loss (geometric mean), and by what the theorem says it does at least."
    ]
    return Table(title, ["optimizer", "n", "lines that hold", *columns], rows, notes)


def _mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return with_error(float(np.mean(finite)), standard_error(finite)) if finite else NOTHING


def _by_setting(certificates: Sequence[Certificate]) -> list[tuple[str, list[Certificate]]]:
    """Gather by optimizer, and then from the narrowest network to the widest."""
    groups: dict[Group, list[Certificate]] = {}
    for each in certificates:
        groups.setdefault(each.run.group, []).append(each)

    def order(group: Group) -> tuple[Any, ...]:
        values = (*group.conditions.values(), *group.settings.values())
        return group.optimizer, *map(by_size, values)

    several = len({tuple(group.conditions.values()) for group in groups}) > 1
    return [
        (" ".join([group.name, *(in_words(group.conditions) if several else [])]), groups[group])
        for group in sorted(groups, key=order)
    ]
