"""Tables in comma-separated files: what is made of them, what is kept, what is refused."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from deltagclip_cli.core import DataError, UsageError
from deltagclip_cli.parts.datasets import delimited, tabular
from deltagclip_cli.parts.datasets.dataset import Dataset, Split
from deltagclip_cli.parts.datasets.tabular import csv
from deltagclip_cli.training.loaded import fingerprint

pytest.importorskip("pyarrow", reason="the extra 'csv' is not installed")

ROWS = [(1.0, 10, "red", 5.5), (2.0, 20, "blue", 6.5), (4.0, 20, "red", 9.0), (8.0, 30, "red", 1.0)]
TABLE = "a,b,colour,y\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)
SHARES: Any = {"test": 0.25}


def made(
    folder: Path, content: str | bytes = TABLE, name: str = "t.csv", **options: Any
) -> Dataset:
    """The data set of a file with this content, of the inputs a and b if nobody says others."""
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    usual = {"path": name, "target": "y", "splits": SHARES}
    if "inputs" not in options and "categories" not in options and content is TABLE:
        usual["inputs"] = ["a", "b"]
    return csv(folder, None, **{**usual, **options})


def values(split: Any, part: str = "inputs") -> list[Any]:
    assert isinstance(split, Split)
    found = getattr(split, part)
    assert isinstance(found, Tensor)
    return found.tolist()


def refused(folder: Path, content: str | bytes = TABLE, **options: Any) -> str:
    (folder / "set").mkdir()
    with pytest.raises((DataError, UsageError)) as caught:
        made(folder, content, **options)
    return str(caught.value).replace(f"{folder}/", "")


def test_columns_are_learnt_from_and_one_is_told(tmp_path: Path) -> None:
    found = made(tmp_path, standardize=False)
    assert (len(found.train), len(found.test), found.classes, found.shape) == (3, 1, 1, (2,))
    rows = values(found.train) + values(found.test)
    told = values(found.train, "targets") + values(found.test, "targets")
    pairs = sorted((*row, *target) for row, target in zip(rows, told, strict=True))
    assert pairs == [(a, b, y) for a, b, _, y in ROWS]


def test_numbers_are_standardised_by_the_training_part_alone(tmp_path: Path) -> None:
    plain, found = (made(tmp_path, standardize=each) for each in (False, True))
    for part in ("inputs", "targets"):
        train, test = (numpy.array(values(each, part)) for each in (plain.train, plain.test))
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        assert values(found.train, part) == pytest.approx((train - mean) / deviation)
        assert values(found.test, part) == pytest.approx((test - mean) / deviation)
    train = numpy.array(values(plain.train, "targets"))
    assert found.target_scale == pytest.approx(train.std())
    assert plain.target_scale == 1
    assert fingerprint(found) != fingerprint(plain)


def test_several_targets_are_told_side_by_side_and_have_no_unit(tmp_path: Path) -> None:
    found = made(tmp_path, target=["y", "b"], inputs=["a"])
    assert (found.classes, found.targets_shape, found.target_scale) == (2, (2,), 1)


def test_words_among_the_inputs_have_a_column_each(tmp_path: Path) -> None:
    found = made(tmp_path, inputs=["a", "colour"], categories=["colour"], standardize=False)
    rows = values(found.train) + values(found.test)
    assert sorted(rows) == [[a, colour == "blue", colour == "red"] for a, _, colour, _ in ROWS]


def test_a_word_that_the_training_part_has_not_is_none_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("a,colour,y\n3,green,1\n4,red,2\n")
    found = made(
        tmp_path,
        "a,colour,y\n1,red,1\n2, blue ,2\n",
        categories=["colour"],
        splits={"test": "test.csv"},
        standardize=False,
    )
    assert values(found.train) == [[1, 0, 1], [2, 1, 0]]
    assert values(found.test) == [[3, 0, 0], [4, 0, 1]]


def test_a_target_of_words_has_classes_in_alphabetical_order(tmp_path: Path) -> None:
    found = made(tmp_path, target="colour", classes=True, inputs=["a"], standardize=False)
    pairs = zip(
        values(found.train) + values(found.test),
        values(found.train, "targets") + values(found.test, "targets"),
        strict=True,
    )
    assert {row[0]: label for row, label in pairs} == {1: 1, 2: 0, 4: 1, 8: 1}
    assert found.classes == 2


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    table = "a,y\n1,10\n2,9\n3,10\n4,9\n"
    found = made(tmp_path, table, classes=True, standardize=False)
    pairs = zip(values(found.train), values(found.train, "targets"), strict=True)
    assert all(label == (row[0] % 2) for row, label in pairs)


def test_files_may_be_the_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, shift in (("train", 0), ("dev", 100), ("test", 200)):
        (folder / f"{name}.csv").write_text(
            "".join(["x,y\n", *(f"{n + shift},1\n" for n in range(9))])
        )
    splits = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
    for path in ("set", "set/train.csv"):
        found = csv(tmp_path, None, path=path, target="y", splits=splits, standardize=False)
        assert isinstance(found.validation, Split)
        assert [values(each)[0] for each in found.splits.values()] == [[0], [200], [100]]
    drawn = csv(tmp_path, None, path="set", target="y", splits={**splits, "validation": 1 / 3})
    assert {name: len(each) for name, each in drawn.splits.items()} == {
        "train": 6,
        "test": 9,
        "validation": 3,
    }


def test_an_index_without_a_name_is_no_input(tmp_path: Path) -> None:
    assert made(tmp_path, ",a,y\n0,5,1\n1,6,2\n2,7,3\n", standardize=False).shape == (1,)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"\xef\xbb\xbfa,b,y\r\n1,2.5,3\r\n4,-5e-1,6\r\n", {}),
        (b'"a","b","y"\n"1",2.5,3\n\n 4 , -0.5,6', {}),
        (b"a\tb\ty\n1\t2.5\t3\n4\t-0.5\t6\n", {"name": "t.tsv"}),
        (b"a;b;y\n1;2,5;3\n4;-0,5;6\n", {"delimiter": ";", "decimal": ","}),
        (b"1,2.5,3\n4,-0.5,6\n", {"columns": ["a", "b", "y"]}),
        ("a,b,ünïcode,y\n1,2.5,é,3\n4,-0.5,é,6\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("a,b,y\n1,2.5,3\n4,-0.5,6\n".encode("utf-16"), {"encoding": "utf-16"}),
        (gzip.compress(b"a,b,y\n1,2.5,3\n4,-0.5,6\n"), {"name": "t.csv.gz"}),
        (b'a,b,text,y\n1,2.5,"one, two\nand ""three""",3\n4,-0.5,,6\n', {}),
    ],
    ids=["bom", "quoted", "tab", "german", "nameless", "latin", "utf-16", "packed", "lines"],
)
def test_a_file_is_read_however_it_was_written(
    tmp_path: Path, content: bytes, options: Any
) -> None:
    found = made(tmp_path, content, inputs=["a", "b"], standardize=False, **options)
    assert sorted(values(found.train) + values(found.test)) == [[1, 2.5], [4, -0.5]]
    told = values(found.train, "targets") + values(found.test, "targets")
    assert sorted(told) == [[3], [6]]


def test_groups_of_digits_are_one_number(tmp_path: Path) -> None:
    table = 'a,y\n"1,234.5",1\n"12,345,678",2\n7,3\n'
    found = made(tmp_path, table, thousands=",", standardize=False)
    rows = sorted(values(found.train) + values(found.test))
    assert rows == [[7], [1234.5], [12345678]]
    assert 'write thousands: ","' in refused(tmp_path, table)


GAPS = "a,b,y\n1,2,3\n,5,6\n7,NA,9\n10,11,12\n13,14,15\n"


def test_rows_with_empty_cells_may_be_left_out(tmp_path: Path) -> None:
    found = made(tmp_path, GAPS, missing="drop", standardize=False)
    rows = sorted(values(found.train) + values(found.test))
    assert rows == [[1, 2], [10, 11], [13, 14]]


def test_empty_cells_may_get_the_mean_of_the_training_part(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("a,b,y\n,1,1\n")
    found = made(tmp_path, GAPS, missing="mean", splits={"test": "test.csv"}, standardize=False)
    assert values(found.train)[1:3] == [[7.75, 5], [7, 8]]
    assert values(found.test) == [[7.75, 1]]
    scaled = made(tmp_path, GAPS, missing="mean", splits={"test": "test.csv"})
    assert values(scaled.train)[1][0] == 0


def test_a_constant_column_is_zero_and_said(tmp_path: Path, caplog: Any) -> None:
    found = made(tmp_path, "a,b,y\n0.1,1,1\n0.1,2,2\n0.1,3,3\n")
    assert {row[0] for row in values(found.train)} == {0}
    assert "'a' is constant" in caplog.text


def test_the_table_is_kept_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(tmp_path)
    monkeypatch.setattr(tabular, "read_columns", lambda *_: pytest.fail("read again"))
    options: Any = {"path": "t.csv", "target": "y", "inputs": ["a", "b"]}
    again = csv(tmp_path, None, **options, splits={"test": 0.5}, standardize=False)
    assert len(again.test) == 2
    assert fingerprint(first) == fingerprint(csv(tmp_path, None, **options, splits=SHARES))
    monkeypatch.undo()
    other = made(tmp_path, TABLE.replace("5.5", "7.5"), inputs=["a", "b"])
    assert fingerprint(other) != fingerprint(first)


def test_sizes_are_known_before_anything_is_trained(tmp_path: Path) -> None:
    options: Any = {"path": "t.csv", "target": "y", "inputs": ["a"], "splits": SHARES}
    options |= {"standardize": True, "data_seed": 0, "decimal": ".", "encoding": "utf-8"}
    outline = csv.outline  # type: ignore[attr-defined]
    assert outline(tmp_path, None, **options) is None
    (tmp_path / "t.csv").write_text(TABLE)
    found = outline(tmp_path, None, **options)
    assert (found.shape, found.train, found.test) == ((1,), 3, 1)
    assert (found.targets_shape, found.targets_dtype) == ((1,), torch.float64)
    stand_in = found.stand_in()
    assert stand_in.targets_shape == (1,)
    files = csv.files(tmp_path, None, **options)  # type: ignore[attr-defined]
    assert files[0] == "t.csv" and re.fullmatch(r"\.tables/\w+\.pt", files[1])


@pytest.mark.parametrize(
    ("content", "options", "why"),
    [
        (TABLE, {"target": "Y"}, "no column 'Y', which is in target - did you mean 'y'?\n"),
        (TABLE, {"inputs": ["a", "z"]}, "Its columns: a, b, colour, y"),
        (TABLE, {"inputs": ["a", "y"]}, "'y' is a target and among the inputs"),
        (TABLE, {"inputs": ["colour"]}, "row 1, column 'colour': 'red' is no number (and in 3"),
        (TABLE, {"inputs": ["colour"]}, "categories: [colour]"),
        (TABLE, {"target": "colour"}, "classes: true"),
        (TABLE, {"target": ["y", "b"], "inputs": ["a"], "classes": True}, "of one target"),
        ("a,y\n1,2\n3,x\n", {}, "t.csv: row 2, column 'y': 'x' is no number.\n"),
        ("a,y\n1,2\n3,1_0\n", {}, "row 2, column 'y': '1_0' is no number"),
        ("a,y\n1,2\n3,inf\n", {}, "row 2, column 'y': inf is no number to learn from"),
        ("a,y\n1,2\n3,1e999\n", {}, "row 2, column 'y': inf is no number"),
        (GAPS, {}, "2 rows of 5 have empty cells: column 'a' (1 empty, the first in row 2)"),
        (GAPS, {}, "missing: drop leaves these rows out"),
        ("a,y\n1,\n2,3\n4,5\n", {"missing": "mean"}, "A target cannot be filled in"),
        ("a,y\n,1\n,2\n,3\n", {"missing": "drop"}, "every row has an empty cell"),
        ("a,y\n,1\n,2\n,3\n", {"missing": "mean"}, "'a' is empty everywhere"),
        ("a,y\n1,2\n", {}, "one sample cannot be divided into train and test"),
        ("a,y\n", {}, "has no rows below"),
        ("", {}, "t.csv: is empty"),
        ("a,a,y\n1,2,3\n", {}, "several columns are called 'a'"),
        ("a;b;y\n1;2;3\n", {}, "has one column, 'a;b;y'"),
        ("a;b;y\n1;2;3\n", {}, "write delimiter: ';'"),
        ("1,2\n3,4\n5,6\n", {}, "its first line has numbers alone (1, 2)"),
        ("1,2\n3,4\n", {"columns": ["a", "b", "y"]}, "has 2 cells, and columns names 3"),
        ("a,y\n1,2\n3\n4,5,6\n", {}, "row 2 has 1 cell, where there are 2 columns: '3' (and"),
        ("a,w,y\n1,é,2\n3,é,4\n".encode("latin-1"), {"categories": ["w"]}, "is not UTF-8"),
        ("é,y\n1,2\n3,4\n".encode("latin-1"), {}, "encoding: latin-1"),
        (b"PK\x03\x04\x00\x00", {}, "is no text (a workbook or another archive)"),
        (TABLE, {"encoding": "utf-9"}, "there is no encoding 'utf-9'"),
        ("a,y\n1,x\n2,x\n3,x\n", {"classes": True}, "'y' is 'x' everywhere: one class"),
        (TABLE, {"path": "../t.csv"}, "must name a file inside the data folder"),
        (TABLE, {"path": "other.csv"}, "other.csv: there is no such file"),
        (TABLE, {"path": "other.csv"}, "--data DIR or $DELTAGCLIP_DATA"),
        (TABLE, {"splits": {"test": "none.csv"}}, "none.csv: there is no such file"),
        (TABLE, {"path": "set"}, "set: is a folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, content: str | bytes, options: Any, why: str
) -> None:
    assert why in refused(tmp_path, content, **options)


def test_classes_that_nothing_is_trained_on_are_refused(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("a,y\n1,Red\n2,red\n")
    said = refused(tmp_path, "a,y\n1,red\n2,blue\n", classes=True, splits={"test": "test.csv"})
    assert "test.csv: test has 1 class of 'y' that nothing is trained on: Red" in said


def test_a_missing_package_is_said_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(delimited.__dict__["__builtins__"], "__import__", _without_arrow)
    assert "pip install pyarrow" in refused(tmp_path)


def _without_arrow(name: str, *others: Any) -> Any:
    if name.startswith("pyarrow"):
        raise ImportError(name)
    return __import__(name, *others)


def test_other_columns_of_a_table_that_is_kept_are_read_from_it(tmp_path: Path) -> None:
    made(tmp_path, inputs=["a"])
    found = csv(tmp_path, None, path="t.csv", target="y", inputs=["b"], standardize=False)
    assert {row[0] for row in values(found.train)} <= {10, 20, 30}


def test_lines_within_cells_may_stand_anywhere_in_a_large_file(tmp_path: Path) -> None:
    text = "\n".join(["a line"] * 20)
    table = "a,text,y\n" + f'1,"{text}",2\n' * 20_000
    found = made(tmp_path, table, inputs=["a"], standardize=False)
    assert len(found.train) + len(found.test) == 20_000
