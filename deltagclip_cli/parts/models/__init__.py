"""Models: each is built by a function of the shape of one input and the number of classes.

A builder of ours is called as ``builder(shape, classes, **options)``, with ``shape`` as images
``(C, H, W)``, vectors ``(D,)`` or texts of at most so many tokens ``(L,)`` have it. What it returns
maps inputs ``(N, *shape)`` to logits ``(N, classes)``, unless its task wants something else. What
torchvision has is called by its own convention, without pretrained weights. Whoever wants a model
calls :func:`build` and need not know which of the two it is.

A builder that reads texts has an option ``pretrained`` and an attribute ``tokenizer``, the class of
what cuts them, such as ``models.bert.PretrainedTokenizer``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import Catalogue, UsageError, load_target
from deltagclip_cli.source.signatures import source_path

if TYPE_CHECKING:
    from torch import nn

PREFIX = "torchvision:"

# These two return their auxiliary outputs too while they train, unless told not to, and warn
# unless told how to initialise themselves.
_LOGITS_ONLY = {"aux_logits": False, "init_weights": True}

# Other decorators may stand between this one and the function, over several lines.
_REGISTERED = re.compile(r"^@register_model\(\)$.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)


@cache
def torchvision_names() -> Mapping[str, str]:
    """Return ``{"torchvision:resnet50": "torchvision.models.resnet:resnet50", ...}``, sorted.

    Torchvision marks every builder with ``@register_model()``. The files directly in its folder
    ``models`` are the classifiers; segmentation, detection and so on have folders of their own.
    """
    try:
        folder = source_path("torchvision.models").parent
    except LookupError:
        return {}
    found = {
        f"{PREFIX}{name}": f"torchvision.models.{file.stem}:{name}"
        for file in folder.glob("*.py")
        for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
    }
    return dict(sorted(found.items()))


TABLE = Catalogue(
    "model",
    {
        "bert": "deltagclip_cli.parts.models.bert:bert",
        "kan": "deltagclip_cli.parts.models.kan:kan",
        "mlp": "deltagclip_cli.parts.models.mlp:mlp",
        "resnet18": "deltagclip_cli.parts.models.resnet:resnet18",
        "vae": "deltagclip_cli.parts.models.vae:vae",
        "vit_small": "deltagclip_cli.parts.models.vit:vit_small",
        "vit_tiny": "deltagclip_cli.parts.models.vit:vit_tiny",
        "wide_mlp": "deltagclip_cli.parts.models.wide_mlp:wide_mlp",
    },
    # The last four are torchvision's; see build for what they are set to.
    supplied=frozenset(
        {"shape", "classes", "num_classes", "weights", "progress", "aux_logits", "init_weights"}
    ),
    installed=torchvision_names,
    bounds={
        "kan.grid": {"ge": 1, "le": 1_000},
        "kan.order": {"ge": 1, "le": 10},
        "vae.hidden": {"ge": 1},
        "vae.latent": {"ge": 1},
        "wide_mlp.depth": {"ge": 1, "le": 10_000},
        "wide_mlp.width": {"ge": 1},
    },
)


def build(
    target: str, shape: tuple[int, ...], classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build the model behind a target of :data:`TABLE`, on the CPU, in the default dtype.

    The shape is that of one input, ``(C, H, W)`` or ``(D,)``. A value of an option that no bound
    forbids may be refused with UsageError, as may the shape.
    """
    model: nn.Module
    if not target.startswith("torchvision."):
        model = load_target(target)(shape, classes, **options)
        return model
    name = target.rpartition(":")[2]
    settings = _LOGITS_ONLY if name in ("googlenet", "inception_v3") else {}
    try:
        model = load_target(target)(weights=None, num_classes=classes, **settings, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"model {PREFIX}{name} does not accept its options "
            f"({', '.join(f'{key}={value!r}' for key, value in options.items()) or 'none'}).\n"
            f"  torchvision says: {error}\n"
            "  Correct or remove the option; torchvision's documentation lists what there is."
        ) from error
    return model


def reads_texts(target: str) -> bool:
    """Return whether the model behind a target reads texts."""
    return not target.startswith("torchvision.") and hasattr(load_target(target), "tokenizer")


def tokenizer(target: str, options: Mapping[str, Any], *, download: bool) -> Any:
    """Return what cuts texts into tokens for a model; None if it reads no texts."""
    if not reads_texts(target):
        return None
    return load_target(target).tokenizer(options["pretrained"], download=download)


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
