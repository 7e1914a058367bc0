"""The answer of a try: what is known by now, as tables, as sentences and as plain data."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deltagclip_cli.core import NOTHING, duration, listed, plural, short, shown_with
from deltagclip_cli.results.compare.tables import (
    Cell,
    Column,
    Table,
    interval,
    make_record,
    make_table,
    p_value,
)
from deltagclip_cli.results.statistics.difference import SIGNIFICANT
from deltagclip_cli.trying.protocol import (
    DRAWS,
    MOST_ROUNDS,
    RIVALS,
    SCANNED,
    Stored,
    scanned_rates,
)
from deltagclip_cli.trying.study import LEAST_PROGRESS, Method, Study
from deltagclip_cli.trying.verdict import POWER, Comparison, Word, headline, judge, scores

NO_TRAINING = "does not train"


@dataclass(frozen=True)
class Candidate:
    """The optimizer that is tried: as it was named, and with the words that name it again."""

    name: str
    words: Sequence[str]  # of the command line, the name among them
    method: Method
    options: Mapping[str, Any]
    remarks: Sequence[str] = ()  # on what is done otherwise than for others


@dataclass(frozen=True)
class Answer:
    """What the trials of a study that has ended say of an optimizer."""

    candidate: Candidate
    study: Study
    stored: Mapping[str, Stored]
    slots: int  # trials that run at a time here

    @property
    def label(self) -> str:
        return self.candidate.method.label

    def trains(self, problem: str) -> bool:
        """Return whether it learnt anything, as it was chosen, or in the scan before that."""
        if not self.study.learns(problem, self.candidate.method):
            return False
        losses = self.study.judged(problem, self.label)
        if not losses:
            return False
        capped = scores(losses, self.stored[problem].untrained)
        return self.stored[problem].progress(statistics.fmean(capped.values())) >= LEAST_PROGRESS

    @cached_property
    def trained(self) -> list[str]:
        """The problems on which it trains."""
        return [problem for problem in self.study.problems if self.trains(problem)]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        judged = self.study.judged
        ours = {problem: judged(problem, self.label) for problem in self.trained}
        theirs = {
            problem: {rival: judged(problem, rival) for rival in RIVALS} for problem in self.trained
        }
        untrained = {problem: self.stored[problem].untrained for problem in self.study.problems}
        return judge(ours, theirs, untrained)

    def tables(self) -> list[Table]:
        """Return the verdicts, and the learning rates that they were found with."""
        if not self.comparisons:
            return []
        verdicts = make_table(self._title, self._columns, self.comparisons, self._notes())
        return [verdicts, self._rates()]

    @property
    def _title(self) -> str:
        drawn = "at its own learning rate" if self._is_fixed else f"tuned with {DRAWS} draws each"
        return f"{self.label}: {plural(self.study.rounds, 'round')}, {drawn}; test/loss"

    @property
    def _is_fixed(self) -> bool:
        return self.candidate.method.middle is None

    @property
    def _columns(self) -> list[Column[Comparison]]:
        def mean(each: Comparison, label: str) -> str:
            losses = self.study.judged(each.problem, label)
            return short(
                statistics.fmean(scores(losses, self.stored[each.problem].untrained).values())
            )

        def difference(each: Comparison) -> Cell:
            found = each.difference
            error = (found.interval.high - found.interval.low) / 4 if found.interval else None
            show = shown_with(error, max(abs(found.difference), error or 0.0))
            return Cell(show(found.difference), interval(found.interval, show))

        return [
            Column(
                "problem",
                lambda each: Cell(_bare(each.problem)),
                lambda each: {"problem": each.problem},
            ),
            Column("against", lambda each: each.rival, lambda each: {"rival": each.rival}),
            Column(self.label, lambda each: mean(each, self.label)),
            Column("rival", lambda each: mean(each, each.rival)),
            Column(
                "difference",
                difference,
                lambda each: {
                    "difference": each.difference.difference,
                    "interval": each.difference.interval
                    and [each.difference.interval.low, each.difference.interval.high],
                    "p": each.difference.p,
                },
            ),
            Column("p", lambda each: p_value(each.p), lambda each: {"p_holm": each.p}),
            Column(
                "verdict",
                lambda each: Cell(each.word, is_best=each.word is not Word.UNTOLD),
                lambda each: {"verdict": each.word},
            ),
            Column(
                "settled by",
                self._settled,
                lambda each: {
                    "rounds_needed": None if _is_told(each) else each.rounds_needed,
                    "seconds_needed": self._seconds_more(each),
                },
            ),
        ]

    def _settled(self, each: Comparison) -> Cell:
        """Say how many rounds would tell a difference that is as large as it looks."""
        if _is_told(each) or not each.difference.difference:
            return Cell(NOTHING)
        if each.rounds_needed is None:
            return Cell("> 1000 rounds")
        needed = max(each.rounds_needed, self.study.rounds + 1)
        seconds = self._seconds_more(each)
        return Cell(f"{needed} rounds", "" if seconds is None else f"({duration(seconds)})")

    def _seconds_more(self, each: Comparison) -> float | None:
        """Return how long the rounds take that are missing, here."""
        if _is_told(each) or each.rounds_needed is None:
            return None
        missing = max(each.rounds_needed - self.study.rounds, 1)
        return missing * self._seconds_a_round

    @cached_property
    def _seconds_a_round(self) -> float:
        trials = [
            trial
            for problem in self.study.problems
            for label in self.study.labels
            for trial in [self.study.chosen(problem, label, 1)]
            if trial is not None
        ]
        for problem in self.study.problems:
            trials += (self.study.draws(problem, self.candidate.method, 1) or {}).values()
        return self.study.whole_seconds(trials) / self.slots

    def _notes(self) -> list[str]:
        notes = [
            f"p: paired t-test over rounds, by Holm's method for all {len(self.comparisons)} rows;"
            f" better and worse: p < {SIGNIFICANT}. Intervals are of 95 %, each for itself. Less is"
            " better; no round counts as worse than the untrained network.",
        ]
        if any(not _is_told(each) for each in self.comparisons):
            notes.append(
                f"Settled by: rounds that tell a difference as large as it looks with a chance of"
                f" {100 * POWER:.0f} %, if their number is fixed before they are looked at."
            )
        diverged = [
            f"{label} in {plural(count, 'round')} of {_bare(problem)}"
            for problem in self.trained
            for label in self.study.labels
            for count in [sum(map(math.isinf, self.study.judged(problem, label).values()))]
            if count
        ]
        return [*notes, *([f"Diverged: {listed(diverged)}."] if diverged else [])]

    def _rates(self) -> Table:
        def rates(problem: str, label: str) -> Cell:
            if label == self.label and problem not in self.trained:
                return Cell(NO_TRAINING)
            found = self.rates(problem, label)
            if not found:
                return Cell("its own")
            low, high = (f"{each:.2g}" for each in (min(found), max(found)))
            return Cell(f"{statistics.median(found):.2g}", f"({low} to {high})")

        columns: list[Column[str]] = [
            Column("problem", lambda problem: Cell(_bare(problem))),
            *(
                Column(f"lr {label}", lambda problem, label=label: rates(problem, label))  # type: ignore[misc]
                for label in self.study.labels
            ),
        ]
        notes = [
            f"Each was tuned alike: {SCANNED} powers of ten around the default learning rate, then"
            f" {DRAWS} draws a round within a factor of 10 of the best, chosen by validation/loss;"
            " all else as it is by default. Cosine schedule with a short warm-up.",
        ]
        notes += self.candidate.remarks
        if self.relative_time is not None:
            notes.append(
                f"A training takes {self.relative_time:.2g} times as long as one with {RIVALS[0]};"
                " all have the same number of steps."
            )
        return make_table("learning rates that were chosen", columns, self.study.problems, notes)

    def rates(self, problem: str, label: str) -> list[float]:
        """Return the learning rates that the rounds chose; none if none was drawn."""
        if label == self.label and self._is_fixed:
            return []
        trials = (self.study.chosen(problem, label, n) for n in self.study.numbers)
        return [each.optimizer.options["lr"] for each in trials if each is not None]

    @cached_property
    def relative_time(self) -> float | None:
        """How long a training takes, in those of the first rival on the same problems."""
        times = [self.study.seconds(label) for label in (self.label, RIVALS[0])]
        there = [problem for problem in self.trained if all(problem in each for each in times)]
        ours, theirs = (sum(each[problem] for problem in there) for each in times)
        return ours / theirs if there and theirs else None

    def sentences(self) -> list[str]:
        """Return the verdict in words, what it does not say, and what to do next."""
        said = []
        for rival in RIVALS if self.comparisons else ():
            said.append(f"{self.label} against {rival}: {headline(self.comparisons, rival)}")
        missing = [each for each in self.study.problems if each not in self.trained]
        if missing:
            on = listed([_bare(each) for each in missing])
            said.append(f"{self.label} {NO_TRAINING} on {on}: {self._why_not()}")
        said += self._edges()
        needed = [
            each.rounds_needed
            for each in self.comparisons
            if not _is_told(each) and each.rounds_needed
        ]
        reachable = [each for each in needed if self.study.rounds < each <= MOST_ROUNDS]
        if reachable:
            said.append(f"more rounds: {self.again(max(reachable))}")
        elif self.comparisons and any(not _is_told(each) for each in self.comparisons):
            said.append(
                f"What is not told apart would take more than the {MOST_ROUNDS} rounds that there"
                " are: the difference is small beside the luck of tuning."
            )
        if self.comparisons:
            said.append(
                f"This is of {DRAWS} draws a round on three small problems, and of nothing else."
            )
        return said

    def _why_not(self) -> str:
        rates = "its own learning rate"
        if self.candidate.method.middle is not None:
            low, *_, high = scanned_rates(self.candidate.method.middle)
            rates = f"no learning rate from {low:g} to {high:g}"
        what = "leads" if self._is_fixed else "led"
        check = shlex.join(["deltagclip", "check", self.candidate.name])
        return (
            f"{rates} {what} further than {100 * LEAST_PROGRESS:.0f} % of the way from the"
            f" untrained network to the best rival.\n  {check} looks for the reason."
        )

    def _edges(self) -> list[str]:
        """Say where the best of the scan was at its end, so that a better one may lie beyond."""
        method, said = self.candidate.method, []
        for problem in self.trained:
            found = self.study.scanned(problem, method) or {}
            finite = {rate: loss for rate, loss in found.items() if math.isfinite(loss)}
            best = min(finite, key=lambda rate: finite[rate], default=None)
            if best is not None and best in (min(found), max(found)):
                said.append(
                    f"{_bare(problem)}: the best learning rate of the scan, {best:g}, is at its"
                    f" end, and a better one may lie beyond.\n"
                    f"  {self.again(self.study.rounds, around=best)} scans around it."
                )
        return said

    def again(self, rounds: int, around: float | None = None) -> str:
        """Write the command that tries the same with more rounds, or with another scan."""
        words = ["deltagclip", "try", *self.candidate.words, "--rounds", str(rounds)]
        return shlex.join([*words, *([] if around is None else ["--around", f"{around:g}"])])

    def as_data(self) -> dict[str, Any]:
        """Return all of it for programs."""
        return {
            "optimizer": self.candidate.name,
            "label": self.label,
            "options": dict(self.candidate.options),
            "trains": bool(self.trained),
            "rounds": self.study.rounds,
            "draws": 0 if self._is_fixed else DRAWS,
            "scanned": 0 if self._is_fixed else SCANNED,
            "comparisons": [make_record(self._columns, each) for each in self.comparisons],
            "problems": [self._problem(each) for each in self.study.problems],
            "relative_time": self.relative_time,
            "sentences": self.sentences(),
        }

    def _problem(self, problem: str) -> dict[str, Any]:
        of_each = {
            label: {
                "lr": self.rates(problem, label),
                "test/loss": [
                    loss if math.isfinite(loss) else None
                    for loss in self.study.judged(problem, label).values()
                ],
            }
            for label in self.study.labels
        }
        return {
            "problem": problem,
            "title": self.study.spec.experiments[problem].title,
            "trains": problem in self.trained,
            "untrained": self.stored[problem].untrained,
            "optimizers": of_each,
        }


def _is_told(each: Comparison) -> bool:
    return each.word is not Word.UNTOLD


def _bare(problem: str) -> str:
    return problem.removeprefix("try-")
