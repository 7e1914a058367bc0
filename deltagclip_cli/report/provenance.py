"""The origin of the numbers of a report: trials, versions, machines, and what went wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from deltagclip_cli.core import duration, finite, listed, printable, read_file
from deltagclip_cli.report.output import FileNames
from deltagclip_cli.results.compare.effort import run_seconds
from deltagclip_cli.results.read.run import Outcome, Run, in_words
from deltagclip_cli.runs.environment import Start, read_starts
from deltagclip_cli.runs.folder import RunFolder


@dataclass(frozen=True)
class Provenance:
    """Everything that is known of how some runs came to be."""

    # what was the same for all, or how often it was not, by what it is about
    facts: Mapping[str, str]
    # of each setting its title, its trial as YAML, and a file for it; none of other programs' runs
    trials: Sequence[Mapping[str, str]]
    # each with its folder, seed, state, time and reason; those that failed first
    runs: Sequence[Mapping[str, str]]

    @property
    def failures(self) -> Sequence[Mapping[str, str]]:
        """The runs that did not finish."""
        return [run for run in self.runs if run["state"] != Outcome.FINISHED.value]


def provenance(runs: Sequence[Run]) -> Provenance:
    """Read what the run folders tell; of other programs' runs, only where they are."""
    starts = {run.folder: read_starts(RunFolder(run.folder)) for run in runs}
    in_order = sorted(runs, key=lambda run: run.outcome is Outcome.FINISHED)
    facts = _facts(runs, list(starts.values()))
    return Provenance(facts, _trials(runs), [_row(run) for run in in_order])


def _trials(runs: Iterable[Run]) -> list[Mapping[str, str]]:
    names = FileNames()
    found: dict[str, Mapping[str, str]] = {}
    for run in runs:
        title = " · ".join([run.group.experiment, *in_words(run.group.conditions), run.group.name])
        with suppress(OSError, UnicodeDecodeError):
            if title not in found:
                text = read_file(RunFolder(run.folder).trial_file).decode()
                found[title] = {"title": title, "file": f"{names.name(title)}.yaml", "text": text}
    return list(found.values())


_FACTS = {
    "Program": lambda start: f"deltagclip_cli {start['deltagclip_cli']}",
    "Python": lambda start: start["python"],
    "Packages": lambda start: ", ".join(f"{k} {v}" for k, v in start["packages"].items() if v),
    "CUDA": lambda start: f"{start['cuda']}, cuDNN {start['cudnn']}",
    "Device": lambda start: start["device"],
    "Processor": lambda start: start["processor"],
    "Threads": lambda start: start["threads"],
    "Host": lambda start: start["host"],
    "Platform": lambda start: start["platform"],
    "Git": lambda start: _git(start["git"]),
}


def _git(git: Mapping[str, Any] | None) -> str:
    if not git:
        return "not in a repository"
    return f"{git['commit'][:12]}{', with changes that were not committed' if git['dirty'] else ''}"


def _facts(runs: Sequence[Run], starts: Sequence[Sequence[Start]]) -> dict[str, str]:
    flat = [start for each in starts for start in each]
    named = [
        (run.group.name, start) for run, each in zip(runs, starts, strict=True) for start in each
    ]
    states = Counter(run.outcome.value for run in runs).most_common()
    times = sorted(word for start in flat if (word := _told(itemgetter("started"), start)))
    time = sum(map(run_seconds, runs))
    facts = {
        "Runs": ", ".join(f"{count} {state}" for state, count in states),
        "Time": ""
        if math.isnan(time)
        else f"{duration(time)} of epochs in all, evaluation included",
        "Device time": _device_times(runs, starts),
        "Begun": " to ".join(dict.fromkeys([*times[:1], *times[-1:]])),
    }
    for name, tell in _FACTS.items():
        facts[name] = _counted((word, of) for of, start in named if (word := _told(tell, start)))
    return {name: fact for name, fact in facts.items() if fact}


def _told(tell: Any, start: Start) -> str:
    """Return a fact; empty of an environment that does not tell."""
    with suppress(KeyError, TypeError, AttributeError):
        return printable(str(tell(start)))
    return ""


def _device_times(runs: Sequence[Run], starts: Sequence[Sequence[Start]]) -> str:
    """The time of the runs by the device that they were last on."""
    seconds: dict[str, float] = defaultdict(float)
    for run, each in zip(runs, starts, strict=True):
        if each and "device" in each[-1]:
            seconds[printable(str(each[-1]["device"]))] += run_seconds(run)
    return "; ".join(f"{duration(time)} on {device}" for device, time in seconds.items())


def _counted(words: Iterable[tuple[str, str]]) -> str:
    """The word if all are the same, else each with how often it is there, and of which settings."""
    settings: dict[str, list[str]] = defaultdict(list)
    for word, setting in words:
        settings[word].append(setting)
    if len(settings) <= 1:
        return "".join(settings)
    return "; ".join(
        f"{word} ({len(each)} ×: {listed(list(dict.fromkeys(each)))})"
        for word, each in sorted(settings.items(), key=lambda item: -len(item[1]))
    )


def _row(run: Run) -> dict[str, str]:
    conditions = " ".join(in_words(run.group.conditions))
    return {
        "experiment": f"{run.group.experiment} {conditions}".rstrip(),
        "optimizer": run.group.name,
        "seed": "–" if run.seed is None else str(run.seed),
        "state": run.outcome.value,
        "seconds": finite(run_seconds(run), "{:.0f}"),
        "folder": printable(str(run.folder)),
        "reason": run.reason,
    }
