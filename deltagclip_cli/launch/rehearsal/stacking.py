"""Advice to train trials in stacks, which only a measurement on their device can give.

A stack is part of the identity of its trials, so that no sweep may choose it: it says what it has
measured, and what to write.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltagclip_cli.core import EPOCH_SECONDS, DeltaGClipError
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import Trial, stacks_with, trial_to_run

if TYPE_CHECKING:
    from deltagclip_cli.plan.planned import Planned

LEAST_TRIALS = 4
_MOST_PLACES = 16  # more than that are hardly faster, and take so much more memory
_LEAST_FACTOR = 1.2
_STEPS = 16  # that are measured, after as many others

Measure = Callable[[list[Trial]], float | None]
"""Returns the seconds of a few steps of trials that train together, or None if they cannot."""


def advice(planned: Sequence[Planned], slots: int, measure: Measure) -> Iterator[str]:
    """Yield a sentence for each experiment that would be faster in stacks, by a measurement.

    Those that have begun are left as they are: with a stack they would begin anew.
    """
    groups: dict[object, list[Planned]] = {}
    for each in planned:
        if each.trial.stack is None and each.trial.code is None and not each.trial.is_shared:
            groups.setdefault(stacks_with(_with(each.trial, stack=2)), []).append(each)
    for group in groups.values():
        is_new = all(each.state is State.NEW for each in group)
        width = min(_MOST_PLACES, -(-len(group) // slots))
        if not is_new or len(group) < LEAST_TRIALS or width < 2:
            continue
        trials = [each.trial for each in group]
        alone = measure(trials[:1])
        together = alone and measure([_with(each, stack=width) for each in trials[:width]])
        if not (alone and together):
            continue
        rounds = -(-len(group) // slots), -(-len(group) // (width * slots))
        factor = rounds[0] * alone / (rounds[1] * together)
        if factor >= _LEAST_FACTOR:
            yield (
                f"{trials[0].experiment}: stack: {width} would train these {len(group)} trials "
                f"about {factor:.2g} × as fast, measured; it is part of their identity."
            )


def seconds_of(trials: list[Trial], data_dir: Path, device: str) -> float | None:
    """Train trials together for a few steps, in folders that are deleted, and return how long.

    In a process of its own, for it leaves memory behind and keeps quiet about what fails.
    """
    from deltagclip_cli.training.process import StopRequest
    from deltagclip_cli.training.worker import work_together

    logging.disable()
    stop = StopRequest()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        short = [_with(each, **_short(each)) for each in trials]
        folders = [RunFolder.of(runs, each) for each in short]
        try:
            for each, trial in zip(folders, short, strict=True):
                create(each, trial)
            work_together(folders, data_dir=data_dir, device=device, download=False, stop=stop)
        except DeltaGClipError:
            return None
        if not all(each.result() for each in folders):
            return None
        return max([*each.metrics()][-1][EPOCH_SECONDS] or 0.0 for each in folders)


def _short(trial: Trial) -> dict[str, object]:
    data = {**trial.data.model_dump(mode="json"), "test_samples": 1}
    settings = {"data": data, "epochs": None, "steps": 2 * _STEPS, "evaluate_every": _STEPS}
    return {**settings, "schedule": None, "certificate": None, "log_every": None}


def _with(trial: Trial, **settings: object) -> Trial:
    """Return a trial with other settings, checked as one that is read."""
    return trial_to_run({**trial.model_dump(mode="json"), **settings}, Path())
