"""How the tests for a GPU are run there: each is taken down, whatever it does to its process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_tests.py"
TESTS = """
import os, time
def test_passes(): pass
def test_fails(): assert "one" == "two"
def test_hangs(): time.sleep(60)
def test_crashes(): os.abort()
def test_passes_as_well(): pass
"""


def outcomes(tmp_path: Path, tests: str, *words: str) -> tuple[dict[str, str], dict[str, int], str]:
    """How tests ended that did not pass, how many ended in which way, and all that was said."""
    (tmp_path / "test_made.py").write_text(tests)
    records = tmp_path / "records"
    command = [sys.executable, str(SCRIPT), "--records", str(records), *words]
    subprocess.run([*command, str(tmp_path / "test_made.py")], capture_output=True, check=True)
    *lines, last = [json.loads(line) for line in records.read_text().splitlines()]
    ended = {line["test"].rpartition("::")[2]: line["outcome"] for line in lines}
    return ended, last["counts"], "".join(line["said"] for line in lines)


@pytest.mark.slow
def test_one_that_hangs_or_crashes_is_taken_down_and_the_others_are_run(tmp_path: Path) -> None:
    ended, counts, said = outcomes(tmp_path, TESTS, "--limit", "5")
    assert ended == {"test_fails": "failed", "test_hangs": "hung", "test_crashes": "crashed"}
    assert counts == {"passed": 2, "failed": 1, "hung": 1, "crashed": 1}
    assert '"one" == "two"' in said
    assert "in test_hangs" in said and "in test_crashes" in said


@pytest.mark.slow
def test_a_file_that_cannot_be_imported_is_taken_down(tmp_path: Path) -> None:
    _, counts, said = outcomes(tmp_path, "import no_such_module")
    assert counts == {"not collected": 1}
    assert "no_such_module" in said
