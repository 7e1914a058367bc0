"""The code behind parts of one's own: collected, named, kept, compared."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from obstacles import OBSTACLES, as_nobody

from deltagclip_cli.core import RunFolderError, UnwritableError, UsageError, is_disk_full
from deltagclip_cli.source import collecting, snapshot
from deltagclip_cli.source.collecting import Code, changed, collect
from deltagclip_cli.source.loading import load_own
from deltagclip_cli.source.snapshot import (
    check_copy,
    copy_of,
    find,
    keep,
    read_copy,
    vouch,
)

Write = Callable[..., Path]


def code_of(root: Path, *references: str) -> Code:
    return collect(references or ("net.py:Net",), root)


def names(code: Code) -> list[str]:
    return sorted(code.files)


def test_a_code_is_the_file_and_whatever_local_files_it_imports(write: Write) -> None:
    root = write(
        net="""
            import torch, first
            from layers import conv
            try:
                import second.inner as inner
            except ImportError:
                pass
            def f():
                from third import x
        """,
        first="from . import fourth",
        fourth="import first",
        third="x = 1",
        unused="",
        **{"layers/__init__": "", "layers/conv": "from .dense import *", "layers/dense": ""},
        **{"second/inner": "", "layers/unused": "", "second/unused": ""},
    )
    assert names(code_of(root)) == [
        "first.py",
        "fourth.py",
        "layers/__init__.py",
        "layers/conv.py",
        "layers/dense.py",
        "net.py",
        "second/inner.py",
        "third.py",
    ]


def test_what_is_collected_is_enough_to_import_it(write: Write, tmp_path: Path) -> None:
    root = write(
        "spec",
        helper="value = 'above'",
        shared="from helper import value",
        **{
            "models/net": "import helper, pack, shared\n"
            "values = helper.value, shared.value, pack.a.b",
            "models/helper": "value = 'beside'",
            "pack/__init__": "from .sub import *",
            "pack/sub/__init__": "__all__ = ['a']",
            "pack/sub/a": "from ... import pack\nfrom ...pack.sub.more import b",
            "pack/sub/more": "b = 1",
        },
    )
    copy = keep(code_of(root, "models/net.py:values"), tmp_path / "store")
    expected = ("beside", "above", 1)
    assert load_own(root, "models/net.py", "values") == expected
    assert load_own(copy, "models/net.py", "values") == expected


@pytest.mark.parametrize(
    "same",
    [
        "def f(x):\n    return x+1\n",
        "def f(x):\n    'says what it does'\n    # why\n    return (x +\n        1)\n",
        "'about the file'\ndef f(x): return x + 1\n",
        "def f(x):\r\n    return x + 1\r\n",
        "# -*- coding: latin-1 -*-\ndef f(x):\n    pass\n    return x + 1",
    ],
)
def test_comments_docstrings_and_layout_are_no_change(write: Write, same: str) -> None:
    before = code_of(write(net="def f(x):\n    return x + 1\n"))
    after = code_of(write(net=same))
    assert after.hash == before.hash
    assert changed(before, after) == []


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2",
        "def f(x):\n    return x + 1.0",
        "def f(x):\n    return x - 1",
        "def f(y):\n    return y + 1",
        "def f(x, /):\n    return x + 1",
        "def f(*, x):\n    return x + 1",
        "def f(x: int):\n    return x + 1",
        "async def f(x):\n    return x + 1",
        "def f(x=None):\n    return x + 1",
        "def f(x):\n    return\n    x + 1",
        "g = 1\ndef f(x):\n    return x + 1",
    ],
)
def test_whatever_runs_differently_is_a_change(write: Write, other: str) -> None:
    before = code_of(write(net="def f(x):\n    return x + 1\n"))
    assert code_of(write(net=other)).hash != before.hash


def test_an_edit_in_a_helper_is_a_change_and_is_said(write: Write) -> None:
    net = "from soft import SoftSign\nimport helper"
    soft = (
        "class SoftSign(Base):\n    rate = 1\n    def step(self): return 1\n    def stop(self): ..."
    )
    root = write(net=net, soft=soft, helper="import math\ndef scale(x): return x\nLIMIT = 2")
    before = code_of(root)
    write(soft=soft.replace("return 1", "return 2"), helper="def scale(x): return 2 * x\nLIMIT = 3")
    after = code_of(root)
    assert changed(before, after) == [
        "helper.py: scale, LIMIT and its imports",
        "soft.py: SoftSign.step",
    ]
    write(
        soft=soft.replace("Base", "Other").replace("rate = 1", "rate = 2"),
        net="import soft, more",
        more="",
    )
    assert changed(before, code_of(root)) == [
        "helper.py (gone)",
        "more.py (new)",
        "net.py: its imports",
        "soft.py: SoftSign.rate and SoftSign",
    ]
    write(more="if True:\n    x = 1")
    assert "more.py: what it does on import" in changed(
        code_of(write(more="")), code_of(write(more="if 1: x = 1"))
    )


def test_a_new_order_of_definitions_is_a_change(write: Write) -> None:
    before = code_of(write(net="a = 1\nb = 2"))
    after = code_of(write(net="b = 2\na = 1"))
    assert changed(before, after) == ["net.py: the order of what it defines"]


def test_versions_of_packages_are_part_of_it() -> None:
    code = collect(["yaml:YAMLObject"], Path("/"))
    assert list(code.packages) == ["PyYAML"] and code.files == {}
    other = Code(code.references, {}, {"PyYAML": "1.0"})
    assert other.hash != code.hash
    assert changed(other, code) == [f"PyYAML 1.0 -> {code.packages['PyYAML']}"]
    assert changed(code, Code((), {})) == [f"PyYAML {code.packages['PyYAML']} -> (gone)"]


def test_a_copy_is_kept_under_the_first_digits_of_the_hash(write: Write, tmp_path: Path) -> None:
    code, store = code_of(write("spec", net="Net = 1")), tmp_path / "store"
    assert find(code, store) == code.hash[:16]
    copy = keep(code, store)
    assert copy == copy_of(store, find(code, store)) == store / code.hash[:16] / "files"
    assert keep(code, store) == copy and len(list(store.iterdir())) == 1
    record = json.loads((copy.parent / "code.json").read_text())
    assert record["references"] == ["net.py:Net"] and record["folder"] == str(tmp_path / "spec")
    assert read_copy(store, copy.parent.name) == code


def test_a_copy_stays_as_it_was_while_the_file_is_edited(write: Write, tmp_path: Path) -> None:
    root, store = write("spec", net="Net = 1"), tmp_path / "store"
    before = keep(code_of(root), store)
    write("spec", net="Net = 2")
    after = keep(code_of(root), store)
    assert [load_own(each, "net.py", "Net") for each in (before, after, root)] == [1, 2, 2]


def test_a_copy_of_another_python_is_the_same_code_if_its_trees_are(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, store = write("spec", net="Net = 1"), tmp_path / "store"
    code = code_of(root)
    kept = keep(code, store).parent
    old = kept.rename(store / "0123456789abcdef")  # as a Python would name it that reads otherwise
    assert find(code, store) == code.hash[:16]
    record = old / "code.json"
    record.write_text(record.read_text().replace(f'"{snapshot._PYTHON}"', '"3.99"'))
    assert find(code, store) == old.name
    assert find(code_of(write("spec", net="Net = 1  # said")), store) == old.name
    assert find(code_of(write("spec", net="Net = 2")), store) != old.name
    assert find(Code((), code.files, {"timm": "1"}), store) != old.name
    assert keep(code, store) == old / "files"


def test_a_code_that_was_vouched_for_has_the_name_of_the_old_one(
    write: Write, tmp_path: Path
) -> None:
    root, store = write("spec", net="Net = 1"), tmp_path / "store"
    first = code_of(root)
    copy = keep(first, store)
    second = code_of(write("spec", net="Net = 2"))
    third = code_of(write("spec", net="Net = 3"))
    old = find(first, store)
    for new in (second, third):
        vouch(store, old, keep(new, store).parent.name)
        assert find(new, store) == old
        assert copy_of(store, old) == keep(new, store) != copy
    assert read_copy(store, old) == third
    record = json.loads((store / old / "code.json").read_text())
    assert [each["code"] for each in record["vouched"]] == [second.hash[:16], third.hash[:16]]
    assert all(each["time"] and each["user"] for each in record["vouched"])
    # Whoever takes the edits back runs what stands in the files again.
    assert keep(first, store) == copy_of(store, old) == copy
    assert find(third, store) == find(first, store) == old


def test_a_code_is_run_again_though_the_copy_that_stood_for_it_was_deleted(
    write: Write, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first, second = (code_of(write("spec", net=f"Net = {number}")) for number in (1, 2))
    old, new = keep(first, store).parent.name, keep(second, store).parent.name
    vouch(store, old, new)
    shutil.rmtree(store / new)
    with pytest.raises(LookupError, match=f"{new}: there is no whole copy"):
        copy_of(store, old)
    assert find(second, store) == old and keep(second, store) == copy_of(store, old)
    shutil.rmtree(store / new)
    assert keep(first, store) == copy_of(store, old)


def test_only_what_was_kept_can_be_vouched_for_or_run(write: Write, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for wrong in (lambda: copy_of(store, "x"), lambda: vouch(store, "x", "y")):
        with pytest.raises(LookupError, match="there is no whole copy"):
            wrong()
    name = keep(code_of(write("spec", net="")), store).parent.name
    with pytest.raises(LookupError, match="there is no whole copy"):
        vouch(store, "x", name)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"files": 1}', '{"files": {"net.py": 1}}', "\0"]
)
def test_a_damaged_record_is_no_copy_and_is_written_anew(
    write: Write, tmp_path: Path, damage: str
) -> None:
    code, store = code_of(write("spec", net="Net = 1")), tmp_path / "store"
    copy = keep(code, store)
    (copy.parent / "code.json").write_text(damage)
    with pytest.raises(LookupError):
        copy_of(store, copy.parent.name)
    assert find(code, store) == code.hash[:16]
    assert keep(code, store) == copy == copy_of(store, copy.parent.name)


def test_a_copy_that_was_edited_is_refused_and_kept_anew(write: Write, tmp_path: Path) -> None:
    code, store = code_of(write("spec", net="Net = 1")), tmp_path / "store"
    copy = keep(code, store)
    check_copy(store, copy.parent.name)
    (copy / "net.py").write_text("Net = 2")
    with pytest.raises(RunFolderError, match=r"net\.py: this copy is not as it was kept"):
        check_copy(store, copy.parent.name)
    keep(code, store)
    check_copy(store, copy.parent.name)
    (copy / "net.py").unlink()
    with pytest.raises(LookupError, match=r"net\.py"):
        read_copy(store, copy.parent.name)


def test_a_file_that_is_not_python_is_shown_as_python_does(write: Write) -> None:
    root = write(net="import helper", helper="def f(:\n    return 1")
    with pytest.raises(UsageError) as error:
        code_of(root)
    assert str(error.value).startswith(f"{root / 'helper.py'} cannot be read as Python:")
    assert "line 1" in str(error.value) and "def f(:\n" in str(error.value)
    (root / "helper.py").write_bytes(b"x = 1\0")
    with pytest.raises(UsageError, match="null bytes"):
        code_of(root)


def test_a_file_of_any_encoding_is_kept_byte_by_byte(write: Write, tmp_path: Path) -> None:
    root, store = write("spec"), tmp_path / "store"
    root.mkdir()
    content = b"# -*- coding: latin-1 -*-\r\nNet = '\xfc'\r\n"
    (root / "net.py").write_bytes(content)
    assert (keep(code_of(root), store) / "net.py").read_bytes() == content
    (root / "net.py").write_text("Net = 'ü'")
    assert code_of(root).hash[:16] == find(code_of(root), store)
    (root / "net.py").write_bytes(b"Net = '\xfc'")
    with pytest.raises(UsageError, match=r"(?s)cannot be read as Python.*utf-8"):
        code_of(root)


def test_links_are_followed_and_their_files_kept(write: Write, tmp_path: Path) -> None:
    elsewhere = write("elsewhere", helper="value = 1", **{"layers/conv": "depth = 2"})
    root = write("spec", net="import helper\nfrom layers.conv import depth as Net")
    (root / "helper.py").symlink_to(elsewhere / "helper.py")
    (root / "layers").symlink_to(elsewhere / "layers")
    (root / "round").symlink_to(root)
    code = code_of(root)
    assert names(code) == ["helper.py", "layers/conv.py", "net.py"]
    copy = keep(code, tmp_path / "store")
    assert not (copy / "helper.py").is_symlink() and load_own(copy, "net.py", "Net") == 2


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_what_is_no_file_is_no_module(write: Write, obstacle: Callable[[Path], None]) -> None:
    root = write(net="import helper")
    obstacle(root / "helper.py")
    assert names(code_of(root)) == ["net.py"]
    obstacle(root / "other.py")
    with pytest.raises(UsageError, match=r"other\.py: there is no such file"):
        code_of(root, "other.py:Net")


def test_a_file_that_must_not_be_read_is_said(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(net="import helper", helper="x = 1")
    monkeypatch.setattr(collecting, "MOST_BYTES", 8)
    with pytest.raises(UsageError, match=r"net\.py: it cannot be read: it is larger than"):
        code_of(root)


def test_files_that_are_edited_meanwhile_are_read_again(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(net="import helper\nNet = 1", helper="x = 1")
    read, edits = collecting.read_file, iter([2, 3])

    def read_and_edit(path: Path, most_bytes: int) -> bytes:
        content = read(path, most_bytes)
        if path.name == "helper.py" and (edit := next(edits, None)):
            write(net=f"import helper\nNet = {edit}", helper=f"x = {edit}")
        return content

    monkeypatch.setattr(collecting, "read_file", read_and_edit)
    assert code_of(root).files == {"net.py": b"import helper\nNet = 3", "helper.py": b"x = 3"}


def test_a_file_that_is_deleted_meanwhile_is_gone(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, read = write(net="import helper", helper=""), collecting.read_file

    def read_and_delete(path: Path, most_bytes: int) -> bytes:
        content = read(path, most_bytes)
        if path.name == "helper.py":
            path.unlink()
        return content

    monkeypatch.setattr(collecting, "read_file", read_and_delete)
    assert names(code_of(root)) == ["net.py"]


def test_a_file_of_somebody_else_is_said(open_folder: Path) -> None:
    (open_folder / "net.py").touch(mode=0o000)
    with as_nobody(), pytest.raises(UsageError, match="it cannot be read: Permission denied"):
        code_of(open_folder)


def test_files_that_are_edited_all_the_time_are_read_in_the_end(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting._Reading, "is_current", lambda self: False)
    assert names(code_of(write(net="Net = 1"))) == ["net.py"]


def test_a_local_file_with_the_name_of_a_standard_module_is_refused(write: Write) -> None:
    root = write(net="x = 1\ndef f():\n    from queue import Queue", queue="class Queue: ...")
    with pytest.raises(UsageError) as error:
        code_of(root)
    assert str(error.value) == (
        f"{root / 'net.py'}:3: `from queue import Queue` means Python's own module queue, though "
        "a file here has that name.\n  Rename the file."
    )
    assert names(code_of(write(net="from .queue import Queue"))) == ["net.py", "queue.py"]
    files = {"net": "import pack", "pack/__init__": "import queue", "pack/queue": ""}
    (root / "queue.py").unlink()
    assert names(code_of(write(**files))) == ["net.py", "pack/__init__.py"]


def test_a_file_has_one_name_however_it_is_written(write: Write) -> None:
    root = write(**{"models/net": "Net = 1"})
    written = ["models/net.py", "./models/net.py", "models/../models//net.py"]
    assert names(code_of(root, *(f"{file}:Net" for file in written))) == ["models/net.py"]


def test_what_only_type_checkers_import_is_left_out(write: Write) -> None:
    net = """
        import typing
        if typing.TYPE_CHECKING:
            import types_only
        else:
            import helper
    """
    assert names(code_of(write(net=net, types_only="", helper=""))) == ["helper.py", "net.py"]


def test_a_package_that_imports_its_modules_by_name_is_kept_whole(
    write: Write, tmp_path: Path
) -> None:
    registry = """
        import importlib, pkgutil
        for each in pkgutil.iter_modules(__path__):
            importlib.import_module(f".{each.name}", __package__)
        all_names = sorted(name for name in globals() if name.startswith("net_"))
    """
    root = write(
        "spec",
        unused="",
        net="from models import all_names",
        **{"models/__init__": registry, "models/net_a": "", "models/net_b/__init__": ""},
    )
    copy = keep(code_of(root), tmp_path / "store")
    assert load_own(copy, "net.py", "all_names") == ["net_a", "net_b"]
    assert not (copy / "unused.py").exists()


def test_an_import_above_the_folder_of_the_spec_reaches_nothing(write: Write) -> None:
    write(".", above="")
    assert names(code_of(write("spec", net="from .. import above\nfrom ..above import x"))) == [
        "net.py"
    ]


def test_any_number_of_processes_may_keep_a_copy_and_be_killed_in_it(
    write: Write, tmp_path: Path
) -> None:
    imports = "".join(f"import h{number}\n" for number in range(20))
    helpers = {f"h{number}": f"x = {number}" for number in range(20)}
    code, store = code_of(write("spec", net=imports, **helpers)), tmp_path / "store"
    for tenths in range(8):
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                keep(code, store)
                os._exit(0)
            children.append(child)
        time.sleep(tenths * 0.002)
        for child in children[1:]:
            os.kill(child, signal.SIGKILL)
        ends = [os.waitpid(child, 0)[1] for child in children]
        assert ends[0] == 0
        check_copy(store, code.hash[:16])
        assert read_copy(store, code.hash[:16]) == code
        shutil.rmtree(store)


def test_a_full_disk_is_said_and_leaves_no_copy(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, store = code_of(write("spec", net="import helper", helper="")), tmp_path / "store"
    written, room = snapshot.written_whole, iter([True])

    @contextmanager
    def on_a_full_disk(path: Path) -> Iterator[IO[bytes]]:
        if not next(room, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with written(path) as file:
            yield file

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "written_whole", on_a_full_disk)
        with pytest.raises(UnwritableError, match="cannot be kept there: No space left") as error:
            keep(code, store)
    assert is_disk_full(error.value)
    with pytest.raises(LookupError):
        copy_of(store, find(code, store))
    assert keep(code, store) == copy_of(store, find(code, store))


def test_a_missing_file_or_package_is_said(write: Write) -> None:
    with pytest.raises(UsageError, match=r"gone\.py: there is no such file"):
        code_of(write(), "gone.py:Net")
    with pytest.raises(UsageError, match="the package no_such is not installed"):
        code_of(write(), "no_such.module:Net")


def test_what_stands_for_two_codes_has_the_name_of_the_one_it_was_vouched_for_last(
    write: Write, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    codes = [code_of(write("spec", net=f"Net = {number}")) for number in range(4)]
    first, second, third, fourth = [keep(code, store).parent.name for code in codes]
    vouch(store, first, third)
    vouch(store, second, find(codes[2], store))
    assert find(codes[2], store) == second and copy_of(store, second).parent.name == third
    vouch(store, third, fourth)
    assert find(codes[3], store) == second and copy_of(store, second).parent.name == fourth
    assert find(codes[0], store) == first and copy_of(store, first).parent.name == third
