"""What a search has come to: the best settings of every optimizer, and how many ended how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.plan.summaries import Mean, mean
from deltagclip_cli.runs.folder import State
from deltagclip_cli.search.problem import Subject
from deltagclip_cli.search.study import Outcome, Tried


@dataclass(frozen=True)
class Placed:
    """A setting with what its run folders hold.

    Args:
        number: in its study, from 0.
        options: of the optimizer.
        outcome: what became of it.
        result: the metric over seeds; None unless all are finished.
        planned: its trials.
    """

    number: int
    options: Mapping[str, Any]
    outcome: Outcome
    result: Mean | None
    planned: Sequence[Planned]


@dataclass(frozen=True)
class Standing:
    """The settings of one optimizer, in the order in which they were drawn."""

    subject: Subject
    settings: Sequence[Placed]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many settings ended how."""
        return Counter(str(each.outcome) for each in self.settings)

    @cached_property
    def ranking(self) -> list[Placed]:
        """The settings whose seeds are all finished, the best first, each once.

        One that was given up may be drawn again, and finish.
        """
        once = {str(each.options): each for each in reversed(self.settings) if each.result}
        ranked = [(each.result.value, each) for each in once.values() if each.result]
        sign = 1 if self.subject.minimizes else -1
        ranked.sort(key=lambda pair: (sign * pair[0], pair[1].number))
        return [each for _, each in ranked]


def take_stock(subject: Subject, tried: Sequence[Tried], runs: Path) -> Standing:
    """Read the run folders of everything that was tried."""
    metric = subject.search.metric
    trials = [subject.trials(each.options) for each in tried]
    planned = iter(look_up([trial for each in trials for trial in each], runs))
    settings = []
    for each, seeds in zip(tried, trials, strict=True):
        there = [next(planned) for _ in seeds]
        result = _over_seeds(there, metric) if each.outcome is Outcome.FINISHED else None
        settings.append(Placed(each.number, each.options, each.outcome, result, there))
    return Standing(subject, settings)


def _over_seeds(planned: Sequence[Planned], metric: str) -> Mean | None:
    finished = [
        each.result["last"].get(metric)
        for each in planned
        if each.state is State.FINISHED and each.result
    ]
    return mean(finished) if len(finished) == len(planned) else None
