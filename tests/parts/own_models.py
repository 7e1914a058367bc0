"""Models as people write them, and what they get wrong."""

import torch
from torch import nn


class Net(nn.Module):
    """It names all that there is."""

    def __init__(self, shape, classes, channels, targets_shape, width=4):
        super().__init__()
        self.seen = (shape, classes, channels, targets_shape)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(torch.Size(shape).numel(), width), nn.Linear(width, classes)
        )

    def forward(self, inputs):
        return self.layers(inputs)


def foreign(num_classes, in_chans=3, **more):
    """It calls sizes by other names."""
    assert not more
    return nn.Sequential(nn.Conv2d(in_chans, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def fixed(inputs=64, outputs=4):
    """It wants to know nothing."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))


def with_default(classes=7):
    """It can do without the number of classes."""
    return nn.Linear(1, classes)


def nothing(shape):
    """It forgets to return the network."""
    nn.Flatten()


def a_class(shape):
    """It returns the class, not a network."""
    return Net


def frozen(shape, classes):
    """Nothing in it learns."""
    return nn.Linear(shape[-1], classes).requires_grad_(False)


class Hidden(nn.Module):
    """Its layers are where nobody looks for them."""

    def __init__(self, shape):
        super().__init__()
        self.layers = [nn.Linear(shape[-1], 2)]


def picky(shape, classes):
    """It refuses shapes."""
    if len(shape) != 2:
        raise ValueError(f"I want sequences, not {shape}")
    return nn.Linear(shape[-1], classes)


def mistaken(shape):
    """It has a mistake in it."""
    return nn.Linear(shape[7], 2)
