"""A runner epoch against a bare loop over the same tensors, model and optimizer.

    python benchmarks/runner_epoch.py [--rounds 7]

The runner's epoch is what `deltagclip train` does: the loop with its meters, an evaluation, a line
of metrics and TensorBoard. The bare loop trains and evaluates, and takes nothing down: no loss, no
accuracy. Neither writes a checkpoint, whose time is that of the disk. Both are run in turns in one
process; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import describe_machine
from rich.console import Console
from rich.table import Table

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.assembly import Parts, assemble, find_device
from deltagclip_cli.training.sinks import Beginning, make_recording
from deltagclip_cli.training.trainer import Trainer

SPEC = """
experiments:
  mlp:
    model: {name: mlp, hidden: [256, 256]}
    data: {name: synthetic, channels: 1, size: 28, train: 60000, test: 10000, batch_size: 100}
    epochs: 1000
    optimizers: &optimizers
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
  resnet18:
    model: resnet18
    data: {name: synthetic, train: 256, test: 64, batch_size: 64, augment: [random_crop, flip]}
    epochs: 1000
    optimizers: *optimizers
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    console = Console()
    console.print(describe_machine())
    table = Table("model", "optimizer", "runner / bare loop")
    with tempfile.TemporaryDirectory() as folder:
        spec_file = Path(folder) / "experiments.yaml"
        spec_file.write_text(SPEC)
        for name, experiment in load_spec(spec_file).experiments.items():
            for label in experiment.optimizers:
                ratio = compare(make_trial(name, experiment, label, 0), Path(folder), rounds)
                table.add_row(name, label, f"{ratio:.3f}")
    console.print(table)


def compare(trial: Trial, folder: Path, rounds: int) -> float:
    device = find_device("auto")
    parts = assemble(trial, folder, device)
    run = RunFolder.of(folder / "runs", trial)
    create(run, trial)
    recording = make_recording(HeldFolder(run), (), lambda state: None)  # no checkpoints
    trainer = Trainer(trial, parts, recording, lambda: False)
    recording.begin(Beginning(trial, str(device), trainer.course))

    def runner_epoch() -> None:
        longer = trial.model_copy(update={"epochs": trainer.epoch + 1})
        trainer.course = longer.course(parts.train.steps)
        trainer.train()

    def bare() -> None:
        bare_epoch(parts, trainer.augment)

    timed(runner_epoch, device), timed(bare, device)  # warm up
    times = [(timed(runner_epoch, device), timed(bare, device)) for _ in range(rounds)]
    recording.end(None)
    runner, plain = (statistics.median(column) for column in zip(*times, strict=True))
    return runner / plain


def bare_epoch(parts: Parts, generator: torch.Generator) -> None:
    parts.model.train()
    order = torch.randperm(parts.train.samples)
    for inputs, targets in parts.train.iterate(order, generator):
        parts.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(parts.model(inputs), targets)
        loss.backward()
        parts.optimizer.step()
    parts.model.eval()
    with torch.inference_mode():
        for inputs, targets in parts.evaluated["test"].iterate(None, None):
            torch.nn.functional.cross_entropy(parts.model(inputs), targets)


def timed(work: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
