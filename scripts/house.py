"""How the package is built: its size, its imports, its names, and what a command executes.

    python scripts/house.py [--json] [--stack] [--files] [ROOT...]

Each ROOT is a checkout of this repository and gets a column; without one, this checkout does.

The upper half is read from the source. *Imports* are those between modules of the package that run
when it is loaded: neither in functions nor for type checkers only, each module once for each file.
A private function is *called once* if its name is read once in its file.

The lower half is executed, on an experiment like ``quickstart`` that trains for three epochs.
A file counts if one of its functions runs, not if it is only imported; a function counts once,
comprehensions, lambdas and the bodies of classes not at all. *Frames* is how many functions of the
package are under way at once, at most, in one thread. What is measured is the process of the
command with all of its threads, not the processes that it starts. ``--stack`` shows the functions
where most were under way, ``--files`` the files in the order of their first call.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parents[1]
SPEC = """
experiments:
  small:
    model: {name: wide_mlp, width: 16, depth: 2, activation: tanh}
    data: {name: sphere, points: 16, dimension: 4, radius: 4.0, batch_size: full}
    task: {name: classify, loss: squared, reduction: sum}
    precision: fp64
    epochs: 3
    checkpoint: {epochs: 2}
    certificate: {every: 2}
    optimizers:
      delta-gclip: {name: delta_gclip, lr: 0.15, gamma: 0.3, delta: 0.05}
      gclip: {name: gclip, lr: 0.15, gamma: 0.3}
"""
# In this order: the first two leave the runs that the others read.
COMMANDS = {
    "train": ["train", "small"],
    "sweep inline": ["sweep", "small", "--launcher", "inline"],
    "sweep slurm, dry run": ["sweep", "small", "--launcher", "slurm", "--dry-run", "--seed", "7"],
    "compare": ["compare", "small"],
    "report": ["report", "small"],
}
INDIRECT = ("What ", "How ", "Whether ", "Where ", "Why ", "Who ", "Which ")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Figures = dict[str, float]


@dataclass(frozen=True)
class Module:
    """A file of the package."""

    path: Path  # below the package
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def docstrings(self) -> list[ast.Constant]:
        found = []
        for node in self.nodes:
            if isinstance(node, Described) and ast.get_docstring(node, clean=False):
                (statement, *_) = node.body
                assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                found.append(statement.value)
        return found

    @cached_property
    def private_functions(self) -> list[str]:
        names = [node.name for node in self.nodes if isinstance(node, Function)]
        return [name for name in names if name.startswith("_") and not name.endswith("__")]

    def called_once(self) -> int:
        """How many private functions have a name that is read once."""
        read = Counter(node.id for node in self.nodes if isinstance(node, ast.Name))
        read.update(node.attr for node in self.nodes if isinstance(node, ast.Attribute))
        return sum(read[name] == 1 for name in self.private_functions)

    def docstring_lines(self) -> set[int]:
        return {line for node in self.docstrings for line in span(node)}

    def code_lines(self) -> int:
        """The lines that hold neither a docstring nor only a comment or nothing."""
        silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
        silent |= {tokenize.DEDENT, tokenize.ENDMARKER}
        found: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in silent:
                found.update(range(token.start[0], token.end[0] + 1))
        blank = {n for n, line in enumerate(self.text.splitlines(), 1) if not line.strip()}
        return len(found - blank - self.docstring_lines())


def span(node: ast.AST) -> range:
    return range(node.lineno, node.end_lineno + 1)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class House:
    """The package of a checkout.

    Args:
        root: of the checkout.
    """

    root: Path

    @cached_property
    def entry(self) -> tuple[str, str]:
        """Module and function of the command."""
        project = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        module, _, function = project["project"]["scripts"]["deltagclip"].partition(":")
        return module, function

    @cached_property
    def name(self) -> str:
        return self.entry[0].partition(".")[0]

    @cached_property
    def folder(self) -> Path:
        return self.root / self.name

    @cached_property
    def modules(self) -> dict[str, Module]:
        """The files by their dotted names."""
        found = {}
        for path in sorted(self.folder.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            below = path.relative_to(self.folder)
            found[dotted] = Module(below, path.read_text(encoding="utf-8"))
        return found

    def imports(self, tree: ast.Module) -> set[str]:
        """The modules of the package that a module imports when it is loaded."""
        found: set[str] = set()
        pending: list[ast.AST] = list(tree.body)
        while pending:
            node = pending.pop()
            if isinstance(node, Function | ast.Lambda):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                pending.extend(node.orelse)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    below = f"{node.module}.{alias.name}"
                    found.add(below if below in self.modules else node.module)
            else:
                pending.extend(ast.iter_child_nodes(node))
        return {each for each in found if each in self.modules}

    def source(self) -> Figures:
        """The figures that are read from the source."""
        modules = list(self.modules.values())
        lines = sorted(module.lines for module in modules)
        edges = sum(len(self.imports(module.tree)) for module in modules)
        docstrings = [node for module in modules for node in module.docstrings]
        in_docstrings = sum(len(module.docstring_lines()) for module in modules)
        top = [module.path.stem for module in modules if len(module.path.parts) == 1]
        stems = [module.path.stem for module in modules]
        return {
            "lines": sum(lines),
            "code lines": sum(module.code_lines() for module in modules),
            "files": len(modules),
            "folders": len({module.path.parent for module in modules}),
            "loose modules": len([stem for stem in top if not stem.startswith("__")]),
            "imports": edges,
            "imports per file": round(edges / len(modules), 2),
            "module names of several files": len(repeated(stems) - {"__init__"}),
            "module lines, median": statistics.median(lines),
            "module lines, largest": lines[-1],
            **_functions_and_classes([node for module in modules for node in module.nodes]),
            "private functions": sum(len(module.private_functions) for module in modules),
            "private functions called once": sum(module.called_once() for module in modules),
            "docstrings, % of lines": round(100 * in_docstrings / sum(lines), 1),
            "docstrings that begin with What, How, ...": sum(
                str(node.value).lstrip().startswith(INDIRECT) for node in docstrings
            ),
        }

    def traces(self, commands: Iterable[str] = tuple(COMMANDS)) -> dict[str, Trace]:
        """Execute commands one after another in one folder; what was executed, by their names."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "experiments.yaml").write_text(SPEC, encoding="utf-8")
            return {each: Trace.of(self, COMMANDS[each], folder) for each in commands}


def repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _functions_and_classes(nodes: Sequence[ast.AST]) -> Figures:
    functions = [node for node in nodes if isinstance(node, Function)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    public = [node.name for node in classes if not node.name.startswith("_")]
    lengths = sorted(len(span(node)) for node in functions)
    decorators = [ast.unparse(each) for node in classes for each in node.decorator_list]
    return {
        "functions": len(functions),
        "function lines, median": statistics.median(lengths),
        "function lines, 95 %": lengths[int(len(lengths) * 0.95)],
        "function lines, largest": lengths[-1],
        "classes": len(classes),
        "dataclasses": sum("dataclass" in each for each in decorators),
        "public class names of several classes": len(repeated(public)),
    }


@dataclass(frozen=True)
class Trace:
    """What a command executed of the package.

    Args:
        files: in the order of their first call.
        functions: each once.
        stack: that was deepest, from the outermost function on.
    """

    files: list[str]
    functions: list[str]
    stack: list[str]

    @classmethod
    def of(cls, house: House, words: Sequence[str], folder: Path) -> Trace:
        """Execute a command in a process of its own.

        Args:
            house: whose command.
            words: of its command line.
            folder: to work in.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        answer = folder / "trace.json"
        environment = {
            **os.environ,
            "PYTHONPATH": str(house.root),
            "CUDA_VISIBLE_DEVICES": "",
            "DELTAGCLIP_DATA": str(folder / "data"),
            "PATH": f"{_fake_slurm(house, folder)}{os.pathsep}{os.environ['PATH']}",
        }
        done = subprocess.run(
            [sys.executable, "-P", __file__, "--trace", str(answer), str(house.root), *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} of {house.root} failed:\n{done.stdout}")
        return cls(**json.loads(answer.read_text(encoding="utf-8")))

    @property
    def figures(self) -> Figures:
        return {
            "files": len(self.files),
            "folders": len({os.path.dirname(file) for file in self.files}),
            "functions": len(self.functions),
            "frames": len(self.stack),
        }


def _fake_slurm(house: House, folder: Path) -> Path:
    """A folder for the PATH with the commands of a Slurm, from the checkout's own tests."""
    fakes = folder / "slurm"
    if not fakes.exists():
        path = os.pathsep.join(map(str, (house.root, house.root / "tests")))
        environment = {**os.environ, "PYTHONPATH": path}
        program = "import pathlib, sys, slurm_fakes as s; s.FakeSlurm(pathlib.Path(sys.argv[1]))"
        command = [sys.executable, "-P", "-c", program, str(fakes)]
        subprocess.run(command, env=environment, check=True)
    return fakes / "bin"


def write_trace(answer: Path, house: House, words: Sequence[str]) -> None:
    """Be the command, and write down what it executes of the package."""
    prefix = f"{house.folder}{os.sep}"
    files: dict[str, None] = {}
    functions: dict[str, None] = {}
    deepest: list[str] = []

    def is_counted(frame: FrameType) -> bool:
        """Whether a frame is that of a function of the package, not of a lambda or a class."""
        code = frame.f_code
        named = code.co_flags & CO_OPTIMIZED and not code.co_name.startswith("<")
        return bool(named) and code.co_filename.startswith(prefix)

    def called(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not is_counted(frame):
            return
        code = frame.f_code
        path = code.co_filename.removeprefix(prefix)
        files[path] = None
        functions[f"{path}:{code.co_firstlineno}:{code.co_qualname}"] = None
        stack = [each.f_code for each in outwards(frame) if is_counted(each)]
        if len(stack) > len(deepest):
            deepest[:] = [
                f"{each.co_filename.removeprefix(prefix)}:{each.co_qualname}"
                for each in reversed(stack)
            ]

    process = os.getpid()
    module, function = house.entry
    sys.argv = ["deltagclip", *words]
    threading.setprofile(called)
    sys.setprofile(called)
    try:
        getattr(import_module(module), function)()
    finally:
        sys.setprofile(None)
        if os.getpid() == process:
            found = {"files": list(files), "functions": list(functions), "stack": deepest}
            answer.write_text(json.dumps(found), encoding="utf-8")


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, that of its caller, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def main() -> None:
    if sys.argv[1:2] == ["--trace"]:
        write_trace(Path(sys.argv[2]), House(Path(sys.argv[3])), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("roots", nargs="*", type=Path, metavar="ROOT", default=[HERE])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--stack", action="store_true", help="show the deepest stacks")
    parser.add_argument("--files", action="store_true", help="show the files that are executed")
    options = parser.parse_args()
    parts = [part for part in ("stack", "files") if getattr(options, part)]
    answers = [answer_for(House(root.resolve()), parts) for root in options.roots]
    if options.json:
        print(json.dumps(answers, indent=2))
        return
    console = Console(highlight=False)
    table = Table("", *(answer["root"] for answer in answers))
    for label in answers[0]["figures"]:
        table.add_row(label, *(f"{answer['figures'][label]:,g}" for answer in answers))
    console.print(table)
    for answer in answers:
        for part in parts:
            for command, entries in answer[part].items():
                print(f"\n{answer['root']}, {command}: {part}", *entries, sep="\n  ")


def answer_for(house: House, parts: Sequence[str]) -> dict[str, Any]:
    """The figures of a checkout, and parts of what its commands executed."""
    traces = house.traces()
    figures = house.source()
    for command, trace in traces.items():
        figures |= {f"{command}: {label}": figure for label, figure in trace.figures.items()}
    shown = {part: {name: getattr(trace, part) for name, trace in traces.items()} for part in parts}
    return {"root": str(house.root), "figures": figures, **shown}


if __name__ == "__main__":
    main()
