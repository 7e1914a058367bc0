"""What an earlier start left behind, and the result that a trial leaves in the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from deltagclip_cli.core import EPOCH_SECONDS, REGIMES, Check, more_is_better, unchecked, write_text
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.checkpoint import Checkpoints
from deltagclip_cli.training.recorder import checksum, is_step_record
from deltagclip_cli.training.trainer import Ending, Trainer

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]


def where_to_continue(
    folder: RunFolder, checkpoints: Checkpoints, check: Check = unchecked
) -> tuple[dict[str, Any] | None, Sequence[Record]]:
    """The newest checkpoint whose metrics are all there, and the records that it covers.

    A checkpoint is written after the metrics that it counts on, but a disk can lose, tear or change
    what came before; then the one before it serves, and without any the trial starts again.

    Args:
        folder: the run folder.
        checkpoints: of the same folder.
        check: called before damaged metrics are put aside; raises an error if the folder is
            another's now.
    """
    records = list(folder.metrics())
    refused = False
    for state in checkpoints.newest_first():
        kept = [record for record in records if _is_covered(record, state)]
        reason = _objection(kept, state)
        if not reason:
            return state, kept
        refused = True
        logger.warning(
            "The checkpoint at step %d cannot be used: %s %s.",
            *(state["step"], folder.metrics_file, reason),
        )
    if refused:
        check()
        with suppress(FileNotFoundError):
            folder.metrics_file.replace(folder.damaged_metrics_file)
            logger.warning("What it has is kept as %s.", folder.damaged_metrics_file.name)
    if refused or records:
        logger.warning("%s: no checkpoint can be used; starting again at epoch 1.", folder.path)
    return None, []


def _objection(kept: Sequence[Record], state: Mapping[str, Any]) -> str:
    """Why records are not those that a checkpoint counts on; empty if they are."""
    if len(kept) < state["records"]:
        return f"has only {len(kept)} of its {state['records']} records"
    # Checkpoints of earlier versions know of the number alone.
    known = state.get("checksum")
    if len(kept) > state["records"] or known not in (None, checksum(kept)):
        return "is not what it was then"
    return ""


def _is_covered(record: Record, state: Mapping[str, Any]) -> bool:
    axis = "step" if is_step_record(record) else "epoch"
    return bool(record[axis] <= state[axis])


def write_result(
    folder: RunFolder,
    trainer: Trainer,
    ending: Ending,
    seconds: float,
    check: Check = unchecked,
) -> None:
    """Write ``result.json``, the mark of a finished or diverged trial.

    Args:
        folder: whose ``metrics.jsonl`` is complete.
        trainer: at its end.
        ending: finished or diverged.
        seconds: wall time of this start, loading included.
        check: called before every write; raises an error if the folder is another's now.
    """
    records = [record for record in folder.metrics() if not is_step_record(record)]
    totals = trainer.regime_totals.tolist()
    result = {
        "status": ending,
        "identity": trainer.trial.identity,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "last": _metrics(records[-1]),
        "best": _best(records),
        "regimes": dict(zip(REGIMES, totals, strict=True)) if any(totals) else None,
        "diverged": asdict(trainer.divergence) if trainer.divergence else None,
        "seconds": {
            "epochs": sum(record[EPOCH_SECONDS] for record in records),
            "last_start": seconds,
        },
    }
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_text(folder.result_file, text, check)


def _metrics(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.items() if "/" in name}


def _best(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return the best value of every metric with its epoch; of equal ones the first."""
    best: dict[str, dict[str, Any]] = {}
    for name in records[0]:
        reached = [(r[name], r["epoch"]) for r in records if r.get(name) is not None]
        if not name.startswith(("train/", "test/")) or not reached:
            continue
        pick = max if more_is_better(name) else min
        value, epoch = pick(reached, key=lambda pair: pair[0])
        best[name] = {"value": value, "epoch": epoch}
    return best
