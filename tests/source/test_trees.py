"""What a source file says, as trees.py compares it."""

from __future__ import annotations

import pytest

from deltagclip_cli.source.trees import differences, digest, parse


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 'a'", 'x = u"a"'),
        ("x = 'ab'", "x = 'a' 'b'"),
        ("x = f'a{y}b'", "x = 'a' f'{y}' 'b'"),
        ("x = f'{y:>{width}}'", "x = f'{y:>{width}}' ''"),
        ("x = 1000", "x = 1_000"),
        ("if x:\n    y()\nelse:\n    pass", "if x: y()"),
        ("def f(): 'says'", "def f(): pass"),
        ("x: int = 1\n'''what x is'''", "x: int = 1"),
        ("x = (1, 2)", "x = 1, 2"),
    ],
)
def test_two_ways_to_write_the_same(one: str, other: str) -> None:
    assert digest(one.encode()) == digest(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = True", "x = 1"),
        ("x = 'a'", "x = b'a'"),
        ("x = {**y}", "x = {None: y}"),
        ("x = f'{y}'", "x = 'y'"),
        ("x = f'{y!r}'", "x = f'{y}'"),
        ("x = f'{y:3}'", "x = f'{y}3'"),
        ("def f(*, a, b=1): g()", "def f(*, a=1, b): g()"),
        ("from . import x", "import x"),
        ("from . import x", "from .. import x"),
        ("x = [1, [2]]", "x = [[1], 2]"),
        ("return_ = None", "return_ = ()"),
        ("def f():\n    return None", "def f():\n    return"),
        ("async def f(): g()", "def f(): g()"),
        ("try:\n    f()\nfinally:\n    g()", "try:\n    f()\nexcept E:\n    g()"),
    ],
)
def test_two_ways_to_say_something_else(one: str, other: str) -> None:
    assert digest(one.encode()) != digest(other.encode())


def test_what_this_python_cannot_read_says_its_bytes() -> None:
    assert digest(b"a b") != digest(b"a  b")
    assert differences(b"a b", b"a = 1") == []


@pytest.mark.parametrize("content", [b"def f(:", b"x = 1\0", b"x = '\xfc'", b"x = " + b"-" * 9999])
def test_what_cannot_be_read_is_a_syntax_error_of_its_file(content: bytes) -> None:
    with pytest.raises(SyntaxError) as error:
        parse(content, "net.py")
    assert error.value.filename == "net.py"


def test_a_long_sum_is_no_deep_tree() -> None:
    assert digest(b"x = " + b" + ".join([b"1"] * 900)) != digest(b"x = 900")


def test_a_file_that_python_warns_of_is_read_in_silence() -> None:
    parse(b"x = '\\d' is 'y'")
