"""``result.json``: what came of a training."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deltagclip_cli.core import EPOCH_SECONDS, EVALUATED, REGIMES, more_is_better
from deltagclip_cli.training.sinks import Record, is_step_record
from deltagclip_cli.training.trainer import Ending, Trainer

logger = logging.getLogger(__name__)


def result_of(
    trainer: Trainer, ending: Ending, records: Iterable[Record], started: float
) -> dict[str, Any]:
    """Return what ``result.json`` holds, of a start at ``started`` by ``time.perf_counter``."""
    records = [record for record in records if not is_step_record(record)]
    totals = trainer.regime_totals.tolist()
    return {
        "status": ending,
        "identity": trainer.trial.identity,
        "epochs": trainer.course.passes(trainer.step),
        "steps": trainer.step,
        "last": {name: value for name, value in records[-1].items() if "/" in name},
        "best": _best(records, trainer.trial.task.rising),
        "regimes": dict(zip(REGIMES, totals, strict=True)) if any(totals) else None,
        "diverged": asdict(trainer.divergence) if trainer.divergence else None,
        **_ended_early(trainer),
        "seconds": {
            "epochs": sum(record[EPOCH_SECONDS] for record in records),
            "last_start": time.perf_counter() - started,
        },
    }


def _ended_early(trainer: Trainer) -> dict[str, Any]:
    """Return what is told of a training that did not come to its last step, and log it."""
    patience = trainer.patience
    if patience is None or not patience.is_over or trainer.step == trainer.course.steps:
        return {}
    logger.info("Ends early, at %s: %s.", trainer.course.told(trainer.step), patience)
    return {"ended_early": patience.told()}


def _best(records: Sequence[Record], rising: Mapping[str, bool]) -> dict[str, dict[str, Any]]:
    """Return the best value of every metric with its place; of equal ones the first."""
    best: dict[str, dict[str, Any]] = {}
    for name in records[0]:
        reached = [(r[name], r["epoch"], r["step"]) for r in records if r.get(name) is not None]
        if name.partition("/")[0] not in ("train", *EVALUATED) or not reached:
            continue
        rises = rising.get(name.partition("/")[2], more_is_better(name))
        pick = max if rises else min
        value, epoch, step = pick(reached, key=lambda each: each[0])
        best[name] = {"value": value, "epoch": epoch, "step": step}
    return best
