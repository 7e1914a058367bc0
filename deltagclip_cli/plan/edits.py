"""Edits of code of one's own: which trials were finished with what it was before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import listed, plural
from deltagclip_cli.runs.folder import RunFolder

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial


@dataclass(frozen=True)
class Edit:
    """Code that was another when trials were finished which are planned anew."""

    trial: Trial  # one of those that are planned
    before: str  # the code that the finished ones had
    trials: int  # how many

    def __str__(self) -> str:
        """Return it in a sentence, with what is done about it."""
        return (
            f"{self.in_words()}: what has another code is another "
            "setting.\n  If no number changes with it, --same-code lets those trials count."
        )

    def in_words(self) -> str:
        """Return which parts changed, since how many trials, and where."""
        parts, where = self.trial.code_folder.changes(self.trial.references, self.before)
        inside = f" (in {'; '.join(where)})" if where else ""
        return f"{listed(parts)} changed since {plural(self.trials, 'finished trial')}{inside}"


def vouch_for(edits: Iterable[Edit]) -> list[str]:
    """Record that code as it is now gives the numbers that it gave before, and say of which.

    Where trials were finished with several, that is what most of them had, or the latest.
    """
    said = []
    for edit in {each.trial.code: each for each in sorted(edits, key=_weight)}.values():
        folder = edit.trial.code_folder
        said.append(f"{edit.in_words()}, which count: recorded in {folder.store}/{edit.before}.")
        folder.vouch(edit.trial.references, edit.before)
    return said


def _weight(edit: Edit) -> tuple[int, int]:
    return edit.trials, edit.trial.code_folder.codes().index(edit.before)


def find_edits(trials: Iterable[Trial], runs: Path) -> list[Edit]:
    """Find the edits since trials were finished that are planned anew, with other code."""
    counts: Counter[tuple[str, str]] = Counter()
    chosen: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        if trial.code is None or RunFolder.of(runs, trial).result_file.exists():
            continue
        for before in trial.code_folder.codes():
            if before == trial.code:
                continue
            earlier = trial.model_copy(update={"code": before})
            if RunFolder.of(runs, earlier).result_file.exists():
                counts[before, trial.code] += 1
                chosen[before, trial.code] = trial
    return [Edit(chosen[key], key[0], count) for key, count in counts.items()]
