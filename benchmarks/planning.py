"""The planning of a sweep, and the look at what is finished, at 1,000 and at 10,000 trials.

``deltagclip sweep --dry-run --json`` is started as a process of its own, on run folders of which
half hold a result. Of the times of the first figure those of a start with a single trial are taken
off; 10 is linear. The whole command imports no torch. ``tune --dry-run`` plans as many draws of two
optimizers, each with one seed, and looks them up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import IMPORT_TORCH, command, deltagclip
from deltagclip_cli.core import write_text
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand

SPEC = """
experiments:
  many:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4}}
    epochs: 2
    seeds: [0, 1, 2, 3, 4]
    optimizers: {{delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}}}
    grid:
      delta-gclip:
        lr: {{log_range: [1e-3, 1], count: {lrs}}}
        gamma: {{range: [1, 2], count: 20}}
"""

DRAWS = """
experiments:
  drawn:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4, validation: 0.25}}
    epochs: 2
    optimizers:
      delta-gclip: {{name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}
      adam: {{name: adam}}
    protocol: {{draws: {draws}, seeds: [0], metric: validation/loss}}
    search:
      space:
        delta-gclip: {{lr: {{log_uniform: [1e-3, 1]}}, gamma: {{log_uniform: [0.1, 10]}}}}
        adam: {{lr: {{log_uniform: [1e-5, 1e-1]}}}}
"""


def finished(trial: Trial) -> str:
    """The ``result.json`` of a trial that has ended, of which nothing but that is read."""
    seconds = {"epochs": 2.0, "last_start": 2.0}
    rest = {"steps": 100 * trial.epochs, "last": {}, "best": {}, "regimes": None, "diverged": None}
    head = {"status": "finished", "identity": trial.identity, "epochs": trial.epochs}
    return json.dumps({**head, **rest, "seconds": seconds})


def prepare(folder: Path, trials: int) -> None:
    """A spec with so many trials, of which every second has a result."""
    spec = folder / "experiments.yaml"
    write_text(spec, SPEC.format(lrs=trials // 100))
    for number, trial in enumerate(expand("many", load_spec(spec).experiments["many"])):
        if number % 2:
            run = RunFolder.of(folder / "runs", trial)
            run.path.mkdir(parents=True)
            run.result_file.write_text(finished(trial))


def measure(session: Session) -> Iterator[Figure]:
    few = 200 if session.quick else 1_000
    words = deltagclip("sweep", "--dry-run", "--json")
    contenders = {"importing torch": command(IMPORT_TORCH)}
    for trials in (few, 10 * few):
        folder = session.new_folder()
        prepare(folder, trials)
        contenders[f"{trials}"] = command(words, folder)
        contenders[f"{trials}, start"] = command(
            [*words, "--seed", "0", "--set", "grid={}"], folder
        )
    drawn = session.new_folder()
    write_text(drawn / "experiments.yaml", DRAWS.format(draws=5 * few))
    contenders["drawn"] = command(deltagclip("tune", "drawn", "--dry-run"), drawn)
    times = session.turns(contenders, 1 if session.quick else 5)
    small, large = (
        [a - b for a, b in zip(times[f"{n}"], times[f"{n}, start"], strict=True)]
        for n in (few, 10 * few)
    )
    ratios = [a / b for a, b in zip(large, small, strict=True)]
    yield Figure.as_long(f"planning {10 * few:,} trials", ratios, f"planning {few:,}")
    what = f"sweep --dry-run of {10 * few:,} trials"
    yield times.as_long(what, f"{10 * few}", "importing torch")
    yield times.as_long(f"tune --dry-run of {10 * few:,} draws", "drawn", "importing torch")
