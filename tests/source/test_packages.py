"""Installed packages that parts are in: known by a version, or by their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.source.collecting import changed, collect
from deltagclip_cli.source.packages import edited_root, installed
from deltagclip_cli.source.snapshot import check_copy, code_of, keep

Write = Callable[..., Path]
Install = Callable[..., Path]


@pytest.fixture
def install(write: Write, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package where packages are installed, with what its installer says of its origin."""

    def installed_at(name: str, version: str = "1.0", **origin: Any) -> Path:
        site = write("site-packages", **{f"{name}/__init__": "", f"{name}/nets": "Net = 1"})
        record = site / f"{name}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")
        if origin:
            (record / "direct_url.json").write_text(json.dumps({"url": "file:///x", **origin}))
        monkeypatch.syspath_prepend(site)
        return record

    return installed_at


def test_a_package_from_an_index_is_known_by_its_version(install: Install, write: Write) -> None:
    install("lab1")
    code = collect(["lab1.nets:Net"], write("spec"))
    assert (code.packages, code.files) == ({"lab1": "1.0"}, {})


def test_one_from_a_repository_is_known_by_its_commit(install: Install, write: Write) -> None:
    install("lab2", vcs_info={"vcs": "git", "commit_id": "0123456789abcdef"})
    assert collect(["lab2:Net"], write("spec")).packages == {"lab2": "1.0@0123456789ab"}


def test_one_from_an_archive_is_known_by_its_hash(install: Install, write: Write) -> None:
    install("lab3", archive_info={"hashes": {"sha256": "f" * 64}})
    assert collect(["lab3:Net"], write("spec")).packages == {"lab3": f"1.0@{'f' * 12}"}


def test_one_from_a_folder_is_known_by_its_files(install: Install, write: Write) -> None:
    install("lab4", dir_info={})
    code = collect(["lab4.nets:Net"], write("spec"))
    assert code.packages == {}
    assert sorted(code.files) == ["@installed/lab4/__init__.py", "@installed/lab4/nets.py"]


def test_the_name_of_a_package_may_be_another_than_that_of_its_distribution() -> None:
    assert installed("PIL.Image").name == "pillow"
    assert installed("numpy").version == installed("numpy.linalg").version is not None


def test_an_editable_package_is_known_by_the_files_that_are_reached(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = {
        "__init__": "",
        "setup": "",
        "lab5/__init__": "from .base import Base",
        "lab5/base": "import torch, lab6\ndef f(): from . import torn",
        "lab5/torn": "print 'of another Python'",
        "lab5/nets": "from lab5.base import Base\nclass Net(Base):\n    def forward(self): ...",
        "lab5/unused": "",
    }
    monkeypatch.syspath_prepend(write("src", **lab))
    monkeypatch.syspath_prepend(write("other", lab6="x = 1"))
    named = collect(["lab5.nets:Net"], write("spec", net="from lab5 import nets"))
    reached = ["lab5/__init__.py", "lab5/base.py", "lab5/nets.py", "lab5/torn.py", "lab6.py"]
    files = [f"@installed/{file}" for file in reached]
    assert sorted(named.files) == files and named.packages == {}
    imported = collect(["net.py:nets"], tmp_path / "spec")
    assert sorted(imported.files) == [*files, "net.py"]

    store = tmp_path / "store"
    copies = [keep(code, store).parent.name for code in (named, imported)]
    for name in copies:
        check_copy(store, name)
    write("src", **{"lab5/nets": "class Net:\n    def forward(self): return 1"})
    after = collect(["lab5.nets:Net"], tmp_path / "spec")
    said = "lab5/nets.py: Net.forward, Net and its imports"
    assert changed(named, after) == [said]
    for name in copies:
        with pytest.raises(RunFolderError, match=r"has changed since.*Net\.forward"):
            check_copy(store, name)


def test_a_copy_tells_what_belongs_to_some_of_its_parts(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(write("src", **{"lab8/__init__": "", "lab8/nets": "import lab8"}))
    outside = write("outside", net="from . import helper", helper="")
    references = [f"{outside / 'net.py'}:Net", "lab8.nets:Net", "parts/soft.py:Soft", "net.py:Net"]
    files = {"net": "from lab8 import nets", "parts/soft": "import scale", "parts/scale": ""}
    code = collect(references, write("spec", **files))
    copy = keep(code, tmp_path / "store")
    for folder in ("outside", "src", "spec"):
        shutil.rmtree(tmp_path / folder)
    assert collect(references, copy).files == code.files
    rest = code_of(references[3:], copy.parents[1], copy.parent.name)
    assert sorted(rest.files) == [
        "@installed/lab8/__init__.py",
        "@installed/lab8/nets.py",
        "net.py",
    ]


def test_another_version_than_that_of_the_plan_is_refused(
    install: Install, write: Write, tmp_path: Path
) -> None:
    store, record = tmp_path / "store", install("lab7")
    name = keep(collect(["lab7:Net"], write("spec")), store).parent.name
    check_copy(store, name)
    metadata = record / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    with pytest.raises(RunFolderError) as error:
        check_copy(store, name)
    assert str(error.value) == (
        "What is installed has changed since this trial was planned: lab7 1.0 -> 1.1.\n"
        "  Install what it was planned with, or start the sweep again."
    )


def test_packages_that_nobody_edits_are_no_files_of_ones_own() -> None:
    assert edited_root("torch") is None
    assert edited_root("deltagclip_cli") is None
    assert edited_root("no_such_package") is None


def test_a_package_that_lies_elsewhere_than_its_distribution_is_known_by_its_files(
    install: Install, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("lab9")
    monkeypatch.syspath_prepend(write("src", **{"lab9/__init__": ""}))
    assert installed("lab9").version is None
