"""A YAML file, read safely by the rules of version 1.2, that remembers where everything stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from deltagclip_cli.core import MOST_BYTES, SpecError, shortened, stopped

if TYPE_CHECKING:
    from deltagclip_cli.spec.faults import Where

MOST_VALUES = 1_000_000
MOST_LEVELS = 100
_MOST_NAMED = 5  # files in the folder of one that is not there
_TOO_DEEP = f"nested too deeply, in more than {MOST_LEVELS} levels"
_MERGE = "tag:yaml.org,2002:merge"
_NO_TEXTS = {
    "null": "stands for nothing",
    "bool": "is a truth value",
    "int": "is a number",
    "float": "is a number",
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: ``1e-3`` is a number, ``on`` is a word, ``04:00:00`` is text.

    PyYAML follows YAML 1.1, where ``1e-3`` is text, ``on`` is true, ``010`` is 8, ``1:30`` is 90.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def flatten_mapping(self, node: MappingNode) -> None:
        """Put what a mapping merges before what it writes out; of several, the first counts."""
        merges = [value for key, value in node.value if key.tag == _MERGE]
        written = [pair for pair in node.value if pair[0].tag != _MERGE]
        node.value = written  # already, for a mapping may merge itself
        merged: dict[str, tuple[Node, Node]] = {}
        for value in merges:
            for parent in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(parent, MappingNode):
                    raise _refused("'<<' merges mappings only", parent)
                self.flatten_mapping(parent)
                for pair in parent.value:
                    merged.setdefault(str(pair[0].value), pair)
        node.value = [*merged.values(), *written]


for _tag, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", "\0", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", [*"-+0123456789"]),
    (
        "float",
        r"(?![-+]?0[0-9]+\Z)[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    ("merge", r"<<", ["<"]),
]:
    _whole = re.compile(rf"(?:{_pattern})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, _first)


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same rules by the parser that is written in C, which words its complaints otherwise."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse(text: str) -> Any:
    """Return plain data from YAML text, by the rules of specs; else raise ``yaml.YAMLError``."""
    return construct(compose(text))


def compose(text: str) -> Node | None:
    """Return the nodes of a text, each with its place.

    The parser that is written in C is many times as fast. What it refuses is read once more by the
    other one, whose complaints are those that people know: text that is not YAML, repeats a key,
    has one that is no text, or unfolds to more than can be read.
    """
    try:
        root = _nodes(text, _QuickLoader)
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # that of half a surrogate pair
        if "nesting depth" in str(error):
            raise yaml.YAMLError(_TOO_DEEP) from None
        root = _nodes(text, _Loader)
    if root is not None:
        _check_nodes(root)
    return root


def _nodes(text: str, kind: type[yaml.SafeLoader]) -> Node | None:
    loader = kind(text)
    try:
        root: Node | None = loader.get_single_node()
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None
    finally:
        loader.dispose()
    return root


def construct(root: Node | None) -> Any:
    """Return the plain data of nodes; ``yaml.YAMLError`` if a value is not what its tag says."""
    if root is None:
        return None
    try:
        return _Loader("").construct_document(root)
    except (ValueError, KeyError, AttributeError) as error:  # as PyYAML says '!!int x' is none
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from None


def _check_nodes(root: Node) -> None:
    """Refuse wrong keys, and aliases that would unfold to billions of values, or for ever."""
    sizes: dict[int, tuple[int, int]] = {}  # of a node, with all below it: its size and depth
    entered: set[int] = set()
    pending: list[tuple[Node, bool]] = [(root, False)]
    while pending:
        node, is_left = pending.pop()
        below = [child for _, _, child in children(node)]
        if is_left:
            known = [sizes[id(child)] for child in below]
            size = 1 + sum(each for each, _ in known)
            depth = 1 + max((each for _, each in known), default=0)
            if depth > MOST_LEVELS:
                raise _refused(_TOO_DEEP, node)
            if size > MOST_VALUES:
                message = f"aliases unfold to more than {MOST_VALUES:,} values here"
                raise _refused(message, node)
            sizes[id(node)] = size, depth
        elif id(node) not in entered:
            entered.add(id(node))
            _check_keys(node)
            pending.append((node, True))
            pending += [(child, False) for child in below]
        elif id(node) not in sizes:
            raise _refused("an alias stands for something that it is a part of", node)


def _check_keys(node: Node) -> None:
    """Refuse keys of a mapping that are there twice, or that are no text."""
    keys = set()
    for key, _ in node.value if isinstance(node, MappingNode) else ():
        kind = key.tag.rpartition(":")[2]
        if not isinstance(key, ScalarNode):
            raise _refused("a key must be a text", key)
        if not key.value and kind in _NO_TEXTS:
            raise _refused("a key is missing before the ':'", key)
        if kind in _NO_TEXTS:
            words = f"the key {key.value} {_NO_TEXTS[kind]}"
            raise _refused(f"{words}, and a key must be a text: write '{key.value}'", key)
        if key.value in keys:
            raise _refused(f"the key '{key.value}' is there twice", key)
        keys.add(key.value)


def _refused(problem: str, node: Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def children(node: Node | None) -> Iterator[tuple[str | int, Node, Node]]:
    """Yield each child as (key, where that is written, value); of mappings the last one first."""
    if isinstance(node, MappingNode):
        for key, value in reversed(node.value):
            yield key.value, key, value
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield index, value, value


@dataclass(frozen=True)
class Override:
    """One ``--set KEY=VALUE``: its words as messages show them, their path and the value."""

    text: str
    where: Where
    value: Any


def parse_override(text: str, option: str = "--set", example: str = "epochs=5") -> Override:
    """Read ``a.b.c=VALUE``, words of an option; the value is YAML, as it would be in the file.

    SpecError, with the example, if ``=`` or a part of the key is missing or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    where = tuple(key.strip().split("."))
    shown = shortened(text)
    if not equals or not all(where):
        raise SpecError(f"{option} {shown}: expected KEY=VALUE, such as {option} {example}.")
    try:
        return Override(shown, where, parse(value))
    except yaml.YAMLError as error:
        raise SpecError(
            f"{option} {shown}: the value is not readable YAML: {_problem(error)}."
        ) from None


def options_said(texts: Sequence[str], command: str) -> dict[str, Any]:
    """Return the options of an optimizer that ``--set`` words give; dots lead into mappings.

    Args:
        command: has the name of the optimizer as its first word.

    Raises:
        SpecError: a word is no ``KEY=VALUE``, is the name, or leads below a single value.
    """
    options: dict[str, Any] = {}
    for text in texts:
        override = parse_override(text, example="weight_decay=0.1")
        section: Any = options
        for key in override.where[:-1]:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise SpecError(
                    f"--set {override.text}: '{key}' is a single value without keys of its own."
                )
        section[override.where[-1]] = override.value
    if "name" in options:
        raise SpecError(f"--set name=...: the name is the first word: deltagclip {command} NAME.")
    return options


@dataclass(frozen=True)
class Document:
    """The data of a file, with the place of every key and value."""

    name: str
    data: Any
    root: Node | None
    _index: dict[int, dict[str | int, tuple[Node, Node]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def place(self, where: Where) -> str:
        """Return ``file:line:column`` of the deepest part of ``where`` that was written down."""
        marks = self.marks(where)
        return f"{self.name}:{marks[-1].line + 1}:{marks[-1].column + 1}" if marks else self.name

    def marks(self, where: Where) -> list[yaml.Mark]:
        """Return where each part of ``where`` was written, as far down as it was."""
        marks: list[yaml.Mark] = []
        node = self.root
        for key in where:
            below = self._index.setdefault(id(node), {})
            if not below:
                for child, at, value in children(node):  # of the same key, the last comes first
                    below.setdefault(child, (at, value))
            if key not in below:
                break
            at, node = below[key]
            marks.append(at.start_mark)
        return marks


def read_document(path: Path) -> Document:
    """Read a YAML file; SpecError if it is missing, unreadable, not YAML, or repeats a key."""
    try:
        with path.open("rb") as file:  # which may be a pipe
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SpecError(f"{path}: larger than {MOST_BYTES / 2**20:.0f} MiB, so no spec.")
        root = compose(content.decode())
        return Document(str(path), construct(root), root)
    except FileNotFoundError:
        there = sorted(each.name for each in path.absolute().parent.glob("*.yaml"))[:_MOST_NAMED]
        named = f"files there: {', '.join(there)}" if there else "deltagclip new FOLDER writes one."
        raise SpecError(
            f"{path}: there is no such file. Name a spec with --spec FILE, or go to its folder."
            f"\n  {named}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {stopped(error)}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"{place}: {_problem(error)}.") from None


def document_of(data: Mapping[str, Any], name: str = "spec") -> Document:
    """Return what a file would be that held such data; SpecError if no file could.

    Its places are its name alone, as nobody has seen a line of it.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        return Document(name, parse(text), None)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"{name}: has a value that no file could hold: {error}.") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: {_problem(error)}.") from None


def _problem(error: yaml.YAMLError) -> str:
    """Return what a parser complains of, without a full stop."""
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    words = " ".join(part for part in parts if part) or str(error).partition("\n")[0]
    return words.rstrip(".")
