"""The methods section: what was planned, what was run, and what was added, from the plan alone.

It says what a reader of a paper asks, and no more than the files say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltagclip_cli.core import (
    MARK,
    NOTHING,
    duration,
    listed,
    measured_on,
    plural,
    ranges,
    stopped,
    with_error,
)
from deltagclip_cli.results.compare.account import Account
from deltagclip_cli.results.compare.choosing import Selection
from deltagclip_cli.results.compare.effort import run_seconds, space_in_words
from deltagclip_cli.results.compare.method_tables import verdict_tables
from deltagclip_cli.results.compare.methods import Told
from deltagclip_cli.results.compare.tables import Table, make_cells, p_value
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.summary import summarize
from deltagclip_cli.runs.environment import read_starts
from deltagclip_cli.runs.folder import RunFolder

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.analysis import Analysis
    from deltagclip_cli.results.compare.methods import SettingVerdict, Verdicts
    from deltagclip_cli.tuning.stages import StudyChoice

_SAMPLERS = {
    "sobol": "Sobol's sequence with Owen's scrambling, which spreads them evenly over the space",
    "random": "independent random numbers",
}


@dataclass(frozen=True)
class MethodsText:
    """A heading, the paragraphs below it, and tables."""

    heading: str
    paragraphs: Sequence[str]
    tables: Sequence[Table] = ()


def methods_of(answer: Analysis) -> dict[str, list[MethodsText]]:
    """Return the methods section of each experiment that has a plan."""
    found = {}
    for verdicts in answer.verdicts:
        name = verdicts.lock.tuning.name
        own = [each for each in answer.comparisons if each.experiment == name]
        runs = [run for each in own for row in each.rows for run in row.runs]
        if account := Account.of(name, runs):
            found[name] = [*parts_of(account), _verdicts(verdicts)]
    return found


def _verdicts(found: Verdicts) -> MethodsText:
    """Return the verdicts on settings, and on methods, in words and tables."""
    words = [each.words for each in found.budgets]
    settings = [_on_settings(each, found) for each in found.settings]
    first = (
        f"Of what was chosen, {found.fresh_metric} on fresh seeds says which setting is better, and"
        " nothing of the optimizers, for another search would have chosen others. Of an optimizer"
        " with its space and a budget, the draws themselves tell."
    )
    return MethodsText("Verdicts", [first, *settings, *words], list(verdict_tables(found)))


def _on_settings(each: SettingVerdict, found: Verdicts) -> str:
    where = f"In study {each.study + 1}, the" if found.studies > 1 else "The"
    pair = f"chosen settings of {each.ours.label} and {each.theirs.label}"
    if each.told in (Told.UNTOLD, Told.TOO_FEW, Told.NONE):
        return f"{where} {pair}: {each.told}{_p(each)}."
    return (
        f"{where} chosen setting of {each.ours.label} is {each.told} than that of"
        f" {each.theirs.label}{_p(each)}."
    )


def _p(each: SettingVerdict) -> str:
    return "" if each.p is None else f" (p = {p_value(each.p)}, adjusted)"


def parts_of(account: Account) -> list[MethodsText]:
    """Return the methods section of an experiment with a plan."""
    return [
        MethodsText("What was planned", list(_on_the_plan(account)), [space_table(account)]),
        MethodsText(
            "How settings were chosen", list(_on_choices(account)), [choice_table(account)]
        ),
        MethodsText("What was run", list(_on_runs(account))),
    ]


def _on_the_plan(account: Account) -> Iterator[str]:
    lock = account.lock
    tuning, protocol = lock.tuning, lock.tuning.protocol
    labels = tuning.labels
    yield (
        f"{plural(len(labels), 'optimizer')} were to be compared on {tuning.name}: {_all(labels)},"
        f" each training {_training(account)}. The plan was written at {_moment(lock.made)} as"
        f" {lock.path.name}, with the SHA-256 {lock.hash}{_begun(account)}"
    )
    budgets = {label: account.budget(label) for label in labels if label not in tuning.fixed}
    studies = "One study was" if protocol.studies == 1 else f"{protocol.studies} studies were"
    yield (
        f"{studies} planned{_apart(protocol.studies)}. Of each optimizer a study draws"
        f" {_budget(budgets)} from its space by {_SAMPLERS[protocol.sampler]} (seed"
        f" {tuning.search.seed}), and trains each with {_seeds(tuning.search_seeds(0))}."
        + (f" {_all(sorted(tuning.fixed))} took part as written." if tuning.fixed else "")
    )
    if protocol.unequal is not None:
        yield f"The budgets are unequal; the plan says why: “{stopped(protocol.unequal)}”"
    pairs = [f"{other} with {one}" for one, other in lock.comparisons]
    yield (
        f"{'One comparison was' if len(pairs) == 1 else f'{len(pairs)} comparisons were'} planned:"
        f" {_all(pairs)}."
        " All else that this page compares was not planned."
    )


def _training(account: Account) -> str:
    """Say what is trained, of all that is the same for every optimizer."""
    first, *others = account.lock.tuning.bases.values()
    parts = [f"{first.model.name} on {first.data.name} for {first.length:,} {first.unit}s"]
    parts.append(f"with batches of {first.data.batch_size} in {first.precision}")
    if all(each.schedule == first.schedule for each in others):
        parts.append(f"{f'schedule {first.schedule.name}' if first.schedule else 'no schedule'}")
    validation = getattr(first.data, "validation", None)
    if validation == "official":
        parts.append("with the official validation split")
    elif validation is not None:
        size = f"{validation:.0%}" if isinstance(validation, float) else f"{validation:,}"
        parts.append(f"{size} of the training samples set apart for validation")
    return ", ".join(parts)


def _begun(account: Account) -> str:
    """Say when the first run began, and how many began before the plan was made."""
    begun = sorted(
        str(starts[0].get("started", ""))
        for run in account.runs
        if run not in account.added and (starts := read_starts(RunFolder(run.folder)))
    )
    before = sum(each < account.lock.made for each in begun if each)
    if before:
        return f". {plural(before, 'planned run')} began before it was written."
    return f", before the first run began at {_moment(begun[0])}." if begun and begun[0] else "."


def _moment(written: str) -> str:
    return written.replace("T", " ").replace("+00:00", " UTC")


def _apart(studies: int) -> str:
    return "" if studies == 1 else ", each with draws and seeds of its own"


def _budget(budgets: Mapping[str, int]) -> str:
    counts = set(budgets.values())
    if len(counts) == 1:
        return plural(counts.pop(), "setting")
    return _all([f"{count} settings of {label}" for label, count in budgets.items()])


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'the seeds'} {ranges(seeds)}"


def _all(words: Sequence[str]) -> str:
    """Return all words as a list in a sentence."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def space_table(account: Account) -> Table:
    """Return the space and the budget of each optimizer, as they were planned."""
    tuning = account.lock.tuning
    headings = ["optimizer", "draws a study", "fixed options", "space"]
    rows = []
    for label in tuning.labels:
        varied = tuning.search.space.get(label, {})
        options = tuning.bases[label].optimizer.options
        fixed = [f"{key}={value}" for key, value in options.items() if key not in varied]
        budget, space = str(account.budget(label)), space_in_words(account.lock, label)
        rows.append(make_cells([label, budget, " ".join(fixed) or NOTHING, space]))
    notes = ["(log): even in logarithms; else even in the values themselves."]
    return Table(f"{tuning.name}: search spaces", headings, rows, notes)


def _on_choices(account: Account) -> Iterator[str]:
    tuning, protocol = account.lock.tuning, account.lock.tuning.protocol
    extreme = "lowest" if tuning.minimizes else "highest"
    yield (
        f"Of each optimizer, a study chooses the draw with the {extreme} mean of {protocol.metric}"
        " at the end of the training over its seeds; one of which a seed diverged or failed is not"
        " chosen. The chosen ones were to be trained with"
        f" {plural(protocol.fresh_seeds, 'fresh seed')}, on which nothing was chosen"
        f" ({_seeds(tuning.fresh_seeds(0))} in the first study)."
    )
    if measured_on(protocol.metric) == "test":
        yield f"So settings were {MARK}, and all that follows rests on that."
    if open_ := [each for each in account.choices if each.is_open]:
        names = _all([_of_study(account, each) for each in open_])
        yield f"Not all draws have ended, so that the choice may still change: {names}."
    for each in account.choices:
        if why := each.refusal or each.lack:
            yield f"{_of_study(account, each)}: {stopped(why)}"


def _of_study(account: Account, choice: StudyChoice) -> str:
    if account.lock.tuning.protocol.studies == 1:
        return choice.label
    return f"{choice.label} (study {choice.study + 1})"


def choice_table(account: Account) -> Table:
    """Return what each study chose of each optimizer, by what, and what it came to afterwards."""
    tuning, metric = account.lock.tuning, account.lock.tuning.protocol.metric
    tested = metric.replace("validation/", "test/", 1)
    columns = dict.fromkeys((metric, tested))
    headings = ["optimizer", "study", "draw", f"{metric}, chosen by", "fresh seeds"]
    headings += [f"{each}, fresh seeds" for each in columns] + ["chosen setting"]
    rows = []
    for choice in account.choices:
        runs = account.fresh[choice.study, choice.label]
        best = choice.best
        own = with_error(best.value, best.standard_error) if best and best.value else NOTHING
        cells = [choice.label, str(choice.study + 1), str(best.draw.number) if best else NOTHING]
        cells += [own, f"{len(runs)} of {tuning.protocol.fresh_seeds}"]
        cells += [_mean(runs, each, not tuning.minimizes) for each in columns]
        rows.append(make_cells([*cells, (best.draw.words or "as written") if best else NOTHING]))
    notes = [
        "Means ± standard errors over seeds. The value that a setting was chosen by flatters it;"
        " those of fresh seeds do not."
    ]
    selection = Selection(metric, tested)
    title = f"{tuning.name}: what was chosen"
    return Table(title, headings, rows, [*notes, *selection.notes], selection.on)


def _mean(runs: Sequence[Run], metric: str, higher_is_better: bool) -> str:
    ended = (Outcome.FINISHED, Outcome.DIVERGED)
    values = [
        float("nan") if run.outcome is Outcome.DIVERGED else float(run.curves[metric].values[-1])
        for run in runs
        if run.outcome in ended and (metric in run.curves or run.outcome is Outcome.DIVERGED)
    ]
    if not values:
        return NOTHING
    found = summarize(values, higher_is_better=higher_is_better)
    lost = f" ({found.diverged} diverged)" if found.diverged else ""
    return (with_error(found.mean, found.standard_error) if found.n else NOTHING) + lost


def _on_runs(account: Account) -> Iterator[str]:
    tuning, protocol = account.lock.tuning, account.lock.tuning.protocol
    drawn = [run for _, runs in account.draws for run in runs]
    fresh = [run for runs in account.fresh.values() for run in runs]
    wanted = sum(len(tuning.search_seeds(draw.study)) for draw, _ in account.draws)
    slots = protocol.studies * len(tuning.labels) * protocol.fresh_seeds
    yield (
        f"Of {wanted:,} planned trials of draws {_ended(drawn)}; of {slots:,} on fresh seeds"
        f" {_ended(fresh)}. Their epochs took {_hours([*drawn, *fresh])}, evaluation included."
    )
    if lost := [run for run in (*drawn, *fresh) if run.outcome is Outcome.FAILED]:
        yield f"Trials that failed: {_named(lost)}. None of them was left out silently."
    if account.added:
        yield (
            f"Added later, and no part of the plan: {_named(account.added)}"
            f" ({_hours(account.added)}). The tables above have them; the choice has not."
        )
    else:
        yield "No run was added to those of the plan."


def _ended(runs: Sequence[Run]) -> str:
    counts = Counter(run.outcome for run in runs)
    words = [f"{counts[each]:,} {each.value}" for each in Outcome if counts[each]]
    return f"{_all(words)}" if words else "none has begun"


def _hours(runs: Iterable[Run]) -> str:
    """Return the time of runs by the device that they were on."""
    seconds: dict[str, float] = defaultdict(float)
    for run in runs:
        seconds[run.circumstances.get("device", "")] += run_seconds(run)
    return _all(
        [f"{duration(time)}{device and f' on {device}'}" for device, time in seconds.items()]
    )


def _named(runs: Sequence[Run]) -> str:
    """Name runs by their settings and seeds."""
    seeds: dict[str, list[int]] = {}
    for run in runs:
        if isinstance(run.seed, int):
            seeds.setdefault(run.group.name, []).append(run.seed)
    return listed([f"{name} ({_seeds(found)})" for name, found in seeds.items()])
