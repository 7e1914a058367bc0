"""The convergence theorem in a report: what of it held, and curves beside their bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deltagclip_cli.core import UsageError
from deltagclip_cli.results.compare.comparison import Comparison
from deltagclip_cli.results.compare.tables import Table
from deltagclip_cli.results.read.run import Curve, Numbers, Run
from deltagclip_cli.theory.certificate import (
    Certificate,
    certificate_of,
    numbers_table,
    verdict_table,
)
from deltagclip_cli.theory.verdict import is_measured

PREFIX = "theory/"


@dataclass(frozen=True)
class Panel:
    """A chart of the certificate.

    Args:
        title: of the chart.
        metric: what it shows.
        others: what is drawn beside it, each by what it is to be called.
    """

    title: str
    metric: str
    others: dict[str, str]


PANELS = (
    Panel("Loss against its bound", "theory/loss", {"theory/loss_bound": "bound"}),
    Panel("PL* ratio against λ_min", "theory/pl_ratio", {"theory/lambda_min": "λ_min"}),
    Panel(
        "Distance from w_0 against its bound",
        "theory/distance",
        {"theory/distance_bound": "bound"},
    ),
    Panel("Curvature, β, and λ_max", "theory/beta", {"theory/lambda_max": "λ_max"}),
)
SHOWN = {name for panel in PANELS for name in (panel.metric, *panel.others)}
SHOWN |= {"theory/lambda_error", "theory/points", "theory/smooth"}  # which are no curves


def certificates_of(runs: Sequence[Run]) -> list[Certificate]:
    """The certificates of those runs that have one."""
    found = []
    for run in runs:
        if is_measured(run.curves):
            try:
                found.append(certificate_of(run))
            except UsageError:  # such as another program's, with metrics of these names
                continue
    return found


def certificate_tables(comparison: Comparison) -> Iterator[Table]:
    """What each line came to for each setting, and its numbers; nothing if no run has any."""
    found = certificates_of([run for row in comparison.rows for run in row.once])
    if found:
        yield verdict_table(f"{comparison.title}: certificate", found)
        yield numbers_table(f"{comparison.title}: numbers of the certificate", found)


def certificates_across(comparisons: Sequence[Comparison]) -> Iterator[Table]:
    """For each experiment with several conditions, such as widths, the numbers of all."""
    for name in dict.fromkeys(each.experiment for each in comparisons):
        own = [each for each in comparisons if each.experiment == name]
        runs = [run for each in own for row in each.rows for run in row.once]
        found = certificates_of(runs) if len(own) > 1 else []
        if found:
            yield numbers_table(f"{name}: numbers of the certificate", found)


def with_bounds(run: Run) -> Run:
    """A run with the curves of the panels, if it has a certificate."""
    found = certificates_of([run])
    if not found:
        return run
    theorem, trajectory = found[0].theorem, found[0].trajectory
    whole = run.curves["train/loss"]
    dense = {
        "theory/loss": trajectory.losses,
        "theory/loss_bound": theorem.loss_bounds,
        "theory/pl_ratio": trajectory.ratios,
        "theory/distance": _positive(trajectory.distances),
        "theory/distance_bound": _positive(theorem.distance_bounds),
    }
    sparse = ("theory/lambda_min", "theory/lambda_max", "theory/beta")
    curves = {
        **run.curves,
        **{name: replace(whole, values=values) for name, values in dense.items()},
        **{name: _at(run.curves[name], trajectory.measured) for name in sparse},
    }
    known = {name: curve for name, curve in curves.items() if np.isfinite(curve.values).any()}
    return replace(run, curves=known)


def _positive(values: Numbers) -> Numbers:
    """Without the start, as a logarithmic axis has no place for 0."""
    return np.where(values > 0, values, np.nan)


def _at(curve: Curve, places: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Curve:
    """A curve of the points that were measured, which a line can join."""
    return Curve(
        curve.steps[places], curve.epochs[places], curve.seconds[places], curve.values[places]
    )
