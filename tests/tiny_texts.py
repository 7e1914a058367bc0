"""Small texts in the form of ``emotion``, and a BERT of a few thousand weights that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

WORDS = {
    "sadness": "rotten sad lonely",
    "joy": "happy glad merry",
    "love": "fond tender caring",
    "anger": "cross mad furious",
    "fear": "scared afraid shy",
    "surprise": "amazed stunned curious",
}
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_PLAIN = ["i", "feel", "so", "very", "and", "today", "because", "of", "it", "all"]


def lines(samples: int) -> list[str]:
    """Texts of 3 to 12 words, the third of which gives the label away; labels go round."""
    made = []
    for number in range(samples):
        label = list(WORDS)[number % len(WORDS)]
        word = WORDS[label].split()[number // len(WORDS) % 3]
        rest = (_PLAIN[2:] * 2)[: number % 10]
        made.append(f"{' '.join(['i', 'feel', word, *rest])};{label}")
    return made


def write_emotion(root: Path, train: int = 60, test: int = 24) -> Path:
    """The files of ``emotion`` below a data folder, which is returned."""
    folder = root / "emotion"
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in (("train", train), ("test", test)):
        text = "\n".join(["text;label_name", *lines(samples)])
        (folder / f"{name}.txt").write_text(f"{text}\n")
    return root


def write_bert(folder: Path, kind: str = "BertModel", **settings: Any) -> Path:
    """A randomly initialised BERT with its tokenizer, as ``save_pretrained`` writes them."""
    transformers = pytest.importorskip("transformers", reason="the extra 'bert' is not installed")
    import torch

    vocabulary = [*_SPECIAL, *_PLAIN, *" ".join(WORDS.values()).split()]
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        **settings,
    )
    transformers.utils.logging.disable_progress_bar()
    getattr(transformers, kind)(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rewrite_config(folder: Path, **changes: Any) -> None:
    """Change settings in ``config.json``."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Replace the weights by what ``change`` makes of them."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
