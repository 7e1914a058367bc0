"""Torchvision's classification models, under our convention."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models import PREFIX

# These two return their auxiliary outputs too while they train, unless told not to, and warn
# unless told how to initialise themselves.
_LOGITS_ONLY = {"aux_logits": False, "init_weights": True}
_SETTINGS = {"googlenet": _LOGITS_ONLY, "inception_v3": _LOGITS_ONLY}


def build(
    target: str, shape: tuple[int, ...], classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build a torchvision model without pretrained weights and check that it takes the inputs.

    Args:
        target: such as ``"torchvision.models.resnet:resnet50"``.
        shape: of one input, ``(C, H, W)``.
        classes: passed on as ``num_classes``.
        options: passed on to torchvision's builder as they are.

    Raises:
        UsageError: torchvision refuses an option, or the model refuses such inputs.
    """
    module, _, name = target.partition(":")
    builder = getattr(importlib.import_module(module), name)
    settings = _SETTINGS.get(name, {})
    try:
        model: nn.Module = builder(weights=None, num_classes=classes, **settings, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"model {PREFIX}{name} does not accept its options "
            f"({', '.join(f'{key}={value!r}' for key, value in options.items()) or 'none'}).\n"
            f"  torchvision says: {error}\n"
            "  Correct or remove the option; torchvision's documentation lists what there is."
        ) from error
    _check_channels(name, model, shape)
    _check_forward(name, model, shape)
    return model


def _check_channels(name: str, model: nn.Module, shape: tuple[int, ...]) -> None:
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    if first is not None and (len(shape) != 3 or shape[0] != first.in_channels):
        raise UsageError(
            f"model {PREFIX}{name} takes images with {first.in_channels} channels, "
            f"got inputs of shape {shape}.\n"
            "  Choose a data set with such images, or one of our own models "
            "(resnet18, vit_tiny, mlp), which fit themselves to the channels."
        )


def _check_forward(name: str, model: nn.Module, shape: tuple[int, ...]) -> None:
    """Send two inputs through the model on the meta device, where only shapes are computed."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    state = {key: value.to("meta") for key, value in tensors}
    model.eval()
    try:
        functional_call(model, state, (torch.empty(2, *shape, device="meta"),))
    except NotImplementedError:
        return  # An operation without a meta kernel says nothing about the shape.
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"model {PREFIX}{name} does not take inputs of shape {shape}.\n"
            f"  torchvision says: {error}\n"
            "  Set image_size in the data to the size that the model was made for, "
            "or give the model's own option for it."
        ) from error
    finally:
        model.train()
