"""Tells when a training has become no better for long enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import UsageError, listed, plural, short

if TYPE_CHECKING:
    from deltagclip_cli.spec.search_settings import EarlyStopping


class Patience:
    """Watches a metric from evaluation to evaluation; equal values, and NaN, are no better."""

    def __init__(self, wanted: EarlyStopping) -> None:
        self._wanted = wanted
        self._best: float | None = None
        self._reached: tuple[float, int] = (0, 0)  # the pass and the step of the best
        self._since = 0  # evaluations since then

    def look(self, metrics: Mapping[str, float], passes: float, step: int) -> None:
        """Take the metrics of an evaluation, after so many passes and steps."""
        value, rises = metrics.get(self._wanted.metric), self._wanted.direction == "maximize"
        if value is None:
            there = [name for name in metrics if not name.startswith(("optim/", "perf/"))]
            raise UsageError(
                f"early_stopping looks at {self._wanted.metric}, which is not measured.\n"
                f"  There is {listed(there)}."
            )
        best = self._best
        is_first = best is None and value == value
        if is_first or (best is not None and (value > best if rises else value < best)):
            self._best, self._reached, self._since = value, (passes, step), 0
        else:
            self._since += 1

    @property
    def is_over(self) -> bool:
        """True if the training is to end."""
        return self._since >= self._wanted.patience

    def told(self) -> dict[str, Any]:
        """Return what ``result.json`` has of it, of a training that was ended."""
        passes, step = self._reached
        best = {"value": self._best, "epoch": passes, "step": step}
        return {"metric": self._wanted.metric, "evaluations": self._since, "best": best}

    def __str__(self) -> str:
        name, since = self._wanted.metric, plural(self._since, "evaluation")
        if self._best is None:
            return f"{name} was no number in {since}"
        at = f"{short(self._best)} at step {self._reached[1]:,}"
        return f"{name} was {at}, and became no better in {since}"

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs."""
        return {"best": self._best, "reached": list(self._reached), "since": self._since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        self._best, self._since = state["best"], state["since"]
        passes, step = state["reached"]
        self._reached = passes, step
