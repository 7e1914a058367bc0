"""What has to be seen on a GPU, the most important first, each part under a time limit of its own.

    benchmarks/on_a_gpu.sh --output DIR [--wheels DIR] [--device cuda|cpu] [--quick] [--minutes 9]

For a machine with one GPU and no network, whose Python has torch and torchvision of its own. This
program needs nothing but Python. It puts the project on the path as it is, and installs wheels of
what that Python lacks into a folder of its own below ``--output``: nothing else is changed. To
bring the wheels, on a machine that has a network (``--no-deps`` keeps torch out)::

    pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels \\
        pydantic pydantic-core annotated-types typing-inspection setproctitle pylatexenc greenlet

``results.json`` is written anew after each part, ``log.txt`` has what the parts said, and
``results/`` has the figures of each benchmark, as ``python -m benchmarks`` would keep them: copied
to ``benchmarks/results/`` they stand in the documentation. A part that runs out of time, crashes or
fills the memory keeps what it has measured, and what it left unused is for those behind it.
``--device cpu --quick`` goes the same way in a few minutes, to see that all of it works.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
SECONDS_TO_END = 10.0  # kept for the last words
PATIENCE = {"cuda": 1, "cpu": 5}  # a CPU takes longer, and nobody waits for the machine


@dataclass(frozen=True)
class Part:
    """One thing to see.

    Args:
        name: of a benchmark, or of a script in :data:`SCRIPTS`.
        limit: seconds after which it is ended, and those that the parts before it have left.
    """

    name: str
    limit: float


PARTS = (
    Part("machine", 30),  # the first to load torch, perhaps from a cold disk
    Part("tests", 80),
    Part("optimizer_step", 45),
    Part("waits", 30),
    Part("same_bits", 40),
    Part("same_ranks", 35),
    Part("ranks", 20),
    Part("paper_epochs", 80),
    Part("vit_epoch", 15),
    Part("exact_against_fast", 35),
    Part("paper_stacks", 35),
    Part("shared_gpu", 45),
    Part("programs", 30),
    Part("paper_time", 10),
)
BESIDE = "first_steps"
"""Runs beside the tests and the steps of optimizers, which leave cores idle, and compiles what the
parts behind them need; it is ended with them, however far it came."""
BESIDE_PARTS = ("tests", "optimizer_step")
SCRIPTS = {  # what is no benchmark: what is called, to which --records FILE is added
    "machine": "{here}/gpu_machine.py --device {device}",
    "tests": "{here}/gpu_tests.py --seconds {seconds} --limit 40",
    "paper_time": "-m benchmarks.paper_time --results {results} --device {device}",
}
BENCHMARK = "-m benchmarks.harness.child benchmarks.{name} {device} {records}"


def main() -> None:
    options = parsed()
    output: Path = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    patience = PATIENCE[options.device]
    end = begin + patience * 60 * options.minutes - SECONDS_TO_END
    results: dict[str, Any] = {
        "command": sys.argv,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "device": options.device,
        "quick": options.quick,
        "installed": [],
        "parts": {},
    }
    with (output / "log.txt").open("ab") as log:
        site = output / "site"
        if options.wheels is not None:
            results["installed"] = install_missing(options.wheels.resolve(), site, log)
    sys.path[:0] = [str(PROJECT)]
    sys.path.append(str(site))
    beside: Running | None = None
    due = begin
    for part in PARTS:
        if options.only and part.name not in options.only:
            continue
        due += patience * part.limit
        limit = min(due, end) - time.monotonic()
        if limit <= 0:
            seen: dict[str, Any] = {"status": "no time", "seconds": 0.0, "records": []}
        else:
            if part.name == BESIDE_PARTS[0] and not options.only:
                beside = Running(BESIDE, limit, options, output)
            seen = Running(part.name, limit, options, output).result()
        tell(part.name, seen, results, options, output)
        if beside is not None and part.name == BESIDE_PARTS[-1]:
            tell(BESIDE, beside.result(0), results, options, output)
            beside = None
    done = all(seen["status"] in ("done", "ended") for seen in results["parts"].values())
    print(output / "results.json")
    raise SystemExit(0 if done else 1)


def tell(
    name: str,
    seen: dict[str, Any],
    results: dict[str, Any],
    options: argparse.Namespace,
    output: Path,
) -> None:
    """Write down what became of a part, and show it."""
    results["parts"][name] = seen
    write(output / "results.json", results)
    print(f"{name:16}{seen['status']:12}{seen['seconds']:6.1f} s", flush=True)
    for line in kept(name, seen, options, output / "results"):
        print(f"    {line}", flush=True)


def parsed() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="for all that is written")
    parser.add_argument("--wheels", type=Path, help="wheels of what this Python may lack")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    parser.add_argument("--minutes", type=float, default=9, help="for everything (default: 9)")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS])
    return parser.parse_args()


def install_missing(wheels: Path, site: Path, log: Any) -> list[str]:
    """Install those wheels whose distribution this Python lacks, and return their names."""
    missing = [
        wheel
        for wheel in sorted(wheels.glob("*.whl"))
        if not is_installed(wheel.name.split("-")[0])
    ]
    if missing:
        words = ["install", "--no-index", "--no-deps", "--no-compile", "--target", str(site)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
        subprocess.run([*pip, *words, *map(str, missing)], stdout=log, stderr=log, check=False)
    return [wheel.name for wheel in missing]


def is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class Running:
    """A part in a process of its own, which has begun."""

    def __init__(self, name: str, limit: float, options: argparse.Namespace, output: Path) -> None:
        self._name, self._limit = name, limit
        self._records = output / f"{name}.jsonl"
        self._records.unlink(missing_ok=True)
        self._log = output / ("log.txt" if name != BESIDE else f"log-{name}.txt")
        # Not below the output, whose path may be too long for sockets of a DataLoader.
        self._scratch = Path(tempfile.mkdtemp(prefix="gpu-"))
        words = f"{SCRIPTS[name]} --records {{records}}" if name in SCRIPTS else BENCHMARK
        quick = ["quick"] * (options.quick and name not in SCRIPTS)
        values = {"here": HERE, "name": name, "records": self._records}
        values |= {"device": options.device, "results": output / "results"}
        values["seconds"] = f"{max(1.0, limit - 3):.0f}"
        with self._log.open("ab") as log:
            log.write(f"\n=== {name}\n".encode())
            log.flush()
            self._begin, self._said = time.monotonic(), log.tell()
            self._process = subprocess.Popen(
                [sys.executable, *(each.format(**values) for each in words.split()), *quick],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(output),
                cwd=PROJECT,
                start_new_session=True,
                preexec_fn=be_killed_first,
            )

    def _environment(self, output: Path) -> dict[str, str]:
        # What is installed comes last, so that nothing is replaced.
        path = [str(PROJECT), str(output / "site"), os.environ.get("PYTHONPATH", "")]
        # Tests wait for nobody who compiles a whole network at the same time.
        compiled = "compiled-by-tests" if self._name == "tests" else "compiled"
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self._scratch),
            "TORCHINDUCTOR_CACHE_DIR": str(output / compiled),
        }

    def result(self, limit: float | None = None) -> dict[str, Any]:
        """Wait for the end, or bring it about, and return how it ended and what it recorded.

        Args:
            limit: seconds to wait, after which it just has to end; None for the part's own.
        """
        try:
            code: int | None = self._process.wait(self._limit if limit is None else limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(self._process)
            shutil.rmtree(self._scratch, ignore_errors=True)
        late = "timed out" if limit is None else "ended"
        seen = {
            "status": {0: "done", None: late}.get(code, "failed"),
            "seconds": round(time.monotonic() - self._begin, 1),
            "limit": round(self._limit, 1),
            "records": read(self._records),
        }
        if code != 0:
            seen["last_words"] = last_words(self._log, self._said)
        return seen


def be_killed_first() -> None:
    """Let the system choose this process, and not the one that started it, if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a part and everything that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kept(name: str, seen: dict[str, Any], options: argparse.Namespace, folder: Path) -> list[str]:
    """Write the figures of a benchmark where the documentation looks for them, and tell them."""
    found = [each["figure"] for each in seen["records"] if "figure" in each]
    if not found:
        return [f"skipped: {each['skipped']}" for each in seen["records"] if "skipped" in each]
    try:
        from benchmarks.harness import Figure, results

        figures = [Figure(**each) for each in found]
        content = results.described(name, options.device, options.quick, os.getloadavg()[0])
        content |= {"seconds": seen["seconds"], "ended": seen["status"]}
        content["figures"] = measured = results.measured(name, options.device, figures)
        results.write(results.file_of(name, options.device, folder), content)
    except Exception as error:  # results.json has the figures all the same
        return [f"{folder}: not written: {error}", *(json.dumps(each) for each in found)]
    verdicts = {True: ": met", False: ": missed", None: ""}
    return [
        f"{figure.name}: {figure} {figure.against}".rstrip()
        + (f" (target {each['target']}{verdicts[each['met']]})" if "target" in each else "")
        for figure, each in zip(figures, measured, strict=True)
    ]


def read(records: Path) -> list[Any]:
    """The records of a part, whose last line may be cut off."""
    try:
        lines = records.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    whole = []
    for line in lines:
        try:
            whole.append(json.loads(line))
        except ValueError:
            break
    return whole


def last_words(log: Path, start: int, length: int = 4000) -> str:
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - length))
        return file.read().decode(errors="replace")


def write(file: Path, results: dict[str, Any]) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    main()
