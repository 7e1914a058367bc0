"""The tokenizer that belongs to a pretrained network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models.pretrained import READING, find_pretrained, transformers

_FILES = (
    "added_tokens.json",
    "config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


class PretrainedTokenizer:
    """Cuts texts into the tokens that a pretrained network knows.

    The tokenizer itself is loaded when there is something to cut.

    Args:
        pretrained: see :func:`~deltagclip_cli.parts.models.pretrained.find_pretrained`.
        download: fetch the network, tokenizer and weights, if it is not there.

    Raises:
        UsageError: it is not there, or its configuration is damaged or names no padding.
    """

    def __init__(self, pretrained: str, *, download: bool) -> None:
        self._folder = find_pretrained(pretrained, download=download)
        self._config = read_config(self._folder)
        self.padding: int = self._config.pad_token_id

    @cached_property
    def identity(self) -> str:
        """A digest of the tokenizer's files and of the versions of what reads them."""
        names = ("transformers", "tokenizers")
        digest = hashlib.sha256(" ".join(map(version, names)).encode())
        for file in (self._folder / name for name in _FILES):
            if file.is_file():
                digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        """The tokens ``(N, L)``, int32, of texts that are cut off after ``max_length`` tokens.

        Raises:
            UsageError: the tokenizer is damaged, or belongs to another network.
        """
        # Threads are not for a process of which workers are forks. Nor are texts cut often.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            library = transformers()
            tokenizer = library.AutoTokenizer.from_pretrained(self._folder, **READING)
        except UsageError:
            raise
        except Exception as error:  # the libraries below have no class of their own for a bad file
            raise damaged(self._folder, "tokenizer", error) from error
        cut = tokenizer(
            list(texts),
            truncation=True,
            max_length=max_length,
            padding="longest",
            padding_side="right",
            return_tensors="np",
        )
        tokens = torch.from_numpy(cut["input_ids"]).to(torch.int32)
        self._check(tokenizer.pad_token_id, int(tokens.max()))
        return tokens

    def _check(self, padding: int | None, largest: int) -> None:
        known = self._config.vocab_size
        if padding != self.padding or largest >= known:
            raise UsageError(
                f"{self._folder}: the tokenizer and the network there do not belong together: "
                f"tokens go up to {largest} and padding is {padding}, but config.json has "
                f"vocab_size {known} and pad_token_id {self.padding}.\n"
                "  Save both of one network to that folder, with save_pretrained."
            )


def read_config(folder: Path) -> Any:
    """The configuration of a pretrained network.

    Raises:
        UsageError: it is damaged, or names no padding.
    """
    library = transformers()
    try:
        config = library.AutoConfig.from_pretrained(folder, **READING)
    except Exception as error:  # the libraries below have no class of their own for a bad file
        raise damaged(folder, "configuration", error) from error
    if getattr(config, "pad_token_id", None) is None:
        raise UsageError(
            f"{folder}: config.json has no pad_token_id, and so does not say what padding is.\n"
            "  Choose a network that reads padded texts, such as distilbert-base-uncased."
        )
    return config


def damaged(folder: Path, what: str, error: Exception) -> UsageError:
    """What to say where a part of a pretrained network cannot be read."""
    if "trust_remote_code" in str(error):
        return UsageError(
            f"{folder}: the {what} of the pretrained network is code, which is not run.\n"
            "  Name a network of a kind that transformers knows, such as distilbert-base-uncased."
        )
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return UsageError(
        f"{folder}: the {what} of the pretrained network cannot be read: {reason}\n"
        "  Copy or download the network anew, or name another as model.pretrained."
    )
