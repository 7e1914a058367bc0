"""The shapes of inputs and the widths of layers that models ask for."""

from __future__ import annotations

from collections.abc import Sequence

from deltagclip_cli.core import UsageError


def image_shape(model: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``(C, H, W)``, or a UsageError which says that ``model`` needs images."""
    if len(shape) != 3:
        raise UsageError(
            f"model {model} needs images of shape (C, H, W), got inputs of shape {shape}.\n"
            "  Choose a data set of images, or the model mlp or wide_mlp."
        )
    channels, height, width = shape
    return channels, height, width


def check_widths(model: str, hidden: Sequence[int]) -> None:
    """Raise a UsageError unless every width in a list, which no bound reaches, is positive."""
    if any(width < 1 for width in hidden):
        raise UsageError(
            f"model {model}: hidden must list widths of at least 1 (got {list(hidden)})."
        )
