"""Three small problems, made up and of different kinds: their data and their networks.

Each trains in about half a second. Nothing is read or downloaded, and all trials see the same data:
a training split, one for the choice of settings, and one for the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from deltagclip_cli.parts.datasets.dataset import Dataset, Outline, Split, described

_TRAIN, _MEASURED = 3000, 1000  # samples to learn from, and in each of the other two splits
_PATTERNS, _SIDE, _PATCH = 8, 10, 4
_NOISE = 0.5  # of images whose patterns are of -1 and 1
_WRONG = 0.15  # the share of training labels that are drawn anew
_WORDS, _LENGTH = 48, 12
_FEATURES = 20

# By it an optimizer is tried out before anything is trained; of the others, one need not know.
_OUTLINE_OF_SHAPES = Outline((1, _SIDE, _SIDE), _PATTERNS, _TRAIN, _MEASURED, torch.float32)


def _dataset(draw: Callable[[Generator, int], Split], classes: int) -> Dataset:
    """Draw the three splits from one generator, always the same."""
    generator = torch.Generator().manual_seed(0)
    train = draw(generator, _TRAIN)
    validation, test = draw(generator, _MEASURED), draw(generator, _MEASURED)
    return Dataset(train, test, classes, None, None, validation=validation)


@described(lambda root, image_size: _OUTLINE_OF_SHAPES)
def shapes(root: Path, image_size: int | None) -> Dataset:
    """Made images: a pattern at a random place in noise; some training labels are wrong.

    Inputs are float32 ``(N, 1, 10, 10)``, classes are 8 patterns of 4 x 4.
    """
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(_PATTERNS, _PATCH, _PATCH, generator=generator).sign()
    wrong = iter([_WRONG, 0.0, 0.0])

    def draw(generator: Generator, samples: int) -> Split:
        labels = torch.randint(0, _PATTERNS, (samples,), generator=generator)
        images = _NOISE * torch.randn(samples, 1, _SIDE, _SIDE, generator=generator)
        places = torch.randint(0, _SIDE - _PATCH + 1, (samples, 2), generator=generator).tolist()
        for image, label, (row, column) in zip(images, labels.tolist(), places, strict=True):
            image[0, row : row + _PATCH, column : column + _PATCH] += patterns[label]
        is_wrong = torch.rand(samples, generator=generator) < next(wrong)
        others = torch.randint(0, _PATTERNS, (samples,), generator=generator)
        return Split(images, torch.where(is_wrong, others, labels))

    return _dataset(draw, _PATTERNS)


class Convolutions(nn.Sequential):
    """A network of two convolutions and a linear layer, for :func:`shapes`."""

    def __init__(self, classes: int, width: int = 12) -> None:
        super().__init__(
            nn.Conv2d(1, width, _PATCH),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, classes),
        )


@described(lambda root, image_size: None)
def grammar(root: Path, image_size: int | None) -> Dataset:
    """Made sentences, in which a word hangs on the two before it; targets are one word ahead.

    Inputs and targets are int64 ``(N, 12)``. Words are as unevenly frequent as those of languages:
    the n-th has a weight of 1/n.
    """
    generator = torch.Generator().manual_seed(1)
    weights = 1 / torch.arange(1, _WORDS + 1, dtype=torch.float64)
    follow = torch.multinomial(weights, _WORDS * 4 * 3, replacement=True, generator=generator)
    follow = follow.reshape(_WORDS, 4, 3)

    def draw(generator: Generator, samples: int) -> Split:
        first = torch.multinomial(weights, 2 * samples, replacement=True, generator=generator)
        words = list(first.reshape(2, samples))
        for _ in range(_LENGTH - 1):
            choice = torch.randint(0, 3, (samples,), generator=generator)
            words.append(follow[words[-1], words[-2] % 4, choice])
        sentences = torch.stack(words, dim=1)
        return Split(sentences[:, :-1], sentences[:, 1:])

    return _dataset(draw, 0)


class Attention(nn.Module):
    """A transformer of one layer, from words ``(N, 12)`` to logits ``(N, 48, 12)``."""

    def __init__(self, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(_WORDS, width)
        self.places = nn.Parameter(0.02 * torch.randn(_LENGTH, width))
        self.before, self.between, self.after = (nn.LayerNorm(width) for _ in range(3))
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, _WORDS)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.words(inputs) + self.places
        samples, length, width = hidden.shape
        parts = self.inputs(self.before(hidden)).reshape(samples, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.outputs(mixed.transpose(1, 2).reshape(samples, length, width))
        hidden = hidden + self.outer(nn.functional.gelu(self.inner(self.between(hidden))))
        logits: Tensor = self.head(self.after(hidden))
        return logits.transpose(1, 2)


@described(lambda root, image_size: None)
def measurements(root: Path, image_size: int | None) -> Dataset:
    """Features of very different scales, from 1 down to 1/100, and a smooth function of them.

    Inputs are float32 ``(N, 20)``, targets ``(N, 1)``, with noise of a tenth of their spread.
    """
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(0, -2, _FEATURES)
    inner = 1.5 * torch.randn(_FEATURES, 16, generator=generator) / _FEATURES**0.5
    outer = torch.randn(16, 1, generator=generator) / 2.4

    def draw(generator: Generator, samples: int) -> Split:
        features = torch.randn(samples, _FEATURES, generator=generator)
        noise = 0.1 * torch.randn(samples, 1, generator=generator)
        return Split(features * scales, torch.tanh(features @ inner) @ outer + noise)

    return _dataset(draw, 1)


class Deep(nn.Sequential):
    """A deep and narrow network of tanh layers, from features to one number."""

    def __init__(self, shape: tuple[int, ...], width: int = 32, depth: int = 4) -> None:
        layers: list[nn.Module] = []
        for inputs in (shape[0], *[width] * (depth - 1)):
            layers += [nn.Linear(inputs, width), nn.Tanh()]
        super().__init__(*layers, nn.Linear(width, 1))
