"""Rows of tokens in windows: of texts and of binary files, what is in them and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.batches import Batches
from deltagclip_cli.parts.datasets.dataset import Windows, place
from deltagclip_cli.parts.datasets.tokens import tokens

TEXT = "".join(f"line {number} of a text, which goes on\n" for number in range(40))
CPU = torch.device("cpu")


def load(root: Path, **options: Any) -> Any:
    return tokens(root, None, **{"window": 8, **options})


def text_of(windows: Any) -> str:
    return bytes(windows.tokens.tolist()).decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def test_a_text_is_cut_from_its_beginning_to_its_end(root: Path) -> None:
    made = load(root, path="text.txt", splits={"validation": 0.1, "test": 0.2})
    tenth, fifth = round(0.1 * len(TEXT)), round(0.2 * len(TEXT))
    whole, sizes = TEXT.encode(), [len(TEXT) - tenth - fifth, tenth, fifth]
    at = 0
    for split, size in zip((made.train, made.validation, made.test), sizes, strict=True):
        part = whole[at : at + size].decode()
        assert text_of(split) == part[: (size - 1) // 8 * 8 + 1]
        assert len(split) == (size - 1) // 8
        at += size
    assert (made.classes, made.vocabulary, made.shape) == (256, 256, (8,))


def test_targets_are_the_tokens_one_further_on(root: Path) -> None:
    windows = load(root, path="text.txt").train
    batches = Batches(place(windows, CPU), batch_size=3, device=CPU)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    seen = 0
    for number, (inputs, targets) in enumerate(batches.iterate(order, None)):
        assert inputs.dtype == targets.dtype == torch.int64
        for row, target, place_ in zip(inputs, targets, order[3 * number :], strict=False):
            at = 8 * int(place_)
            assert row.tolist() == [*TEXT.encode()[at : at + 8]]
            assert target.tolist() == [*TEXT.encode()[at + 1 : at + 9]]
            seen += 1
    assert seen == len(windows)
    assert windows.inputs.data_ptr() == windows.tokens.data_ptr()  # nothing is there twice
    assert windows.targets.data_ptr() == windows.tokens.data_ptr() + 1


def test_few_windows_are_the_first_ones(root: Path) -> None:
    windows = load(root, path="text.txt").train
    few = windows.limited(3)
    assert isinstance(few, Windows)
    assert text_of(few) == TEXT[:25]
    assert few.checksum(0) != windows.checksum(0)


def test_a_long_row_is_told_from_another_by_blocks_all_over_it() -> None:
    row = torch.zeros(2**26 + 2**20 + 1, dtype=torch.uint8)
    before = Windows.cut(row, 1024).checksum(0)
    row[-2] = 1
    assert Windows.cut(row, 1024).checksum(0) != before


def test_characters_are_numbered_by_the_training_part(root: Path) -> None:
    made = load(root, path="text.txt", tokenizer="characters")
    known = sorted(set(TEXT))
    assert made.vocabulary == len(known)
    row = made.train.tokens.tolist()
    assert "".join(known[each] for each in row) == TEXT[: len(row)]


def test_a_character_outside_the_vocabulary_is_named_with_its_place(root: Path) -> None:
    (root / "text.txt").write_text(TEXT + "naïve\nünd\n")
    with pytest.raises(DataError) as caught:
        load(root, path="text.txt", tokenizer="characters")
    file = root / "text.txt"
    assert str(caught.value) == (
        f"{file}:41:3: the character 'ï' of test is not in the training part, which makes the "
        "vocabulary, and 3 more are not.\n"
        "  Write tokenizer: bytes, which knows all; or remove it from the text."
    )


def write_binary(root: Path, count: int = 200, dtype: str = "<u2") -> numpy.ndarray[Any, Any]:
    row = numpy.random.default_rng(0).integers(0, 60_000, count).astype(dtype)
    row.tofile(root / "train.bin")
    row[:50].tofile(root / "val.bin")
    return row


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_binary_files_are_read_as_nano_gpt_writes_them(tmp_path: Path, dtype: str) -> None:
    row = write_binary(tmp_path, dtype={"uint16": "<u2", "uint32": "<u4"}[dtype])
    splits = {"test": "val.bin"}
    made = load(tmp_path, path="train.bin", splits=splits, dtype=dtype, vocabulary=60_000)
    assert made.train.tokens.tolist() == row[:193].tolist()
    assert made.test.tokens.tolist() == row[:49].tolist()
    assert (made.vocabulary, made.validation) == (60_000, None)
    (inputs, _), *_ = Batches(made.train, batch_size=2, device=CPU).iterate(None, None)
    assert inputs.tolist() == row[:16].reshape(2, 8).tolist()


def test_without_a_vocabulary_it_is_as_large_as_the_largest_token(tmp_path: Path) -> None:
    row = write_binary(tmp_path)
    numpy.save(tmp_path / "row.npy", row.astype(numpy.int64))
    for options in ({"path": "train.bin"}, {"path": "row.npy"}):
        assert load(tmp_path, **options).vocabulary == row.max() + 1


def test_tokens_that_are_read_as_larger_numbers_than_they_are_make_no_vocabulary(
    tmp_path: Path,
) -> None:
    write_binary(tmp_path)
    with pytest.raises(DataError, match=r"more than any vocabulary has\.\n  Write dtype: uint16"):
        load(tmp_path, path="train.bin", dtype="uint32")


def test_a_folder_may_hold_the_files_of_splits(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    row = write_binary(tmp_path / "words")
    splits = {"train": "train.bin", "validation": 0.3, "test": "val.bin"}
    made = load(tmp_path, path="words", splits=splits)
    assert made.validation.tokens.tolist() == row[140 : 140 + 57].tolist()
    assert made.test.tokens.tolist() == row[:49].tolist()


def test_a_token_outside_the_vocabulary_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = write_binary(tmp_path)
    monkeypatch.setattr("deltagclip_cli.parts.datasets.tokens._SCANNED", 64)
    row[:] = 3
    row[187] = 50_257
    row.tofile(tmp_path / "train.bin")
    with pytest.raises(DataError, match=r"train\.bin: token 187 \(from 0\) is 50,257, but vocab"):
        load(tmp_path, path="train.bin", vocabulary=50_257)
    assert load(tmp_path, path="train.bin", vocabulary=50_258).vocabulary == 50_258
    numpy.save(tmp_path / "row.npy", numpy.array([1] * 90 + [-1] * 90))
    with pytest.raises(DataError, match=r"token 90 \(from 0\) is -1, but tokens begin with 0"):
        load(tmp_path, path="row.npy")


def write_tokenizer(file: Path) -> None:
    import tokenizers

    words = {word: n for n, word in enumerate(["[UNK]", *sorted(set(TEXT.split()))])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(file))


def test_a_file_of_the_library_tokenizers_cuts_a_text(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltagclip_cli.parts.datasets.tokenizing._BLOCK", 100)
    (root / "words").mkdir()
    write_tokenizer(root / "words" / "tokenizer.json")
    made = load(root, path="text.txt", tokenizer="words")
    known = ["[UNK]", *sorted(set(TEXT.split()))]
    assert made.vocabulary == len(known)
    row = made.train.tokens.tolist()
    assert [known[each] for each in row] == TEXT.split()[: len(row)]
    assert len([*(root / ".tokens").iterdir()]) == 1
    monkeypatch.setattr("deltagclip_cli.parts.datasets.tokenizing.TokenizerFile.row", None)
    again = load(root, path="text.txt", tokenizer="words")  # from what is kept
    assert again.train.tokens.tolist() == row


def test_files_that_are_read_are_named_for_a_copy_of_them(root: Path) -> None:
    write_tokenizer(root / "tokenizer.json")
    files = tokens.files(root, None, path="text.txt", tokenizer="tokenizer.json")  # type: ignore[attr-defined]
    assert files == ["text.txt", "tokenizer.json"]


def test_the_outline_tells_what_is_there_before_it_is_loaded(root: Path) -> None:
    outline = tokens.outline  # type: ignore[attr-defined]
    known = outline(root, None, path="text.txt", window=8, tokenizer="characters")
    made = load(root, path="text.txt", tokenizer="characters")
    there = known.stand_in()
    assert (known.classes, known.shape) == (made.classes, made.shape)
    assert [*map(len, there.splits.values())] == [*map(len, made.splits.values())]
    assert there.targets_shape == made.targets_shape
    assert there.vocabulary == made.vocabulary
    assert outline(root, None, path="other.txt") is None


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"path": "folder"}, "is a folder"),
        ({"path": "text.txt", "splits": {"test": "../x"}}, "must name a file inside"),
        ({"path": "there.txt"}, r"there\.txt is not there.*tiny shakespeare"),
        ({"path": "../text.txt"}, "must name a file inside"),
        ({"path": "text.txt", "window": 2000}, r"train has 1,179 tokens .*takes 2001"),
        ({"path": "text.txt", "vocabulary": 9}, "vocabulary is for binary files"),
        ({"path": "text.txt", "tokenizer": "bpe"}, r"bpe: there is no such file"),
        ({"path": "text.txt", "tokenizer": "text.txt"}, "is not a file of the library tokenizers"),
        ({"path": "text.txt", "splits": {"tset": 0.1}}, "did you mean 'test'"),
        ({"path": "row.bin", "tokenizer": "bytes"}, "holds tokens already"),
        ({"path": "row.bin"}, r"row\.bin: cannot be read as uint16"),
        ({"path": "square.npy"}, r"is an array of float64 \(3, 3\)"),
        ({"path": "latin.txt", "tokenizer": "characters"}, r"latin\.txt:2: this is not UTF-8"),
        ({"path": "empty.txt"}, r"empty\.txt: is empty"),
        ({"path": "text.txt", "splits": {"test": "row.bin"}}, "some files of splits are texts"),
    ],
)
def test_what_is_wrong_is_said(root: Path, options: dict[str, Any], fault: str) -> None:
    (root / "folder").mkdir()
    (root / "row.bin").write_bytes(b"odd")
    (root / "empty.txt").write_bytes(b"")
    (root / "latin.txt").write_bytes("a\nü".encode("latin-1"))
    numpy.save(root / "square.npy", numpy.zeros((3, 3)))
    with pytest.raises(DataError, match=f"(?s){fault}"):
        load(root, **options)
