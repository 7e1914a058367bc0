"""The answer of a try: what is known by now, as tables, as sentences and as plain data."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

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
from deltagclip_cli.trying.duels import POWER, Duel, Word, headline, judge, scores
from deltagclip_cli.trying.protocol import (
    DRAWS,
    MOST_ROUNDS,
    RIVALS,
    SCANNED,
    best_rate,
    scanned_rates,
)
from deltagclip_cli.trying.tryout import LEAST_PROGRESS

if TYPE_CHECKING:
    from deltagclip_cli.trying.candidate import Newcomer
    from deltagclip_cli.trying.protocol import Stored
    from deltagclip_cli.trying.tryout import Tryout

_FAR_OUT = 10**0.5  # of the draws around a rate, a quarter lies further than this factor from it
NO_TRAINING = "does not train"


@dataclass(frozen=True)
class TryAnswer:
    """An optimizer in the light of the trials of a try that has ended."""

    candidate: Newcomer
    tryout: Tryout
    stored: Mapping[str, Stored]
    slots: int  # trials that run at a time here

    @property
    def label(self) -> str:
        return self.candidate.method.label

    def trains(self, problem: str) -> bool:
        """Return whether it learnt anything, as it was chosen, or in the scan before that."""
        if not self.tryout.learns(problem, self.candidate.method):
            return False
        losses = self.tryout.judged(problem, self.label)
        if not losses:
            return False
        capped = scores(losses, self.stored[problem].untrained)
        return self.stored[problem].progress(statistics.fmean(capped.values())) >= LEAST_PROGRESS

    @cached_property
    def trained(self) -> list[str]:
        """The problems on which it trains."""
        return [problem for problem in self.tryout.problems if self.trains(problem)]

    @cached_property
    def comparisons(self) -> list[Duel]:
        judged = self.tryout.judged
        ours = {problem: judged(problem, self.label) for problem in self.trained}
        theirs = {
            problem: {rival: judged(problem, rival) for rival in RIVALS} for problem in self.trained
        }
        untrained = {problem: self.stored[problem].untrained for problem in self.tryout.problems}
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
        return f"{self.label}: {plural(self.tryout.rounds, 'round')}, {drawn}; test/loss"

    @property
    def _is_fixed(self) -> bool:
        return self.candidate.method.middle is None

    @property
    def _columns(self) -> list[Column[Duel]]:
        return [
            Column(
                "problem",
                lambda each: Cell(_bare(each.problem)),
                lambda each: {"problem": each.problem},
            ),
            Column("against", lambda each: each.rival, lambda each: {"rival": each.rival}),
            Column(self.label, lambda each: short(each.ours), lambda each: {"mean": each.ours}),
            Column(
                "rival", lambda each: short(each.theirs), lambda each: {"rival_mean": each.theirs}
            ),
            Column("difference", _difference, _difference_data),
            Column("p", lambda each: p_value(each.p), lambda each: {"p_holm": each.p}),
            Column(
                "verdict",
                lambda each: Cell(each.word, is_best=_is_told(each)),
                lambda each: {"verdict": each.word},
            ),
            Column("settled by", self._settled, self._settled_data),
        ]

    def _settled(self, each: Duel) -> Cell:
        """Say how many rounds would tell a difference that is as large as it looks."""
        if _is_told(each) or not each.difference.difference:
            return Cell(NOTHING)
        if each.rounds_needed is None:
            return Cell("> 1000 rounds")
        needed = max(each.rounds_needed, self.tryout.rounds + 1)
        seconds = self._seconds_more(each)
        return Cell(f"{needed} rounds", "" if seconds is None else f"({duration(seconds)})")

    def _settled_data(self, each: Duel) -> dict[str, Any]:
        needed = None if _is_told(each) else each.rounds_needed
        return {"rounds_needed": needed, "seconds_needed": self._seconds_more(each)}

    def _seconds_more(self, each: Duel) -> float | None:
        """Return how long the rounds take that are missing, here."""
        if _is_told(each) or each.rounds_needed is None:
            return None
        missing = max(each.rounds_needed - self.tryout.rounds, 1)
        return missing * self._seconds_a_round

    @cached_property
    def _seconds_a_round(self) -> float:
        trials = [
            trial
            for problem in self.tryout.problems
            for label in self.tryout.labels
            for trial in [self.tryout.chosen(problem, label, 1)]
            if trial is not None
        ]
        for problem in self.tryout.problems:
            trials += (self.tryout.draws(problem, self.candidate.method, 1) or {}).values()
        return self.tryout.whole_seconds(trials) / self.slots

    def _notes(self) -> list[str]:
        rows = len(self.comparisons)
        notes = [
            f"p: paired t-test over rounds, by Holm's method for all {rows} rows; better and worse:"
            f" p < {SIGNIFICANT}. Intervals are of 95 %, each for itself. Less is better."
        ]
        if any(not _is_told(each) for each in self.comparisons):
            notes.append(
                "Settled by: rounds that tell a difference as large as it looks with a chance of"
                f" {100 * POWER:.0f} %, if their number is fixed before they are looked at."
            )
        diverged = [
            f"{label} in {plural(count, 'round')} of {_bare(problem)}"
            for problem in self.trained
            for label in self.tryout.labels
            for count in [sum(map(math.isinf, self.tryout.judged(problem, label).values()))]
            if count
        ]
        if diverged:
            counted = "such a round counts as the worst of the two that did not"
            notes.append(f"Diverged: {listed(diverged)}; {counted}.")
        return notes

    def _rates(self) -> Table:
        labels = self.tryout.labels
        rows = [
            [Cell(_bare(problem)), *(self._rate(problem, label) for label in labels)]
            for problem in self.tryout.problems
        ]
        headings = ["problem", *(f"lr {label}" for label in labels)]
        return Table("learning rates that were chosen", headings, rows, self._notes_on_rates())

    def _rate(self, problem: str, label: str) -> Cell:
        if label == self.label and problem not in self.trained:
            return Cell(NO_TRAINING)
        found = self.rates(problem, label)
        if not found:
            return Cell("not drawn")
        low, high = (f"{each:.2g}" for each in (min(found), max(found)))
        return Cell(f"{statistics.median(found):.2g}", f"({low} to {high})")

    def _notes_on_rates(self) -> list[str]:
        return [
            f"Each was tuned alike: {SCANNED} powers of ten around the default learning rate, then"
            f" {DRAWS} draws a round within a factor of 10 of the best, chosen by validation/loss;"
            " all else as it is by default. Cosine schedule with a short warm-up, and as many steps"
            " for all: deltagclip check tells what one costs.",
            *self.candidate.remarks,
        ]

    def rates(self, problem: str, label: str) -> list[float]:
        """Return the learning rates that the rounds chose; none if none was drawn."""
        if label == self.label and self._is_fixed:
            return []
        trials = (self.tryout.chosen(problem, label, n) for n in self.tryout.numbers)
        return [each.optimizer.options["lr"] for each in trials if each is not None]

    def sentences(self) -> list[str]:
        """Return the verdict in words, what it does not say, and what to do next."""
        said = []
        for rival in RIVALS if self.comparisons else ():
            said.append(f"{self.label} against {rival}: {headline(self.comparisons, rival)}")
        missing = [each for each in self.tryout.problems if each not in self.trained]
        if missing:
            on = listed([_bare(each) for each in missing])
            said.append(f"{self.label} {NO_TRAINING} on {on}: {self._why_not()}")
        said += self._edges()
        untold = [each for each in self.comparisons if not _is_told(each)]
        said += self._on_untold(untold) if untold else []
        if self.comparisons:
            drawn = "its own learning rate" if self._is_fixed else f"{DRAWS} draws a round"
            said.append(f"This is of {drawn} on three small problems, and of nothing else.")
        return said

    def _on_untold(self, untold: Sequence[Duel]) -> list[str]:
        needed = [each.rounds_needed for each in untold if each.rounds_needed]
        reachable = [each for each in needed if each <= MOST_ROUNDS]
        if reachable and self.tryout.rounds < MOST_ROUNDS:
            return [f"more rounds: {self.again(max(*reachable, self.tryout.rounds + 1))}"]
        return [
            f"What is not told apart would take more than the {MOST_ROUNDS} rounds that there are:"
            " the difference is small beside the luck of tuning."
        ]

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
        """Say where the scan ended too soon: even the draws around its end led further out."""
        said = []
        for problem in self.trained:
            found = self.tryout.scanned(problem, self.candidate.method) or {}
            end, chosen = best_rate(found), self.rates(problem, self.label)
            if end is None or end not in (min(found), max(found)) or not chosen:
                continue
            beyond = statistics.median(chosen) / end
            if (beyond if end == max(found) else 1 / beyond) > _FAR_OUT:
                around = self.again(self.tryout.rounds, around=end)
                said.append(
                    f"{_bare(problem)}: the best learning rate of the scan, {end:g}, is at its end,"
                    f" and a better one may lie beyond.\n  {around} scans around it."
                )
        return said

    def again(self, rounds: int, around: float | None = None) -> str:
        """Write the command that tries the same with more rounds, or with another scan."""
        words = [*self.candidate.words]
        if around is not None:
            at = words.index("--around") if "--around" in words else len(words)
            del words[at : at + 2]
            words += ["--around", f"{around:g}"]
        return shlex.join(["deltagclip", "try", *words, "--rounds", str(rounds)])

    def as_data(self) -> dict[str, Any]:
        """Return all of it for programs."""
        return {
            "optimizer": self.candidate.name,
            "label": self.label,
            "options": dict(self.candidate.options),
            "trains": bool(self.trained),
            "rounds": self.tryout.rounds,
            "draws": 0 if self._is_fixed else DRAWS,
            "scanned": 0 if self._is_fixed else SCANNED,
            "comparisons": [make_record(self._columns, each) for each in self.comparisons],
            "problems": [self._problem(each) for each in self.tryout.problems],
            "sentences": self.sentences(),
        }

    def _problem(self, problem: str) -> dict[str, Any]:
        of_each = {
            label: {
                "lr": self.rates(problem, label),
                "test/loss": [
                    loss if math.isfinite(loss) else None
                    for loss in self.tryout.judged(problem, label).values()
                ],
            }
            for label in self.tryout.labels
        }
        return {
            "problem": problem,
            "title": self.tryout.spec.experiments[problem].title,
            "trains": problem in self.trained,
            "untrained": self.stored[problem].untrained,
            "optimizers": of_each,
        }


def _is_told(each: Duel) -> bool:
    return each.word is not Word.UNTOLD


def _bare(problem: str) -> str:
    return problem.removeprefix("try-")


def _difference(each: Duel) -> Cell:
    found = each.difference
    error = (found.interval.high - found.interval.low) / 4 if found.interval else None
    show = shown_with(error, max(abs(found.difference), error or 0.0))
    return Cell(show(found.difference), interval(found.interval, show))


def _difference_data(each: Duel) -> dict[str, Any]:
    bounds = each.difference.interval
    return {
        "difference": each.difference.difference,
        "interval": None if bounds is None else [bounds.low, bounds.high],
        "p": each.difference.p,
    }
