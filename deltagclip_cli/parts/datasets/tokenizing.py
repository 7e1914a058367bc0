"""Tokenizers that belong to data, not to a pretrained network: bytes, and files of tokenizers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from deltagclip_cli.core import DataError, read_file, stopped
from deltagclip_cli.parts.datasets.splits import inside

BYTES = "bytes"

_FILE = "tokenizer.json"
_MOST_BYTES = 2**28  # of such a file
_BLOCK = 2**20  # characters that are cut at a time, so that memory does not hang on the text


class Tokenizer(Protocol):
    """A way to cut texts into tokens, which are numbers from 0 to below ``vocabulary``."""

    @property
    def padding(self) -> int:
        """The token that shorter texts are filled up with."""

    @property
    def vocabulary(self) -> int:
        """The number of tokens that there are, padding among them."""

    @property
    def identity(self) -> str:
        """A digest of all that decides how texts are cut."""

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        """Return tokens ``(N, L)``, int32, of texts cut off after ``max_length`` tokens."""


class ByteTokenizer:
    """The bytes of UTF-8, which any text has, from 1 on, and padding."""

    padding, vocabulary, identity = 0, 257, BYTES

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        cut = [[byte + 1 for byte in text.encode()[:max_length]] for text in texts]
        return _filled_up(cut, self.padding)


class TokenizerFile:
    """A ``tokenizer.json``, as the library tokenizers and save_pretrained write it.

    Args:
        file: that, or a folder which has one.

    Raises:
        DataError: there is none, it is none, or the library is not installed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file / _FILE if file.is_dir() else file
        if not self.file.is_file():
            raise DataError(
                f"tokenizer: {self.file}: there is no such file.\n"
                "  Write bytes, or characters for data tokens; or name, from the data folder, a "
                "tokenizer.json or a folder that has one."
            )
        self._content = read_file(self.file, _MOST_BYTES)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            import tokenizers
        except ImportError:
            raise DataError(
                f"tokenizer: {self.file}: the package that reads it is not installed.\n"
                "  Run pip install tokenizers, or write tokenizer: bytes."
            ) from None
        # Threads are not for a process of which workers are forks. Nor are texts cut often.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            made = tokenizers.Tokenizer.from_str(self._content.decode())
        except Exception as error:  # the library has no class of its own for a bad file
            raise DataError(
                f"tokenizer: {self.file}: is not a file of the library tokenizers: "
                f"{stopped(error)}\n  Save one with Tokenizer.save or save_pretrained."
            ) from error
        made.no_padding()
        made.no_truncation()
        return made

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256(version("tokenizers").encode())
        digest.update(self._content)
        return digest.hexdigest()

    @property
    def known(self) -> int:
        """The number of its tokens, without padding of our own."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def padding(self) -> int:
        """Its token ``[PAD]`` or ``<pad>`` if it has one, else one behind its last."""
        found = (self._tokenizer.token_to_id(word) for word in ("[PAD]", "<pad>"))
        return next((each for each in found if each is not None), self.known)

    @property
    def vocabulary(self) -> int:
        return max(self.known, self.padding + 1)

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        self._tokenizer.enable_truncation(max_length)
        try:
            cut = [each.ids for each in self._tokenizer.encode_batch(list(texts))]
        finally:
            self._tokenizer.no_truncation()
        return _filled_up(cut, self.padding)

    def row(self, text: str) -> NDArray[Any]:
        """Return the tokens of a long text, without marks of its beginning and end."""
        narrow = numpy.uint16 if self.known <= 2**16 else numpy.int32
        rows = [
            numpy.array(each.ids, dtype=narrow)
            for block in _blocks(text)
            for each in self._tokenizer.encode_batch_fast([block], add_special_tokens=False)
        ]
        return numpy.concatenate([numpy.empty(0, narrow), *rows])


def tokenizer_of(root: Path, name: str) -> Tokenizer:
    """Return the tokenizer of texts that data name: ``bytes``, or a file below ``root``."""
    if name == BYTES:
        return ByteTokenizer()
    return TokenizerFile(inside(root, name, "tokenizer", "file", "file"))


def _filled_up(cut: Sequence[Sequence[int]], padding: int) -> Tensor:
    longest = max(1, *map(len, cut))
    lengths = numpy.array([len(each) for each in cut])
    tokens = numpy.full((len(cut), longest), padding, dtype=numpy.int32)
    every = numpy.fromiter(chain.from_iterable(cut), dtype=numpy.int32, count=int(lengths.sum()))
    tokens[numpy.arange(longest) < lengths[:, None]] = every
    return torch.from_numpy(tokens)


def _blocks(text: str) -> Iterator[str]:
    """Yield a text in pieces, cut where a line ends before one that begins with a word."""
    start = 0
    while start < len(text):
        end = start + _BLOCK
        while (end := text.find("\n", end) + 1) and text[end : end + 1].isspace():
            pass
        yield text[start : end or len(text)]
        start = end or len(text)
