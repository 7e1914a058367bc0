"""An epoch of the runner beside a bare loop over the same tensors, model and optimizer.

The runner's epoch is what ``deltagclip train`` does: the loop with its meters, an evaluation, a
line of metrics and TensorBoard. The bare loop trains and evaluates, and adds up the loss and the
accuracy of each batch, as scripts do; what that costs is shown by the same loop without it. None
writes a checkpoint, whose time is that of the disk. The steps of the MLP take about 1.5 ms, those
of ResNet-18 a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import Figure, Session
from benchmarks.harness.training import bare_epoch, bare_steps, runner, trials_of
from deltagclip_cli.training.assembly import assemble

DEVICES = ("cpu", "cuda")
BARE, UNMEASURED = "a bare loop, same everything", "a bare loop that measures nothing"
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
    data: {name: synthetic, train: 128, test: 32, batch_size: 64, augment: [random_crop, flip]}
    epochs: 1000
    optimizers: *optimizers
"""


def measure(session: Session) -> Iterator[Figure]:
    rounds = 3 if session.quick else 7
    spec = SPEC.replace("0000,", "000,") if session.quick else SPEC
    for trial in trials_of(session.write("experiments.yaml", spec)):
        if session.quick and trial.label != "delta-gclip":
            continue
        parts = assemble(trial, session.folder, torch.device(session.device))
        with runner(trial, parts, session.folder / "runs") as ours:
            augment = ours.trainer.augment
            epochs = {
                "ours": ours.epoch,
                BARE: partial(bare_epoch, parts, augment),
                UNMEASURED: partial(bare_epoch, parts, augment, cross_entropy),
                "our steps": ours.steps,
                "bare steps": partial(bare_steps, parts, augment, cross_entropy),
            }
            times = session.turns(epochs, rounds)
        name = f"{trial.experiment}, {trial.label}"
        for floor in (BARE, UNMEASURED):
            yield times.as_long(name, "ours", floor)
        steps = times.as_long(f"steps alone of {name}", "our steps", "bare steps")
        yield replace(steps, against=UNMEASURED)


def cross_entropy(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(model(inputs), targets)
