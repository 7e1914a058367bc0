"""Networks of transformers: from a configuration, with random weights, or pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.making import make, refusal
from deltagclip_cli.parts.models.bert import find_pretrained, load_part, transformers

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Model

LANGUAGE, IMAGES = "CAUSAL_LM", "IMAGE_CLASSIFICATION"


def from_configuration(model: Model, kind: str, supplied: Mapping[str, Any]) -> nn.Module:
    """Return a network of the class that a model names, whose options are of its configuration.

    The sizes of the data are set there. A language model attends to what came before alone.

    Args:
        kind: what the class is for: :data:`LANGUAGE`, :data:`IMAGES`, or texts to be classified.
        supplied: what is known of the data.

    Raises:
        UsageError: the data are no tokens, or images, as it wants; or an option is refused.
    """
    library, name = transformers(), model.name.rpartition(":")[2]
    vocabulary, padding = supplied.get("vocabulary"), supplied.get("padding")
    if (vocabulary is None) != (kind == IMAGES):
        wanted = "images" if kind == IMAGES else "tokens"
        raise UsageError(
            f"model {model.name} reads {wanted}, but the data have inputs of shape "
            f"{supplied['shape']}.\n  Choose data of {wanted}, or another model."
        )
    known = {each.name for each in fields(model.load())}
    set_ = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": padding, "use_cache": False}
    set_ |= {"is_decoder": kind == LANGUAGE, "vocab_size": vocabulary}
    usual = {option: value for option, value in set_.items() if option in known}
    if kind != LANGUAGE:
        usual["num_labels"] = supplied["classes"]
    config = make(model, supplied=supplied, usual=usual)
    try:
        network = getattr(library, name)(config)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # each class has its own ways to refuse a configuration
        raise UsageError(refusal(model, error)) from error
    return PlainNetwork(network, padding, images=kind == IMAGES)


def causal_lm(
    shape: tuple[int, ...], classes: int, vocabulary: int | None = None, *, pretrained: str
) -> nn.Module:
    """Pretrained network that predicts the next token, to be trained on.

    Data of tokens must be cut by its own tokenizer: their ``tokenizer`` is the ``tokenizer.json``
    of the same folder.

    Raises:
        UsageError: the data are no tokens, or have more than it knows; it is not there or damaged.
    """
    if vocabulary is None:
        raise UsageError(
            "model transformers:AutoModelForCausalLM reads tokens, but the data have inputs of "
            f"shape {shape}.\n  Choose data of tokens, or another model."
        )
    folder = find_pretrained(pretrained, download=False)
    network = load_part(folder, "weights", "AutoModelForCausalLM", attn_implementation="sdpa")
    known = int(network.config.vocab_size)
    if vocabulary > known:
        raise UsageError(
            f"{folder}: this network knows {known:,} tokens, but the data have {vocabulary:,}.\n"
            f"  Name its tokenizer.json as data.tokenizer, so that they are cut by it."
        )
    network.config.use_cache = False
    return PlainNetwork(network.float().train())


class PlainNetwork(nn.Module):
    """A network of transformers under our convention: tokens or images in, logits out."""

    def __init__(self, network: Any, padding: int | None = None, *, images: bool = False) -> None:
        super().__init__()
        self.network, self.padding, self._images = network, padding, images

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)``, or tokens ``(N, L)`` padded at their ends, to logits."""
        if self._images:
            output = self.network(pixel_values=inputs)
        elif self.padding is None:
            output = self.network(input_ids=inputs)
        else:
            output = self.network(input_ids=inputs, attention_mask=inputs != self.padding)
        logits: Tensor = output.logits
        return logits
