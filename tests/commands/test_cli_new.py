"""The spec and the file of parts that ``deltagclip new`` begins with."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from invocation import Invoke


def test_a_spec_and_its_parts_are_written_and_what_to_run_next_is_said(deltagclip: Invoke) -> None:
    done = deltagclip("new", "work/my idea")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in Path("work/my idea").iterdir()) == [
        "experiments.yaml",
        "parts.py",
    ]
    assert done.stdout == (
        "work/my idea/experiments.yaml  what is compared, with which settings\n"
        "work/my idea/parts.py          a model, data, a loss, a metric, an optimizer\n"
        "\n"
        "Next:\n"
        "  cd 'work/my idea'\n"
        "  deltagclip train waves                    # one trial: the first optimizer and seed\n"
        "  deltagclip sweep waves                    # every optimizer with every seed\n"
        "  deltagclip compare waves --baseline adam  # which is better, how sure that is\n"
        "  deltagclip report waves --open            # a page to send, figures for a paper\n"
    )


def test_the_folder_one_is_in_can_be_named(deltagclip: Invoke) -> None:
    done = deltagclip("new", ".")
    assert done.stdout.splitlines()[:4] == [
        "experiments.yaml  what is compared, with which settings",
        "parts.py          a model, data, a loss, a metric, an optimizer",
        "",
        "Next:",
    ]
    assert "cd " not in done.stdout
    assert Path("experiments.yaml").is_file() and Path("parts.py").is_file()


def test_the_parts_are_ordinary_pytorch_of_at_most_40_lines(deltagclip: Invoke) -> None:
    deltagclip("new", "mine")
    text = Path("mine/parts.py").read_text()
    code = [line for line in text.splitlines() if line.split("#")[0].strip()]
    assert 20 < len(code) <= 40
    assert {line for line in code if re.match(r"\s*(import|from)\b", line)} == {
        "import torch",
        "from torch import nn",
    }
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("name", ["experiments.yaml", "parts.py"])
def test_nothing_is_overwritten(deltagclip: Invoke, name: str) -> None:
    Path("mine").mkdir()
    Path("mine", name).write_text("theirs")
    done = deltagclip("new", "mine")
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: mine/{name} is there already; nothing was written.\n"
        "  Name another folder, or move what is there.\n"
    )
    assert [path.name for path in Path("mine").iterdir()] == [name]
    assert Path("mine", name).read_text() == "theirs"


def test_both_that_are_there_are_named(deltagclip: Invoke) -> None:
    deltagclip("new", "mine")
    again = deltagclip("new", "mine")
    assert again.exit_code == 2
    assert "error: mine/experiments.yaml and mine/parts.py are there already;" in again.stderr


def test_a_link_that_leads_nowhere_is_not_followed_and_leaves_nothing_else(
    deltagclip: Invoke,
) -> None:
    Path("mine").mkdir()
    Path("mine/parts.py").symlink_to("elsewhere.py")
    done = deltagclip("new", "mine")
    assert done.exit_code == 2
    assert "error: mine: nothing can be written there: File exists." in done.stderr
    assert [path.name for path in Path("mine").iterdir()] == ["parts.py"]
    assert not Path("mine/elsewhere.py").exists()


def test_a_file_of_that_name_is_left_as_it_is(deltagclip: Invoke) -> None:
    Path("mine").write_text("theirs")
    done = deltagclip("new", "mine")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: mine: nothing can be written there: ")
    assert Path("mine").read_text() == "theirs"


@pytest.mark.slow
def test_the_commands_that_are_said_train_compare_and_report_them(deltagclip: Invoke) -> None:
    said = deltagclip("new", "mine").stdout.partition("Next:\n")[2]
    enter, *commands = [shlex.split(line, comments=True) for line in said.splitlines()]
    assert enter == ["cd", "mine"]
    assert [words[1] for words in commands] == ["train", "sweep", "compare", "report"]
    for words in [["deltagclip", "validate"], *commands]:
        done = subprocess.run(
            [sys.executable, "-m", "deltagclip_cli", *(w for w in words[1:] if w != "--open")],
            cwd="mine",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
    results = [json.loads(path.read_text()) for path in Path("mine/runs").rglob("result.json")]
    assert len(results) == 12
    assert all(result["last"]["test/mae"] < 0.5 for result in results)
    assert Path("mine/runs/waves/report/report.html").is_file()
