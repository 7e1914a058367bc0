"""The pages in ``docs``: their files and commands, in the order in which they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


class Block(NamedTuple):
    """What stands between two fences."""

    kind: str  # the words behind the first fence
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, which is its first line as a comment."""
        named = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return named[1] if named else None


def blocks(page: Path) -> Iterator[Block]:
    fenced = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(), re.MULTILINE)
    return (Block(*each) for each in fenced)


def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / ".cache"),
    }
    return subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_to_type_does_what_it_says(page: Path, tmp_path: Path) -> None:
    said = ""
    for kind, text in blocks(page):
        match kind:
            case "bash" | "bash fails":
                done = run(text, tmp_path)
                assert (done.returncode != 0) == (kind == "bash fails"), text + done.stdout
                said = " ".join(done.stdout.split())
            case "python" | "yaml":
                if file := Block(kind, text).file:
                    (tmp_path / file).write_text(text)
                elif kind == "python":
                    compile(text, page.name, "exec")
            case "":
                for line in text.splitlines():
                    assert " ".join(line.split()) in said, said
            case _:
                pytest.fail(f"{page.name} has a block of {kind}, which nobody would try")


def test_every_page_has_something_to_type() -> None:
    assert len(PAGES) >= 2
    for page in PAGES:
        assert "bash" in [block.kind for block in blocks(page)], page.name


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
