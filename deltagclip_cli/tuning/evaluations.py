"""The values of a metric over a training, as its run folder has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import EVALUATED, UsageError

if TYPE_CHECKING:
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.spec.trial import Course, Trial

_PROOF_OF_EVALUATION = "test/loss"  # of a record that has all metrics of its task


def rounds_in(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the records that end with an evaluation, or with a divergence."""
    return [record for record in folder.metrics() if "train/loss" in record]


def course_of(trial: Trial, record: Mapping[str, Any]) -> Course:
    """Return the way of a training, by one of its records."""
    return trial.course(max(1, round(record["step"] / record["epoch"])))


def value_in(record: Mapping[str, Any], metric: str) -> float | None:
    """Return the value of a metric in a record or a result; None if it is not finite.

    Raises:
        UsageError: such trials do not measure it.
    """
    if metric not in record and record.get(_PROOF_OF_EVALUATION) is not None:
        sets = ("train", *EVALUATED)
        there = ", ".join(name for name in record if name.partition("/")[0] in sets)
        raise UsageError(
            f"search.metric: {metric} is not measured by these trials.\n  metrics: {there}"
        )
    value = record.get(metric)
    return value if value is not None and math.isfinite(value) else None
