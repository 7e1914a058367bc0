"""CSV files in one folder: which of them are the log of one run.

Their names tell. Words for a part of the data, for a quantity and for logs in general say nothing
of a run; files that are called alike without those are put together if no metric is in two::

    train_log.csv, test_log.csv               loss is train/loss in one, test/loss in the other
    adam_0_train.csv, adam_0_val.csv          of a run called adam_0
    loss.csv, accuracy.csv

So are files in whose names only a number differs, and nothing says more of a run, if each begins
later than the one before, as a training does that goes on from a checkpoint::

    metrics.csv, metrics_1.csv                from step 1, from step 501
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from deltagclip_cli.core import listed
from deltagclip_cli.results.read.csv_logs import CsvFile, csv_file
from deltagclip_cli.results.read.run import SETS, name_in_set, standard_name

_GENERAL = (
    *("metrics", "metric", "log", "logs", "history", "progress", "results", "monitor", "stats"),
    *("loss", "losses", "acc", "accuracy", "step", "steps", "epoch", "epochs"),
)
_WORD = re.compile(rf"(?i)(?<![a-z])(?:({'|'.join(SETS)})|{'|'.join(_GENERAL)})(?![a-z])")
_SEPARATORS = re.compile(r"^[\W_]+|[\W_]+$|(?<=[\W_])[\W_]+")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_ABOUT_ALL = "optim/"  # what metrics begin with that several files have beside others


@dataclass(frozen=True)
class CsvRun:
    """The files of one run."""

    name: str  # what they say of it; empty if it is their folder that does
    files: Sequence[CsvFile]  # a later one supersedes what it has again


def csv_runs(folder: Path, names: Sequence[str], problems: dict[str, None]) -> Sequence[CsvRun]:
    """Return the runs whose logs lie in a folder.

    Args:
        names: those of all CSV files in it.
        problems: gets a sentence where files may be of one run, and cannot be put together.
    """
    found = [file for name in sorted(names) if (file := csv_file(folder / name)) is not None]
    alike: dict[str, list[CsvFile]] = defaultdict(list)
    for file in found:
        alike[_SEPARATORS.sub("", _WORD.sub("", file.path.stem))].append(file)
    are_apart = len(alike) == len(found)
    runs: list[CsvRun] = []
    numbered: dict[tuple[str, ...], list[CsvRun]] = defaultdict(list)
    for said, files in alike.items():
        parts, why_not = (files, "") if are_apart else _put_together(files)
        if why_not:
            runs += [CsvRun(file.path.stem, [file]) for file in files]
            problems[
                f"{folder}: {listed([file.path.name for file in files])} count as {len(files)}"
                f" runs: {why_not}. If they are of one, leave one of them there."
            ] = None
            continue
        has_stem = are_apart and bool(said or len(found) > 1)
        run = CsvRun(files[0].path.stem if has_stem else said, parts)
        if any(c.isalpha() for c in said):
            runs.append(run)
        else:
            numbered[tuple(_NO_LETTERS.sub("", file.path.stem) for file in files)].append(run)
    return [*runs, *chain.from_iterable(map(_going_on, numbered.values()))]


def _put_together(files: Sequence[CsvFile]) -> tuple[Sequence[CsvFile], str]:
    """Return files with names for their metrics, and why they cannot be of one run, if so.

    What is said of the training, such as its rate or the time, may stand in each: the first counts.
    """
    parts: list[CsvFile] = []
    taken: set[str] = set()
    shared: set[str] = set()
    for file in files:
        tags = _tags(file)
        again = {column for column, tag in tags.items() if standard_name(tag) in taken}
        beside = {c for c in again if c == file.clock or tags[c].startswith(_ABOUT_ALL)}
        shared |= {standard_name(tags[column]) for column in again - beside}
        parts.append(replace(file, tags={c: tag for c, tag in tags.items() if c not in beside}))
        taken.update(map(standard_name, tags.values()))
    if len({file.counts_epochs for file in files}) > 1:
        return parts, "some count steps, and some epochs"
    return parts, f"{listed(sorted(shared))} is in several" if shared else ""


def _tags(file: CsvFile) -> Mapping[str, str]:
    """Return what the metrics in one of several files are called, by their columns."""
    sets = [found[1] for found in _WORD.finditer(file.path.stem) if found[1]]
    if not sets:
        return {column: column for column in file.columns}
    tags = {c: c if c == file.clock else name_in_set(sets[-1], c) for c in file.columns}
    counts = Counter(tags.values())
    return {column: tag if counts[tag] == 1 else column for column, tag in tags.items()}


def _going_on(runs: Sequence[CsvRun]) -> Sequence[CsvRun]:
    """Return runs as one if each begins later than another, with which it went on."""
    begins = {min(f.first for f in run.files): run for run in runs}
    if len(runs) == 1 or len(begins) < len(runs) or any(map(math.isnan, begins)):
        return runs
    return [CsvRun("", [file for begin in sorted(begins) for file in begins[begin].files])]
