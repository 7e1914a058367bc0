"""Texts with labels: how files are read, what is refused, and tokens that are kept."""

from __future__ import annotations

import logging
import re
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import WORDS, write_emotion
from torch import Tensor

from deltagclip_cli.core import DataError, UsageError, claimed
from deltagclip_cli.parts.datasets import staging
from deltagclip_cli.parts.datasets import texts as texts_module
from deltagclip_cli.parts.datasets.emotion import LABELS, emotion
from deltagclip_cli.parts.datasets.staging import copied
from deltagclip_cli.parts.datasets.texts import TextDataset, read_texts
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.training.loaded import fitted

EMOTION = Data.model_validate({"name": "emotion", "batch_size": "full"})


class Letters:
    """A tokenizer that cuts a text into its letters."""

    padding, vocabulary = 0, 128

    def __init__(self, identity: str = "letters") -> None:
        self.identity = identity
        self.calls = 0

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        self.calls += 1
        cut = [[ord(letter) for letter in text[:max_length]] for text in texts]
        width = max(map(len, cut))
        rows = [row + [self.padding] * (width - len(row)) for row in cut]
        return torch.tensor(rows, dtype=torch.int32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_emotion(tmp_path / "data")


# Files


def test_the_files_are_read_line_by_line(root: Path) -> None:
    made = emotion(root, None)
    assert (len(made.train.texts), len(made.test.texts), made.classes) == (60, 24, 6)
    assert made.train.texts[0] == "i feel rotten"
    assert made.train.targets[:7].tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert made.train.targets.dtype == torch.int64
    assert tuple(WORDS) == LABELS


def test_line_ends_may_be_those_of_windows(root: Path) -> None:
    before = emotion(root, None)
    for file in ("train.txt", "test.txt"):
        path = next(root.rglob(file))
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    made = emotion(root, None)
    assert made.train.texts == before.train.texts
    assert made.test.targets.tolist() == before.test.targets.tolist()


def test_the_real_emotion_is_read(real_data: Path) -> None:
    made = emotion(real_data, None, download=False)
    counts = torch.bincount(made.train.targets).tolist()
    assert dict(zip(LABELS, counts, strict=True)) == {
        "sadness": 4666,
        "joy": 5362,
        "love": 1304,
        "anger": 2159,
        "fear": 1937,
        "surprise": 572,
    }
    assert len(made.test.texts) == 2000
    assert made.train.texts[0] == "i didnt feel humiliated"


def test_a_text_may_hold_semicolons_and_any_letter(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes("weak; so weak;joy\nß\u2028 \x0b é;fear".encode())
    made = read_texts(file, LABELS)
    assert list(made.texts) == ["weak; so weak", "ß\u2028 \x0b é"]
    assert made.targets.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "the line is empty"),
        ("  ", "the line is empty"),
        (";joy", "there is no text"),
        ("i feel fine", "there is no text"),
        ("i feel fine;bliss", "unknown label 'bliss'; labels: sadness, joy, love, anger, fear, s"),
        ("i feel fine;Joy", "unknown label 'Joy'"),
        ("i feel fine;", "unknown label ''"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(line: str, fault: str, root: Path) -> None:
    file = root / "emotion" / "train.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:7], line, *lines[7:]]))
    with pytest.raises(DataError, match=f"^{re.escape(f'{file}:8: {fault}')}.*\n  Each line is "):
        emotion(root, None)


def test_bytes_that_are_no_text_are_named_by_their_line(root: Path) -> None:
    file = root / "emotion" / "test.txt"
    file.write_bytes(file.read_bytes() + b"caf\xe9;joy\n")
    with pytest.raises(DataError, match=r"test.txt:26: this is not UTF-8"):
        emotion(root, None)


@pytest.mark.parametrize("content", ["text;label_name\n", "text;label_name"])
def test_a_file_without_texts_is_refused(content: str, root: Path) -> None:
    (root / "emotion" / "test.txt").write_text(content)
    with pytest.raises(DataError, match=r"test.txt: there are no texts in it"):
        emotion(root, None)


def test_a_file_that_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing.txt: cannot be read \(No such file"):
        read_texts(tmp_path / "nothing.txt", LABELS)


def test_a_size_of_images_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="image_size is for images"):
        emotion(root, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "sizes"), [("official", [16_000, 2_000]), (0.1, [14_400, 1_600])]
)
def test_the_real_emotion_has_validation(
    wanted: str | float, sizes: list[int], real_data: Path, tmp_path: Path
) -> None:
    made = emotion(real_data, None, download=False, official=wanted == "official")
    cut = replace(made, root=tmp_path, max_length=8).tokenized(Letters())
    found = fitted(cut, EMOTION.model_copy(update={"validation": wanted}))
    assert found.validation is not None
    assert [len(found.train), len(found.validation)] == sizes


# Downloads


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A package ``datasets`` that has a small ``emotion``; lists what was asked for."""
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, *, split: str, cache_dir: str) -> dict[str, list[Any]]:
        asked.append((name, split))
        return {"text": ["i feel glad\nindeed", "i feel shy"], "label": [1, 4]}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_what_is_missing_is_fetched_once_from_the_hub(
    tmp_path: Path, hub: list[tuple[str, str]]
) -> None:
    for _ in range(2):
        made = emotion(tmp_path / "data", None)
    assert hub == [("dair-ai/emotion", "train"), ("dair-ai/emotion", "test")]
    assert list(made.train.texts) == ["i feel glad indeed", "i feel shy"]
    assert made.test.targets.tolist() == [1, 4]
    left = {path.name for path in (tmp_path / "data").iterdir()}
    assert left == {"emotion", ".emotion.lock"}


def test_the_messages_for_validation_are_fetched_and_read_where_they_are_wanted(
    tmp_path: Path, hub: list[tuple[str, str]]
) -> None:
    wanted = EMOTION.model_copy(update={"validation": "official"})
    for _ in range(2):
        made = emotion(tmp_path, None, official=True)
    assert [split for _, split in hub] == ["train", "test", "validation"]
    assert made.validation is not None
    assert made.validation.targets.tolist() == [1, 4]
    assert [path.name for path in copied_files(wanted, tmp_path)] == [
        *("test.txt", "train.txt", "val.txt")
    ]
    assert len(copied_files(EMOTION, tmp_path)) == 2


def copied_files(data: Data, root: Path) -> list[Path]:
    """What a job takes to the disk of its node."""
    place = root / f"copy {data.validation}"
    copied([data], root, place)
    return sorted(place.glob("emotion/*"))


def test_nothing_is_fetched_in_a_job(tmp_path: Path, hub: list[tuple[str, str]]) -> None:
    with pytest.raises(DataError, match=r"files of emotion are not there, .*\n(.*\n)*.*prepare"):
        emotion(tmp_path / "data", None, download=False)
    assert hub == []


def test_a_failed_download_says_what_is_expected_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError) as caught:
        emotion(tmp_path / "data", None)
    assert "downloading failed: no route" in str(caught.value)
    assert "    emotion/train.txt\n    emotion/test.txt\n" in str(caught.value)


def test_without_the_package_that_downloads_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'deltagclip_cli\[bert\]'"):
        emotion(tmp_path / "data", None)


# Tokens


def test_tokens_are_those_of_the_tokenizer_and_both_splits_are_equally_wide(root: Path) -> None:
    made = emotion(root, None).tokenized(Letters())
    texts = emotion(root, None)
    longest = max(map(len, [*texts.train.texts, *texts.test.texts]))
    assert made.shape == made.test.inputs.shape[1:] == (longest,)
    assert (len(made.train), len(made.test), made.classes, made.padding) == (60, 24, 6, 0)
    for split, source in ((made.train, texts.train), (made.test, texts.test)):
        for row, text in zip(split.inputs.tolist(), source.texts, strict=True):
            assert "".join(map(chr, row)).rstrip("\0") == text
        assert torch.equal(split.targets, source.targets)


def test_long_texts_are_cut_off(root: Path) -> None:
    assert emotion(root, None, max_length=7).tokenized(Letters()).shape == (7,)


def test_a_cut_keeps_the_classes_balanced(root: Path) -> None:
    made = emotion(root, None).tokenized(Letters()).limited(train_samples=12)
    assert torch.bincount(made.train.targets).tolist() == [2] * 6


def test_texts_are_cut_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    letters = Letters()
    with caplog.at_level(logging.INFO, logger="deltagclip_cli"):
        first, second = (emotion(root, None).tokenized(letters) for _ in range(2))
    assert letters.calls == 1
    assert caplog.text.count("cutting 84 texts of emotion into tokens") == 1
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.test.inputs, second.test.inputs)


def other_text(root: Path) -> TextDataset:
    file = root / "emotion" / "test.txt"
    file.write_text(file.read_text().replace("i feel", "we feel", 1))
    return emotion(root, None)


def moved_text(root: Path) -> TextDataset:
    """The last training text is the first of the test set: the same texts one after the other."""
    train, test = (root / "emotion" / f"{name}.txt" for name in ("train", "test"))
    *rest, last = train.read_text().splitlines()
    train.write_text("\n".join(rest))
    test.write_text(f"{last}\n{test.read_text().partition(chr(10))[2]}")
    return emotion(root, None)


@pytest.mark.parametrize(
    "change", [other_text, moved_text, lambda root: emotion(root, None, max_length=5)]
)
def test_other_texts_are_cut_again(change: Callable[[Path], TextDataset], root: Path) -> None:
    letters = Letters()
    emotion(root, None).tokenized(letters)
    change(root).tokenized(letters)
    assert letters.calls == 2


def test_another_tokenizer_cuts_again(root: Path) -> None:
    emotion(root, None).tokenized(Letters())
    other = Letters("other letters")
    emotion(root, None).tokenized(other)
    assert other.calls == 1


def change_a_byte(data: bytes) -> bytes:
    place = data.index("r".encode("utf-32-le") + "o".encode("utf-32-le"))
    return data[:place] + b"\1" + data[place + 1 :]


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", change_a_byte])
def test_damaged_tokens_are_made_anew_with_a_warning(
    damage: Callable[[bytes], bytes], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    letters = Letters()
    whole = emotion(root, None).tokenized(letters)
    (file,) = (root / ".tokens").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = emotion(root, None).tokenized(letters)
    assert letters.calls == 2
    assert torch.equal(again.train.inputs, whole.train.inputs)
    assert f"{file} is damaged; making the tokens anew" in caplog.text
    emotion(root, None).tokenized(letters)
    assert letters.calls == 2


def test_tokens_that_another_process_makes_are_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PATIENCE_S", 0.1)
    made: list[str] = []
    locked = texts_module.locked

    def noted(file: Path, doing: str) -> Any:
        made.append(file.name)
        return locked(file, doing)

    monkeypatch.setattr(texts_module, "locked", noted)
    with claimed(root / ".tokens.lock", ""):  # of one that never ends: then it is done here too
        assert len(emotion(root, None).tokenized(Letters()).train) == 60
    assert made == [".tokens.lock"]


def test_where_nothing_can_be_kept_there_is_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / ".tokens").touch()
    (root / ".tokens.lock").mkdir()
    assert len(emotion(root, None).tokenized(Letters()).train) == 60
    assert "cannot keep the tokens" in caplog.text


def test_a_copy_of_the_data_folder_has_the_texts(root: Path, tmp_path: Path) -> None:
    copied([EMOTION], root, tmp_path / "node")
    made = emotion(tmp_path / "node", None, download=False)
    assert list(made.test.texts) == list(emotion(root, None).test.texts)
