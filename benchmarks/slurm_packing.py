"""Four small trials in one Slurm job beside four jobs one after another, on a slot with two cores.

Both are timed from the submission to the last result, so that what Slurm itself takes to start its
tasks counts on both sides.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import deltagclip
from deltagclip_cli.slurm.jobs import find_jobs

SPEC = """
experiments:
  small:
    model: {{name: mlp, hidden: [64]}}
    data: {{name: synthetic, size: 8, train: 2000, test: 500, batch_size: 50}}
    epochs: {epochs}
    checkpoint: {{epochs: 50}}
    seeds: [0, 1, 2, 3]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    slurm: {{cpus: 2, throttle: 1}}
"""


def measure(session: Session) -> Iterator[Figure]:
    session.need("sinfo", what="a Slurm that answers")
    epochs, rounds = (50, 1) if session.quick else (300, 3)
    packed, single = (
        [seconds(session, epochs, *words) for _ in range(rounds)] for words in (("--pack", "4"), ())
    )
    ratios = [theirs / ours for ours, theirs in zip(packed, single, strict=True)]
    yield Figure.as_fast("four small trials in one Slurm job", ratios, "four jobs in turn")


def seconds(session: Session, epochs: int, *words: str) -> float:
    """From the submission to the last result; a slot is one task at a time."""
    folder = session.new_folder()
    (folder / "experiments.yaml").write_text(SPEC.format(epochs=epochs))
    command = deltagclip("sweep", "--launcher", "slurm", *words)
    begin = time.time()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    while find_jobs(folder / "runs").alive():
        time.sleep(1)
    results = list((folder / "runs").glob("*/*/*/result.json"))
    assert len(results) == 4, f"only {len(results)} of 4 trials were finished"
    return max(result.stat().st_mtime for result in results) - begin
