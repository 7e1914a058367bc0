"""Signatures of installed packages, kept from one command to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from deltagclip_cli.source import kept as module
from deltagclip_cli.source.kept import kept
from deltagclip_cli.source.signatures import Signature, read_signature

TEXT = """
from keptparts.types import Betas
from torch.optim import Optimizer
class Known(Optimizer):
    'Steps.'
    def __init__(self, params, lr: float, betas: Betas = (0.9, 0.99), kind: "str | None" = None,
                 computed=2 ** 0.5, mode: Literal["a", "b"] = "a", **kwargs): ...
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, and a package among the installed ones."""
    package = tmp_path / "site-packages" / "keptparts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(TEXT)
    (package / "types.py").write_text("Betas = tuple[float, float]\n")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.setenv("HOME", str(tmp_path))
    _forget()
    return tmp_path


def _forget() -> None:
    """As if another command began."""
    from deltagclip_cli.source import modules, packages

    for each in (module._stamp, modules._installed, modules._top_level, packages.edited_root):
        each.cache_clear()


class Reading:
    """Reads the signature, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Signature:
        self.times += 1
        return read_signature("keptparts:Known")


def asked(reading: Callable[[], Signature]) -> Signature:
    _forget()
    return kept("keptparts", "Known", "optimizer", reading)


def kept_file(home: Path) -> Path:
    (file,) = (home / ".cache/deltagclip/signatures").iterdir()
    return file


def plain(signature: Signature) -> Any:
    options = {k: (each.default, each.annotation) for k, each in signature.options.items()}
    return options, signature.summary, signature.open, [*signature.positional], signature.is_class


def test_a_signature_is_read_once_and_kept_as_it_is(home: Path) -> None:
    reading = Reading()
    first, second = asked(reading), asked(reading)
    assert reading.times == 1
    assert plain(first) == plain(second)
    assert second.options["betas"].annotation == first.options["betas"].annotation is not Any
    assert second.bases == first.bases
    assert second.definition.name == "keptparts.Known"


@pytest.mark.parametrize("file", ["__init__.py", "types.py"])
def test_it_is_read_anew_once_a_file_that_it_hangs_on_has_changed(home: Path, file: str) -> None:
    reading = Reading()
    asked(reading)
    path = home / "site-packages" / "keptparts" / file
    os.utime(path, ns=(1, 1))
    asked(reading)
    assert reading.times == 2
    asked(reading)
    assert reading.times == 2


def test_it_is_read_anew_once_a_module_is_there_that_was_not(home: Path) -> None:
    path = home / "site-packages" / "keptparts" / "__init__.py"
    path.write_text(
        "try:\n    from keptmore import Known\nexcept ImportError:\n" + indent(TEXT.strip(), "    ")
    )
    reading = Reading()
    assert asked(reading).summary == "Steps"
    assert asked(reading).summary == "Steps"
    more = home / "site-packages" / "keptmore"
    more.mkdir()
    (more / "__init__.py").write_text("class Known:\n    'Is another.'\n")
    assert asked(reading).summary == "Is another"
    assert reading.times == 2


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 40, b"[]", b"{}", b'{"reader": 3}', b"\xff\xfe", b'{"files": {}}']
)
def test_a_file_that_is_damaged_or_of_something_else_is_no_matter(
    home: Path, content: bytes
) -> None:
    reading = Reading()
    first = asked(reading)
    kept_file(home).write_bytes(content)
    assert plain(asked(reading)) == plain(first)
    assert reading.times == 2


def test_what_another_version_kept_is_read_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading()
    asked(reading)
    monkeypatch.setattr(module, "_reader", lambda: ["another"])
    asked(reading)
    assert reading.times == 2


def test_a_folder_that_cannot_be_made_is_no_matter(home: Path) -> None:
    (home / ".cache").write_text("a file stands where the folder would be")
    reading = Reading()
    assert asked(reading).summary == asked(reading).summary == "Steps"
    assert reading.times == 2


def test_a_package_that_somebody_edits_is_never_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "edited").mkdir()
    (home / "site-packages" / "keptparts").rename(home / "edited" / "keptparts")
    monkeypatch.syspath_prepend(home / "edited")
    reading = Reading()
    asked(reading), asked(reading)
    assert reading.times == 2
    assert not (home / ".cache").exists()
