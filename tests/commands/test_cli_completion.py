"""What a shell is offered after a Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_cases import lines, make_run, record
from tiny_spec import TINY, trials_of


def asked(shell: str, words: str) -> dict[str, str]:
    """What a shell puts into the environment after a Tab."""
    if shell == "bash":
        number = str(len(words.split(" ")) - 1)
        return {"COMP_WORDS": words, "COMP_CWORD": number}
    return {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def offered(folder: Path, words: str, shell: str = "bash") -> list[str]:
    """The words that a shell is offered for the last one, which may be empty."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deltagclip_cli"],
        cwd=folder,
        env={
            **os.environ,
            "_DELTAGCLIP_COMPLETE": f"complete_{shell}",
            **asked(shell, words),
        },
        capture_output=True,
        text=True,
    )
    assert not [each for each in done.stderr.splitlines() if "import time" not in each]
    modules = {each.rpartition("|")[2].strip() for each in done.stderr.splitlines()}
    assert not {"torch", "numpy", "scipy"} & modules
    return done.stdout.split()


MEASURED = {"optim/lr": 1.0, "validation/mae": 0.1, "test/accuracy": 0.9, "test/loss": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, a finished run of it, and one of an experiment that it lacks."""
    folder = tmp_path_factory.mktemp("place")
    (first, *_) = trials_of(folder)
    make_run(folder / "runs", first, lines(record(1, **MEASURED)), "finished")
    (folder / "runs" / "older" / "adam" / "seed-0-1234abcd").mkdir(parents=True)
    (folder / "runs" / "older" / "report").mkdir()
    tagged = TINY.replace("  tiny:\n", "  tiny:\n    tags: [mine, quick]\n", 1)
    (folder / "experiments.yaml").write_text(tagged)
    return folder


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        ("sweep ", ["tiny"]),
        ("train x", []),
        ("sweep --optimizer d", ["delta-gclip"]),
        ("train tiny --optimizer ", ["sgd", "delta-gclip"]),
        ("compare ", ["older", "tiny"]),
        (
            "compare tiny --metric ",
            ["test/accuracy", "test/loss", "validation/mae", "optim/lr", "perf/epoch_seconds"],
        ),
        ("compare older --target test/", ["test/loss=", "test/accuracy="]),
        ("compare older --baseline ", []),  # but for adam, so no report
        ("clean o", ["older"]),
        ("sweep --tag m", ["mine"]),
        ("try adama", ["adamax"]),
        ("list m", ["models"]),
    ],
)
def test_names_are_offered(place: Path, words: str, offers: list[str]) -> None:
    assert [each for each in offered(place, f"deltagclip {words}") if each != "adam"] == offers


def test_zsh_and_fish_are_offered_the_same(place: Path) -> None:
    words = "deltagclip compare tiny --baseline d"
    assert offered(place, words, "fish") == ["delta-gclip"]
    assert '"delta-gclip"' in " ".join(offered(place, words, "zsh"))


def test_a_spec_that_cannot_be_read_offers_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "experiments.yaml").write_text("experiments: [\n")
    assert offered(tmp_path, "deltagclip sweep --optimizer ") == []
