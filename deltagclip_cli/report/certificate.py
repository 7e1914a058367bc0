"""The numbers of the convergence theorem, for runs that measured them."""

from __future__ import annotations

import math

import numpy as np

from deltagclip_cli.comparison.comparison import Comparison
from deltagclip_cli.comparison.digits import NOTHING, with_error
from deltagclip_cli.comparison.rows import Row
from deltagclip_cli.comparison.sheets import Sheet, line

PREFIX = "theory/"


def certificate_sheet(comparison: Comparison) -> Sheet | None:
    """What each setting measured of the theorem at its last epoch; None if none did."""
    runs = [run for row in comparison.rows for run in row.runs]
    names = dict.fromkeys(name for run in runs for name in run.curves if name.startswith(PREFIX))
    if not names:
        return None
    rows = [row for row in comparison.rows if any(_last(row, name) for name in names)]
    return Sheet(
        title=f"{comparison.title}: certificate, last values",
        columns=["optimizer", "n", *(name.removeprefix(PREFIX) for name in names)],
        lines=[
            line([row.group.name, str(len(row.runs)), *(_text(row, name) for name in names)])
            for row in rows
        ],
        notes=["Means ± standard errors over seeds, of runs that have the number."],
    )


def _last(row: Row, name: str) -> list[float]:
    values = [float(run.curves[name].values[-1]) for run in row.runs if name in run.curves]
    return [value for value in values if math.isfinite(value)]


def _text(row: Row, name: str) -> str:
    values = _last(row, name)
    if not values:
        return NOTHING
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return with_error(float(np.mean(values)), error)
