"""How the house is built: which room may use which, what is imported when, what is described."""

from __future__ import annotations

import ast
import functools
import statistics
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import deltagclip_cli

PACKAGE = Path(deltagclip_cli.__file__).parent
NAME = PACKAGE.name

# Every room may use those before it. docs/contributing/rooms.md has the picture.
ROOMS = [
    "core",
    "source",
    "spec",
    "optim",
    "parts",
    "runs",
    "tuning",
    "results",
    "theory",
    "training",
    "conformance",
    "plan",
    "export",
    "terminal",
    "launch",
    "slurm",
    "search",
    "trying",
    "report",
    "tensorboard",
    "verify",
    "api",
    "commands",
]
TURNED_ROUND_SOON: set[tuple[str, str]] = set()

TORCH = frozenset({"torch", "torchvision", "tensorboard"})
ARRAYS = frozenset({"numpy", "scipy", "PIL", "matplotlib"})
EXTRAS = frozenset({"transformers", "tokenizers", "huggingface_hub", "datasets", "pandas"})


def module_of(path: Path) -> str:
    """The dotted name below the package; ``__init__`` for that of the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache  # and not at once: whoever collects tests would wait for it
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@functools.cache
def imports_at_load(module: str) -> frozenset[str]:
    """What a module imports when it is itself imported; bodies of functions do not count."""
    return frozenset(_imports_at_load(tree_of(module)))


def _imports_at_load(tree: ast.Module) -> Iterator[str]:
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            pending.extend(ast.iter_child_nodes(node))


@functools.cache
def own_imports(module: str) -> set[str]:
    """The modules of this package that a module imports when it is loaded."""
    names = {name.removeprefix(f"{NAME}.") for name in imports_at_load(module)}
    return (names & set(FILES)) - {module}


def room(module: str) -> str:
    return module.partition(".")[0]


def loads(module: str, libraries: frozenset[str]) -> bool:
    """Whether importing a module imports a library, by itself or through what it imports."""
    seen: set[str] = set()
    pending = {module}
    while pending:
        each = pending.pop()
        seen.add(each)
        if {name.partition(".")[0] for name in imports_at_load(each)} & libraries:
            return True
        pending |= (own_imports(each) | ({each.rpartition(".")[0]} & set(FILES))) - seen
    return False


def loading(libraries: frozenset[str], *rooms: str) -> set[str]:
    """The modules of some rooms, tables of parts included, that load a library."""
    asked = {m for m in FILES if room(m) in rooms} | {f"parts.{kind}" for kind in KINDS}
    return {module for module in asked | {"optim", "__main__"} if loads(module, libraries)}


KINDS = ("models", "datasets", "tasks", "schedules")


def test_a_room_uses_only_those_before_it() -> None:
    assert {room(module) for module in FILES} - {"__init__", "__main__"} == set(ROOMS)
    place = {name: number for number, name in enumerate(ROOMS)} | {"__init__": -1, "__main__": 99}
    upwards = {
        (module, each)
        for module in FILES
        for each in own_imports(module)
        if place[room(each)] > place[room(module)]
    }
    assert upwards == TURNED_ROUND_SOON
    assert len(FILES) > 100 and own_imports("training.trainer") >= {"training.stepping"}


def test_nothing_goes_in_a_circle() -> None:
    assert len(
        list(TopologicalSorter({module: own_imports(module) for module in FILES}).static_order())
    ) == len(FILES)
    kinds = {f"parts.{kind}" for kind in KINDS}
    for module in FILES:
        kind = ".".join(module.split(".")[:2])
        if kind in kinds:
            others = {".".join(each.split(".")[:2]) for each in own_imports(module)} & kinds
            assert others <= {kind}, module


def test_a_library_is_loaded_only_where_it_is_used() -> None:
    planning = (
        "core",
        "source",
        "spec",
        "runs",
        "tuning",
        "plan",
        "terminal",
        "launch",
        "slurm",
        "search",
    )
    assert loading(TORCH | ARRAYS | EXTRAS, *planning, "search") <= {
        "launch.rehearsal.building",
        "launch.rehearsal.own_code",
        "terminal.compare_view",
    }
    assert loading(TORCH, "results", "report", "tensorboard", "verify", "commands") == set()
    assert loading(EXTRAS, *ROOMS) == set()
    assert loads("training.trainer", TORCH) and loads("report.page", ARRAYS)


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
    assert [module for module in FILES if drawers & set(module.split("."))] == []


def test_functions_are_short_and_say_what_they_return() -> None:
    functions = [
        (f"{module}.{node.name}", node)
        for module in FILES
        for node in ast.walk(tree_of(module))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for _, node in functions)
    assert len(lengths) > 300
    assert statistics.median(lengths) <= 12
    assert lengths[int(len(lengths) * 0.95)] <= 45
    assert [name for name, node in functions if node.returns is None] == []


def test_what_is_public_is_described() -> None:
    silent = [module for module in FILES if not ast.get_docstring(tree_of(module))]
    silent += [
        f"{module}.{node.name}"
        for module in FILES
        for node in tree_of(module).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
