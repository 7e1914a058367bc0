"""Fine-tuning a small BERT on texts of many lengths: batches as they come here beside full width.

The rival does what many scripts do: ``padding="max_length"``, every text filled up to 300 tokens.
Model, optimizer, batch size (32) and texts are the same; so are, but for rounding, the losses, for
padding is masked. A third way pads each batch of a shuffled order to its own longest, without
batches of equal length, which shows what that part gains. The network has the size of MiniLM (6
layers, width 384) and random weights. The lengths are drawn from a distribution like that of
``emotion`` (median 20, longest 87). A turn of the rival has a tenth of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.harness import Figure, Session
from deltagclip_cli.parts.datasets.dataset import Split
from deltagclip_cli.parts.datasets.texts import TokenBatches
from deltagclip_cli.parts.models.bert import TextClassifier

MAX_LENGTH, BATCH, CLASSES, TEXTS = 300, 32, 6, 16_000
CPU = torch.device("cpu")
FULL = "all padded to 300 tokens"


def measure(session: Session) -> Iterator[Figure]:
    torch.set_num_threads(1)  # as a trial has
    steps, rounds = (10, 1) if session.quick else (20, 3)
    split = texts(drawn_lengths())
    model = small_bert(layers=1 if session.quick else 6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ways = {
        "by length, to the longest": (by_length, steps),
        "shuffled, to the longest": (to_longest, steps),
        FULL: (full_width, steps // 10),  # which all take the same time
    }
    chance = torch.Generator().manual_seed(0)

    def made(way: Way, steps: int) -> Callable[[], None]:
        order = torch.randperm(len(split), generator=chance)
        batches = list(islice(way(split, order), steps))
        return lambda: train(model, optimizer, batches)

    contenders = {
        name: lambda way=way, steps=steps: made(way, steps) for name, (way, steps) in ways.items()
    }
    times = session.turns(contenders, rounds, made_anew=True)
    times[FULL] = [10 * each for each in times[FULL]]
    for name in list(ways)[:2]:
        yield times.as_fast(f"texts, {name}", name, FULL)


def small_bert(layers: int = 6) -> TextClassifier:
    """A network of the size of MiniLM with random weights."""
    config = BertConfig(hidden_size=384, num_hidden_layers=layers, intermediate_size=1536)
    config.num_labels = CLASSES
    return TextClassifier(BertForSequenceClassification(config))


def drawn_lengths() -> np.ndarray:
    """Numbers of tokens that are spread like those of ``emotion``."""
    drawn = np.random.default_rng(0).gamma(shape=3.3, scale=5.8, size=TEXTS)
    return np.clip(3 + drawn, 4, 87).astype(int)


def texts(lengths: np.ndarray) -> Split:
    """Random words in texts of these lengths, filled up to 300 tokens with 0."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 30_000, (len(lengths), MAX_LENGTH), generator=generator)
    tokens[torch.arange(MAX_LENGTH) >= torch.from_numpy(lengths)[:, None]] = 0
    targets = torch.randint(CLASSES, (len(lengths),), generator=generator)
    return Split(tokens.to(torch.int32), targets)


Way = Callable[[Split, Tensor], Iterator[tuple[Tensor, Tensor]]]


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
