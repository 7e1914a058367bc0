"""English messages and the emotion in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from deltagclip_cli.core import DataError, UsageError
from deltagclip_cli.parts.datasets.dataset import Outline, described
from deltagclip_cli.parts.datasets.staging import Download
from deltagclip_cli.parts.datasets.texts import TextDataset, read_texts, write_texts

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")

_FILES = {"train": "emotion/train.txt", "test": "emotion/test.txt"}
_OFFICIAL = {"validation": "emotion/val.txt"}


def _outline(
    root: Path, image_size: int | None, *, max_length: int, official: bool = False
) -> Outline:
    _refuse_size(image_size)
    sizes = (16_000, 2_000, torch.int32)
    validation = 2_000 if official else 0
    return Outline((max_length,), len(LABELS), *sizes, texts=True, validation=validation)


def _stored(
    root: Path, image_size: int | None, *, max_length: int = 300, official: bool = False
) -> Sequence[str]:
    return _download(root, official).present()


@described(_outline, _stored)
def emotion(
    root: Path,
    image_size: int | None,
    *,
    max_length: int = 300,
    download: bool = True,
    official: bool = False,
) -> TextDataset:
    """Emotion: 16,000 training and 2,000 test messages in English, 6 classes.

    The files are ``emotion/train.txt`` and ``emotion/test.txt``, a line ``text;label`` for each
    message; where they are missing they are fetched from ``dair-ai/emotion`` on the Hugging Face
    hub. Tokens are read up to ``max_length`` (300, as published; the longest message has 87 with
    the vocabulary of BERT).

    Args:
        official: whether the 2,000 messages for validation, in ``emotion/val.txt``, are read too.

    Source: Saravia et al. (2018), in the split that arXiv 2404.08624 uses.
    """
    _refuse_size(image_size)
    there = _download(root, official)
    there.ensure(download)
    train, test, *others = (read_texts(root / name, LABELS) for name in there.files)
    validation = others[0] if others else None
    return TextDataset(root, "emotion", train, test, len(LABELS), max_length, validation)


def _refuse_size(image_size: int | None) -> None:
    if image_size is not None:
        raise DataError("image_size is for images, but emotion holds texts.\n  Remove it.")


def _download(root: Path, official: bool = False) -> Download:
    files = {**_FILES, **(_OFFICIAL if official else {})}
    return Download("emotion", root, list(files.values()), partial(_fetch, files))


def _fetch(files: Mapping[str, str], folder: Path) -> None:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            "data emotion: the package that downloads it is not installed.\n"
            "  Run pip install 'deltagclip_cli[bert]'."
        ) from None
    for split, name in files.items():
        samples = load_dataset("dair-ai/emotion", split=split, cache_dir=str(folder / "cache"))
        write_texts(folder / name, LABELS, zip(samples["text"], samples["label"], strict=True))
