"""An epoch of a language model, training and test, against a bare loop.

    python benchmarks/language_epoch.py [--rounds 5]

The bare loop has the same model, optimizer, windows and order, takes them out of one tensor in
memory as nanoGPT does, and measures the loss of the test set and nothing else. The text is made of
words that are drawn, for the time does not depend on what it says. Both are run in turns in one
process; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from machine import describe_machine
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.assembly import Parts, assemble, find_device
from deltagclip_cli.training.sinks import Beginning, make_recording
from deltagclip_cli.training.trainer import Trainer
from deltagclip_cli.training.worker import Checkpoints

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
    "epochs": 1,
    "optimizers": {"adamw": {"name": "adamw", "lr": 1e-3}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console = Console()
    console.print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        draw = random.Random(0)
        words = ["the", "rate", "falls", "where", "norms", "of", "gradients", "are", "large"]
        text = " ".join(draw.choice(words) for _ in range(30_000))
        (Path(folder) / "text.txt").write_text(text)
        ours, bare = compare(Path(folder), options.rounds)
    console.print(f"epoch {ours:.2f} s, bare loop {bare:.2f} s: {ours / bare:.3f} times as long")


def compare(root: Path, rounds: int) -> tuple[float, float]:
    """Return the median seconds of an epoch of ours and of the bare loop."""
    trial = make_trial("language", Experiment.model_validate(SPEC), "adamw", 0)
    parts = assemble(trial, root, find_device("auto"))
    text = torch.frombuffer(bytearray((root / "text.txt").read_bytes()), dtype=torch.uint8)
    test = len(text) // 10
    rows = [text[:-test].to(parts.device).long(), text[-test:].to(parts.device).long()]

    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for round_number in range(rounds + 1):
        trainer, others = trainer_of(trial, copy.deepcopy(parts), root), copy.deepcopy(parts)
        bare = partial(bare_loop, others, *rows)
        for name, loop in (("ours", trainer.train), ("bare", bare)):
            started = time.perf_counter()
            loop()
            if round_number:  # the first warms up
                times[name].append(time.perf_counter() - started)
    return statistics.median(times["ours"]), statistics.median(times["bare"])


def trainer_of(trial: Trial, parts: Parts, root: Path) -> Trainer:
    """Return a trainer that begins, with all that is recorded, in a run folder of its own."""
    run = RunFolder.of(Path(tempfile.mkdtemp(dir=root)), trial)
    create(run, trial)
    held = HeldFolder(run)
    recording = make_recording(held, (), Checkpoints(held, trial.identity).save)
    trainer = Trainer(trial, parts, recording, lambda: False)
    recording.begin(Beginning(trial, str(parts.device), trainer.course))
    return trainer


def bare_loop(parts: Parts, train: Tensor, test: Tensor) -> None:
    """Train on all windows in a random order, and measure the loss of the test set."""
    model, optimizer = parts.model, parts.optimizer
    model.train()
    for starts in (WINDOW * torch.randperm((len(train) - 1) // WINDOW)).split(BATCH):
        optimizer.zero_grad()
        loss(model, train, starts).backward()
        optimizer.step()
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for starts in (WINDOW * torch.arange((len(test) - 1) // WINDOW)).split(BATCH):
            total += len(starts) * float(loss(model, test, starts))


def loss(model: torch.nn.Module, row: Tensor, starts: Tensor) -> Tensor:
    inputs = torch.stack([row[start : start + WINDOW] for start in starts.tolist()])
    targets = torch.stack([row[start + 1 : start + 1 + WINDOW] for start in starts.tolist()])
    logits = model(inputs)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


if __name__ == "__main__":
    main()
