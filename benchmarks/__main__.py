"""Run benchmarks, show their figures, and keep them.

    python -m benchmarks [NAME...] [--device cuda] [--quick] [--list]

Each runs in a process of its own: one that fails does not stop the others. What needs something
that is not here, a rival's package or a GPU, says so and is skipped. The figures go to
``benchmarks/results/``, from where ``python -m benchmarks.docs`` takes them into the documentation;
those of ``--quick`` go to ``benchmarks/results/quick/`` and only show that all works. The exit
code is 1 if a benchmark failed, and 2 for a name that is none or a folder that cannot be written.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness import Figure, results
from benchmarks.harness.runs import Benchmark, Outcome, find_benchmarks, run
from benchmarks.targets import bound_of

QUICK = results.STORED / "quick"
LIMITS = {False: 1800.0, True: 300.0}  # seconds of one, by whether it is quick


def main() -> None:
    asked = _parsed()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where it takes letters of English alone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the benchmark under way, too
    benchmarks = find_benchmarks()
    console = Console()
    if asked.list:
        console.print(_list(benchmarks))
        return
    _refuse_unknown(asked.names, list(benchmarks))
    chosen = [benchmarks[name] for name in asked.names] or list(benchmarks.values())
    folder = asked.output or (QUICK if asked.quick else results.STORED)
    _refuse_unwritable(folder)
    limit = asked.limit or LIMITS[asked.quick]
    ends: dict[str, Outcome] = {}
    for number, benchmark in enumerate(chosen, start=1):
        load = os.getloadavg()[0]
        with console.status(f"{benchmark.name} ({number} of {len(chosen)})"):
            end = ends[benchmark.name] = run(
                benchmark, asked.device, quick=asked.quick, limit=limit
            )
        _show(console, benchmark, asked.device, end)
        if end.state == "measured":
            content = results.described(benchmark.name, asked.device, asked.quick, load)
            content["seconds"] = round(end.seconds, 1)
            content["figures"] = results.measured(benchmark.name, asked.device, end.figures)
            results.write(results.file_of(benchmark.name, asked.device, folder), content)
    raise SystemExit(_sum_up(console, ends, folder))


def _parsed() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="those to run (default: all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: minutes")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--limit", type=_time_limit, metavar="SECONDS", help="for each one")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for the files of results")
    return parser.parse_args()


def _time_limit(word: str) -> float:
    seconds = float(word)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{word} is no time that something may take")
    return seconds


def _refuse_unknown(names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "--list says what there is."
            print(f"python -m benchmarks: no benchmark is called {name!r}; {hint}", file=sys.stderr)
            raise SystemExit(2)


def _refuse_unwritable(folder: Path) -> None:
    """Find out before something is measured for minutes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(f"python -m benchmarks: cannot write to {folder}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _list(benchmarks: dict[str, Benchmark]) -> Table:
    table = Table("name", "measures", "on")
    for name, each in benchmarks.items():
        table.add_row(name, escape(each.title), ", ".join(each.devices))
    return table


def _show(console: Console, benchmark: Benchmark, device: str, end: Outcome) -> None:
    console.print(f"\n[bold]{benchmark.name}[/]  {escape(benchmark.title)}", highlight=False)
    if end.figures:
        console.print(_table(benchmark.name, device, end.figures))
    if end.reason:
        last = "\n".join(end.reason.splitlines()[-12:])
        console.print(f"{end.state}: {escape(last)}", highlight=False)


def _table(name: str, device: str, figures: list[Figure]) -> Table:
    table = Table("what", "against", "figure")
    bounds = [bound_of(name, device, each.name, each.against) for each in figures]
    if any(bounds):
        table.add_column("target")
    for figure, bound in zip(figures, bounds, strict=True):
        verdict = ""
        if bound is not None:
            met = bound.is_met(figure.value)
            verdict = f"{bound} [{'green' if met else 'red'}]{'met' if met else 'missed'}[/]"
        cells = [escape(figure.name), escape(figure.against), str(figure)]
        table.add_row(*cells, *([verdict] if any(bounds) else []))
    return table


def _sum_up(console: Console, ends: dict[str, Outcome], folder: Path) -> int:
    """Say what became of all, and return the exit code."""
    console.print()
    for state in ("measured", "skipped", "failed"):
        names = [name for name, end in ends.items() if end.state == state]
        if names:
            console.print(f"{len(names)} {state}: {', '.join(names)}", highlight=False)
    if any(end.state == "measured" for end in ends.values()):
        console.print(f"results in {folder}", highlight=False, soft_wrap=True)
    return int(any(end.state == "failed" for end in ends.values()))


if __name__ == "__main__":
    main()
