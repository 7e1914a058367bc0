"""English messages and the emotion in each."""

from __future__ import annotations

from pathlib import Path

import torch

from deltagclip_cli.core import DataError, UsageError
from deltagclip_cli.parts.datasets.dataset import Outline, described
from deltagclip_cli.parts.datasets.staging import Download
from deltagclip_cli.parts.datasets.texts import TextDataset, read_texts, write_texts

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")

_FILES = {"train": "emotion/train.txt", "test": "emotion/test.txt"}


def _outline(root: Path, image_size: int | None, *, max_length: int) -> Outline:
    _refuse_size(image_size)
    return Outline((max_length,), len(LABELS), 16_000, 2_000, torch.int32, texts=True)


@described(_outline, lambda root, image_size, max_length=300: _download(root).present())
def emotion(
    root: Path, image_size: int | None, *, max_length: int = 300, download: bool = True
) -> TextDataset:
    """Emotion: 16,000 training and 2,000 test messages in English, 6 classes.

    The files are ``emotion/train.txt`` and ``emotion/test.txt``, a line ``text;label`` for each
    message; where they are missing they are fetched from ``dair-ai/emotion`` on the Hugging Face
    hub. Tokens are read up to ``max_length`` (300, as published; the longest message has 87 with
    the vocabulary of BERT).

    Source: Saravia et al. (2018), in the split that arXiv 2404.08624 uses.
    """
    _refuse_size(image_size)
    _download(root).ensure(download)
    train, test = (read_texts(root / name, LABELS) for name in _FILES.values())
    return TextDataset(root, "emotion", train, test, len(LABELS), max_length)


def _refuse_size(image_size: int | None) -> None:
    if image_size is not None:
        raise DataError("image_size is for images, but emotion holds texts.\n  Remove it.")


def _download(root: Path) -> Download:
    return Download("emotion", root, list(_FILES.values()), _fetch)


def _fetch(folder: Path) -> None:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            "data emotion: the package that downloads it is not installed.\n"
            "  Run pip install 'deltagclip_cli[bert]'."
        ) from None
    for split, name in _FILES.items():
        samples = load_dataset("dair-ai/emotion", split=split, cache_dir=str(folder / "cache"))
        write_texts(folder / name, LABELS, zip(samples["text"], samples["label"], strict=True))
