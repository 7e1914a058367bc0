"""YAML by the rules of version 1.2, read safely: nodes with their places, and plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_MERGE = "tag:yaml.org,2002:merge"
MOST_VALUES = 1_000_000
MOST_LEVELS = 100
_TOO_DEEP = f"nested too deeply, in more than {MOST_LEVELS} levels"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: ``1e-3`` is a number, ``on`` is a word, ``04:00:00`` is text.

    PyYAML follows YAML 1.1, where ``1e-3`` is text, ``on`` is true, ``010`` is 8, ``1:30`` is 90.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def flatten_mapping(self, node: MappingNode) -> None:
        """Put what a mapping merges before what it writes out: of the same key, the last counts.

        Of several merged mappings the first counts, as YAML says. PyYAML 6.0.4 takes the last.
        """
        merges = [value for key, value in node.value if key.tag == _MERGE]
        written = [pair for pair in node.value if pair[0].tag != _MERGE]
        node.value = written  # already, for a mapping may merge itself
        merged: dict[str, tuple[Node, Node]] = {}
        for value in merges:
            for parent in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(parent, MappingNode):
                    raise yaml.constructor.ConstructorError(
                        None, None, "'<<' merges mappings only", parent.start_mark
                    )
                self.flatten_mapping(parent)
                for pair in parent.value:
                    merged.setdefault(str(pair[0].value), pair)
        node.value = [*merged.values(), *written]


for _tag, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"(?![-+]?0[0-9]+\Z)[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
]:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"(?:{_pattern})\Z"),
        list(_first) + [""] * (_tag == "null"),
    )


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same rules by the parser that is written in C, which words its complaints otherwise."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse(text: str) -> Any:
    """Plain data from YAML text, by the rules of specs.

    Raises:
        yaml.YAMLError: the text is not YAML, repeats a key or holds a tag that is not plain data.
    """
    return construct(compose(text))


def problem(error: yaml.YAMLError) -> str:
    """What a parser complains of, without a full stop."""
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    words = " ".join(part for part in parts if part) or str(error).partition("\n")[0]
    return words.rstrip(".")


def compose(text: str) -> Node | None:
    """The nodes of a text, each with its place.

    The parser that is written in C is many times as fast. What it refuses is read once more by the
    other one, whose complaints are those that people know.

    Raises:
        yaml.YAMLError: the text is not YAML, repeats a key, has one that is no text, or unfolds to
            more than can be read.
    """
    try:
        root = _nodes(text, _QuickLoader)
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # that of half a surrogate pair
        if "nesting depth" in str(error):
            raise yaml.YAMLError(_TOO_DEEP) from None
        root = _nodes(text, _Loader)
    if root is not None:
        _refuse_monsters(root)
        _check_keys(root)
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
    """The plain data of nodes.

    Raises:
        yaml.YAMLError: a value is not what its tag says.
    """
    if root is None:
        return None
    try:
        return _Loader("").construct_document(root)
    except (ValueError, KeyError, AttributeError) as error:  # as PyYAML says '!!int x' is none
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from None


def _refuse_monsters(root: Node) -> None:
    """Refuse what would take for ever, or the stack, once aliases are followed.

    A few hundred bytes of aliases of aliases stand for billions of values.
    """
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
            pending.append((node, True))
            pending += [(child, False) for child in below]
        elif id(node) not in sizes:
            raise _refused("an alias stands for something that it is a part of", node)


_NO_TEXTS = {
    "null": "stands for nothing",
    "bool": "is a truth value",
    "int": "is a number",
    "float": "is a number",
}


def _check_keys(root: Node) -> None:
    """Refuse keys that are there twice, or that are no text."""
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        keys = set()
        for key in (pair[0] for pair in node.value if isinstance(node, MappingNode)):
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
        pending += [child for _, _, child in children(node)]


def _refused(problem: str, node: Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def children(node: Node | None) -> Iterator[tuple[str | int, Node, Node]]:
    """Each child as (key, where the key is written, value); what was written last comes first."""
    if isinstance(node, MappingNode):
        for key, value in reversed(node.value):
            yield key.value, key, value
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield index, value, value
