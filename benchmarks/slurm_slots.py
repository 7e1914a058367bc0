"""What the tuning of a protocol on Slurm costs a trial beside its training, with 100 slots.

Ten optimizers are tuned by a protocol whose draws have ended. A task that has a slot reads the plan
and the draws, finds out which trial it is, and ends, for that has a result; it is a process of its
own from its start to its end. To that comes its share of the command that submits, which here only
shows the scripts. Counted are seconds of a processor, which other work beside it does not change
much. Slurm itself is not needed.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip
from benchmarks.planning import finished
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.slurm.array import Array, Head, ListedSlot, new_submission
from deltagclip_cli.slurm.awaited import AwaitedTrial, SlotReader, awaited
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.tuning.lock import fixed_plan
from deltagclip_cli.tuning.stages import slots
from deltagclip_cli.tuning.studies import Tuning

SPEC = """
experiments:
  many:
    model: {{name: mlp, hidden: [8]}}
    data: {{name: synthetic, batch_size: 4, size: 4, train: 32, test: 16}}
    epochs: 2
    seeds: [0, 1, 2]
    optimizers: {{{optimizers}}}
    search: {{space: {{{spaces}}}}}
    protocol: {{draws: {draws}, fresh_seeds: 10, metric: train/loss}}
"""
LABELS = [f"sgd-{number}" for number in range(10)]
ROUNDS = 5


def spec(draws: int) -> str:
    """A spec with 100 slots, and so many draws of each of ten optimizers."""
    optimizers = ", ".join(f"{label}: {{name: sgd, lr: 0.1}}" for label in LABELS)
    spaces = ", ".join(f"{label}: {{lr: {{log_uniform: [1e-3, 1]}}}}" for label in LABELS)
    return SPEC.format(optimizers=optimizers, spaces=spaces, draws=draws)


def end(trials: Iterable[Trial], runs: Path) -> None:
    """Leave behind that trials have finished, with a loss that is their learning rate."""
    for trial in trials:
        folder = RunFolder.of(runs, trial)
        folder.path.mkdir(parents=True, exist_ok=True)
        last = {"train/loss": trial.optimizer.options["lr"]}
        folder.result_file.write_text(json.dumps({**json.loads(finished(trial)), "last": last}))


def submitted(runs: Path, waiting: list[AwaitedTrial]) -> Array:
    """The array of all slots, as it is submitted."""
    array = Array(new_submission(runs) / "many-0")
    entries = [ListedSlot(each.name, each.slot) for each in waiting]
    array.write(Head("many", 1, time.time(), len(entries)), entries, "")
    return array


def processor_seconds(call: Callable[[], object]) -> float:
    """The time that a command computes which is a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(session: Session) -> Iterator[Figure]:
    draws = 4 if session.quick else 100
    folder = session.new_folder()
    runs, file = folder / "runs", folder / "experiments.yaml"
    file.write_text(spec(draws))
    planned = Tuning.of("many", load_spec(file, ["many"]).experiments["many"])
    _, tuning = fixed_plan(planned, runs)
    waiting = awaited(tuning, slots(tuning))
    submit = command(deltagclip("tune", "many", "--launcher", "slurm", "--dry-run"), folder)
    share = processor_seconds(submit) / (len(waiting) + len(tuning.drawn_trials))

    end(tuning.drawn_trials, runs)
    reader = SlotReader(runs)
    end([reader.trial_of("many", each.slot) for each in waiting], runs)
    array = submitted(runs, waiting)
    task = command(deltagclip("job", str(array.list_file), "--task", "42"), folder)
    seconds = sorted(processor_seconds(task) + share for _ in range(1 if session.quick else ROUNDS))
    name = f"a trial of 100 slots, {draws * len(LABELS):,} draws: coordination"
    yield Figure(name, seconds[len(seconds) // 2], unit="s", low=seconds[0], high=seconds[-1])
