"""An epoch of the runner beside a bare loop over the same tensors, model and optimizer.

The runner's epoch is what ``deltagclip train`` does: the loop with its meters, an evaluation, a
line of metrics and TensorBoard. The bare loop trains and evaluates, and takes nothing down: no
loss, no accuracy. Neither writes a checkpoint, whose time is that of the disk. The steps of the MLP
take about 1.5 ms, those of ResNet-18 a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.harness import Figure, Session
from benchmarks.harness.training import runner, trials_of
from deltagclip_cli.training.assembly import Parts, assemble

DEVICES = ("cpu", "cuda")
BARE = "a bare loop, same everything"
SPEC = """
experiments:
  MLP:
    model: {name: mlp, hidden: [256, 256]}
    data: {name: synthetic, channels: 1, size: 28, train: 60000, test: 10000, batch_size: 100}
    epochs: 1000
    optimizers: &optimizers
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
  ResNet-18:
    model: resnet18
    data: {name: synthetic, train: 256, test: 64, batch_size: 64, augment: [random_crop, flip]}
    epochs: 1000
    optimizers: *optimizers
"""


def measure(session: Session) -> Iterator[Figure]:
    rounds = 3 if session.quick else 9
    spec = (
        SPEC.replace("0000,", "000,").replace("train: 256", "train: 128") if session.quick else SPEC
    )
    for trial in trials_of(session.write("experiments.yaml", spec)):
        if session.quick and trial.label != "delta-gclip":
            continue
        parts = assemble(trial, session.folder, torch.device(session.device))
        with runner(trial, parts, session.folder / "runs") as ours:
            augment = ours.trainer.augment
            epochs = {
                "ours": ours.epoch,
                BARE: lambda parts=parts, augment=augment: bare_epoch(parts, augment),
            }
            times = session.turns(epochs, rounds)
        yield times.as_long(f"{trial.experiment}, {trial.label}", "ours", BARE)


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
