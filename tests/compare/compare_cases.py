"""What ``deltagclip compare --json`` must say, computed once more from the files of the runs.

Nothing here knows the package's statistics: only the files, json, yaml, numpy and scipy.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import optimize, stats
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app

Json = dict[str, Any]
Values = dict[int, float]
Key = tuple[str, str]
REGIMES = ("plain", "clipped", "floored")


@dataclass(frozen=True)
class Asked:
    """What is asked of the command, and what these tests have to know of it."""

    metric: str
    at: str = "last"
    ddof: int = 1
    baseline: str = "adam"
    target: float = math.nan  # of test/loss

    @property
    def higher(self) -> bool:
        return self.metric.endswith("accuracy")

    @property
    def words(self) -> list[str]:
        target = f"test/loss={self.target!r}"
        words = ["--metric", self.metric, "--at", self.at, "--ddof", str(self.ddof)]
        words += ["--select-on-test"] if self.at == "best" else []
        return [*words, "--baseline", self.baseline, "--target", target]


def compare(*words: str) -> str:
    """What the command writes on stdout."""
    done = CliRunner().invoke(app, ["compare", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@dataclass(frozen=True)
class Seen:
    """What the files of a run folder say."""

    folder: Path
    trial: Json
    status: str
    records: Sequence[Json]

    @classmethod
    def of(cls, folder: Path) -> Seen:
        status = "failed" if (folder / "error.txt").exists() else "unfinished"
        if (folder / "result.json").exists():
            status = json.loads((folder / "result.json").read_text())["status"]
        file = folder / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        records = [json.loads(line) for line in lines]
        records = [record for record in records if "perf/epoch_seconds" in record]
        trial = yaml.safe_load((folder / "trial.yaml").read_text())
        return cls(folder, trial, status, records)

    @property
    def reason(self) -> str:
        if self.status == "failed":
            return (self.folder / "error.txt").read_text().splitlines()[0]
        if self.status != "diverged":
            return ""
        at = json.loads((self.folder / "result.json").read_text())["diverged"]
        place = f"step {at['step']} (epoch {at['epoch']})"
        return f"the loss in {at['where']} was not finite at {place}"

    @property
    def seed(self) -> int:
        return int(self.trial["seed"])

    @property
    def key(self) -> Key:
        return self.trial["label"], json.dumps(self.trial["optimizer"], sort_keys=True)

    def column(self, name: str) -> list[float]:
        return [math.nan if r.get(name) is None else r[name] for r in self.records]

    def value(self, asked: Asked) -> float | str:
        """NaN if it diverged; in a word, why there is none."""
        values, (axis, _, number) = self.column(asked.metric), asked.at.partition("=")
        if number and self.records and self.records[-1][axis] >= int(number):
            until = [v for r, v in zip(self.records, values, strict=True) if r[axis] <= int(number)]
            return until[-1] if until else "not yet measured"
        if self.status == "diverged":
            return math.nan
        if self.status != "finished":
            return self.status
        if number:
            return "shorter"
        finite = [value for value in values if math.isfinite(value)]
        return values[-1] if axis == "last" else (max if asked.higher else min)(finite)

    def cost(self, target: float) -> tuple[float, float, float]:
        """Epochs, steps and seconds until the test loss is so small."""
        seconds = 0.0
        for record, loss in zip(self.records, self.column("test/loss"), strict=True):
            seconds += record["perf/epoch_seconds"]
            if loss <= target:
                return record["epoch"], record["step"], seconds
        return math.inf, math.inf, math.inf


@cache
def look(runs: Path) -> list[Seen]:
    """Every run folder, read once: nothing changes there."""
    return [Seen.of(file.parent) for file in sorted(runs.rglob("trial.yaml"))]


def assert_right(answer: Json, runs: Path, asked: Asked) -> None:
    """Check every number of the answer."""
    seen = look(runs)
    epochs = {each.trial["epochs"] for each in seen}
    assert (answer["at"], answer["ddof"], answer["confidence"]) == (asked.at, asked.ddof, 0.95)
    untested = [each for each in answer["experiments"] if each["baseline"] is None]
    assert len(answer["problems"]) == len(untested)
    conditions = [each["conditions"] for each in answer["experiments"]]
    many = len(epochs) > 1
    assert {str(each) for each in conditions} == {str(_conditions(each, many)) for each in epochs}
    for each in epochs:
        found = answer["experiments"][conditions.index(_conditions(each, many))]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # numpy's and scipy's, of empty samples and of ties
            _assert_experiment(found, [one for one in seen if one.trial["epochs"] == each], asked)
    _assert_across(answer, asked)


def _conditions(epochs: int, many: bool) -> Json:
    return {"epochs": str(epochs)} if many else {}


def _assert_experiment(found: Json, seen: Sequence[Seen], asked: Asked) -> None:
    groups: dict[Key, list[Seen]] = {}
    for each in seen:
        groups.setdefault(each.key, []).append(each)
    values = {key: _values(group, asked) for key, group in groups.items()}
    order = sorted((key for key in groups if values[key]), key=lambda k: _badness(values[k], asked))
    baseline = next((key for key in order if key[0] == asked.baseline), None)
    by_best = _against_best(values, order, asked)
    by_baseline = _family(values, order, baseline) if baseline else {}
    same(found["baseline"], _name(baseline, groups) if baseline else None)
    order += [key for key in groups if not values[key]]
    assert (found["metric"], found["higher_is_better"]) == (asked.metric, asked.higher)
    same([row["optimizer"] for row in found["settings"]], [label for label, _ in order])
    for row, key in zip(found["settings"], order, strict=True):
        group = groups[key]
        same(row["options"], group[0].trial["optimizer"])
        same(row["settings"], _words(key, groups))
        for run in row["runs"]:
            del run["circumstances"]  # on which no number hangs
        same(sorted(row["runs"], key=lambda run: str(run["folder"])), _runs(group, asked))
        same(row["summary"], _summary(values[key], asked) if values[key] else None)
        why = [each.value(asked) for each in group]
        same(row["left_out"], dict(Counter(word for word in why if isinstance(word, str))))
        same(row["reached"], _reached(group, asked.target))
        timed = [each.column("perf/epoch_seconds") for each in group if each.records]
        same(row["epoch_seconds"], float(np.mean([np.mean(seconds) for seconds in timed])))
        same(row["regimes"], _regimes(group))
        same(row["versus_baseline"], by_baseline.get(key))
        standing = _standing(values[key], values[order[0]], by_best.get(key), asked)
        same(row["standing"], standing)
    _assert_sensitivity(found, order, values)


def same(found: Any, expected: Any, rel: float = 1e-7) -> None:
    """Equal, and numbers but for rounding; what is not finite is null."""
    if isinstance(expected, Mapping):
        assert found is not None and found.keys() == expected.keys(), (found, expected)
        for key, item in expected.items():
            # Limits of effect sizes are scipy's, of about five digits.
            same(found[key], item, 1e-4 if key == "effect_interval" else rel)
    elif isinstance(expected, list):
        assert len(found) == len(expected), (found, expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other, rel)
    elif isinstance(expected, float):
        number = pytest.approx(expected, rel=rel, abs=1e-13)
        assert found == (number if math.isfinite(expected) else None), (found, expected)
    else:
        assert found == expected


def _name(key: Key, groups: Iterable[Key]) -> str:
    return " ".join([key[0], *(f"{name}={word}" for name, word in _words(key, groups).items())])


def _words(key: Key, groups: Iterable[Key]) -> Json:
    """The options in which settings of the label differ."""
    alike = [json.loads(options) for label, options in groups if label == key[0]]
    own = json.loads(key[1])
    differing = [name for name in own if any(each[name] != own[name] for each in alike)]
    return {name: f"{own[name]:g}" for name in differing}


def _runs(group: Iterable[Seen], asked: Asked) -> list[Json]:
    return [
        {
            "folder": str(each.folder),
            "seed": each.seed,
            "outcome": each.status,
            "reason": each.reason,
            "counts": not isinstance(value, str),
            "value": None if isinstance(value, str) else value,
        }
        for each in sorted(group, key=lambda each: str(each.folder))
        for value in [each.value(asked)]
    ]


def _values(group: Iterable[Seen], asked: Asked) -> Values:
    """By seed; what diverged is the worst infinity."""
    worst = -math.inf if asked.higher else math.inf
    read = {each.seed: each.value(asked) for each in group}
    numbers = {seed: value for seed, value in read.items() if not isinstance(value, str)}
    return {seed: value if math.isfinite(value) else worst for seed, value in numbers.items()}


def _finite(values: Values) -> list[float]:
    return [value for value in values.values() if math.isfinite(value)]


def _badness(values: Values, asked: Asked) -> tuple[float, float]:
    finite = _finite(values)
    mean = float(np.mean(finite)) if finite else 0.0
    return 1 - len(finite) / len(values), -mean if asked.higher else mean


def _interval(low: float, high: float) -> Json:
    return {"low": float(low), "high": float(high)}


def _summary(values: Values, asked: Asked) -> Json:
    numbers = np.sort(list(values.values()))
    finite = np.array(_finite(values))
    n = len(finite)
    error = float(stats.sem(finite, ddof=asked.ddof)) if n > 1 else None
    reach = stats.t.ppf(0.975, n - 1) * stats.sem(finite) if n > 1 else None
    mean = float(np.mean(finite))
    quarter = len(numbers) // 4
    ends = [float(numbers[-1]), float(numbers[0])]
    best, worst = ends if asked.higher else ends[::-1]
    return {
        "n": n,
        "diverged": len(numbers) - n,
        "mean": mean,
        "standard_error": error,
        "interval": None if reach is None else _interval(mean - reach, mean + reach),
        "median": float(np.median(numbers)),
        "median_interval": _bootstrap(numbers, np.median),
        "iqm": float(numbers[quarter : len(numbers) - quarter].mean()),
        "iqm_interval": _bootstrap(numbers, _iqm),
        "best": best,
        "worst": worst,
    }


def _iqm(numbers: np.ndarray, axis: int = -1) -> Any:
    return stats.trim_mean(numbers, 0.25, axis=axis)


def _bootstrap(numbers: np.ndarray, statistic: Any) -> Json | None:
    """BCa with 9999 samples, from seed 0 on, of the values in their order."""
    if len(numbers) < 10 or not np.isfinite(numbers).all():
        return None
    rng = np.random.default_rng(0)
    found = stats.bootstrap((numbers,), statistic, n_resamples=9999, method="BCa", rng=rng)
    interval = _interval(*found.confidence_interval)
    return interval if math.isfinite(interval["low"]) else None  # too many are equal


def _reached(group: Iterable[Seen], target: float) -> Json:
    costs = [each.cost(target) for each in group if each.status in ("finished", "diverged")]
    if not costs:
        return {"count": 0, "n": 0, "median": None, "inside_schedule": 0}
    middle = [float(np.median(column)) for column in zip(*costs, strict=True)]
    count = sum(math.isfinite(epochs) for epochs, _, _ in costs)
    names = ("epochs", "steps", "seconds")
    assert all(each.trial["schedule"] is None for each in group)  # or some were inside one
    return {
        "count": count,
        "n": len(costs),
        "median": dict(zip(names, middle, strict=True)),
        "inside_schedule": 0,
    }


def _regimes(group: Iterable[Seen]) -> Json | None:
    names = [f"optim/{regime}_fraction" for regime in REGIMES]
    having = [each for each in group if each.records and names[0] in each.records[0]]
    if not having:
        return None
    return {
        regime: float(np.mean([np.nanmean(each.column(name)) for each in having]))
        for regime, name in zip(REGIMES, names, strict=True)
    }


# --------------------------------------------------------------------- tests


def _family(values: Mapping[Key, Values], order: Sequence[Key], baseline: Key) -> dict[Key, Json]:
    """Every other setting against the baseline, adjusted together."""
    tests = {key: _test(values[key], values[baseline]) for key in order if key != baseline}
    for name in ("t_test_p", "rank_test_p"):
        adjusted = f"{name}_holm"
        for test, p in zip(tests.values(), _holm([t[name] for t in tests.values()]), strict=True):
            test[adjusted] = p
    return tests


def _against_best(
    values: Mapping[Key, Values], order: Sequence[Key], asked: Asked
) -> dict[Key, float | None]:
    """By scipy's studentized range, of one mean fewer for each setting with a smaller p."""
    best, *others = order
    known: list[tuple[float, float, Key]] = []
    for key in others:
        test = _test(values[key], values[best])
        p, degrees = test["t_test_p"], test["degrees"]
        if not _finite(values[key]) or test["rank_test_p"] is None:
            continue
        if test["design"] == "paired" and p is not None:
            seeds = set(values[key]) & set(values[best])
            alike = [values[k] for k in others if seeds <= set(values[k])]
            tables = [[each[s] - values[best][s] for s in seeds] for each in (values[key], *alike)]
            own, *spreads = (np.var(t, ddof=1) for t in tables if np.isfinite(t).all())
            usual = np.quantile(spreads, 0.25)
            if own < usual:
                t = stats.t.isf(p / 2, degrees) * math.sqrt(own / usual)
                p, degrees = 2 * stats.t.sf(t, 1.5 * degrees), 1.5 * degrees
        if p is None:
            p, degrees = test["rank_test_p"], math.inf
            sides = (np.array([*values[k].values()]) for k in (key, best))
            ahead = float(np.sign(np.subtract.outer(*map(_bounded, sides))).sum())
        else:
            ahead = test["difference"]
        known.append((1.0 if ahead and (ahead > 0) is asked.higher else p, degrees, key))
    found: dict[Key, float | None] = dict.fromkeys(others)
    largest = 0.0
    for place, (p, degrees, key) in enumerate(sorted(known)):
        q = math.sqrt(2) * stats.t.isf(p / 2, degrees)
        count = len(known) + 1 - place
        largest = max(largest, float(stats.studentized_range.sf(q, count, degrees)))
        found[key] = largest
    return found


def _bounded(values: np.ndarray) -> np.ndarray:
    """With a number for what has diverged."""
    return np.where(np.isinf(values), np.sign(values) * 1e3, values)


def _holm(ps: Sequence[float | None]) -> list[float | None]:
    """The largest of (m - j)·p(j) up to each, by the definition."""
    there = sorted(p for p in ps if p is not None)
    steps = [(len(there) - j) * p for j, p in enumerate(there)]
    found = [None if p is None else max(steps[: there.index(p) + 1]) for p in ps]
    return [None if p is None else min(1.0, p) for p in found]


def _test(ours: Values, theirs: Values) -> Json:
    shared = [seed for seed in ours if seed in theirs]
    n = len(ours), len(theirs)
    paired = 2 <= len(shared) == min(n)
    x = np.array([ours[seed] for seed in (shared if paired else ours)])
    y = np.array([theirs[seed] for seed in (shared if paired else theirs)])
    both = np.isfinite(x) & np.isfinite(y) if paired else None
    means = [np.mean(_finite(each)) for each in (ours, theirs)]
    found: Json = {
        "design": "paired" if paired else "unpaired" if min(n) > 1 else "too few",
        "n_ours": n[0],
        "n_theirs": n[1],
        "left_out": sum(n) - 2 * len(shared) if paired else 0,
        "difference": float(np.mean(x[both] - y[both]) if paired else means[0] - means[1]),
        "interval": None,
        "t_test_p": None,
        "degrees": None,
        "rank_test_p": None,
        "effect_size": None,
        "effect_interval": None,
    }
    if min(n) > 1:
        found["rank_test_p"] = rank_p(x, y, paired)
        if np.isfinite([*x, *y]).all():
            found |= _paired_t(x - y) if paired else _welch(x, y)
    return found


def rank_p(x: np.ndarray, y: np.ndarray, paired: bool) -> float:
    """That of all arrangements; of samples of other sizes no smaller than Brunner and Munzel's."""
    x, y = (np.round(_bounded(each), 12) for each in (x, y))
    if not paired:
        ranks = np.split(stats.rankdata([*x, *y]), [len(x)])
        p = _permuted(ranks, lambda x, y, axis: x.sum(axis), "independent")
        return p if len(x) == len(y) else float(np.fmax(p, stats.brunnermunzel(x, y).pvalue))
    d = np.round(x - y, 12)
    d = d[d != 0]
    signed = np.sign(d) * stats.rankdata(np.abs(d))
    return _permuted([signed], lambda x, axis: x.sum(axis), "samples") if len(d) > 1 else 1.0


def _permuted(samples: Sequence[np.ndarray], statistic: Any, kind: str) -> float:
    found = stats.permutation_test(samples, statistic, permutation_type=kind, n_resamples=np.inf)
    return float(found.pvalue)


def _paired_t(d: np.ndarray) -> Json:
    if np.ptp(d) < 1e-12:
        return {}
    n, mean = len(d), d.mean()
    error = d.std(ddof=1) / math.sqrt(n)
    return {
        "interval": _interval(*stats.t.interval(0.95, n - 1, mean, error)),
        "t_test_p": float(stats.ttest_1samp(d, 0).pvalue),
        "degrees": float(n - 1),
        **_effect(mean / error, n - 1, 1 / math.sqrt(n)),
    }


def _welch(x: np.ndarray, y: np.ndarray) -> Json:
    n, m = len(x), len(y)
    a, b = x.var(ddof=1) / n, y.var(ddof=1) / m
    difference, error = x.mean() - y.mean(), math.sqrt(a + b)
    degrees = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    return {
        "interval": _interval(*stats.t.interval(0.95, degrees, difference, error)),
        "t_test_p": float(stats.ttest_ind(x, y, equal_var=False).pvalue),
        "degrees": float(degrees),
        **_effect(float(stats.ttest_ind(x, y).statistic), n + m - 2, math.sqrt(1 / n + 1 / m)),
    }


def _effect(t: float, degrees: int, scale: float) -> Json:
    """Hedges' g, and the sizes under which t is at neither end of 2.5 %."""
    if degrees < 2:
        return {}
    bias = math.gamma(degrees / 2) / math.sqrt(degrees / 2) / math.gamma((degrees - 1) / 2)
    ends = []
    for tail in (0.975, 0.025):
        tail = tail if t >= 0 else 1 - tail

        def excess(shift: float, tail: float = tail) -> float:
            return float(stats.nct.cdf(abs(t), degrees, shift)) - tail

        ends.append(math.copysign(1, t) * optimize.brentq(excess, -5, 3 * abs(t) + 5, xtol=1e-13))
    return {"effect_size": t * scale * bias, "effect_interval": _interval(*np.array(ends) * scale)}


def _standing(values: Values, best: Values, p: float | None, asked: Asked) -> str | None:
    if not values:
        return None
    if not _finite(values):
        return "worse"
    if _badness(values, asked) == _badness(best, asked):
        return "best"
    if p is None:
        return "too few seeds to tell"
    return "not distinguishable from the best" if p >= 0.05 else "worse"


# ------------------------------------------------------- several settings, several conditions


def _assert_sensitivity(found: Json, order: Sequence[Key], values: Mapping[Key, Values]) -> None:
    labels = dict.fromkeys(label for label, _ in order)
    several = [label for label in labels if sum(key[0] == label for key in order) > 1]
    same([each["optimizer"] for each in found["sensitivity"]], several)
    for each in found["sensitivity"]:
        rows = [values[key] for key in order if key[0] == each["optimizer"]]
        means = [np.mean(_finite(row)) for row in rows if row and len(_finite(row)) == len(row)]
        near = sum(abs(mean - means[0]) <= 0.01 * abs(means[0]) for mean in means)
        diverged = sum(len(_finite(row)) < len(row) for row in rows)
        counts = (each["settings_within"], each["settings"], each["diverged"])
        assert counts == (near, sum(map(bool, rows)), diverged)
        assert each["within"] == "1 %"


def _assert_across(answer: Json, asked: Asked) -> None:
    """Ranks and profiles of the best rows, whose own numbers were checked before."""
    if len(answer["experiments"]) < 2:
        assert answer["across"] is None
        return
    tables: list[dict[str, Json]] = [{} for _ in answer["experiments"]]
    for table, each in zip(tables, answer["experiments"], strict=True):
        for row in each["settings"]:
            if row["summary"] is not None:
                table.setdefault(row["optimizer"], row)
    labels = [label for label in tables[0] if all(label in table for table in tables)]
    if len(labels) < 2:
        assert answer["across"] is None
        return
    scores = [[_score(table[label], asked) for label in labels] for table in tables]
    places = [[sorted(row).index(score) for score in row] for row in scores]  # equal ones share
    ranks = np.array([stats.rankdata(row) for row in places])
    ranking = answer["across"]["ranking"]
    same(ranking["mean_rank"], dict(zip(labels, ranks.mean(axis=0).tolist(), strict=True)))
    names = {each["experiment"] for each in answer["experiments"]}
    enough = len(labels) > 2 and len(names) == len(tables)
    same(ranking["p"], float(stats.friedmanchisquare(*ranks.T).pvalue) if enough else None)
    for clock in ("epochs", "steps", "seconds"):
        times = np.array([[_time(table[label], clock) for label in labels] for table in tables])
        ratios = times / times.min(axis=1, keepdims=True)
        taus = np.linspace(1, 4, 300_001)
        shares = np.array([(ratios[:, [i]] <= taus).mean(axis=0) for i in range(len(labels))])
        profiles = answer["across"]["profiles"][clock]
        for label, share in zip(labels, shares, strict=True):
            assert profiles[label]["score"] == pytest.approx(share.mean(), abs=1e-4)


def _score(row: Json, asked: Asked) -> tuple[float, float]:
    """Fewer diverged runs come before a better mean."""
    found = row["summary"]
    mean = found["mean"] or 0.0
    return found["diverged"] / (found["n"] + found["diverged"]), -mean if asked.higher else mean


def _time(row: Json, clock: str) -> float:
    time = (row["reached"]["median"] or {}).get(clock)
    return math.inf if time is None else time
