"""README, the pages in ``docs``, and that for agents: what they say to type, in its order.

A block that begins with three backticks and

``bash``
    is run. What installs is left out, and must name extras that there are; ``.ci/run`` installs.
``bash fails``
    is run, and fails.
``python``, ``yaml``
    is a file if its first line says which (``# net.py``). Python must compile, experiments must be
    a spec without a fault, all other YAML must be YAML.
``sh``
    is tried elsewhere: the command that ``.ci/run`` takes from README, or a script for Slurm.
``text``
    is what the commands before it print, but for numbers, which hang on the machine.
nothing
    is what they print, to the letter.

A page is followed in one shell: what comes behind a ``cd`` is typed and written in that folder.
A page with ``<!-- after: PAGE -->`` goes on in the folder that another one leaves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from slurm_fakes import FakeSlurm
from tiny_data import write_mnist

from deltagclip_cli import __version__
from deltagclip_cli.spec.load import load_spec

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
SKILL = ROOT / "deltagclip_cli" / "commands" / "skill.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md")), SKILL]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


OF_CI = r"(?m)&& scripts/test$"  # what .ci/run looks for


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


def before(page: Path) -> Path | None:
    """The page that must be followed first."""
    named = re.search(r"<!-- after: (\S+) -->", page.read_text())
    return (page.parent / named[1]).resolve() if named else None


def course(last: Path) -> list[Path]:
    """A page and all that come before it, the first one first."""
    first = before(last)
    return [*(course(first) if first else []), last]


def courses() -> list[list[Path]]:
    """All pages: each course of those that go on where another ended, as one."""
    led_to = {before(page) for page in PAGES}
    return [course(page) for page in PAGES if page not in led_to]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


LEFT = "\nleft in: "  # and the folder in which a block of commands has ended


def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / ".cache"),
        "BROWSER": "true",  # what opens pages
    }
    return subprocess.run(
        ["bash", "-e", "-c", f"trap 'echo \"{LEFT}$PWD\"' EXIT\n{commands}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def installed(commands: str) -> str:
    """The commands without those that install, whose extras must be ours."""
    for each in re.findall(r"(?:deltagclip_cli|\.)\[([a-z0-9,]+)\]", commands):
        assert set(each.split(",")) <= EXTRAS.keys(), f"no extra is called {each}"
    commands = re.sub(r"^(.*&& )?\S*pip install .*? &&", "", commands, flags=re.MULTILINE)
    return re.sub(r"^.*pip install .*$", "", commands, flags=re.MULTILINE)


def masked(text: str) -> str:
    """A text without its numbers, the signs that hang on them, and rows of spaces and lines."""
    text = re.sub(r"\d[\d.,e+-]*", "#", text)
    return " ".join(re.sub(r"[•≈†<>─━-]", " ", text).split())


def follow(page: Path, folder: Path) -> None:
    """Type what a page says to type; raise where what comes is something else."""
    said, specs = "", list[Path]()
    for block in blocks(page):
        kind, text = block
        match kind:
            case "bash" | "bash fails":
                done = run(installed(text), folder)
                assert (done.returncode != 0) == (kind == "bash fails"), text + done.stdout
                said, _, left = done.stdout.rpartition(LEFT)
                folder = Path(left.strip())
            case "python" | "yaml":
                if block.file:
                    (folder / block.file).write_text(text)
                if kind == "python":
                    compile(text, page.name, "exec")
                elif "experiments:" in text.split():
                    specs.append(folder / (block.file or "spec.yaml"))
                    specs[-1].write_text(text)
                else:
                    yaml.safe_load(text)
            case "text":
                for line in text.splitlines():
                    assert masked(line) in masked(said), f"{line}\n\nis not in\n\n{said}"
            case "":
                for line in text.splitlines():
                    words = " ".join(line.split())
                    assert words in " ".join(said.split()), f"{line}\n\nis not in\n\n{said}"
            case "sh":
                assert text.startswith("#!/bin/bash") or re.search(OF_CI, text)
            case _:
                pytest.fail(f"{page.name} has a block of {kind}, which nobody would try")
    for spec in specs:  # when all that they name is there
        load_spec(spec)


@pytest.mark.slow
@pytest.mark.parametrize("pages", courses(), ids=lambda pages: relative(pages[-1]))
def test_what_a_page_says_to_type_does_what_it_says(
    pages: list[Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    slurm = FakeSlurm(tmp_path_factory.mktemp("slurm"))
    monkeypatch.setenv("PATH", f"{slurm.bin}:{os.environ['PATH']}")
    data = tmp_path_factory.mktemp("data")
    write_mnist(data, "MNIST", train=200, test=100)
    monkeypatch.setenv("DELTAGCLIP_DATA", str(data))
    shutil.copy(ROOT / "experiments.yaml", tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for page in pages:
        follow(page, tmp_path)


def anchors(page: Path) -> set[str]:
    """The names of its headings, as GitHub makes them."""
    plain = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=relative)
def test_links_lead_to_files_and_to_headings_in_them(page: Path) -> None:
    links = re.findall(r"(?:\]\(|src=\"|srcset=\")(?!https?:)([^)\"]+)", page.read_text())
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_no_figure_begins_a_line_where_its_comment_would_end_the_paragraph() -> None:
    for page in PAGES:
        assert not re.search(r"^ *<!-- figure:", page.read_text(), re.MULTILINE), page


def test_every_page_is_in_the_site_and_can_be_reached_from_another() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in site, page


def test_readme_is_one_screen_and_contributing_one_page() -> None:
    assert len(README.read_text().split()) <= 900
    assert len(CONTRIBUTING.read_text().split()) <= 600


def test_what_is_to_be_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert cited["preferred-citation"]["url"] in README.read_text()


@pytest.mark.slow
def test_the_pages_are_a_site_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "getting-started" / "own-model" / "index.html").is_file()
