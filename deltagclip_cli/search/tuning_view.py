"""A protocol and what has come of it: as tables, and for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import (
    EVALUATED,
    NOTHING,
    choice_notes,
    measured_on,
    plural,
    ranges,
    with_error,
)
from deltagclip_cli.plan.planned import Mean, Planned, mean
from deltagclip_cli.runs.folder import State
from deltagclip_cli.spec.axes import as_written
from deltagclip_cli.terminal.console import counted, titled_table
from deltagclip_cli.tuning.stages import DrawState, JudgedDraw

if TYPE_CHECKING:
    from deltagclip_cli.tuning.lock import Lock
    from deltagclip_cli.tuning.stages import StudyChoice
    from deltagclip_cli.tuning.studies import Tuning

MEASURED_SETS = ("train", *EVALUATED)
_ALWAYS = (DrawState.FINISHED, DrawState.DIVERGED, DrawState.FAILED)
_AS_WRITTEN = "as written"


@dataclass(frozen=True)
class Judgement:
    """The choice of a study for an optimizer, and its trials on fresh seeds."""

    choice: StudyChoice
    fresh: Sequence[Planned]  # none as long as nothing is chosen

    @cached_property
    def means(self) -> Mapping[str, Mean]:
        """The mean of each metric at the end, over those of the fresh seeds that are finished."""
        ends = [
            each.result["last"]
            for each in self.fresh
            if each.state is State.FINISHED and each.result
        ]
        return {name: mean([end.get(name) for end in ends]) for end in ends for name in end}

    @property
    def states(self) -> Mapping[State, int]:
        """The number of fresh seeds in each state."""
        return Counter(each.state for each in self.fresh)


def shown(tuning: Tuning) -> list[str]:
    """Return the metrics to show of what was chosen: that of the choice, and the test's."""
    split, _, name = tuning.protocol.metric.partition("/")
    test = "test_ema" if split.endswith("_ema") else "test"
    return list(dict.fromkeys([tuning.protocol.metric, f"{test}/{name}"]))


def aim(tuning: Tuning) -> str:
    """Say by what settings are chosen, such as ``the highest validation/accuracy``."""
    extreme = "lowest" if tuning.minimizes else "highest"
    return f"the {extreme} {tuning.protocol.metric}"


def title(tuning: Tuning, study: int) -> str:
    """Name a study, where there are several."""
    studies = tuning.protocol.studies
    return tuning.name if studies == 1 else f"{tuning.name}, study {study + 1} of {studies}"


def _remarked(words: str, tuning: Tuning) -> str:
    """Add to the words below a table what has to stand below each."""
    lines = [words, *choice_notes(tuning.protocol.metric)]
    if tuning.protocol.unequal:
        lines.append(f"budgets are unequal: {tuning.protocol.unequal}")
    return "\n".join(lines)


def plan_table(tuning: Tuning) -> Table:
    """Return what is planned for each optimizer."""
    protocol = tuning.protocol
    by = f"of the draws, that of {aim(tuning)} is chosen, and runs on the fresh seeds"
    table = titled_table(f"{tuning.name}: the protocol", caption=_remarked(by, tuning))
    for column in ("optimizer", "space"):
        table.add_column(column)
    for column in ("draws", "seeds", "fresh seeds", "studies", "trials"):
        table.add_column(column, justify="right")
    for label in tuning.labels:
        draws, seeds = len(tuning.draws_of(0, label)), len(tuning.seeds)
        trials = protocol.studies * (draws * seeds + protocol.fresh_seeds)
        numbers = (draws, seeds, protocol.fresh_seeds, protocol.studies, trials)
        table.add_row(Text(label), Text(_space(tuning, label)), *map(str, numbers))
    return table


def _space(tuning: Tuning, label: str) -> str:
    if label in tuning.fixed:
        return _AS_WRITTEN
    return "\n".join(
        f"{option}: {word} {json.dumps(values, ensure_ascii=False, default=str)}"
        for option, each in tuning.search.space[label].items()
        for word, values in as_written(each).items()
    )


def choice_table(tuning: Tuning, study: int, made: Sequence[StudyChoice]) -> Table:
    """Return how many draws of a study ended how, and which setting was chosen."""
    flattered = "Values that chose a setting flatter it; fresh seeds tell how good it is."
    words = f"{title(tuning, study)}: chosen by {aim(tuning)}"
    table = titled_table(words, caption=_remarked(flattered, tuning))
    ends = [end for end in DrawState if end in _ALWAYS or any(each.counts[end] for each in made)]
    table.add_column("optimizer")
    for column in ("draws", *ends):
        table.add_column(column, justify="right")
    table.add_column("chosen setting")
    for column in (f"{tuning.protocol.metric} ± s.e.", "n"):
        table.add_column(column, justify="right")
    for each in made:
        counts = [str(each.counts[end] or "") for end in ends]
        cells = [str(len(each.draws)), *counts, *_chosen(None if each.is_open else each.best)]
        table.add_row(Text(each.label), *map(Text, cells))
    return table


def _chosen(best: JudgedDraw | None) -> list[str]:
    if best is None or best.value is None:
        return [NOTHING, NOTHING, ""]
    value = with_error(best.value, best.standard_error)
    return [best.draw.words or _AS_WRITTEN, value, str(len(best.values))]


def fresh_table(tuning: Tuning, study: int, judgements: Sequence[Judgement]) -> Table:
    """Return what became of the chosen settings of a study on fresh seeds."""
    seeds = ranges(tuning.fresh_seeds(study))
    table = titled_table(
        f"{title(tuning, study)}: the chosen settings on fresh seeds {seeds}",
        caption=_remarked("n finished trials; mean ± standard error", tuning),
    )
    table.add_column("optimizer")
    table.add_column("chosen setting")
    for column in ("n", *shown(tuning)):
        table.add_column(column, justify="right")
    has_others = any({*each.states} - {State.FINISHED} for each in judgements)
    if has_others:
        table.add_column("others")
    for each in judgements:
        setting = _chosen(each.choice.best)[0] if each.fresh else NOTHING
        others = {state: n for state, n in each.states.items() if state is not State.FINISHED}
        found = [each.means.get(name) for name in shown(tuning)]
        values = [with_error(m.value, m.standard_error) if m and m.n else NOTHING for m in found]
        n = str(each.states.get(State.FINISHED, 0))
        cells = [each.choice.label, setting, n, *values, *([counted(others)] if has_others else [])]
        table.add_row(*map(Text, cells))
    return table


def as_data(
    tuning: Tuning, lock: Lock | None, judgements: Sequence[Sequence[Judgement]]
) -> dict[str, Any]:
    """Return all of it for programs; ``judgements`` are by study, then by label."""
    protocol = tuning.protocol
    return {
        "experiment": tuning.name,
        "lock": lock and {"file": str(lock.path), "hash": lock.hash, "made": lock.made},
        "protocol": protocol.model_dump(mode="json"),
        "chosen_on": measured_on(protocol.metric),
        "comparisons": tuning.comparisons,
        "studies": [
            {
                "study": study,
                "seeds": tuning.search_seeds(study),
                "fresh_seeds": tuning.fresh_seeds(study),
                "optimizers": [_judgement(each) for each in of_study],
            }
            for study, of_study in enumerate(judgements)
        ],
    }


def _judgement(judgement: Judgement) -> dict[str, Any]:
    choice = judgement.choice
    best = None if choice.is_open else choice.best
    return {
        "optimizer": choice.label,
        "draws": {str(state): choice.counts[state] for state in DrawState},
        "refused": choice.refusal or choice.lack or None,
        "chosen": best and {**_draw(best), "standard_error": best.standard_error},
        "tried": [_draw(each) for each in choice.draws],
        "fresh": {
            "states": judgement.states,
            "metrics": {
                name: {"n": each.n, "mean": each.value, "standard_error": each.standard_error}
                for name, each in judgement.means.items()
                if each.n and name.partition("/")[0] in MEASURED_SETS
            },
            "folders": [str(each.folder.path) for each in judgement.fresh],
        },
    }


def _draw(judged: JudgedDraw) -> dict[str, Any]:
    return {
        "number": judged.draw.number,
        "options": judged.draw.options,
        "state": judged.state,
        "value": judged.value,
        "n": len(judged.values),
    }


def totals(tuning: Tuning) -> str:
    """Say how many trials there will be."""
    protocol = tuning.protocol
    drawn = len(tuning.draws) * len(tuning.seeds)
    fresh = protocol.studies * len(tuning.labels) * protocol.fresh_seeds
    parts = f"{plural(drawn, 'trial')} to choose by, {fresh} on fresh seeds"
    return f"{parts}: {drawn + fresh} in all"
