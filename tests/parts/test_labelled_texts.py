"""Texts with labels: what is read of tables, lines of JSON and folders, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deltagclip_cli.core import DataError, UsageError
from deltagclip_cli.parts.datasets.labelled_texts import texts
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.spec.schema import Model
from deltagclip_cli.training.loaded import load_dataset

ROWS = [(f"it is {word}, number {n}", word) for n in range(10) for word in ("good", "bad")]


def as_table(root: Path, rows: list[Any] = ROWS, name: str = "reviews.csv") -> str:
    lines = [f'"{text}",{label}' for text, label in rows]
    (root / name).write_text("\n".join(["review,mood", *lines]))
    return name


def as_tabs(root: Path) -> str:
    lines = [f"{label}\t{text}" for text, label in ROWS]
    (root / "reviews.tsv").write_text("\n".join(["mood\treview", *lines]))
    return "reviews.tsv"


def as_lines(root: Path) -> str:
    rows = [json.dumps({"review": text, "mood": label, "id": 3}) for text, label in ROWS]
    (root / "reviews.jsonl").write_text("\n".join(rows) + "\n\n")
    return "reviews.jsonl"


def as_folder(root: Path, name: str = "reviews") -> str:
    for number, (text, label) in enumerate(ROWS):
        (root / name / label).mkdir(parents=True, exist_ok=True)
        (root / name / label / f"{number:02}.txt").write_text(text)
    return name


def load(root: Path, path: str, **options: Any) -> Any:
    return texts(root, None, path=path, text="review", label="mood", **options)


@pytest.mark.parametrize("write", [as_table, as_tabs, as_lines, as_folder])
def test_all_forms_hold_the_same_texts(write: Callable[[Path], str], tmp_path: Path) -> None:
    made = load(tmp_path, write(tmp_path), splits={"validation": 0.1, "test": 0.2})
    splits = made.train, made.validation, made.test
    assert [len(split.texts) for split in splits] == [14, 2, 4]
    together = {
        (text, ["bad", "good"][label])
        for split in splits
        for text, label in zip(split.texts, split.targets.tolist(), strict=True)
    }
    assert together == set(ROWS)
    assert all(split.targets.bincount().tolist() == [len(split.texts) // 2] * 2 for split in splits)


def test_files_of_splits_lie_beside_the_path(tmp_path: Path) -> None:
    as_table(tmp_path, ROWS[:12])
    as_table(tmp_path, ROWS[12:], "later.csv")
    made = load(tmp_path, "reviews.csv", splits={"test": "later.csv"})
    assert made.train.texts == [text for text, _ in ROWS[:12]]
    assert made.test.texts == [text for text, _ in ROWS[12:]]


def test_folders_of_splits_lie_in_the_path(tmp_path: Path) -> None:
    as_folder(tmp_path, "movies/train")
    as_folder(tmp_path, "movies/held-out")
    made = load(tmp_path, "movies", splits={"train": "train", "test": "held-out"})
    assert (len(made.train.texts), len(made.test.texts)) == (20, 20)


def test_numbers_are_labels_in_the_order_of_their_size(tmp_path: Path) -> None:
    rows = [("a", 10), ("b", 9), ("c", 10), ("d", 9), ("e", 10), ("f", 9)]
    made = load(tmp_path, as_table(tmp_path, rows))
    named = dict(zip(made.train.texts, made.train.targets.tolist(), strict=True))
    assert {dict(rows)[text]: number for text, number in named.items()} == {9: 0, 10: 1}


def test_bytes_are_padded_exactly(tmp_path: Path) -> None:
    path = as_table(tmp_path, [("né", "a"), ("longer text", "b")] * 5)
    options = {"path": path, "text": "review", "label": "mood", "tokenizer": "bytes"}
    data = Data.model_validate({"name": "texts", **options, "max_length": 8, "batch_size": 2})
    made = load_dataset(data, tmp_path, model=Model.model_validate({"name": "mlp"}))
    assert (made.vocabulary, made.padding, made.shape, made.classes) == (257, 0, (8,), 2)
    rows = {tuple(row) for row in made.train.inputs.tolist()}
    expected = {bytes("né", "utf-8").ljust(8, b"\xff"), b"longer t"}
    assert rows == {tuple((byte + 1) % 256 for byte in row) for row in expected}


def test_texts_are_for_models_that_read_them(tmp_path: Path) -> None:
    options = {"path": as_table(tmp_path), "text": "review", "label": "mood", "batch_size": 2}
    data = Data.model_validate({"name": "texts", **options})
    with pytest.raises(UsageError, match=r"write data\.tokenizer: bytes"):
        load_dataset(data, tmp_path, model=Model.model_validate({"name": "mlp"}))


def test_the_outline_tells_how_many_there_are(tmp_path: Path) -> None:
    options = {"path": as_table(tmp_path), "text": "review", "label": "mood"}
    outline = texts.outline(tmp_path, None, **options)  # type: ignore[attr-defined]
    assert (outline.classes, outline.train, outline.test, outline.texts) == (2, 16, 4, True)
    assert outline.dtype == torch.int32


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("review,mod\na,b", r"has no column 'mood', which is in label - did you mean 'mod'\?\n"),
        ("review,mood\nfine,a\n,b", r"reviews\.csv:3: there is no text"),
        ("review,mood\nfine,a\nbad, ", r"reviews\.csv:3: ' ' is no label"),
        ("review,mood\nfine,a\ntoo,many,cells", r"reviews\.csv:3: has 3 cells, where there are 2"),
        ('review,mood\n"two\nlines",a\nfine', r"reviews\.csv:4: has 1 cell"),
        ("review,mood\n", "has no texts"),
        ("review,mood\na,x\nb,x\nc,x", "has one class, 'x'"),
        ("review,mood\na,x\nb,x\nc,y\nd,y", r"later\.csv:2: label 'z' of test is none"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(
    tmp_path: Path, content: str, fault: str
) -> None:
    (tmp_path / "reviews.csv").write_text(content)
    (tmp_path / "later.csv").write_text("review,mood\nall,z")
    with pytest.raises(DataError, match=fault):
        load(tmp_path, "reviews.csv", splits={"test": "later.csv"})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"review": "a"}', "has no 'mood', which is in label"),
        ('{"review": "a", "mood": 1}\n{"review"', r"reviews\.jsonl:2: is no JSON"),
        ('{"review": 3, "mood": 1}', "3 is no text"),
        ('{"review": "a", "mood": NaN}', "jsonl:1: nan is no label"),
        ("[]", "is no mapping"),
    ],
)
def test_what_is_wrong_with_lines_is_said(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "reviews.jsonl").write_text(content)
    with pytest.raises(DataError, match=fault):
        load(tmp_path, "reviews.jsonl")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews.xlsx").write_text("")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    (tmp_path / "latin.csv").write_bytes("review,mood\nü,a".encode("latin-1"))
    for path, fault in {
        "reviews.xlsx": r"not of \.xlsx",
        "none.csv": "there is no such file",
        "empty": r"has no \.txt files",
        "empty/class": "has no folders",
        "latin.csv": "is not UTF-8",
    }.items():
        with pytest.raises(DataError, match=fault):
            load(tmp_path, path)
