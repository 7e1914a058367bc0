"""Tune the rivals of ``deltagclip try`` as it tunes whatever is tried, and store what was found.

    python scripts/rivals.py [--rounds 30] [--runs FOLDER] [--output rivals.json]

A quarter of an hour on two idle cores. The same machine and versions give the same draws, the same
losses and so the same file, but for the date. Trials that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.harness.machine import describe_machine
from deltagclip_cli.core import write_text
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.launch.local import LocalLauncher
from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.trying.protocol import (
    CHOSEN_BY,
    DRAWS,
    JUDGED_BY,
    MOST_ROUNDS,
    PROBLEMS,
    RIVALS,
    SCANNED,
    SPEC,
    STORED,
    best_rate,
    scan_seed,
)
from deltagclip_cli.trying.tryout import Method, Tryout, TryoutQueue

_UNTRAINED_SEEDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=MOST_ROUNDS)
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir(), "rivals"))
    parser.add_argument("--output", type=Path, default=STORED)
    asked = parser.parse_args()
    spec = load_spec(SPEC, runs=asked.runs)
    tuned = [
        Method(label, spec.experiments[PROBLEMS[0]].optimizers[label].options["lr"])
        for label in RIVALS
    ]
    study = Tryout(spec, asked.runs, PROBLEMS, tuned, asked.rounds)
    queue = TryoutQueue(study)
    console = Console(stderr=True)
    request = SweepRequest(spec=spec, runs=asked.runs, data=Path(), console=console, jobs=2)
    still = [
        study.trial(f"{problem}-tuning", "sgd-momentum", 1e-30, seed)
        for problem in PROBLEMS
        for seed in range(_UNTRAINED_SEEDS)
    ]
    launcher = LocalLauncher(request)
    assert launcher.run(still) == 0
    launcher = LocalLauncher(request)
    launcher.launch(queue, study.needed(), Estimates())
    losses = {each.folder: study.loss(each, CHOSEN_BY) for each in still}
    content = {
        "command": "python scripts/rivals.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "torch": torch.__version__,
        "scanned": SCANNED,
        "draws": DRAWS,
        "chosen_by": CHOSEN_BY,
        "judged_by": JUDGED_BY,
        "problems": {
            problem: {
                "untrained": statistics.fmean(
                    losses[each.folder] for each in still if each.experiment == f"{problem}-tuning"
                ),
                "rivals": {each.label: _found(study, problem, each) for each in tuned},
            }
            for problem in PROBLEMS
        },
    }
    lines = json.dumps(content, indent=1, allow_nan=False)
    write_text(asked.output, f"{lines}\n")


def _found(study: Tryout, problem: str, method: Method) -> dict[str, object]:
    numbers = range(1, study.rounds + 1)
    rounds = []
    for number in numbers:
        drawn = study.drawn(problem, method, number)
        assert drawn is not None
        trial = study.chosen(problem, method.label, number)
        assert trial is not None
        judged = study.loss(trial, JUDGED_BY)
        rounds.append(
            {"draws": _pairs(drawn), "chosen": best_rate(drawn), "judged": _plain(judged)}
        )
    scanned = study.scanned(problem, method)
    assert scanned is not None
    return {"scan_seed": scan_seed(), "scan": _pairs(scanned), "rounds": rounds}


def _pairs(losses: dict[float, float]) -> list[tuple[float, float | None]]:
    return [(rate, _plain(loss)) for rate, loss in losses.items()]


def _plain(loss: float | None) -> float | None:
    return None if loss is None or not math.isfinite(loss) else round(loss, 6)


if __name__ == "__main__":
    main()
