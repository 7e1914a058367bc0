"""YAML as people write it, and where in a file everything was written."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from deltagclip_cli.core import SpecError
from deltagclip_cli.spec.document import (
    Document,
    parse,
    parse_override,
    read_document,
)

WORDS = """
on off yes no y N nullable inf nan 04:00:00 1:30 2024-01-01 1_000 010 +00 0x1F 0o17 1e e3 1.2.3 . =
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5E-4", 0.0005),
        ("+1e3", 1000.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("12", 12),
        ("-0", 0),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_a_plain_scalar_is_what_yaml_1_2_says(text: str, value: Any) -> None:
    read = parse(text)
    assert read == value
    assert type(read) is type(value)


def test_bytes_that_are_no_text_are_no_yaml() -> None:
    with pytest.raises(SpecError, match=r"--set title=\\udcff: the value is not readable YAML: "):
        parse_override("title=\udcff")


def test_not_a_number_is_a_number_of_its_kind() -> None:
    assert math.isnan(parse(".nan"))


@pytest.mark.parametrize(
    "text",
    WORDS.split(),
)
def test_what_only_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    assert parse(text) == text


def test_only_whole_numbers_with_a_leading_zero_are_text() -> None:
    assert parse("[010, 00, 1e0, 0.5, 0, 01.5]") == ["010", "00", 1.0, 0.5, 0, 1.5]


def test_words_stay_words_as_keys_too() -> None:
    assert parse("{on: 1, no: 2, off: x}") == {"on": 1, "no": 2, "off": "x"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {1: x}", "1:5: the key 1 is a number, and a key must be a text: write '1'."),
        ("1e-3: x", "1:1: the key 1e-3 is a number, and a key must be a text: write '1e-3'."),
        ("a:\n  true: x", "2:3: the key true is a truth value, and a key must be a text"),
        ("{null: x}", "1:2: the key null stands for nothing, and a key must be a text"),
        ("? \n: x", "1:2: a key is missing before the ':'"),
        ("? [a, b]\n: x", "1:3: a key must be a text."),
    ],
)
def test_a_key_is_a_text(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as refused:
        read_document(path)
    assert f"{path}:{problem}" in str(refused.value)


def test_numbers_and_dates_in_quotes_or_of_a_form_of_their_own_are_keys() -> None:
    text = "{'1': a, 2026-11-30: b, 1_000: c, 0x10: d}"
    assert list(parse(text)) == ["1", "2026-11-30", "1_000", "0x10"]


@pytest.mark.parametrize("text", ["'1e-3'", '"1e-3"'])
def test_what_is_quoted_is_text(text: str) -> None:
    assert parse(text) == "1e-3"


def test_the_loader_of_specs_leaves_pyyaml_as_it_was() -> None:
    assert yaml.safe_load("{a: on, b: 1e-3}") == {"a": True, "b": "1e-3"}


@pytest.mark.parametrize("text", ["a: {<<: 3}", "a: {<<: [1]}"])
def test_what_is_no_mapping_cannot_be_merged(text: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"spec.yaml:1:\d+: '<<' merges mappings only\."):
        read_document(file)


def test_anchors_and_merge_keys_work_and_what_is_written_out_wins() -> None:
    text = """
        base: &base {lr: 0.1, eps: 1}
        more: &more {lr: 0.2, beta: 2}
        one: {<<: *base, eps: 3}
        both: {<<: [*base, *more]}
        whole: *base
    """
    read = parse(text)
    assert read["one"] == {"lr": 0.1, "eps": 3}
    assert read["both"] == {"lr": 0.1, "eps": 1, "beta": 2}  # of several the first wins
    assert read["whole"] == {"lr": 0.1, "eps": 1}


@pytest.mark.parametrize(
    ("text", "key", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", "3:1"),
        ("a:\n  b: {c: 1, c: 2}\n", "c", "2:13"),
        ("- [{x: 1, x: 1}]\n", "x", "1:11"),
        ("a: {<<: {b: 1, b: 2}}\n", "b", "1:16"),
        ("one: &one {b: 1, 'b': 2}\ntwo: {<<: *one}\n", "b", "1:18"),
        ("a: {<<: {b: 1}, <<: {c: 1}}\n", "<<", "1:17"),
    ],
)
def test_a_repeated_key_is_refused_with_its_place(
    tmp_path: Path, text: str, key: str, place: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}:{place}: the key '{key}' is there twice."


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object:os.system {}",
        "!!python/object/apply:os.system [ls]",
        "!!python/name:os.system",
        "!!python/tuple [1]",
        "!mine 3",
    ],
)
def test_a_tag_that_is_no_plain_data_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"a:\n  b: {text}\n")
    with pytest.raises(SpecError, match=r"spec\.yaml:2:6: could not determine a constructor"):
        read_document(path)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1, 2\nb: 3\n", "2:2", "expected ',' or ']'"),
        ("a: {b: 1\n", "2:1", "expected ',' or '}'"),
        ("a: b: c\n", "1:5", "mapping values are not allowed"),
        ("a:\n\tb: 1\n", "2:1", "found character"),
        ("a: *nowhere\n", "1:4", "undefined alias"),
        ("a: 'open\n", "2:1", "unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", "2:1", "another document"),
        ("? [1, 2]\n: 3\n", "1:3", "a key must be a text"),
    ],
)
def test_what_is_no_yaml_is_refused_with_line_and_column(
    tmp_path: Path, text: str, place: str, words: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_document(path)
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["!!int x", "!!float x", "!!bool x", "!!timestamp x"])
def test_a_value_that_is_not_what_its_tag_says_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"a: {text}\n")
    with pytest.raises(SpecError, match=r"spec\.yaml"):
        read_document(path)


def test_a_file_that_is_not_there_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: there is no such file\. .*--spec FILE"):
        read_document(tmp_path / "absent.yaml")
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(SpecError, match=r"\n  files there: mine\.yaml$"):
        read_document(tmp_path / "absent.yaml")


def test_a_spec_without_end_is_refused_and_a_pipe_is_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="/dev/zero: larger than 16 MiB, so no spec"):
        read_document(Path("/dev/zero"))
    reader, writer = os.pipe()
    os.write(writer, b"a: 1\r\n")
    os.close(writer)
    assert read_document(Path(f"/dev/fd/{reader}")).data == {"a": 1}
    os.close(reader)


def test_a_folder_and_a_file_that_is_not_utf8_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("title: δ größe".encode("utf-16"))
    for path in (tmp_path, latin):
        with pytest.raises(SpecError, match="cannot be read") as caught:
            read_document(path)
        assert str(caught.value).startswith(str(path))


def test_a_character_that_yaml_forbids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"a: \x00\n")
    with pytest.raises(SpecError, match=r"spec\.yaml: .*(unacceptable|not allowed)"):
        read_document(path)


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes("\ufeffa: 1\r\nb: δ\r\n".encode())
    assert read_document(path).data == {"a": 1, "b": "δ"}


def test_an_empty_file_has_no_data(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("# nothing yet\n")
    assert read_document(path).data is None
    assert read_document(path).place(("a",)) == str(path)


def bomb(levels: int, first: str = "[x]", each: str = "[{}]") -> str:
    """Aliases of aliases, ten at each level."""
    lines = [f"l0: &l0 {first}"]
    for level in range(1, levels):
        below = ", ".join([f"*l{level - 1}"] * 10)
        lines.append(f"l{level}: &l{level} {each.format(below)}")
    return "\n".join(lines) + "\n"


MONSTERS = {
    "lists": bomb(10),
    "mappings": bomb(10, "{x: 1}", "{{a: [{}]}}"),
    "merges": bomb(8) + "m: {<<: {a: *l7}}\n",
    "many": bomb(6) + "m: [" + "*l5, " * 20 + "]\n",
    "itself": "a: &a [*a]\n",
    "itself below": "a: &a {b: {c: *a}}\n",
    "itself merged": "a: &a {<<: *a}\n",
    "deep": "a: " + "[" * 200 + "]" * 200,
    "very deep": "a: " + "[" * 100_000 + "]" * 100_000,
    "deep blocks": "".join(f"{' ' * level}a:\n" for level in range(2000)),
    "deep dashes": "- " * 20_000 + "x",
    "deep keys": "? " * 20_000 + "x",
    "deep by aliases": "l0: &l0 [x]\n"
    + "".join(f"l{n}: &l{n} [*l{n - 1}]\n" for n in range(1, 200)),
}


@pytest.mark.parametrize("name", MONSTERS)
def test_what_unfolds_without_end_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(MONSTERS[name])
    begin = time.process_time()
    with pytest.raises(SpecError, match=r"aliases unfold|an alias stands for|nested too deeply"):
        read_document(path)
    assert time.process_time() - begin < 10
    with pytest.raises(SpecError, match=r"--set x=.{5,90}: the value is not readable YAML: "):
        parse_override(f"x={MONSTERS[name]}")


def test_many_aliases_of_little_are_as_good_as_any(tmp_path: Path) -> None:
    assert len(parse(bomb(5))["l4"][0][0][0]) == 10
    assert len(parse("a: &a {x: 1}\nb: [" + "*a, " * 10_000 + "]")["b"]) == 10_000


PLACES = """\
base: &base
  lr: 0.1
  inner: {deep: 1}
one:
  <<: *base
  eps: 2
two: {<<: *base, lr: 3}
rows:
  - 1
  - {x: 2}
"""


@pytest.fixture
def places(tmp_path: Path) -> Document:
    path = tmp_path / "spec.yaml"
    path.write_text(PLACES)
    document = read_document(path)
    return Document("spec.yaml", document.data, document.root)


@pytest.mark.parametrize(
    ("where", "place"),
    [
        (("one",), "spec.yaml:4:1"),
        (("one", "eps"), "spec.yaml:6:3"),
        (("one", "lr"), "spec.yaml:2:3"),
        (("one", "inner", "deep"), "spec.yaml:3:11"),
        (("two", "lr"), "spec.yaml:7:18"),
        (("two", "inner"), "spec.yaml:3:3"),
        (("rows", 0), "spec.yaml:9:5"),
        (("rows", 1, "x"), "spec.yaml:10:6"),
        (("one", "missing", "too"), "spec.yaml:4:1"),
        (("rows", 7), "spec.yaml:8:1"),
        (("missing",), "spec.yaml"),
    ],
)
def test_a_place_is_where_the_key_was_written_or_the_nearest_above(
    places: Document, where: tuple[str | int, ...], place: str
) -> None:
    assert places.place(where) == place


@pytest.mark.parametrize("text", ["lr", "", "=1", "a..b=1", ".a=1", "a.=1"])
def test_an_override_without_key_or_equals_sign_shows_how_it_is_written(text: str) -> None:
    with pytest.raises(SpecError, match=rf"^--set {text}: expected KEY=VALUE, such as"):
        parse_override(text)


@pytest.mark.parametrize(
    ("text", "where", "value"),
    [
        ("lr=1e-3", ("lr",), 0.001),
        ("optimizers.adam.lr=5E-4", ("optimizers", "adam", "lr"), 0.0005),
        ("a=on", ("a",), "on"),
        ("a=", ("a",), None),
        ("a='1'", ("a",), "1"),
        ("a={b: [1, x=y]}", ("a",), {"b": [1, "x=y"]}),
        ("a=b=c", ("a",), "b=c"),
        (" a = 3 ", ("a",), 3),
    ],
)
def test_the_value_of_an_override_is_read_like_the_file(
    text: str, where: tuple[str, ...], value: Any
) -> None:
    override = parse_override(text)
    assert (override.where, override.value) == (where, value)


@pytest.mark.parametrize("value", ["[", "{a", "{a: 1, a: 2}", "!!python/tuple [1]", "'"])
def test_a_value_that_is_no_yaml_is_named_with_the_words_it_came_in(value: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_override(f"lr={value}")
    assert str(caught.value).startswith(f"--set lr={value}: the value is not readable YAML: ")
