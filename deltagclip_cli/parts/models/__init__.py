"""Models: each is built by a function of the shape of one input and the number of classes.

A builder of ours is called as ``builder(shape, classes, **options)``, with ``shape`` as images
``(C, H, W)``, vectors ``(D,)`` or texts of at most so many tokens ``(L,)`` have it. What it returns
maps inputs ``(N, *shape)`` to logits ``(N, classes)``, unless its task wants something else. What
torchvision and timm have is called by their conventions, without pretrained weights; a class of
transformers takes the options of its configuration, or, named ``AutoModelFor…``, a pretrained
network. Whoever wants a model, anybody's, calls :func:`build`.

A builder that reads texts has an option ``pretrained`` and an attribute ``tokenizer``, the class of
what cuts them, such as ``models.bert.PretrainedTokenizer``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import Catalogue, UsageError
from deltagclip_cli.parts.making import make, wrong_kind
from deltagclip_cli.source.modules import source_path

if TYPE_CHECKING:
    from torch import nn

    from deltagclip_cli.spec.schema import Model

# Options of those whose short names have a prefix. Without weights, torchvision needs no network.
_CONVENTIONS: Mapping[str, Mapping[str, Any]] = {
    "torchvision": {"weights": None, "num_classes": "$classes"},
    "timm": {"num_classes": "$classes", "in_chans": "$channels"},
}

# These return their auxiliary outputs too while they train, unless told not to, and warn
# unless told how to initialise themselves.
_LOGITS_ONLY: Mapping[str, Mapping[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}

# Other decorators may stand between this one and the function, over several lines.
_REGISTERED = re.compile(r"^@register_model(?:\(\))?$.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)


@cache
def _registered(package: str) -> Mapping[str, str]:
    """Return ``{"torchvision:resnet50": "torchvision.models.resnet:resnet50", ...}``, sorted.

    Both packages mark every builder of a classifier with ``@register_model``, in a file directly in
    their folder ``models``. Torchvision has those for segmentation, detection and so on below it.
    """
    try:
        folder = source_path(f"{package}.models").parent
    except LookupError:
        return {}
    found = {
        f"{package}:{name}": f"{package}.models.{file.stem}:{name}"
        for file in folder.glob("*.py")
        for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
    }
    return dict(sorted(found.items()))


_TRANSFORMERS = {
    "transformers:AutoModelForCausalLM": "deltagclip_cli.parts.models.hugging_face:causal_lm",
    "transformers:AutoModelForSequenceClassification": "deltagclip_cli.parts.models.bert:bert",
}
"""Those of transformers that take a pretrained network, whatever its class."""


def _named() -> Mapping[str, str]:
    found = {name: target for name, (target, _) in _configured().items()}
    return {**_TRANSFORMERS, **found} if found else {}


@cache
def _configured() -> Mapping[str, tuple[str, str]]:
    """Return ``{"transformers:GPT2LMHeadModel": ("transformers.models.…:GPT2Config", KIND), …}``.

    The tables of the library tell which class is for what, and has which configuration.
    """
    try:
        folder = source_path("transformers").parent / "models"
    except LookupError:
        return {}
    auto = folder / "auto"
    networks = (auto / "modeling_auto.py").read_text(encoding="utf-8")
    files = (auto / "configuration_auto.py", auto / "auto_mappings.py")
    text = "".join(each.read_text(encoding="utf-8") for each in files if each.is_file())
    configs, homes = (
        dict(_pairs(text, table))
        for table in ("CONFIG_MAPPING_NAMES", "SPECIAL_MODEL_TYPE_TO_MODULE_NAME")
    )
    found: dict[str, tuple[str, str]] = {}
    for kind in ("CAUSAL_LM", "SEQUENCE_CLASSIFICATION", "IMAGE_CLASSIFICATION"):
        for which, name in _pairs(networks, f"MODEL_FOR_{kind}_MAPPING_NAMES"):
            home = homes.get(which, which.replace("-", "_"))
            if which in configs and (folder / home / f"configuration_{home}.py").is_file():
                module = f"transformers.models.{home}.configuration_{home}"
                found.setdefault(f"transformers:{name}", (f"{module}:{configs[which]}", kind))
    return found


def _pairs(text: str, table: str) -> list[tuple[str, str]]:
    """Return the pairs of words in a table, as the source of transformers writes them."""
    found = re.search(rf"^{table} = OrderedDict\(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'\("([^"]+)", "([^"]+)"\)', found[1]) if found else []


TABLE = Catalogue(
    "model",
    {
        "bert": "deltagclip_cli.parts.models.bert:bert",
        "gpt": "deltagclip_cli.parts.models.gpt:gpt",
        "kan": "deltagclip_cli.parts.models.kan:kan",
        "mlp": "deltagclip_cli.parts.models.mlp:mlp",
        "resnet18": "deltagclip_cli.parts.models.resnet:resnet18",
        "vae": "deltagclip_cli.parts.models.vae:vae",
        "vit_small": "deltagclip_cli.parts.models.vit:vit_small",
        "vit_tiny": "deltagclip_cli.parts.models.vit:vit_tiny",
        "wide_mlp": "deltagclip_cli.parts.models.wide_mlp:wide_mlp",
    },
    # The second line is torchvision's, what follows is transformers'; see build for their values.
    supplied=frozenset(
        {
            *("shape", "classes", "vocabulary"),
            *("num_classes", "weights", "progress", "aux_logits", "init_weights"),
            *("vocab_size", "num_labels", "id2label", "label2id", "problem_type", "use_cache"),
            *("bos_token_id", "eos_token_id", "pad_token_id", "is_decoder", "return_dict"),
            *("output_hidden_states", "architectures", "transformers_version"),
        }
    ),
    offered=frozenset(
        {"shape", "classes", "channels", "targets_shape", "vocabulary", "window", "padding"}
    ),
    if_required=frozenset({"vocabulary", "window", "padding"}),
    installed=partial(_registered, "torchvision"),
    unlisted={"timm": partial(_registered, "timm"), "transformers": _named},
    closed={"transformers": "pip install 'deltagclip_cli[bert]'"},
    bounds={
        "gpt.dropout": {"ge": 0, "lt": 1},
        "gpt.heads": {"ge": 1},
        "gpt.layers": {"ge": 1, "le": 1_000},
        "gpt.width": {"ge": 1},
        "kan.grid": {"ge": 1, "le": 1_000},
        "kan.order": {"ge": 1, "le": 10},
        "vae.hidden": {"ge": 1},
        "vae.latent": {"ge": 1},
        "wide_mlp.depth": {"ge": 1, "le": 10_000},
        "wide_mlp.width": {"ge": 1},
    },
)


def build(
    model: Model,
    shape: Any,
    classes: int | None,
    targets_shape: Any = (),
    vocabulary: int | None = None,
    padding: int | None = None,
) -> nn.Module:
    """Build a model, on the CPU, in the default dtype, for the sizes of the data.

    It is given those of them that it names, as ``shape``, ``channels`` (the first of a shape),
    ``classes`` and ``targets_shape``; for tokens also ``vocabulary``, ``window`` (the longest
    input) and ``padding``, where it has no default for them.

    Args:
        shape: of one input, ``(C, H, W)`` or ``(D,)``, or a tree of shapes.
        classes: how many there are; None if the targets are no classes.
        targets_shape: of one target, ``()`` for a class, or a tree of shapes.
        vocabulary: how many tokens there are; None if inputs are no tokens.
        padding: the token that inputs are filled up with; None for none.

    Raises:
        UsageError: it refuses the sizes or its options, fails, or is nothing that can be trained.
    """
    from torch import nn

    sizes = {"shape": shape, "classes": classes, "targets_shape": targets_shape}
    if isinstance(shape, tuple) and shape and isinstance(shape[0], int):
        sizes["channels"] = shape[0]
    if vocabulary is not None:
        sizes |= {"vocabulary": vocabulary, "window": shape[0], "padding": padding}
    supplied = {name: size for name, size in sizes.items() if size is not None}
    prefix, _, short = model.name.rpartition(":")
    usual = {**_CONVENTIONS.get(prefix, {}), **_LOGITS_ONLY.get(short, {})}
    _, kind = _configured().get(model.name, ("", "")) if prefix == "transformers" else ("", "")
    try:
        if kind:
            from deltagclip_cli.parts.models.hugging_face import from_configuration

            built = from_configuration(model, kind, supplied)
        else:
            built = make(model, supplied=supplied, usual=usual)
    except UsageError as error:
        wants_classes = any(word in str(error) for word in ("'classes'", "$classes"))
        if classes is not None or not wants_classes:
            raise
        hint = "The data do not say how many there are: let them return 'classes' beside 'train'."
        raise UsageError(f"{error}\n  {hint}") from error
    if not isinstance(built, nn.Module):
        hint = "Write the class of the network, or a function that returns it"
        raise wrong_kind(model, built, "a torch.nn.Module", hint)
    if not any(each.requires_grad for each in built.parameters()):
        raise UsageError(
            f"model '{model.name}' has no parameter that needs a gradient: there is nothing to "
            "train.\n  Register its layers as attributes of the module, or in an nn.ModuleList."
        )
    return built


def reads_texts(model: Model) -> bool:
    """Return whether a model reads texts; anybody else's ``tokenizer`` is none of ours."""
    return not model.is_own and hasattr(model.load(), "tokenizer")


def tokenizer(model: Model, *, download: bool) -> Any:
    """Return what cuts texts into tokens for a model; None if it reads no texts."""
    if not reads_texts(model):
        return None
    return model.load().tokenizer(model.options["pretrained"], download=download)


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
