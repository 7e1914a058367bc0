"""Texts with labels, the tokens that a tokenizer makes of them, kept, and batches of those."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.core import DataError, open_file
from deltagclip_cli.parts.datasets.dataset import Dataset, Split, sent
from deltagclip_cli.parts.datasets.disk_cache import keep, load_kept
from deltagclip_cli.parts.datasets.staging import locked
from deltagclip_cli.parts.nested import RowsOfBatches, batch_sizes

if TYPE_CHECKING:
    from deltagclip_cli.parts.datasets.tokenizing import Tokenizer

HEADER = "text;label_name"

_LOG = logging.getLogger("deltagclip_cli")
_WINDOW = 50  # batches whose texts are sorted together
_FORMAT = 1  # of the kept file; part of its name
_KEPT = "the tokens"


@dataclass(frozen=True)
class Texts:
    """Texts and their labels."""

    texts: Sequence[str]  # as they are written, any number
    targets: Tensor  # int64 class numbers ``(N,)``


@dataclass(frozen=True)
class TextDataset:
    """A training and a test split of texts, and perhaps one for validation, not yet cut."""

    root: Path  # the data folder, in which tokens are kept
    name: str  # of the data set
    train: Texts  # what a model learns from
    test: Texts  # what it is evaluated on
    classes: int  # number of classes
    # of a text in tokens, marks of its beginning and end among them; what is longer is cut off
    max_length: int
    validation: Texts | None = None  # what choices may look at
    tokenizer: Tokenizer | None = None  # what cuts them; None for that of the model

    @property
    def _splits(self) -> dict[str, Texts]:
        splits = {"train": self.train, "test": self.test}
        return splits if self.validation is None else {**splits, "validation": self.validation}

    def tokenized(self, tokenizer: Tokenizer) -> Dataset:
        """The data set in tokens, which are kept in ``root/.tokens`` for the next start.

        The file there is named by the texts and what cut them: any change cuts again.
        """
        file = self.root / ".tokens" / f"{self._key(tokenizer)}.pt"
        with ExitStack() as held:
            with suppress(OSError, DataError):  # where no lock can be had, several may cut
                held.enter_context(locked(self.root / ".tokens.lock", "cutting texts into tokens"))
            content = load_kept(file, _KEPT)
            if content is None:
                sizes = {name: len(split.texts) for name, split in self._splits.items()}
                texts = [text for split in self._splits.values() for text in split.texts]
                _LOG.info("cutting %d texts of %s into tokens", len(texts), self.name)
                # All at once, so that they are equally wide.
                tokens = tokenizer.encode(texts, self.max_length)
                content = dict(zip(sizes, torch.split(tokens, [*sizes.values()]), strict=True))
                keep(content, file, _KEPT)
        made = {name: Split(content[name], split.targets) for name, split in self._splits.items()}
        return Dataset(
            made["train"],
            made["test"],
            self.classes,
            mean=None,
            std=None,
            padding=tokenizer.padding,
            validation=made.get("validation"),
            vocabulary=tokenizer.vocabulary,
        )

    def _key(self, tokenizer: Tokenizer) -> str:
        digest = hashlib.sha256(f"{_FORMAT} {self.max_length} {tokenizer.identity}".encode())
        for split in self._splits.values():
            digest.update(f"\0{len(split.texts)}".encode())
            for text in split.texts:
                digest.update(f"\0{text}".encode())
        return digest.hexdigest()


def read_texts(file: Path, names: Sequence[str]) -> Texts:
    """Read lines of the form ``text;label``, after a header if there is one.

    The label stands behind the last semicolon, and is one of ``names``, in the order of their
    numbers. DataError tells the number of a line that is wrong.
    """
    numbers = {name: number for number, name in enumerate(names)}
    texts, targets = [], []
    for place, line in _lines(file):
        text, _, label = line.rpartition(";")
        if not text.strip():
            raise _bad_line(place, "there is no text" if line.strip() else "the line is empty")
        if label not in numbers:
            raise _bad_line(place, f"unknown label {label!r}; labels: {', '.join(names)}")
        texts.append(text)
        targets.append(numbers[label])
    if not texts:
        raise DataError(f"{file}: there are no texts in it.\n  {_ADVICE}")
    return Texts(texts, torch.tensor(targets))


def write_texts(file: Path, names: Sequence[str], samples: Iterable[tuple[str, int]]) -> None:
    """Write texts and the numbers of their labels in the form that :func:`read_texts` reads."""
    lines = (f"{' '.join(text.splitlines())};{names[label]}\n" for text, label in samples)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join([f"{HEADER}\n", *lines]), encoding="utf-8", newline="")


_ADVICE = "Each line is 'text;label'. Correct it, or delete the file and run this again."


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Each line but the header, behind the place where it stands."""
    try:
        with TextIOWrapper(open_file(file), encoding="utf-8") as opened:  # of any line ends
            content = opened.read()
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read ({error.strerror}).\n"
            "  Check the file, or name another data folder with --data DIR."
        ) from error
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise _bad_line(f"{file}:{number}", "this is not UTF-8") from error
    # Not splitlines, which also splits at characters that a text may hold.
    for number, line in enumerate(content.removesuffix("\n").split("\n"), start=1):
        if number > 1 or line != HEADER:
            yield f"{file}:{number}", line


def _bad_line(place: str, fault: str) -> DataError:
    return DataError(f"{place}: {fault}.\n  {_ADVICE}")


class TokenBatches(RowsOfBatches):
    """Batches of one split of tokens, of texts that are about equally long.

    What a network computes for padding is wasted, and texts differ in length severalfold. So the
    order is cut into windows of 50 batches; within a window texts go into batches by their length,
    and then all batches are shuffled. Epochs so differ as orders do, while hardly a token of
    padding is left. Which batches there are follows from the order alone.
    """

    def __init__(
        self, split: Split, *, batch_size: int, device: torch.device, padding: int
    ) -> None:
        self.samples = len(split)
        self.sizes = batch_sizes(self.samples, batch_size)
        self.steps = len(self.sizes)
        self._batch_size = batch_size
        self._device = device
        self._tokens, self._targets = split.inputs, split.targets
        self._lengths = _lengths(split.inputs, padding).cpu()
        self._padding = padding

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield tokens ``(B, L)``, int64, and targets ``(B,)`` of one pass from a batch on.

        Without an ``order``, which is a permutation on the CPU, the longest texts come first. The
        generator is not used: nothing here is random but the order.
        """
        for index in self._batches(order)[start:]:
            longest = int(self._lengths[index].max())
            index = sent(index[self._rows(len(index))], self._tokens.device)
            tokens = self._tokens[:, :longest].index_select(0, index)
            targets = self._targets.index_select(0, index)
            yield sent(tokens, self._device).long(), sent(targets, self._device)

    def padded(self, tokens: Tensor) -> Tensor:
        """Return the tokens of a batch as long as those of the longest text of all."""
        missing = self._tokens.shape[1] - tokens.shape[1]
        return functional.pad(tokens, (0, missing), value=self._padding)

    def _batches(self, order: Tensor | None) -> list[Tensor]:
        """The samples of each batch."""
        if order is None:
            by_length = self._lengths.argsort(descending=True, stable=True)
            return list(torch.split(by_length, self._batch_size))
        batches: list[Tensor] = []
        for window in torch.split(order, _WINDOW * self._batch_size):
            by_length = window[self._lengths[window].argsort(stable=True)]
            batches += torch.split(by_length, self._batch_size)
        *full, last = batches  # which may be smaller, and stays where it is
        generator = torch.Generator().manual_seed(zlib.crc32(order.numpy().data))
        return [full[i] for i in torch.randperm(len(full), generator=generator)] + [last]


def _lengths(tokens: Tensor, padding: int) -> Tensor:
    """The number of tokens ``(N,)`` up to the last that is not padding, at least 1."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return (places * (tokens != padding)).amax(dim=1).clamp(min=1)
