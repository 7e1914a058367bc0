"""Runs the tests marked ``gpu``, and takes down each that did not pass, whatever it does.

    python benchmarks/gpu_tests.py --records FILE [--limit 20] [WORDS OF PYTEST]

A test that takes longer than ``--limit`` seconds ends its process, and so may one that crashes or
leaves the GPU unusable. It is then taken down with its last words, and those behind it are run in a
new process. Files with few tests come first: theirs are of whole trainings, the many are of single
operations. The last line of the records counts all outcomes.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
MOST_WORDS = 6000  # letters that are kept of a failure
NO_GPU_ANY_MORE = 3
STARTS = 20  # of processes, at most


@dataclass(frozen=True)
class Journal:
    """A file with a line for each test that has begun, and one for each that has ended."""

    file: Path

    def write(self, **values: object) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text("utf-8").splitlines()]

    def outcomes(self) -> dict[str, str]:
        """How each test ended, by its name; the empty word for one that did not."""
        found: dict[str, str] = {}
        for line in self.lines():
            if "began" in line:
                found[line["began"]] = ""
            elif "ended" in line:
                found[line["ended"]] = line["outcome"]
        return found


def main() -> None:
    """Start one process after the other, until all tests have ended, or the time has."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600, help="for all of them")
    parser.add_argument("--limit", type=float, default=20, help="seconds of one test")
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    options, words = parser.parse_known_args()
    if options.journal is not None:
        journal = Journal(options.journal)
        raise SystemExit(run_tests(journal, Journal(options.records), options.limit, words))
    end = time.monotonic() + options.seconds
    records = Journal(options.records)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        command = [sys.executable, __file__, *sys.argv[1:], "--journal", str(journal.file)]
        for _ in range(STARTS):
            code, said = started(command, max(1.0, end - time.monotonic()))
            unfinished = [name for name, outcome in journal.outcomes().items() if not outcome]
            for name in unfinished:
                outcome = (
                    "hung" if "Timeout (" in said else "no time" if code is None else "crashed"
                )
                journal.write(ended=name, outcome=outcome)
                records.write(test=name, outcome=outcome, said=said[-MOST_WORDS:])
            if code is None or not (unfinished or code == NO_GPU_ANY_MORE):
                break
        records.write(counts=Counter(journal.outcomes().values()))
    if code not in (0, 1, NO_GPU_ANY_MORE):  # 1: some failed
        raise SystemExit("no time" if code is None else f"pytest ended with {code}")


def started(command: Sequence[str], limit: float) -> tuple[int | None, str]:
    """The exit code of a process, None if it had to be ended, and what it wrote."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=PROJECT)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        output.seek(0)
        said = output.read().decode(errors="replace")
    sys.stderr.write(said)
    return code, said


def run_tests(journal: Journal, records: Journal, limit: float, words: Sequence[str]) -> int:
    """Run those tests that have not begun, in this process."""
    import pytest

    marked = [
        str(file)
        for file in sorted((PROJECT / "tests").rglob("test_*.py"))
        if "mark.gpu" in file.read_text(encoding="utf-8")
    ]
    # Of the project's own options, some need plugins that a strange Python may lack.
    usual = ["-o", "addopts=", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    usual += ["-W", "default", "--rootdir", str(PROJECT), "--continue-on-collection-errors"]
    return int(
        pytest.main(
            [*usual, *(words or ["-m", "gpu", *marked])], plugins=[Watch(journal, records, limit)]
        )
    )


class Watch:
    """Takes down when tests begin and end, and ends the process for one that hangs."""

    def __init__(self, journal: Journal, records: Journal, limit: float) -> None:
        self._journal, self._records, self._limit = journal, records, limit
        self._errors = os.fdopen(os.dup(2), "w")  # for pytest takes the usual one away
        faulthandler.enable(self._errors)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        begun = self._journal.outcomes()
        items[:] = [item for item in items if item.nodeid not in begun]
        in_file = Counter(item.path for item in items)
        items.sort(key=lambda item: in_file[item.path])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._journal.write(began=nodeid)
        faulthandler.dump_traceback_later(self._limit, exit=True, file=self._errors)
        self._outcome, self._said = "passed", ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if self._outcome == "passed":
            self._outcome = report.outcome
        if report.failed:
            self._said += f"{report.when}: {report.longreprtext}\n"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._end(nodeid, self._outcome, self._said)
        if self._outcome == "failed" and not is_gpu_usable():
            os._exit(NO_GPU_ANY_MORE)

    def pytest_collectreport(self, report: Any) -> None:
        name = report.nodeid or "collection"
        if report.failed and name not in self._journal.outcomes():
            self._end(name, "not collected", report.longreprtext)

    def _end(self, name: str, outcome: str, said: str) -> None:
        self._journal.write(ended=name, outcome=outcome)
        if outcome not in ("passed", "skipped"):
            self._records.write(test=name, outcome=outcome, said=said[-MOST_WORDS:])


def is_gpu_usable() -> bool:
    """False after an error that fails all that this process asks of its GPU from then on."""
    import torch

    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    main()
