"""Put the figures of ``benchmarks/results/`` into the documentation, which has no others.

    python -m benchmarks.docs [--check]

What stands between a marker and ``<!-- end -->`` in README.md and docs/ is made anew:

``<!-- figures: NAME -->``
    a table of a benchmark's figures; with ``NAME | PATTERN`` only of those whose *what / against*
    matches, with ``;`` between several. ``NAME@cuda`` are the figures of a GPU.
``<!-- figure: NAME | PATTERN -->``
    a number in a sentence, or the range of several.
``<!-- targets -->``
    all that is promised (``benchmarks/targets.py``), and what came out.

``--check`` changes nothing, and ends with 1 if something would change.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.harness import results
from benchmarks.harness.figures import Figure, number
from benchmarks.harness.machine import ROOT
from benchmarks.harness.runs import FOLDER, Benchmark
from benchmarks.targets import TARGETS, Target, meant_by

NOT_MEASURED = "not measured"
_MARKED = re.compile(
    r"(?P<begin><!-- (?P<kind>figures|figure|targets)(?:: (?P<words>[^>]+?))? -->)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Selection:
    """Some figures of one benchmark on one kind of device; all of them with the pattern ``*``."""

    name: str
    device: str
    pattern: str

    @property
    def content(self) -> dict[str, Any] | None:
        """What was measured; None if nothing was."""
        return results.read(self.name, self.device)

    @property
    def figures(self) -> list[Figure]:
        """Those figures that are there."""
        return [
            each
            for each in results.figures(self.content)
            if fnmatchcase(f"{each.name} / {each.against}", self.pattern)
        ]


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.docs", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if it would")
    check = parser.parse_args().check
    changed = list(stale())
    for file, content in changed:
        if not check:
            file.write_text(content, encoding="utf-8")
        print(f"{file.relative_to(ROOT)} {'is not' if check else 'is now'} up to date")
    raise SystemExit(1 if check and changed else 0)


def pages() -> list[Path]:
    """The files with markers."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def stale() -> Iterator[tuple[Path, str]]:
    """Those pages whose figures are not those of the results, and what they would be."""
    for file in pages():
        old = file.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            yield file, new


def filled(text: str) -> str:
    """A page with all of its figures made anew."""
    return _MARKED.sub(_made, text)


def _made(marked: re.Match[str]) -> str:
    begin, kind, words, end = marked.group("begin", "kind", "words", "end")
    if kind == "figure":
        (selection,) = selections(words)
        return f"{begin}{_range(selection.figures)}{end}"
    made = targets() if kind == "targets" else table(selections(words))
    return "\n".join([begin, "", *made, "", end])


def selections(words: str) -> list[Selection]:
    """What a marker asks for."""
    found = []
    for each in words.split(";"):
        named, _, pattern = (part.strip() for part in each.partition("|"))
        name, _, device = named.partition("@")
        if not (FOLDER / f"{name}.py").is_file():
            raise SystemExit(f"no benchmark is called {name!r}; python -m benchmarks --list")
        found.append(Selection(name, device or "cpu", pattern or "*"))
    return found


def table(asked: Sequence[Selection]) -> Iterator[str]:
    """The lines of a table of figures, and those that say how they were measured."""
    yield from _row("what", "against", "figure")
    yield "|---|---|---|"
    for selection in asked:
        figures = selection.figures
        for figure in figures:
            yield from _row(figure.name, figure.against, str(figure))
        if not figures:
            title = Benchmark(FOLDER / f"{selection.name}.py").title.rstrip(".").replace("``", "`")
            where = "on a GPU" if selection.device == "cuda" else "on a CPU"
            yield from _row(f"{title} ({where})", "", NOT_MEASURED)
    yield ""
    yield from _sources({(each.name, each.device) for each in asked})


def targets() -> Iterator[str]:
    """The lines of the table of all that is promised."""
    yield from _row("what", "on", "against", "target", "measured", "met")
    yield "|---|---|---|---|---|---|"
    for each in TARGETS:
        found = measured_of(each)
        measured, met = NOT_MEASURED, ""
        if found:
            measured = f"{_range(found)} {found[0].unit}"
            met = "yes" if all(each.bound.is_met(figure.value) for figure in found) else "no"
        on = "a GPU" if each.device == "cuda" else "a CPU"
        yield from _row(each.what, on, each.against, str(each.bound), measured, met)
    yield ""
    yield from _sources({(each.benchmark, each.device) for each in TARGETS})


def measured_of(target: Target) -> list[Figure]:
    """The figures that a target means."""
    stored = results.figures(results.read(target.benchmark, target.device))
    return [each for each in stored if meant_by(target, each.name, each.against)]


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _range(figures: Sequence[Figure]) -> str:
    if not figures:
        return NOT_MEASURED
    values = [figure.value for figure in figures]
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _sources(names: Iterable[tuple[str, str]]) -> Iterator[str]:
    """How, where and when figures were measured, those of a kind in one sentence."""
    kinds: dict[str, list[str]] = {}
    for name, device in sorted(names):
        content = results.read(name, device)
        if content is not None:
            kinds.setdefault(_source(content), []).append(name)
    for source, of_kind in kinds.items():
        yield f"`python -m benchmarks {' '.join(of_kind)}`{source}"


def _source(content: dict[str, Any]) -> str:
    here, versions, commit = (content[key] for key in ("machine", "versions", "commit"))
    option = f" with `--device {content['device']}`" if content["device"] != "cpu" else ""
    where = here.get("gpu") or f"{here['cores']} cores of an {here['processor']}"
    beside = "" if content["load"] < here["cores"] / 2 else ", while other work ran beside it"
    state = ""
    if commit is not None:
        changed = ", with changes" if commit["changed"] else ""
        state = f" at commit {commit['name']}{changed}"
    return (
        f"{option} on {content['date']}{state}: {where}, Python {versions['python']},"
        f" torch {versions['torch']}{beside}."
    )


if __name__ == "__main__":
    main()
