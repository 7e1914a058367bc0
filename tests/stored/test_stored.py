"""What the commands answer today, compared with what is stored: text, exit codes and files.

The folders ``runs`` and ``logs`` were written once, by the version of the day; nothing makes them
anew. The answers lie in ``outputs``. Where one is to change, it is written anew on purpose, and the
difference is read before it is committed::

    python -m pytest tests/stored --regenerate -n 0 -m '' && git diff tests/stored
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
from cases import ELSEWHERE, HELP, PAPER, READING, SHIPPED, SLURM, SPECS, WRITING
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app

HERE = Path(__file__).parent
OUTPUTS = HERE / "outputs"
EXPERIMENTS = HERE.parents[1] / "experiments.yaml"

# What differs between days, machines and versions, and what stands for it.
VARIABLE = [
    (r"\d{8}-\d{6}-[0-9a-f]{8}", "<submission>"),
    (r'"submitted": \d+(\.\d+)?', '"submitted": "<time>"'),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\+00:00| UTC)?", "<time>"),
    (r"\b20\d\d-\d\d-\d\d\b", "<day>"),
    (r"deltagclip(_cli)? \d+\.\d+\.\d+[\w.+]*", r"deltagclip\1 <version>"),
    (r"and \d+ more: deltagclip list models", "and <some> more: deltagclip list models"),
    (r"\(\d+\.\d MB\)", "(<size>)"),
]
# Whose last digits are a matter of the processor.
_LONG_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d{9,}(?:e[+-]?\d+)?(?![\w.])")

# They lay help out, or have the parts that are listed.
PACKAGES = ("typer", "rich", "torch", "torchvision")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same on every machine, and nothing that was read before."""
    for name in ("DELTAGCLIP_DATA", "FORCE_COLOR", "NO_COLOR", "TERM", "SLURM_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("FORCE_TERMINAL", "MAX_WIDTH"):  # of the variables that it was loaded with
        monkeypatch.setattr(f"typer.rich_utils.{name}", None)


def copy_to(folder: Path) -> Path:
    """The stored folders, as old as they were."""
    for name in ("runs", "logs", "paper"):
        shutil.copytree(HERE / name, folder / name)
    shutil.copy(HERE / "experiments.yaml", folder)
    for path in folder.rglob("*"):
        os.utime(path, (1_790_000_000, 1_790_000_000))
    return folder


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that nobody may change."""
    return copy_to(tmp_path_factory.mktemp("copied"))


def say(words: str, terminal: str = "", columns: str = "80") -> Result:
    """Give a command, with a pipe for its answer or a terminal of so many columns.

    Help takes its width from ``columns``, whether there is a terminal or not.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", terminal or columns)
        patch.setenv("LINES", "50")
        if terminal:
            patch.setenv("FORCE_COLOR", "1")
            patch.setenv("TERM", "dumb")
        return CliRunner().invoke(app, shlex.split(words), prog_name="deltagclip")


def steady(text: str) -> str:
    """A text without what differs from run to run."""
    text = text.replace(str(Path.cwd()), "<here>").replace(sys.executable, "<python>")
    for pattern, instead in VARIABLE:
        text = re.sub(pattern, instead, text)
    return _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.9g}", text)


def told(words: str, result: Result, **files: str) -> str:
    """All that is to be seen of a command, as it is stored."""
    parts = {"stdout": result.stdout, "stderr": result.stderr, **files}
    shown = [f"$ deltagclip {words}".rstrip(), f"exit code {result.exit_code}"]
    shown += [f"--- {name}\n{text}" for name, text in parts.items() if text]
    return steady("\n".join(shown)).rstrip("\n") + "\n"


def check(name: str, text: str, request: pytest.FixtureRequest) -> None:
    """Compare with what is stored under a name, or store it."""
    path, versions = OUTPUTS / f"{name}.txt", HERE / "versions.json"
    here = {package: version(package) for package in PACKAGES}
    if request.config.getoption("--regenerate", default=False):
        path.write_text(text, encoding="utf-8")
        versions.write_text(json.dumps(here) + "\n")
    stored = path.read_text(encoding="utf-8")
    of_others = name.startswith("list-") or "Usage: " in stored
    if text != stored and of_others and json.loads(versions.read_text()) != here:
        pytest.skip(f"stored with other versions of {', '.join(PACKAGES)}")
    assert text == stored


def terminal_of(name: str) -> str:
    return name.partition("@")[2]


def cases(mapping: Mapping[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "words"), mapping.items(), ids=list(mapping))


# ------------------------------------------------------------------ what reads


@cases(READING)
def test_what_is_read_of_stored_runs(
    name: str,
    words: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(copied)
    before = contents(copied)
    result = say(words, terminal_of(name))
    assert contents(copied) == before, "a command that reads has written"
    check(name, told(words, result), request)


@cases(ELSEWHERE | PAPER)
def test_what_is_read_in_other_folders(
    name: str,
    words: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(copied / ("paper" if name in PAPER else "logs"))
    check(name, told(words, say(words, terminal_of(name))), request)


@cases(SHIPPED)
def test_what_is_said_of_the_experiments_of_the_repository(
    name: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    shutil.copy(EXPERIMENTS, tmp_path)
    monkeypatch.chdir(tmp_path)
    check(name, told(words, say(words, terminal_of(name))), request)


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("command", HELP)
def test_help(command: str, width: int, request: pytest.FixtureRequest) -> None:
    words = f"{command} --help".strip()
    name = "-".join(["help", *command.split()])
    check(f"{name}@{width}", told(words, say(words, columns=str(width))), request)


@pytest.mark.parametrize("json_too", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("name", SPECS)
def test_what_is_said_of_a_file_of_experiments(
    name: str,
    json_too: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPECS[name])
    words = "validate spec.yaml --device cpu" + (" --json" if json_too else "")
    ending = "-json" if json_too else ""
    check(f"validate-{name}{ending}", told(words, say(words)), request)


@cases(SLURM)
@pytest.mark.usefixtures("fake_slurm")
def test_what_slurm_would_be_told(
    name: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(copy_to(tmp_path))
    check(name, told(words, say(words, terminal_of(name))), request)


@pytest.mark.usefixtures("fake_slurm")
def test_what_slurm_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(copy_to(tmp_path))
    parts = []
    for words in [
        "sweep broken --launcher slurm --retry-failed --slurm time=60 --slurm gpus=0",
        "sweep broken --launcher slurm --retry-failed",
        "status broken",
        "status broken --json",
        "sweep broken --dry-run --jobs 1",
        "cancel broken --dry-run",
        "cancel broken",
        "status broken",
    ]:
        before = contents(tmp_path)
        result = say(words)
        new = [path for path in contents(tmp_path) if path not in before]
        texts = {path: Path(path).read_text() for path in new if "/.slurm/" in path}
        parts.append(told(words, result, **texts))
    check("slurm-in-turn", "\n".join(parts), request)


# ------------------------------------------------------------------ what writes


def contents(folder: Path) -> dict[str, int]:
    """Every file with its size."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".search.lock")
    }


@cases(WRITING)
def test_what_is_written_for_stored_runs(
    name: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(copy_to(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    before = contents(tmp_path)
    result = say(words)
    after = contents(tmp_path)
    new = [path for path in after if path not in before]
    gone = [path for path in before if path not in after]
    files = {"files written": "\n".join(new), "files removed": "\n".join(gone)}
    files |= {
        path: readable(Path(path).read_text(encoding="utf-8"))
        for path in new
        if not Path(path).name.startswith(".")
        and path.endswith((".html", ".json", ".md", ".tex", ".csv"))
    }
    check(name, told(words, result, **files), request)


def readable(text: str) -> str:
    """A page without its programs and styles, its pictures as their words."""
    for tag in ("style", "script"):
        text = re.sub(rf"<{tag}>.*?</{tag}>", f"<{tag}>…</{tag}>", text, flags=re.DOTALL)
    # What is carried for verify says all of it once more, and by what versions it was made.
    text = re.sub(r'<(meta name="deltagclip-seal"|script type=.* id="carried").*\n', "", text)
    return re.sub(r"data:[\w/+-]+;base64,[\w+/=]+", "data:…", text)


def test_every_stored_answer_is_compared() -> None:
    names = {*READING, *ELSEWHERE, *PAPER, *SHIPPED, *SLURM, *WRITING, "slurm-in-turn"}
    names |= {f"help-{'-'.join(each.split())}@{n}" for each in HELP if each for n in (80, 160)}
    names |= {f"validate-{name}{ending}" for name in SPECS for ending in ("", "-json")}
    assert {path.stem for path in OUTPUTS.iterdir()} == names | {"help@80", "help@160"}


# -------------------------------------------------------- what a trial is called


def test_trials_keep_their_folders_and_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The hash in the name of a folder covers all that a spec says of the numbers."""
    shutil.copy(EXPERIMENTS, tmp_path)
    monkeypatch.chdir(tmp_path)
    result = say("sweep --all --dry-run --json --jobs 1")
    assert result.exit_code == 0, result.output
    folders = [trial["folder"] for trial in json.loads(result.stdout)["trials"]]
    path = HERE / "identities.json"
    if request.config.getoption("--regenerate", default=False):
        path.write_text(json.dumps(folders, indent=0) + "\n", encoding="utf-8")
    assert folders == json.loads(path.read_text(encoding="utf-8"))
