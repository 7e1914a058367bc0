"""The shapes of inputs that models ask for."""

from __future__ import annotations

from deltagclip_cli.errors import UsageError


def image_shape(model: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``(C, H, W)``, or a UsageError which says that ``model`` needs images."""
    if len(shape) != 3:
        raise UsageError(
            f"model {model} needs images of shape (C, H, W), got inputs of shape {shape}.\n"
            "  Choose a data set of images, or the model mlp or wide_mlp."
        )
    channels, height, width = shape
    return channels, height, width
