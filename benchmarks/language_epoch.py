"""An epoch of a language model, training and test, beside a bare loop.

The bare loop has the same model, optimizer, windows and order, takes them out of one tensor in
memory as nanoGPT does, and adds up the loss of the batches that it trains and of the test set. The
text is made of words that are drawn, for the time does not depend on what it says.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import Figure, Session
from benchmarks.harness.training import runner
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.training.assembly import Parts, assemble

DEVICES = ("cpu", "cuda")
BARE = "a bare loop, same everything"
WINDOW, BATCH = 64, 16
SPEC = {
    "model": {"name": "gpt", "layers": 2, "heads": 4, "width": 64},
    "data": {
        "name": "tokens",
        "path": "text.txt",
        "window": WINDOW,
        "batch_size": BATCH,
        "evaluation_batch_size": BATCH,
        "splits": {"test": 0.1},
    },
    "task": "language_model",
    "epochs": 1000,
    "optimizers": {"adamw": {"name": "adamw", "lr": 1e-3}},
}


def measure(session: Session) -> Iterator[Figure]:
    text = session.write("text.txt", drawn_text(3_000 if session.quick else 30_000))
    trial = make_trial("language", Experiment.model_validate(SPEC), "adamw", 0)
    parts = assemble(trial, session.folder, torch.device(session.device))
    others = copy.deepcopy(parts)
    tokens = torch.frombuffer(bytearray(text.read_bytes()), dtype=torch.uint8)
    test = len(tokens) // 10
    rows = [tokens[:-test].to(parts.device).long(), tokens[-test:].to(parts.device).long()]
    with runner(trial, parts, session.folder / "runs") as ours:
        loops = {"ours": ours.epoch, BARE: lambda: bare_loop(others, *rows)}
        times = session.turns(loops, 2 if session.quick else 5)
    yield times.as_long("language model", "ours", BARE)


def drawn_text(words: int) -> str:
    draw = random.Random(0)
    some = ["the", "rate", "falls", "where", "norms", "of", "gradients", "are", "large"]
    return " ".join(draw.choice(some) for _ in range(words))


def bare_loop(parts: Parts, train: Tensor, test: Tensor) -> None:
    """Train on all windows in a random order and evaluate, adding up the losses."""
    model, optimizer = parts.model, parts.optimizer
    total = 0.0
    model.train()
    for starts in (WINDOW * torch.randperm((len(train) - 1) // WINDOW)).split(BATCH):
        optimizer.zero_grad()
        trained = loss(model, train, starts)
        trained.backward()
        optimizer.step()
        total += len(starts) * float(trained)
    model.eval()
    with torch.inference_mode():
        for starts in (WINDOW * torch.arange((len(test) - 1) // WINDOW)).split(BATCH):
            total += len(starts) * float(loss(model, test, starts))


def loss(model: torch.nn.Module, row: Tensor, starts: Tensor) -> Tensor:
    inputs = torch.stack([row[start : start + WINDOW] for start in starts.tolist()])
    targets = torch.stack([row[start + 1 : start + 1 + WINDOW] for start in starts.tolist()])
    logits = model(inputs)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
