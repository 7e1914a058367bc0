"""5,000 trials handed to Slurm, shown and taken back, beside Slurm's own commands.

Each command of ours is a process of its own; beside it stands what Slurm's commands alone take for
the same: ``sbatch`` of as many empty arrays, one ``squeue`` of all tasks, one ``scancel``. The
arrays are held, so that none of their tasks starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip
from deltagclip_cli.slurm.client import largest_array

SPEC = """
experiments:
  many:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4}}
    epochs: 2
    seeds: [0, 1, 2, 3, 4]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    grid: {{delta-gclip: {{lr: {{log_range: [1e-3, 1], count: {lrs}}}}}}}
    slurm: {{sbatch: --hold}}
"""


def measure(session: Session) -> Iterator[Figure]:
    session.need("sinfo", what="a Slurm that answers")
    trials = 100 if session.quick else 5_000
    floor = floors(session, trials, session.new_folder())
    for name, seconds in ours(session, trials, session.new_folder()).items():
        ratio = seconds / floor[name]
        yield Figure.as_long(f"{name}, {trials:,} trials", [ratio], "Slurm's own commands")


def timed(session: Session, words: list[str], folder: Path) -> float:
    return session.seconds(command(words, folder))


def ours(session: Session, trials: int, folder: Path) -> dict[str, float]:
    (folder / "experiments.yaml").write_text(SPEC.format(lrs=trials // 5))
    seconds = partial(timed, session, folder=folder)
    return {
        "submit": seconds(deltagclip("sweep", "--launcher", "slurm")),
        "show": seconds(deltagclip("status")),
        "submit again, nothing to do": seconds(deltagclip("sweep", "--launcher", "slurm")),
        "cancel": seconds(deltagclip("cancel")),
    }


def floors(session: Session, trials: int, folder: Path) -> dict[str, float]:
    (folder / "empty.sbatch").write_text(
        "#!/bin/bash\n#SBATCH --hold\n#SBATCH --output=/dev/null\n"
    )
    seconds = partial(timed, session, folder=folder)
    largest = largest_array()
    submit = sum(
        seconds(["sbatch", f"--array=0-{min(largest, trials - start) - 1}", "empty.sbatch"])
        for start in range(0, trials, largest)
    )
    name = "--name=empty.sbatch"
    show = seconds(["squeue", "--noheader", "--array", "--states=all", name])
    cancel = seconds(["scancel", name])
    return {
        "submit": submit,
        "show": show,
        "submit again, nothing to do": show,
        "cancel": show + cancel,
    }
