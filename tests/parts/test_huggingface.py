"""Data sets of the library datasets, from a folder: images, numbers and texts; no network."""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from deltagclip_cli.core import DataError, UsageError
from deltagclip_cli.parts.datasets.huggingface import huggingface

pytestmark = [
    pytest.mark.slow,  # of the import of the library, which takes seconds
    pytest.mark.skipif(find_spec("datasets") is None, reason="the extra 'bert' is not installed"),
]

WORDS = ["no", "yes"]


def picture(value: int, size: int = 6, mode: str = "L") -> Image.Image:
    return Image.fromarray(numpy.full((size, size + 2), value, numpy.uint8)).convert(mode)


def table(rows: int = 10, **changes: Any) -> Any:
    import datasets

    columns = {
        "image": [picture(n) for n in range(rows)],
        "label": [n % 2 for n in range(rows)],
        "size": [float(n) for n in range(rows)],
        "pair": [[n, -0.5 * n] for n in range(rows)],
        "words": [f"text {n}" for n in range(rows)],
        "said": [WORDS[n % 2] for n in range(rows)],
        **changes,
    }
    made = datasets.Dataset.from_dict(columns)
    return made.cast_column("label", datasets.ClassLabel(names=WORDS))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    import datasets

    datasets.disable_progress_bars()
    table().save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table(), "validation": table(4), "test": table(6)}).save_to_disk(
        tmp_path / "three"
    )
    return tmp_path


def load(root: Path, path: str = "three", **options: Any) -> Any:
    return huggingface(root, options.pop("image_size", None), path=path, **options)


def test_images_are_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load(root)
    assert made.train.inputs.shape == (10, 1, 6, 8)
    assert made.train.inputs[:, 0, 0, 0].tolist() == [*range(10)]
    assert made.train.targets.tolist() == [0, 1] * 5
    assert [*map(len, made.splits.values())] == [10, 6, 4]
    assert made.classes == 2
    monkeypatch.setattr("deltagclip_cli.parts.datasets.huggingface._decoded", None)
    assert torch.equal(load(root).train.inputs, made.train.inputs)


def test_colours_and_sizes_are_kept_or_brought_to_one(root: Path) -> None:
    images = [picture(n, size, "RGB") for n, size in enumerate((6, 9, 6, 6))]
    table(4, image=images).save_to_disk(root / "sizes")
    with pytest.raises(DataError, match="row 2: has 11 x 9 pixels, those before it 8 x 6"):
        load(root, "sizes", splits={"test": 0.5})
    made = load(root, "sizes", image_size=5, splits={"test": 0.5})
    assert made.train.inputs.shape == (2, 3, 5, 5)


def test_one_split_is_divided_by_class(root: Path) -> None:
    made = load(root, "one", splits={"validation": 0.2, "test": 0.2})
    assert [*map(len, made.splits.values())] == [6, 2, 2]
    assert sorted(made.test.targets.tolist()) == [0, 1]
    together = [split.inputs[:, 0, 0, 0] for split in made.splits.values()]
    assert sorted(torch.cat(together).tolist()) == [*range(10)]
    assert len(load(root, "one").test) == 2


def test_numbers_are_put_side_by_side(root: Path) -> None:
    made = load(root, inputs=["pair", "size"])
    assert made.train.inputs.dtype == torch.float64
    assert made.train.inputs[3].tolist() == [3, -1.5, 3]
    fitted = load(root, inputs="pair", target="size")
    assert fitted.train.targets[:3].tolist() == [[0], [1], [2]]
    assert fitted.classes == 1
    assert load(root, inputs="size", target="pair").classes == 2


def test_words_are_classes_too(root: Path) -> None:
    made = load(root, inputs="size", target="said")
    assert made.train.targets[:4].tolist() == [0, 1, 0, 1]


def test_texts_are_left_to_a_tokenizer(root: Path) -> None:
    made = load(root, text="words", tokenizer="bytes")
    assert made.train.texts[:2] == ["text 0", "text 1"]
    assert made.validation is not None and len(made.validation.texts) == 4
    cut = made.tokenized(made.tokenizer)
    assert cut.train.inputs[1].tolist() == [byte + 1 for byte in b"text 1"]
    (shared,) = load(root, "one", text="words", splits={"test": 0.1}).test.texts
    assert shared.startswith("text")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"path": "four"}, r"there is no such folder.*save_to_disk"),
        ({"path": "empty"}, "is not what save_to_disk writes"),
        ({"target": "lable"}, "has no column 'lable' - did you mean 'label'"),
        ({"inputs": "sizes"}, "has no column 'sizes' - did you mean 'size'"),
        ({"inputs": "label"}, "is target and input"),
        ({"inputs": "words"}, "'words' has no numbers"),
        ({"text": "size"}, "row 1: 'size' is 0.0, which is no text"),
        ({"text": "words", "inputs": "size"}, "both text and inputs"),
        ({"splits": {"test": "tset"}}, "has no split 'tset' - did you mean 'test'"),
        ({"path": "one", "splits": {"test": "test"}}, "holds one split, without a name"),
        ({"inputs": "size", "image_size": 8}, "image_size is for images"),
        ({"path": "unlabelled"}, r"test, row 2: 'label' is -1, which is no class"),
        ({"path": "gaps", "inputs": "size"}, r"train, row 3: 'size' has a value that is missing"),
    ],
)
def test_what_is_wrong_is_said(root: Path, options: dict[str, Any], fault: str) -> None:
    import datasets

    (root / "empty").mkdir()
    hidden = table(2, label=[0, -1])
    datasets.DatasetDict({"train": table(), "test": hidden}).save_to_disk(root / "unlabelled")
    table(4, size=[1.0, 2.0, None, 4.0]).save_to_disk(root / "gaps")
    with pytest.raises(DataError, match=f"(?s){fault}"):
        load(root, **options)


def test_without_the_library_the_command_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="pip install 'deltagclip_cli"):
        load(root)
    assert "HF_HUB_OFFLINE" not in os.environ
