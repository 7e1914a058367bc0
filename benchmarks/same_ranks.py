"""Whether one rank, under DDP and FSDP2, has the losses of none, and its own bits after a stop.

Each network makes 20 steps without ranks, and in a group of one process, of NCCL on a GPU. The
group's training is done twice, once with a stop in the middle of an epoch: the weights at the end,
and all metrics but those of time, are to be the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from benchmarks.harness import Figure, Session
from benchmarks.ranks import trials
from benchmarks.same_bits import StopAt, equal, kept
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import worker
from deltagclip_cli.training.ranks.process_group import process_group
from deltagclip_cli.training.sinks import STEP_PREFIX, is_step_record

DEVICES = ("cpu", "cuda")
STEPS, CUT = 20, 10  # which stops a step later, in the middle of an epoch of 2 or of 5 steps


def measure(session: Session) -> Iterator[Figure]:
    steps, cut_at = (4, 2) if session.quick else (STEPS, CUT)
    errors: list[Exception] = []
    for trial in trials(session.folder, quick=True, pixels=8 if session.quick else 32):
        # Batch norms make much of the last digits.
        precision = "fp64" if trial.experiment == "ResNet-18" else "fp32"
        trial = trial.model_copy(update={"log_every": 1, "precision": precision})
        alone = losses(train(trial, session, "alone", steps), steps)
        for parallel in ("ddp", "fsdp"):
            name = f"{trial.experiment}, {parallel}"
            mine = trial.model_copy(update={"parallel": parallel})
            try:
                whole = train(mine, session, f"{parallel}-whole", steps)
                train(mine, session, f"{parallel}-cut", cut_at)
                cut = kept(train(mine, session, f"{parallel}-cut", steps))
            except Exception as error:  # the others have their own worth
                error.add_note(f"while {name} was trained")
                errors.append(error)
                continue
            apart = [abs(a - b) / abs(a) for a, b in zip(alone, losses(whole, steps), strict=True)]
            size = 1e6 * max(apart)
            yield Figure(f"{name}: losses apart, of their size", size, unit="millionths")
            both = kept(whole)
            differ = [key for key in both if not equal(both[key], cut[key])]
            print(f"{name}: other bits in {', '.join(differ) or 'nothing'}", file=sys.stderr)
            yield Figure(f"{name}: tensors with other bits", len(differ), unit="tensors")
    if errors:
        raise ExceptionGroup("some networks could not be compared", errors)


def train(trial: Trial, session: Session, runs: str, last: int) -> RunFolder:
    """Train until behind a step, in a group of one process if it is to be; return the folder."""
    folder = RunFolder.of(session.folder / runs, trial)
    stop = StopAt(last)
    usual = worker._ranks
    if runs.startswith("ddp"):
        worker._ranks = process_group  # which a trial on one device has none of
    try:
        worker.run_trial(
            folder,
            trial,
            data_dir=session.folder,
            device=session.device,
            download=False,
            sinks=[stop],
            should_stop=stop.asks,
        )
    finally:
        worker._ranks = usual
    return folder


def losses(folder: RunFolder, steps: int) -> list[Any]:
    """The training losses of the first steps; ranks stop a step after they are asked to."""
    records = filter(is_step_record, folder.metrics())
    return [each[f"{STEP_PREFIX}train/loss"] for each in islice(records, steps)]
