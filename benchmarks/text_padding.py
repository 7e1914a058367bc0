"""Fine-tuning a small BERT on texts of many lengths: batches as they come here against full width.

    python benchmarks/text_padding.py [--steps 40] [--rounds 3] [--texts FILE]

The rival does what many scripts do: ``padding="max_length"``, every text filled up to 300 tokens.
Model, optimizer, batch size (32) and texts are the same; so are, but for rounding, the losses, for
padding is masked. A third way pads each batch of a shuffled order to its own longest, without
batches of equal length, which shows what that part gains. The network has the size of MiniLM (6
layers, width 384) and random weights. Without a file of texts, the lengths are drawn from a
distribution like that of ``emotion`` (median 20, longest 87). All run in turns in one process; the
ratios are of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from deltagclip_cli.parts.datasets.dataset import Split
from deltagclip_cli.parts.datasets.texts import TokenBatches
from deltagclip_cli.parts.models.bert import TextClassifier

MAX_LENGTH, BATCH, CLASSES, TEXTS = 300, 32, 6, 16_000
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="in a round; a tenth at full width")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=Path, help="a file of emotion; its words are counted")
    options = parser.parse_args()
    console = Console()
    console.print(describe_machine())
    split = texts(lengths_of(options.texts) if options.texts else drawn_lengths())
    speeds = compare(split, options.steps, options.rounds)
    rival = speeds.pop("all to 300 tokens")
    table = Table("texts per second", "this / all padded to 300 tokens")
    for name, speed in speeds.items():
        table.add_row(name, f"{speed / rival:.1f}")
    console.print(table)


def drawn_lengths() -> np.ndarray:
    """Numbers of tokens that are spread like those of ``emotion``."""
    drawn = np.random.default_rng(0).gamma(shape=3.3, scale=5.8, size=TEXTS)
    return np.clip(3 + drawn, 4, 87).astype(int)


def lengths_of(file: Path) -> np.ndarray:
    """About as many tokens as the texts of a file have: their words and two marks."""
    lines = file.read_text(encoding="utf-8").splitlines()[1:]
    return np.array([len(line.split()) + 2 for line in lines])


def texts(lengths: np.ndarray) -> Split:
    """Random words in texts of these lengths, filled up to 300 tokens with 0."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 30_000, (len(lengths), MAX_LENGTH), generator=generator)
    tokens[torch.arange(MAX_LENGTH) >= torch.from_numpy(lengths)[:, None]] = 0
    targets = torch.randint(CLASSES, (len(lengths),), generator=generator)
    return Split(tokens.to(torch.int32), targets)


def compare(split: Split, steps: int, rounds: int) -> dict[str, float]:
    """Median texts per second of each way."""
    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    config.num_labels = CLASSES
    model = TextClassifier(BertForSequenceClassification(config))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ways = {
        "by length, to the longest": by_length,
        "shuffled, to the longest": to_longest,
        "all to 300 tokens": full_width,
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(number))
        for name, way in ways.items():
            # Batches of full width all take the same time.
            batches = list(
                islice(way(split, order), -(-steps // 10) if way is full_width else steps)
            )
            begin = time.perf_counter()
            train(model, optimizer, batches)
            if number:  # the first warms up
                speeds[name].append(len(batches) * BATCH / (time.perf_counter() - begin))
    return {name: statistics.median(column) for name, column in speeds.items()}


def by_length(split: Split, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of this project."""
    made = TokenBatches(split, batch_size=BATCH, device=CPU, padding=0)
    yield from made.iterate(order, None)


def full_width(split: Split, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a shuffled order, 300 tokens wide."""
    for index in torch.split(order, BATCH):
        yield split.inputs[index].long(), split.targets[index]


def to_longest(split: Split, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The same, as wide as the longest text in each."""
    for tokens, targets in full_width(split, order):
        yield tokens[:, : int((tokens != 0).sum(1).max())], targets


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]]
) -> None:
    for tokens, targets in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(tokens), targets).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
