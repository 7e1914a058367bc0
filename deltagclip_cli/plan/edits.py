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
        references = self.trial.references
        parts, where = self.trial.code_folder.changes(references, self.before)
        inside = f" (in {'; '.join(where)})" if where else ""
        return (
            f"{listed(parts)} changed since {plural(self.trials, 'finished trial')}"
            f"{inside}: what has another code is another "
            "setting.\n  If no number changes with it, --same-code lets those trials count."
        )


def vouch_for(edits: Iterable[Edit]) -> None:
    """Record that code as it is now gives the numbers that it gave before.

    Where trials were finished with several, that is what most of them had.
    """
    for edit in {each.trial.code: each for each in sorted(edits, key=lambda e: e.trials)}.values():
        edit.trial.code_folder.vouch(edit.trial.references, edit.before)


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
