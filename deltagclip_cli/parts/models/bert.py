"""BERT and its kin, pretrained, with a classifier on top."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models.pretrained import READING, find_pretrained, transformers
from deltagclip_cli.parts.models.tokenizer import PretrainedTokenizer, damaged, read_config

Builder = Callable[..., nn.Module]


def reading_texts(tokenizer: Callable[..., Any]) -> Callable[[Builder], Builder]:
    """Say that a model reads texts, in tokens that ``tokenizer(**options, download=...)`` makes."""

    def marked(builder: Builder) -> Builder:
        builder.tokenizer = tokenizer  # type: ignore[attr-defined]
        return builder

    return marked


@reading_texts(PretrainedTokenizer)
def bert(shape: tuple[int, ...], classes: int, *, pretrained: str) -> nn.Module:
    """Pretrained BERT, DistilBERT or the like, with a classifier to be trained with it.

    The network is ``AutoModelForSequenceClassification`` of transformers, in float32, with torch's
    own attention kernel and the dropout of its configuration. A classifier that is not among the
    weights starts from torch's global generator, and it alone: all else must be there.

    A checkpoint holds all weights, so that a trial which was begun goes on from its own, whatever
    becomes of the pretrained ones.

    Args:
        shape: ``(L,)``, the length of the longest text in tokens; inputs are ``(N, L)`` or shorter,
            outputs ``(N, classes)``.
        classes: number of outputs.
        pretrained: a folder; ``package:folder``, a folder in an installed Python package; or a
            name on the Hugging Face hub.

    Raises:
        UsageError: it is not there, lacks weights or has others than its configuration says, has a
            classifier for another number of classes, or reads only shorter texts.
    """
    folder = find_pretrained(pretrained, download=False)
    _check_length(folder, shape[0], read_config(folder).max_position_embeddings)
    library = transformers()
    try:
        network, found = library.AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=classes,
            dtype=torch.float32,
            attn_implementation="sdpa",
            weights_only=True,
            **READING,
            ignore_mismatched_sizes=True,  # which are then told of like the others
            output_loading_info=True,
        )
    except Exception as error:  # the libraries below have no class of their own for a bad file
        raise damaged(folder, "weights", error) from error
    _check_weights(folder, network, classes, found)
    return TextClassifier(network)


class TextClassifier(nn.Module):
    """A network of transformers under our convention: tokens in, logits out.

    Args:
        network: called with ``input_ids`` and ``attention_mask``, returns ``logits``.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.train()  # as every other model is when it is built
        self.padding: int = network.config.pad_token_id

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(N, L)``, padded at their ends, to logits ``(N, classes)``."""
        output = self.network(input_ids=tokens, attention_mask=tokens != self.padding)
        logits: Tensor = output.logits
        return logits


def _check_length(folder: Path, longest: int, limit: int) -> None:
    if longest > limit:
        raise UsageError(
            f"{folder}: this network reads at most {limit} tokens, but the longest text has "
            f"{longest}.\n  Set max_length in the data to {limit}, which cuts longer texts off."
        )


def _check_weights(folder: Path, network: Any, classes: int, found: dict[str, Any]) -> None:
    """Refuse weights that are not those of the network, whose classifier alone may be missing."""
    prefix = f"{network.base_model_prefix}."
    parts = {name for name, _ in network.base_model.named_children()}
    missing = [key for key in found["missing_keys"] if key.startswith(prefix)]
    surplus = [  # heads that it was pretrained with do not matter
        key for key in found["unexpected_keys"] if key.removeprefix(prefix).split(".")[0] in parts
    ]
    if missing or surplus:
        raise UsageError(
            f"{folder}: the weights are not those of the network in config.json"
            f"{_told('; missing', missing)}{_told('; not in it', surplus)}.\n"
            "  Copy or download the network anew, or name another as model.pretrained."
        )
    others = {key: there[0] for key, there, _ in found["mismatched_keys"]}
    within = [key for key in others if key.startswith(prefix)]
    if within:
        raise UsageError(
            f"{folder}: the weights have other shapes than config.json says{_told(':', within)}.\n"
            "  Copy or download the network anew, or name another as model.pretrained."
        )
    if others:
        raise UsageError(
            f"{folder}: the network has a classifier for {min(others.values())} classes already, "
            f"but the data have {classes}.\n"
            "  Name the network that it was made from, or choose data with as many classes."
        )


def _told(words: str, keys: Iterable[str]) -> str:
    """Some keys behind words; nothing if there are none."""
    first, *others = sorted(keys) or [""]
    more = f" and {len(others)} more" if others else ""
    return f"{words} {first}{more}" if first else ""
