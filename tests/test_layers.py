"""How the package is built: what may import what, how long things are, what is described."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import deltagclip_cli

PACKAGE = Path(deltagclip_cli.__file__).parent
NAME = PACKAGE.name

# From the bottom up; a module imports, when it is loaded, from its own line and the lines above it.
LAYERS = [
    {"__init__", "errors", "registry", "seeds", "files", "wording"},
    {"claims", "formats"},
    {"spec"},
    {"trials"},
    {"run_folder"},
    {"heartbeat", "ownership", "held_folder", "starts", "leftovers"},
    {"slurm"},
    {"planning"},
    {"results", "survey", "curves", "statistics"},
    {"comparison"},
    {"certificate"},
    {"report", "board"},
    {"launchers"},
    {"search"},
    {"optim", "models", "datasets", "tasks", "schedules"},
    {"landscape", "memory"},
    {"meter", "recorder", "checkpoint", "environment", "stopping", "logs"},
    {"loading"},
    {"assembly"},
    {"rehearsal"},
    {"trainer"},
    {"history"},
    {"worker"},
    {"console"},
    {"cli"},
    {"__main__"},
]
WITHOUT_TORCH = {"errors", "registry", "wording", "seeds", "files", "stopping", "logs", "spec"}
WITHOUT_TORCH |= {"run_folder", "cli", "__main__", "__init__", "claims", "heartbeat", "planning"}
WITHOUT_TORCH |= {"ownership", "slurm", "results", "survey", "launchers", "search", "console"}
WITHOUT_TORCH |= {"trials", "held_folder", "formats", "starts", "leftovers"}
READING = {
    "curves",
    "statistics",
    "comparison",
    "certificate",
    "report",
    "board",
}  # arrays, but never torch
READING_VIEWS = {"console.compare_view", "console.compare_session", "console.report_session"}
READING_VIEWS |= {
    "console.tensorboard_session",
    "console.certify_session",
    "console.reproduce_session",
}  # loaded by their command only


def module_of(path: Path) -> str:
    """The dotted name below the package; ``__init__`` for that of the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}


def imports_at_load(tree: ast.Module) -> Iterator[str]:
    """What a module imports when it is itself imported; bodies of functions do not count."""
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


def own_imports(module: str) -> set[str]:
    """The modules of this package that a module imports when it is loaded."""
    found = set()
    for name in imports_at_load(TREES[module]):
        if name == NAME:
            found.add("__init__")
        elif name.startswith(f"{NAME}.") and name.removeprefix(f"{NAME}.") in FILES:
            found.add(name.removeprefix(f"{NAME}."))
    return found - {module}


def layer(module: str) -> int:
    top = module.partition(".")[0]
    (found,) = (number for number, names in enumerate(LAYERS) if top in names)
    return found


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{module}.{node.name}", node


def test_the_package_was_found() -> None:
    assert len(FILES) > 50
    assert own_imports("trainer") >= {"trials", "checkpoint"}


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    tops = {module.partition(".")[0] for module in FILES}
    assert tops == set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(tops)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    upwards = {each for each in own_imports(module) if layer(each) > layer(module)}
    assert not upwards


def test_no_imports_go_in_a_circle() -> None:
    graph = {module: own_imports(module) for module in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)


def test_kinds_of_components_do_not_know_of_each_other() -> None:
    kinds = {"optim", "models", "datasets", "tasks", "schedules"}
    for module in FILES:
        top = module.partition(".")[0]
        if top in kinds:
            others = {each.partition(".")[0] for each in own_imports(module)} & kinds
            assert others <= {top}, module


TORCH = frozenset({"torch", "torchvision", "tensorboard"})
HEAVY = TORCH | {"numpy", "scipy", "PIL", "transformers", "huggingface_hub", "datasets"}


def loads(module: str, libraries: frozenset[str] = HEAVY) -> bool:
    """Whether importing a module imports a library, by itself or through what it imports."""
    seen: set[str] = set()
    pending = {module}
    while pending:
        each = pending.pop()
        seen.add(each)
        roots = {name.partition(".")[0] for name in imports_at_load(TREES[each])}
        if roots & libraries:
            return True
        parents = {each.rpartition(".")[0]} & set(FILES)
        pending |= (own_imports(each) | parents) - seen
    return False


def test_planning_does_not_load_torch() -> None:
    tables = {"optim", "models", "datasets", "tasks", "schedules"}
    planning = {m for m in FILES if m.partition(".")[0] in WITHOUT_TORCH} | tables
    planning -= READING_VIEWS
    assert len(planning) > 15
    assert {module for module in planning if loads(module)} == set()
    assert loads("trainer", TORCH)


def test_what_is_in_an_extra_is_loaded_when_it_is_used() -> None:
    extra = frozenset({"transformers", "tokenizers", "huggingface_hub", "datasets"})
    assert {module for module in FILES if loads(module, extra)} == set()


def test_reading_results_loads_arrays_but_not_torch() -> None:
    reading = {m for m in FILES if m.partition(".")[0] in READING} | READING_VIEWS
    assert len(reading) > 15
    assert {module for module in reading if loads(module, TORCH)} == set()
    assert {module for module in reading if loads(module)} >= READING_VIEWS


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "helper", "common", "misc", "base"])
def test_no_module_is_a_drawer_for_odds_and_ends(word: str) -> None:
    assert [module for module in FILES if word in module.split(".")] == []


def test_files_are_short_enough_to_be_read_at_once() -> None:
    lines = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}
    assert {module: count for module, count in lines.items() if count > 350} == {}


def test_functions_are_short() -> None:
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for _, node in functions())
    assert len(lengths) > 300
    assert statistics.median(lengths) <= 10
    assert lengths[int(len(lengths) * 0.95)] <= 45


def described(node: ast.AST) -> bool:
    return bool(ast.get_docstring(node))  # type: ignore[arg-type]


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public classes and functions of a module."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            yield node.name, node


@pytest.mark.parametrize("module", FILES)
def test_what_is_public_is_described(module: str) -> None:
    assert described(TREES[module])
    silent = [name for name, node in public(TREES[module]) if not described(node)]
    assert silent == []


def test_every_function_says_what_it_returns() -> None:
    assert [name for name, node in functions() if node.returns is None] == []


def test_the_order_of_the_docstring_of_errors_is_that_of_the_classes() -> None:
    text = ast.get_docstring(TREES["errors"]) or ""
    classes = [node.name for node in TREES["errors"].body if isinstance(node, ast.ClassDef)]
    classes.remove("ExitCode")
    places = [text.index(name) for name in classes]
    assert places == sorted(places)
