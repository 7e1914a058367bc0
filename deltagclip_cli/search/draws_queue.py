"""The queue of draws: the trials up to one rung after the other, as their brackets promote them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from deltagclip_cli.core import RunFolderError, UsageError
from deltagclip_cli.launch.supervisor import PlannedQueue
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.tuning.evaluations import rounds_in, value_in

if TYPE_CHECKING:
    from deltagclip_cli.launch.supervisor import End
    from deltagclip_cli.plan.planned import Planned
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.tuning.halving import Bracket, Rung

_SECONDS_BETWEEN_LOOKS = 1.0

Plan = Callable[["Sequence[Trial]"], "list[Planned]"]


class DrawsQueue(PlannedQueue):
    """The trials of brackets, each up to its next rung.

    When the last has come to a rung, here or in another process, those that are promoted go on
    from their checkpoints, and the others are recorded as pruned. A trial whose worker is killed
    keeps its rung open, for the next search to go on with.

    Args:
        plan: looks up how trials stand.
        ordered: chooses those that are to be run, and their order.
    """

    def __init__(
        self,
        brackets: Sequence[Bracket],
        plan: Plan,
        ordered: Callable[[Sequence[Planned]], Sequence[Planned]],
    ) -> None:
        super().__init__(())
        self._plan, self._ordered = plan, ordered
        # By the folders of trials that are to reach a rung
        self._towards: dict[str, tuple[Bracket, Rung]] = {}
        self._missing: dict[Bracket, set[str]] = {}  # the folders of those that have not reached it
        self._pruned: list[Planned] = []
        # By experiments of which nobody knows yet whether they measure it
        self._metrics = {each.settings[0][0].experiment: each.metric for each in brackets}
        self._asked_at = 0.0
        self._fault: UsageError | None = None
        for bracket in brackets:
            self._advance(bracket)

    def is_elsewhere(self, planned: Planned) -> bool:
        """Look whether another process works on a trial, on its way to the rung."""
        return not self._is_at_its_rung(planned) and super().is_elsewhere(planned)

    def has_ended(self, planned: Planned) -> bool:
        """Look whether another process has done what was planned of a trial."""
        return self._is_at_its_rung(planned) if planned.part > 1 else super().has_ended(planned)

    def give_up(self, planned: Planned) -> str:
        """Stop at the first evaluation whatever lacks the metric, for :meth:`ended` to say so."""
        now = time.monotonic()
        if now - self._asked_at > _SECONDS_BETWEEN_LOOKS:
            self._asked_at = now
            try:
                self._check_metric(planned)
            except UsageError as error:
                self._fault = error
        return str(self._fault or "")

    def _check_metric(self, planned: Planned) -> None:
        metric = self._metrics.get(planned.trial.experiment)
        if metric is not None:
            for record in rounds_in(planned.folder)[:1]:
                value_in(record, metric)
                del self._metrics[planned.trial.experiment]

    def ended(self, planned: Planned, end: End) -> None:
        if self._fault is not None:
            raise self._fault
        self._check_metric(planned)
        super().ended(planned, end)
        if not end.elsewhere:
            self._is_at_its_rung(planned)

    def ended_elsewhere(self) -> list[Planned]:
        """Return trials that others ended, and those that were pruned; each once."""
        others = [each for each in super().ended_elsewhere() if each.part == 1]
        told, self._pruned = [*others, *self._pruned], []
        return told

    def _is_at_its_rung(self, planned: Planned) -> bool:
        """Look whether a trial has come to its rung, and go on if it is the last one there."""
        if planned.part == 1:
            return False
        bracket, rung = self._towards[planned.trial.folder]
        missing = self._missing[bracket]
        if planned.trial.folder not in missing:
            return True
        if bracket.at(planned.trial, rung) is None:
            return False
        missing.remove(planned.trial.folder)
        if not missing:
            self._advance(bracket)
        return True

    def _advance(self, bracket: Bracket) -> None:
        """Take up the first rung that is not complete, and prune whoever was left before it."""
        self._prune(bracket)
        rung = bracket.current()
        trials = [t for number in bracket.members(rung) or () for t in bracket.settings[number]]
        if not rung.is_last:
            trials = [each for each in trials if bracket.at(each, rung) is None]
            self._missing[bracket] = {each.folder for each in trials}
            self._towards |= {each.folder: (bracket, rung) for each in trials}
        planned = self._ordered(self._plan(trials))
        self.add(replace(each, part=rung.part) for each in planned)

    def _prune(self, bracket: Bracket) -> None:
        for number, rung in bracket.left().items():
            reason = bracket.why_left(number, rung)
            for each in self._plan(bracket.settings[number]):
                if each.state is State.INTERRUPTED:
                    with suppress(RunFolderError), hold(each.folder) as held:
                        if each.folder.state is State.INTERRUPTED:
                            held.record_pruning(reason)
                            self._pruned.append(each)
