"""The tables of a protocol's verdicts, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import NOTHING, listed, plural, short
from deltagclip_cli.results.compare.choosing import Selection
from deltagclip_cli.results.compare.methods import Told
from deltagclip_cli.results.compare.tables import (
    Cell,
    Column,
    Table,
    interval,
    make_record,
    make_table,
    p_value,
)
from deltagclip_cli.results.statistics.best_of import largest_bounded, least_draws

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.methods import (
        MethodVerdict,
        SettingVerdict,
        TunedMethod,
        Verdicts,
    )


def verdict_tables(found: Verdicts) -> Iterator[Table]:
    """Yield that of the chosen settings, that of the methods, and what k draws find.

    A single optimizer has only the last one.
    """
    if found.budgets:
        yield _setting_table(found)
        yield _budget_table(found)
    yield _curve_table(found)


def verdict_record(found: Verdicts) -> dict[str, Any]:
    """Return all of it for programs."""
    protocol = found.lock.tuning.protocol
    return {
        "experiment": found.lock.tuning.name,
        "planned": {"made": found.lock.made, "hash": found.lock.hash},
        "unequal": protocol.unequal,
        "metric": found.metric,
        "chosen_on": _choice(found).on,
        "fresh_metric": found.fresh_metric,
        "higher_is_better": not found.lock.tuning.minimizes,
        "settings": [make_record(_setting_columns(found), each) for each in found.settings],
        "methods": [make_record(_budget_columns(found), each) for each in found.budgets],
        "best_of": [make_record(_curve_columns(found), each) for each in found.methods],
    }


def _setting_columns(found: Verdicts) -> list[Column[SettingVerdict]]:
    def name(each: SettingVerdict) -> str:
        return each.name + (f", study {each.study + 1}" if found.studies > 1 else "")

    return [
        Column(
            "comparison",
            name,
            lambda each: {
                "study": each.study + 1,
                "ours": each.ours.label,
                "theirs": each.theirs.label,
                "verdict": each.told,
            },
        ),
        Column("seeds", lambda each: _seeds(each)),
        Column(
            "difference",
            lambda each: Cell(
                short(each.difference.difference), interval(each.difference.interval, short)
            ),
            lambda each: {"difference": asdict(each.difference), "p_holm": each.p},
        ),
        Column("p", lambda each: p_value(each.difference.p)),
        Column("Holm", lambda each: p_value(each.p)),
        Column("verdict", lambda each: _shown(each.told)),
    ]


def _seeds(each: SettingVerdict) -> str:
    found = each.difference
    return f"{found.pairs} pairs" if found.pairs else f"{found.n_ours} and {found.n_theirs}"


def _shown(told: Told) -> Cell:
    return Cell(told.value, is_best=told in (Told.BETTER, Told.WORSE))


def _setting_table(found: Verdicts) -> Table:
    title = (
        f"{found.lock.tuning.name}: this setting: {found.fresh_metric} of what was chosen,"
        " on fresh seeds"
    )
    chosen = [
        f"{each.label}: {choice.best.draw.words or 'as it is written'}"
        for each in found.methods
        for choice in each.choices[:1]
        if choice.best is not None and not choice.is_open
    ]
    notes = [
        "Of these settings, not of the optimizers: with other draws others would have been chosen,"
        " and two methods that are the same often differ so.",
        "Tests by seed as in the other tables; Holm: adjusted for all comparisons of a study.",
    ]
    if chosen:
        where = " in study 1" if found.studies > 1 else ""
        notes.append(f"Chosen{where}: {'; '.join(chosen)}.")
    notes += dict.fromkeys(
        f"{each.difference.caution[0].upper()}{each.difference.caution[1:]}."
        for each in found.settings
        if each.difference.caution
    )
    choice = Selection(found.metric, found.fresh_metric)
    notes += _notes(found)
    return make_table(title, _setting_columns(found), found.settings, notes, [choice])


def _notes(found: Verdicts) -> list[str]:
    """Return what belongs below every table of a protocol."""
    unequal = found.lock.tuning.protocol.unequal
    if unequal is None:
        return []
    budgets = listed([f"{each.label} {each.planned}" for each in found.methods])
    return [f"Unequal budgets ({budgets} draws in a study): {unequal}"]


def _budget_columns(found: Verdicts) -> list[Column[MethodVerdict]]:
    def at(k: int) -> Callable[[MethodVerdict], Cell]:
        def shown(each: MethodVerdict) -> Cell:
            for budget in each.budgets:
                if budget.k == k:
                    is_told = budget.told in (Told.BETTER, Told.WORSE)
                    return Cell(
                        f"{budget.superiority:.0%}", f"(p {p_value(budget.p)})", is_best=is_told
                    )
            return Cell(NOTHING)

        return shown

    budgets = sorted({budget.k for each in found.budgets for budget in each.budgets})
    return [
        Column(
            "comparison",
            lambda each: each.name,
            lambda each: {
                "ours": each.ours.label,
                "theirs": each.theirs.label,
                "verdict": each.told,
                "words": each.words,
                "draws": [each.ours.draws, each.theirs.draws],
                "budgets": [asdict(budget) for budget in each.budgets],
                "exchange": asdict(each.found) if each.found else None,
            },
        ),
        Column("draws", lambda each: f"{each.ours.draws} and {each.theirs.draws}"),
        *(Column(plural(k, "draw"), at(k)) for k in budgets),
        Column(
            "Holm",
            lambda each: p_value(each.p),
            lambda each: {"p": each.found.p if each.found else None, "p_holm": each.p},
        ),
        Column(
            "p over studies",
            lambda each: p_value(each.over_studies.rank_test_p if each.over_studies else None),
            lambda each: {"over_studies": asdict(each.over_studies) if each.over_studies else None},
            is_shown=found.studies > 1,
        ),
        Column("verdict", lambda each: _shown(each.told)),
    ]


def _budget_table(found: Verdicts) -> Table:
    title = f"{found.lock.tuning.name}: this optimizer at a budget of k draws: {found.metric}"
    notes = [
        *(each.words for each in found.budgets),
        "Of methods: an optimizer with its space, its sampler and k draws. In percent: how probably"
        " k draws of the first find something better than k draws of the other.",
        "p: the share of exchanges of whole draws between the two that put them as far apart at"
        " some budget; Holm: adjusted for all comparisons, as each p is. Draws that failed or"
        " diverged are the worst.",
    ]
    if found.studies > 1:
        cautions = dict.fromkeys(
            each.over_studies.caution for each in found.budgets if each.over_studies
        )
        notes.append(
            f"Over studies: Wilcoxon's test of the {found.fresh_metric} that each of"
            f" {found.studies} studies came to with what it chose"
            + "".join(f"; {each}" for each in cautions if each)
            + "."
        )
    notes += _notes(found)
    return make_table(title, _budget_columns(found), found.budgets, notes, [_choice(found)])


def _curve_columns(found: Verdicts) -> list[Column[TunedMethod]]:
    def of(k: int) -> Callable[[TunedMethod], Cell]:
        def shown(each: TunedMethod) -> Cell:
            if len(each.curve) < k:
                return Cell(NOTHING)
            best = each.curve[k - 1]
            return Cell(short(best.median), interval(best.interval, short))

        return shown

    def per_draw(each: TunedMethod) -> str:
        return short(each.curve[0].cost) if each.curve else NOTHING

    hours = "GPU-hours" if any(each.on_gpu for each in found.methods) else "hours"
    return [
        Column(
            "optimizer",
            lambda each: each.label,
            lambda each: {"optimizer": each.label, "lack": each.lack or None},
        ),
        Column(
            "draws",
            lambda each: Cell(str(each.draws), each.losses),
            lambda each: {"draws": each.draws, "failed_or_diverged": each.worst},
        ),
        *(Column(f"best of {k}", of(k)) for k in _shown_budgets(found)),
        Column(
            f"{hours} a draw",
            per_draw,
            lambda each: {"curve": [asdict(best) for best in each.curve]},
        ),
    ]


def _shown_budgets(found: Verdicts) -> list[int]:
    planned = {each.planned for each in found.methods}
    bounded = {max(1, largest_bounded(each.draws)) for each in found.methods}
    return sorted({1, *planned, *bounded})


def _curve_table(found: Verdicts) -> Table:
    title = f"{found.lock.tuning.name}: what k draws find: {found.metric}, median of the best of k"
    notes = [
        "In brackets exact 95 % intervals of that median, from one draw to another; ∞ where so few"
        " draws do not bound it.",
        "To bound it at both ends takes "
        + listed([f"{least_draws(k)} draws for the best of {k}" for k in _shown_budgets(found)])
        + ".",
        "k draws cost k times one, over all of its seeds.",
    ]
    notes += _notes(found)
    return make_table(title, _curve_columns(found), found.methods, notes, [_choice(found)])


def _choice(found: Verdicts) -> Selection:
    return Selection(found.metric, found.metric)
