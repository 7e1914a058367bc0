"""Sentences on how results came about, as run folders tell it, each with its source."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import (
    MARK,
    choice_notes,
    duration,
    listed,
    measured_on,
    more_is_better,
    plural,
    printable,
    ranges,
    with_error,
)
from deltagclip_cli.results.compare.choosing import chooser
from deltagclip_cli.results.compare.effort import efforts, run_seconds
from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.results.statistics.summary import summarize

if TYPE_CHECKING:
    from deltagclip_cli.results.compare.analysis import Analysis
    from deltagclip_cli.results.compare.comparison import Comparison, Row

_MOST_FAILURES = 20


@dataclass(frozen=True)
class Evidence:
    """All that is known of one thing."""

    lines: Sequence[str]
    source: str  # the files and what of them


@dataclass(frozen=True)
class Known:
    """All that can tell of something."""

    runs: Sequence[Run]
    answer: Analysis | None
    facts: Mapping[str, str]  # of the origin of the runs, as the page has them

    @property
    def ours(self) -> list[Run]:
        """The runs of this program."""
        return [run for run in self.runs if run.trial is not None]

    def of_each(self, tell: Callable[[Comparison], Iterable[str]]) -> Iterator[str]:
        """Yield what there is to say of each comparison, with its title if there are several."""
        comparisons = self.answer.comparisons if self.answer else []
        for each in comparisons:
            title = f"{each.title}: " if len(comparisons) > 1 else ""
            yield from (f"{title}{line}" for line in tell(each))

    def of_runs(self, tell: Callable[[Run], str]) -> list[str]:
        """Return what there is to say of runs of this program, each thing once."""
        return [line for line in dict.fromkeys(map(tell, self.ours)) if line]

    def of_facts(self, *names: str) -> list[str]:
        """Return facts."""
        return [f"{name}: {self.facts[name]}" for name in names if self.facts.get(name)]


@dataclass(frozen=True)
class _Kind:
    """Something that can be known, where from, and what says it."""

    what: str
    source: str
    tell: Callable[[Known], Iterable[str]]


def _on_runs(runs: Sequence[Run]) -> Iterator[str]:
    for experiment in dict.fromkeys(run.group.experiment for run in runs):
        own = [run for run in runs if run.group.experiment == experiment]
        labels = {run.group.optimizer for run in own}
        settings = {run.group for run in own}
        seeds = sorted({run.seed for run in own if isinstance(run.seed, int)})
        counts = Counter(run.outcome.value for run in own)
        ends = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        which = f", seeds {ranges(seeds)}" if seeds else ""
        yield (
            f"{experiment}: {plural(len(own), 'run')} of {plural(len(settings), 'setting')} of"
            f" {plural(len(labels), 'optimizer')}{which}: {ends}."
        )


def _on_planned_runs(comparison: Comparison) -> Iterator[str]:
    if (account := comparison.account) is None:
        return
    tuning, protocol = account.lock.tuning, account.lock.tuning.protocol
    budgets = [f"{account.budget(label)} of {label}" for label in tuning.labels]
    studies = f"{protocol.studies} {'study' if protocol.studies == 1 else 'studies'}"
    seeds = plural(len(tuning.search_seeds(0)), "seed")
    yield (
        f"Planned before the first run: {studies} with draws ({listed(budgets)}) on {seeds} each,"
        f" and the chosen ones on {plural(protocol.fresh_seeds, 'fresh seed')}."
    )
    if account.added:
        yield f"Added to the plan later: {plural(len(account.added), 'run')}."


def _words(options: Mapping[str, Any]) -> str:
    return printable(" ".join(f"{key}={value}" for key, value in options.items() if key != "name"))


def _model(run: Run) -> str:
    trial = run.trial
    if trial is None:
        return ""
    options = f" ({_words(trial.model.options)})" if trial.model.options else ""
    schedule = trial.settings.get("schedule")
    how = f"schedule {schedule}" if schedule else "constant learning rate"
    return printable(
        f"{trial.experiment}: {trial.model.name}{options}, {trial.length:,} {trial.unit}s, batches"
        f" of {trial.data.batch_size}, {trial.precision}, {how}."
    )


def _on_settings(comparison: Comparison) -> Iterator[str]:
    for label, row in comparison.best.items():
        if row.group.options:
            yield f"{label}: {row.group.options.get('name', label)} {_words(row.group.options)}"
    yield from _marks(comparison)
    if (choice := comparison.choice) is not None and choice.on == "test":
        yield from choice.notes


def _marks(comparison: Comparison) -> list[str]:
    """Return what must be said wherever something rests on a choice by the test set."""
    choice = comparison.choice
    return choice.notes if choice is not None and choice.on == "test" else []


def _on_bounds(comparison: Comparison) -> Iterator[str]:
    for each in efforts(comparison):
        planned = each.budget is not None
        if each.space:
            yield f"{each.optimizer}: {each.space}{' (as planned)' if planned else ' (as tried)'}"
        else:
            yield f"{each.optimizer}: one setting was tried, as written"


def _on_choice(comparison: Comparison) -> Iterator[str]:
    if (account := comparison.account) is not None:
        tuning, protocol = account.lock.tuning, account.lock.tuning.protocol
        extreme = "lowest" if tuning.minimizes else "highest"
        yield (
            f"Draws by {protocol.sampler} from the spaces (seed {tuning.search.seed}); of each"
            f" optimizer the draw with the {extreme} mean of {protocol.metric} over seeds"
            f" {ranges(tuning.search_seeds(0))}, then trained on fresh seeds."
        )
        yield from choice_notes(protocol.metric)
        if protocol.unequal is not None:
            yield f"Unequal budgets, as planned: {protocol.unequal}"
        if measured_on(protocol.metric) == "test":
            yield f"So the settings were {MARK}."
        yield from _marks(comparison)
    elif (choice := comparison.choice) is not None:
        yield from choice.notes
        if choice.settings and choice.metric == choice.compared:
            yield f"The best setting of each optimizer was chosen by {choice.metric} itself."


def _on_validation(comparison: Comparison) -> Iterator[str]:
    """Yield both figures of each setting that is compared on the test set, if runs have both."""
    metric = comparison.question.metric
    if measured_on(metric) != "test":
        return
    for row in comparison.rows:
        twin = chooser(metric, row.counted.values())
        if twin != metric and row.summary is not None:
            test = with_error(row.summary.mean, row.summary.standard_error)
            yield f"{row.group.name}: {twin} {_last(row, twin)}, {metric} {test}"


def _last(row: Row, metric: str) -> str:
    """Return the mean of the last values of a metric over the runs that count."""
    ends = [run.curves[metric].values[-1] for run in row.counted.values() if metric in run.curves]
    values = [float(each) for each in ends if math.isfinite(each)]
    found = summarize(values, higher_is_better=more_is_better(metric) or False)
    return with_error(found.mean, found.standard_error)


def _on_results(comparison: Comparison) -> Iterator[str]:
    question = comparison.question
    for row in comparison.rows:
        if (found := row.summary) is not None:
            yield (
                f"{row.group.name}: {question.metric} {question.moment}"
                f" {with_error(found.mean, found.standard_error)}, n = {found.n}"
            )
    yield from _marks(comparison)


def _on_error_bars(answer: Analysis) -> Iterator[str]:
    counts = {len(row.values) for each in answer.comparisons for row in each.rows if row.values}
    if not counts or max(counts) < 2:
        return
    request = answer.request
    n = ranges(sorted(counts))
    if request.interval:
        yield f"95 % intervals of means over seeds by Student's t (n = {n})."
    else:
        yield f"Standard errors of means over seeds, s/√n with ddof = {request.ddof} (n = {n})."
    yield (
        "They capture what a seed decides: first weights, order of the samples, augmentation. The"
        " data and their splits are the same for all seeds. Intervals and tests assume means over"
        " seeds that are nearly normal."
    )
    rows = [row for each in answer.comparisons for row in each.rows]
    if any(row.behind for row in rows):
        yield (
            "Settings are measured by the best one with Games and Howell's test, which knows that"
            " it was chosen."
        )
    if any(row.versus for row in rows):
        yield (
            "Settings are measured by the baseline with t-tests, paired by seeds where both have"
            " them and Welch's otherwise, adjusted for all settings by Holm's method."
        )


def _on_measures(comparison: Comparison) -> Iterator[str]:
    question = comparison.question
    tasks = {
        run.trial.task.name for row in comparison.rows for run in row.runs if run.trial is not None
    }
    better = "more" if question.higher_is_better else "less"
    of = f" of the task {listed(sorted(tasks))}" if tasks else ""
    yield f"{question.metric}{of}, {question.moment}; {better} is better. A mean over all samples."


def _on_failures(runs: Sequence[Run]) -> Iterator[str]:
    lost = [run for run in runs if run.outcome is not Outcome.FINISHED]
    if runs and not lost:
        yield f"None: all {plural(len(runs), 'run')} finished."
    for run in lost[:_MOST_FAILURES]:
        why = f": {printable(run.reason)}" if run.reason else ""
        yield f"{run.group.experiment}, {run.group.name}, seed {run.seed}: {run.outcome}{why}"
    if len(lost) > _MOST_FAILURES:
        yield f"and {len(lost) - _MOST_FAILURES} more; the page lists all."


def _on_runtime(comparison: Comparison) -> Iterator[str]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in comparison.rows:
        for run in row.once:
            if run.outcome is Outcome.FINISHED and not math.isnan(run_seconds(run)):
                seconds[row.group.optimizer].append(run_seconds(run))
    for label, each in seconds.items():
        mean = duration(sum(each) / len(each))
        yield f"{label}: {mean} a run on average, evaluation included ({plural(len(each), 'run')})"


def _data(run: Run) -> str:
    if run.trial is None:
        return ""
    data = run.trial.data
    options = f" ({_words(data.options)})" if data.options else ""
    if data.validation == "official":
        split = "the validation split that the data have"
    elif data.validation is not None:
        split = (
            f"a validation split of {data.validation} out of the training samples, the same for all"
        )
    elif data.has_validation:
        split = f"splits {data.options.get('splits')}"
    else:
        split = "no validation split"
    return printable(f"{run.trial.experiment}: {data.name}{options}, {split}.")


def _preprocessing(run: Run) -> str:
    if run.trial is None:
        return ""
    data = run.trial.data
    parts = {
        "images of": data.image_size and f"{data.image_size} pixels",
        "augmentation": ", ".join(map(str, data.augment)) or "none",
        "normalization": data.normalize,
        "training samples limited to": data.train_samples,
        "test samples limited to": data.test_samples,
    }
    words = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return printable(f"{run.trial.experiment}: {words}.")


def _own_code(runs: Sequence[Run]) -> Iterator[str]:
    codes: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        if run.trial is not None and run.trial.code is not None:
            codes[run.trial.experiment].add(run.trial.code)
    for experiment, names in codes.items():
        kept = listed([f".code/{name}" for name in sorted(names)])
        yield f"{experiment}: the authors' own parts, kept in {kept} of its folder."


def _on_verification(known: Known) -> Iterator[str]:
    if known.ours:
        yield (
            "deltagclip verify works out every number of the report anew from the run folders, and"
            " trains some trials again with --rerun N."
        )


_LOCK = "protocol.lock"
_TABLE = {
    "runs": _Kind(
        "The number of runs and their seeds",
        f"trial.yaml: seed; result.json: status; error.txt; {_LOCK}, where there is one",
        lambda known: [*_on_runs(known.runs), *known.of_each(_on_planned_runs)],
    ),
    "models": _Kind(
        "The model and how it is trained",
        "trial.yaml: model, data.batch_size, epochs or steps, precision, schedule",
        lambda known: known.of_runs(_model),
    ),
    "best settings": _Kind(
        "The hyperparameters of the best settings",
        "trial.yaml: optimizer",
        lambda known: known.of_each(_on_settings),
    ),
    "bounds": _Kind(
        "The bounds of the hyperparameters",
        f"{_LOCK}: search.space, where planned; else trial.yaml of all runs: optimizer",
        lambda known: known.of_each(_on_bounds),
    ),
    "choice": _Kind(
        "How hyperparameters were chosen",
        f"{_LOCK}: protocol; comparison.json",
        lambda known: known.of_each(_on_choice),
    ),
    "validation figures": _Kind(
        "The validation figure for each test figure",
        "metrics.jsonl: validation/…, test/…",
        lambda known: known.of_each(_on_validation),
    ),
    "results": _Kind(
        "The results",
        "comparison.json: settings, summary",
        lambda known: known.of_each(_on_results),
    ),
    "error bars": _Kind(
        "Error bars and how they are made",
        "comparison.json: ddof, summary.standard_error",
        lambda known: _on_error_bars(known.answer) if known.answer else (),
    ),
    "measures": _Kind(
        "The measures",
        "comparison.json: metric; trial.yaml: task",
        lambda known: known.of_each(_on_measures),
    ),
    "failures": _Kind(
        "Runs that failed",
        "result.json: status, diverged; error.txt",
        lambda known: _on_failures(known.runs),
    ),
    "compute": _Kind(
        "Devices and compute",
        "environment.json: device, processor, threads, cuda; metrics.jsonl: perf/epoch_seconds",
        lambda known: known.of_facts(
            "Device", "Processor", "Threads", "CUDA", "Device time", "Host", "Platform"
        ),
    ),
    "runtime": _Kind(
        "The time of a run",
        "metrics.jsonl: perf/epoch_seconds",
        lambda known: known.of_each(_on_runtime),
    ),
    "data": _Kind(
        "The data and their splits", "trial.yaml: data", lambda known: known.of_runs(_data)
    ),
    "preprocessing": _Kind(
        "Preprocessing",
        "trial.yaml: data.image_size, data.augment, data.normalize, data.train_samples",
        lambda known: known.of_runs(_preprocessing),
    ),
    "code": _Kind(
        "The code and its versions",
        "environment.json: deltagclip_cli, git; trial.yaml: code",
        lambda known: [*known.of_facts("Program", "Git"), *_own_code(known.ours)],
    ),
    "packages": _Kind(
        "Packages",
        "environment.json: python, packages",
        lambda known: known.of_facts("Python", "Packages"),
    ),
    "verification": _Kind(
        "How the numbers can be verified", "the page, which names every file", _on_verification
    ),
}


def evidence(known: Known, kind: str) -> Evidence | None:
    """Return what is known of something; None if nothing is."""
    found = _TABLE[kind]
    lines = list(found.tell(known))
    return Evidence(lines, found.source) if lines else None


def name_of(kind: str) -> str:
    """Return what a kind of evidence tells of."""
    return _TABLE[kind].what
