"""Benchmarks by name, and how each is run in a process of its own."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness.figures import Figure
from benchmarks.harness.machine import ROOT

FOLDER = ROOT / "benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """A module that defines ``measure(session)``; it is read here, and imported elsewhere."""

    file: Path

    @property
    def name(self) -> str:
        """What the command calls it."""
        return self.file.stem

    @property
    def module(self) -> str:
        """What Python imports."""
        return f"{self.file.parent.name}.{self.name}"

    @cached_property
    def _source(self) -> ast.Module:
        return ast.parse(self.file.read_text(encoding="utf-8"))

    @property
    def title(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(self._source) or "").partition("\n")[0]

    @property
    def devices(self) -> tuple[str, ...]:
        """What it measures on: ``DEVICES`` of the module, the processor alone if there is none."""
        for node in self._source.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEVICES":
                return tuple(ast.literal_eval(node.value))
        return ("cpu",)

    @property
    def measures(self) -> bool:
        """Whether it is a benchmark at all."""
        body = self._source.body
        return any(isinstance(node, ast.FunctionDef) and node.name == "measure" for node in body)


def find_benchmarks(folder: Path = FOLDER) -> dict[str, Benchmark]:
    """All benchmarks by name."""
    found = (Benchmark(file) for file in sorted(folder.glob("*.py")))
    return {each.name: each for each in found if each.measures}


@dataclass(frozen=True)
class Outcome:
    """How a benchmark ended.

    Args:
        state: what became of it.
        figures: all that it had measured until then.
        reason: why it was skipped or failed.
        seconds: how long it took.
    """

    state: Literal["measured", "skipped", "failed"]
    figures: list[Figure]
    reason: str
    seconds: float


def run(benchmark: Benchmark, device: str, *, quick: bool, limit: float) -> Outcome:
    """Run a benchmark in a process of its own, and end it with all that it started.

    Args:
        limit: seconds after which it counts as failed.
    """
    if device not in benchmark.devices:
        return Outcome("skipped", [], f"is for --device {' or '.join(benchmark.devices)}", 0.0)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lines, log = Path(folder, "lines"), Path(folder, "log")
        lines.touch()
        code = _process(
            ["-m", "benchmarks.harness.child", benchmark.module, device, str(lines)]
            + ["quick"] * quick,
            log,
            limit,
        )
        read = list(_read(lines))
        said = log.read_text(encoding="utf-8", errors="replace").strip()
    seconds = time.monotonic() - begin
    figures = [Figure(**line["figure"]) for line in read if "figure" in line]
    skipped = [line["skipped"] for line in read if "skipped" in line]
    if code is None:
        return Outcome("failed", figures, f"took more than {limit:g} s\n{said}".strip(), seconds)
    if code != 0:
        return Outcome("failed", figures, said or f"ended with {code}", seconds)
    if skipped or not figures:
        return Outcome("skipped", figures, "".join(skipped) or "measured nothing", seconds)
    return Outcome("measured", figures, "", seconds)


def _process(words: list[str], log: Path, limit: float) -> int | None:
    """The exit code of a process of Python; None if it took too long."""
    path = os.pathsep.join(each for each in (str(ROOT), os.environ.get("PYTHONPATH")) if each)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(lines: Path) -> Iterator[dict[str, Any]]:
    """All whole lines; the last one may be cut off."""
    for line in lines.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            yield json.loads(line)
