"""What parts of one's own cost, beside the same without this package, and beside parts of ours.

*Epochs* are as in ``runner_epoch.py``: the runner trains, measures, evaluates and takes down, the
bare loop trains, evaluates and adds up what the same file defines. *Tensors* are
indexed, *a data set* goes through torch's ``DataLoader`` in both, with a worker or without.
*validate*, and a sweep that only shows what it would run, are whole commands, each a process of its
own, on a spec that names files and on one with parts of ours; of the latter alone *validate* loads
torch and builds the parts.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip
from benchmarks.harness.training import runner, trials_of
from deltagclip_cli.training.assembly import assemble

BARE, OTHERS = "a bare loop, same everything", "on a spec with parts of ours"
PARTS = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, width: int = 512):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3072, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10),
        )

    def forward(self, images):
        return self.layers(images)

def task(model, inputs, targets):
    outputs = model(inputs)
    right = (outputs.argmax(dim=1) == targets).float()
    return functional.cross_entropy(outputs, targets, reduction="none"), {"accuracy": right}

def pictures(samples: int = 2560):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(samples, 3, 32, 32, generator=generator)
    targets = torch.randint(0, 10, (samples,), generator=generator)
    cut = samples * 4 // 5
    return (images[:cut], targets[:cut]), (images[cut:], targets[cut:])

class Pictures(torch.utils.data.Dataset):
    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, number):
        return functional.avg_pool2d(self.images[number], 3, 1, 1), self.targets[number]

def read_pictures(samples: int = 2560):
    return tuple(Pictures(*split) for split in pictures(samples))

class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                param.sub_(param.grad, alpha=group["lr"])
"""
SPEC = """
experiments:
  tensors: &own
    model: {name: parts.py:Net, width: 512}
    data: {name: parts.py:pictures, batch_size: 64, evaluation_batch_size: 256}
    task: parts.py:task
    epochs: 1000
    optimizers: {descent: {name: parts.py:Descent, lr: 0.01}}
  dataset:
    <<: *own
    data: &read {name: parts.py:read_pictures, batch_size: 64, evaluation_batch_size: 256}
  workers:
    <<: *own
    data: {<<: *read, workers: 1}
"""
OURS = """
experiments:
  ours:
    model: {name: mlp, hidden: [64]}
    data: {name: synthetic, batch_size: 64}
    task: classify
    epochs: 1000
    optimizers: {descent: {name: sgd, lr: 0.01}}
"""


def measure(session: Session) -> Iterator[Figure]:
    session.write("parts.py", PARTS)
    own = session.write("own.yaml", SPEC)
    for trial in trials_of(own):
        device = torch.device(session.device)
        parts = assemble(trial, session.folder, device)
        bare = BareLoop(session.folder, trial.experiment, device)
        with runner(trial, parts, session.folder / "runs") as ours:
            loops = {"ours": ours.epoch, BARE: bare.epoch}
            times = session.turns(loops, 2 if session.quick else 7)
        yield times.as_long(f"epoch, {trial.experiment}", "ours", BARE)
    one = session.write("one.yaml", SPEC.partition("  dataset:")[0])  # validate builds all
    ours_alone = session.write("ours.yaml", OURS)
    for words in (["validate"], ["sweep", "--dry-run", "--spec"]):
        commands = {
            "own": command(deltagclip(*words, str(one))),
            OTHERS: command(deltagclip(*words, str(ours_alone))),
        }
        times = session.turns(commands, 2 if session.quick else 9)
        yield times.as_long(f"deltagclip {words[0]}, own parts", "own", OTHERS)


class BareLoop:
    """What somebody would write who has these parts and no runner."""

    def __init__(self, folder: Path, name: str, device: torch.device) -> None:
        parts = load(folder / "parts.py")
        self.device = device
        self.task = parts.task
        self.model = parts.Net(width=512).to(device)
        self.optimizer = parts.Descent(self.model.parameters(), lr=0.01)
        train, test = parts.pictures() if name == "tensors" else parts.read_pictures()
        self.train: Callable[[], Iterable[Any]]
        self.test: Callable[[], Iterable[Any]]
        if name == "tensors":
            train, test = ([each.to(device) for each in split] for split in (train, test))
            self.train = lambda: indexed(train, torch.randperm(len(train[1])).split(64))
            self.test = lambda: indexed(test, torch.arange(len(test[1])).split(256))
        else:
            workers = 1 if name == "workers" else 0
            kept = {"num_workers": workers, "persistent_workers": bool(workers)}
            make: Any = torch.utils.data.DataLoader
            first, second = make(train, 64, shuffle=True, **kept), make(test, 256, **kept)
            self.train, self.test = lambda: first, lambda: second

    def epoch(self) -> None:
        measured: dict[str, float] = defaultdict(float)

        def losses(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            losses, metrics = self.task(self.model, inputs.to(self.device), targets.to(self.device))
            for name, values in {"loss": losses.detach(), **metrics}.items():
                measured[name] += values.sum().item()
            return losses

        self.model.train()
        for inputs, targets in self.train():
            self.optimizer.zero_grad(set_to_none=True)
            losses(inputs, targets).mean().backward()
            self.optimizer.step()
        self.model.eval()
        with torch.inference_mode():
            for inputs, targets in self.test():
                losses(inputs, targets)


def indexed(split: Any, batches: Iterable[torch.Tensor]) -> Iterable[Any]:
    return ((split[0][batch], split[1][batch]) for batch in batches)


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parts_of_the_bare_loop", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
