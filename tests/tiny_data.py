"""Small data sets in their original formats: images, texts, and a BERT that reads these."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
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


def idx_file(values: numpy.ndarray[Any, Any]) -> bytes:
    """One array as the MNISTs store it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def write_mnist(
    root: Path, folder: str, *, train: int = 30, test: int = 20
) -> dict[str, numpy.ndarray[Any, Any]]:
    """Files as MNIST has them, of so many training and test images."""
    draw, content = numpy.random.default_rng(0), {}
    (root / folder / "raw").mkdir(parents=True)
    for split, samples in (("train", train), ("t10k", test)):
        content[f"{split}-images-idx3"] = draw.integers(0, 256, (samples, 28, 28), numpy.uint8)
        content[f"{split}-labels-idx1"] = numpy.arange(samples, dtype=numpy.uint8) % 10
    for name, values in content.items():
        (root / folder / "raw" / f"{name}-ubyte").write_bytes(idx_file(values))
    return content


def write_cifar(root: Path, source: Any, patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Files as CIFAR has them, 4 images each; torchvision is told their sums."""
    draw, written = numpy.random.default_rng(0), []
    key = "labels" if source.__name__ == "CIFAR10" else "fine_labels"
    (root / source.base_folder).mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> tuple[str, str]:
        data = pickle.dumps(content)
        (root / source.base_folder / name).write_bytes(data)
        return name, hashlib.md5(data).hexdigest()

    for listed in ("train_list", "test_list"):
        sums = []
        for name, _ in getattr(source, listed):
            pixels = draw.integers(0, 256, (4, 3072), numpy.uint8)
            written.append({"data": pixels, key: [3, 1, 0, 2]})
            sums.append(write(name, written[-1]))
        patch.setattr(source, listed, sums)
    name, md5 = write(source.meta["filename"], {source.meta["key"]: ["a", "b", "c", "d"]})
    patch.setattr(source, "meta", {**source.meta, "md5": md5})
    return written


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
