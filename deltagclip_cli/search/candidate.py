"""One setting on its way: trained with one seed after the other, until it is done or given up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from deltagclip_cli.core import UsageError
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.search.study import KEPT_OF_HALVING, Outcome, Study, Tried
from deltagclip_cli.spec.trial import Trial, in_a_word

_PROOF_OF_EVALUATION = "test/loss"  # of an epoch that has all metrics of its task


class Candidate:
    """A setting that was drawn and has not ended.

    The value after an epoch of the second seed is the mean of the two seeds after that epoch, and
    so on: one step has one meaning, whatever setting is looked at.

    Args:
        study: that it was drawn in.
        tried: the setting.
        runs: where run folders go.
    """

    def __init__(self, study: Study, tried: Tried, runs: Path) -> None:
        self.study = study
        self.number = tried.number
        self.reason = ""
        self._fault: UsageError | None = None
        words = described(tried.options)
        planned = look_up(study.subject.trials(tried.options), runs)
        self._planned = [replace(each, settings=words) for each in planned]
        self._runs = runs
        self._done: list[tuple[Sequence[float | None], float | None]] = []
        self._size = -1
        self._reported = 0

    @property
    def current(self) -> Planned:
        """The trial of the seed that it is at."""
        return self._planned[len(self._done)]

    def trials_left(self) -> list[Trial]:
        """The trials of seeds that are not finished, as far as is known."""
        return [each.trial for each in self._planned[len(self._done) :]]

    def look(self) -> str:
        """Tell the study of new epochs; why the setting is to be given up, or nothing.

        Cheap while there are none, for it is asked after every step. What is wrong with the search
        is kept for :meth:`settle` to say: in here it would count as the failure of a trial.
        """
        try:
            size = self.current.folder.metrics_file.stat().st_size
        except OSError:
            return self.reason
        if not self.reason and size != self._size:
            self._size = size
            try:
                self._report(_curve(self.current.folder, self.study.subject.search.metric))
            except UsageError as error:
                self._fault = error
                self.reason = str(error)
        return self.reason

    def settle(self) -> Outcome:
        """Go on to the first seed that is not finished; what became of the setting, if anything.

        Raises:
            UsageError: the trials do not measure the metric of the search.
            RunFolderError: the journal cannot be written.
        """
        while True:
            (there,) = look_up([self.current.trial], self._runs)
            given_up = there.state is not State.NEW and self.look()
            if self._fault is not None:
                raise self._fault
            if there.state is State.FAILED:
                return Outcome.FAILED
            if given_up:
                return Outcome.PRUNED
            if there.state is State.DIVERGED:
                return Outcome.DIVERGED
            if there.state is not State.FINISHED or there.result is None:
                return Outcome.OPEN
            if self._finish_seed(there.result):
                return Outcome.FINISHED if self.value is not None else Outcome.DIVERGED

    @property
    def value(self) -> float | None:
        """The mean over the finished seeds at their last epochs; None if one is not finite."""
        return _mean([last for _, last in self._done])

    def _finish_seed(self, result: Mapping[str, Any]) -> bool:
        """Whether it was the last."""
        metric = self.study.subject.search.metric
        curve = _curve(self.current.folder, metric)
        self._done.append((curve, result["last"].get(metric)))
        self._size, self._reported = -1, 0
        return len(self._done) == len(self._planned)

    def _report(self, curve: Sequence[float | None]) -> None:
        epochs = self.current.trial.epochs
        last = len(self._planned) * epochs
        for epoch in range(self._reported + 1, len(curve) + 1):
            self._reported = epoch
            step = len(self._done) * epochs + epoch
            seeds = [curve, *(each for each, _ in self._done)]
            value = _mean([each[epoch - 1] if epoch <= len(each) else None for each in seeds])
            if value is None:
                continue
            if self.study.report(self.number, step, value) and step < last:
                self.reason = self._explained(epoch, value)
                return

    def _explained(self, epoch: int, value: float) -> str:
        search = self.study.subject.search
        where = f"epoch {epoch}"
        if self._done:
            where += f" of seed {self.current.trial.seed}"
        worse = (
            "worse than the median"
            if search.pruner == "median"
            else f"not among the best of {KEPT_OF_HALVING}"
        )
        return f"search: {search.metric} {value:.4g} at {where} is {worse}"


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(finite) if values and len(finite) == len(values) else None


def _curve(folder: RunFolder, metric: str) -> list[float | None]:
    """The metric after each epoch; None where it is not finite."""
    records = [each for each in folder.metrics() if "train/loss" in each]
    for record in records:
        if metric not in record and record.get(_PROOF_OF_EVALUATION) is not None:
            there = ", ".join(name for name in record if name.startswith(("train/", "test/")))
            raise UsageError(
                f"search.metric: {metric} is not measured by these trials.\n  metrics: {there}"
            )
    return [record.get(metric) for record in records]


def described(options: Mapping[str, Any]) -> str:
    """Options in few words, such as ``lr=0.1 gamma=1``."""
    return " ".join(f"{name}={in_a_word(value)}" for name, value in options.items())
