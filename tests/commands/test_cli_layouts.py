"""What ``compare`` and ``report`` say of logs whose names leave doubts can be pasted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from invocation import Invoke
from layouts import SUGGESTED
from run_cases import make_events


@pytest.mark.parametrize("name", ["bare numbers", "lightning, versions", "quote", "dollar"])
def test_the_group_that_is_printed_works(deltagclip: Invoke, tmp_path: Path, name: str) -> None:
    for path in SUGGESTED[name].paths():
        make_events(tmp_path / "logs" / path, {"val_acc": [0.5]})
    told = deltagclip("compare", "logs").stderr
    script = f"printf '%s\\n' {told[told.index('--group ') :]}"
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    done = deltagclip("compare", "logs", "--json", *words.splitlines())
    (experiment,) = json.loads(done.stdout)["experiments"]
    found = {each["optimizer"]: each["summary"]["n"] for each in experiment["settings"]}
    assert found == dict.fromkeys(SUGGESTED[name].groups(), 3)


def test_the_page_has_what_was_said_on_the_terminal(deltagclip: Invoke, tmp_path: Path) -> None:
    for path in SUGGESTED["bare numbers"].paths():
        make_events(tmp_path / "logs" / path, {"val_acc": [0.5, 0.75]})
    done = deltagclip("report", "logs", "--format", "none", "--output", "page")
    assert "add --group" in done.stderr
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "6 settings have one run each, and a number tells them apart" in page
