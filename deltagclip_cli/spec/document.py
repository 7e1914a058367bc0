"""A YAML file that remembers where everything in it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from deltagclip_cli.errors import SpecError

Where = tuple[str | int, ...]

_MERGE = "tag:yaml.org,2002:merge"


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


@dataclass(frozen=True)
class Override:
    """One ``--set KEY=VALUE``: the words on the command line, the path they name and the value."""

    text: str
    where: Where
    value: Any


def parse_override(text: str, option: str = "--set", example: str = "epochs=5") -> Override:
    """Read ``a.b.c=VALUE``; the value is YAML, as it would be in the file.

    Args:
        text: the words of the command line.
        option: what they follow there.
        example: of such words, for a message.

    Raises:
        SpecError: there is no ``=``, a part of the key is empty or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    where = tuple(key.strip().split("."))
    if not equals or not all(where):
        raise SpecError(f"{option} {text}: expected KEY=VALUE, such as {option} {example}.")
    try:
        return Override(text, where, parse(value))
    except yaml.YAMLError as error:
        raise SpecError(
            f"{option} {text}: the value is not readable YAML: {_problem(error)}."
        ) from None


def parse(text: str) -> Any:
    """Plain data from YAML text, by the rules of specs.

    Raises:
        yaml.YAMLError: the text is not YAML, repeats a key or holds a tag that is not plain data.
    """
    return _construct(_compose(text))


def parse_quickly(text: str) -> Any:
    """What :func:`parse` gives, many times as fast; for files that this program has written.

    Raises:
        yaml.YAMLError: as there, in other words.
    """
    return _construct(_compose(text, _QuickLoader))


@dataclass(frozen=True)
class Document:
    """The data of a file, with the place of every key and value.

    ``overrides`` are laid over a copy of the data by :meth:`overridden`; a place that an override
    covers is named by the words of the command line.
    """

    name: str
    data: Any
    root: Node | None
    overrides: dict[Where, Override] = field(default_factory=dict)

    def overridden(self, overrides: list[Override], base: Where) -> Document:
        """The document with values below ``base`` replaced.

        Raises:
            SpecError: a part of a key names something that has no keys of its own.
        """
        data = dict(self.data)
        placed = dict(self.overrides)
        for override in overrides:
            where = (*base, *override.where)
            _replace(data, where, override)
            placed[where] = override
        return Document(self.name, data, self.root, placed)

    def place(self, where: Where) -> str:
        """``file:line:column`` of the deepest part of ``where`` that was written down."""
        for length in range(len(where), 0, -1):
            if where[:length] in self.overrides:
                return f"--set {self.overrides[where[:length]].text}"
        marks = list(_marks(self.root, where))
        for length in range(len(where), len(marks), -1):  # what only an override has made
            for below, override in self.overrides.items():
                if below[:length] == where[:length]:
                    return f"--set {override.text}"
        return f"{self.name}:{marks[-1].line + 1}:{marks[-1].column + 1}" if marks else self.name

    def was_written(self, where: Where) -> bool:
        """Whether the whole of ``where`` was written: in the file, or by an override."""
        if any(where[:length] in self.overrides for length in range(1, len(where) + 1)):
            return True
        return len(list(_marks(self.root, where))) == len(where)

    def holds(self, where: Where) -> bool:
        """Whether there is a value at ``where``."""
        try:
            self.value(where)
        except (KeyError, IndexError, TypeError):
            return False
        return True

    def value(self, where: Where) -> Any:
        """The value at ``where``.

        Raises:
            KeyError, IndexError, TypeError: there is none.
        """
        value = self.data
        for key in where:
            value = value[key]
        return value


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        SpecError: the file is missing or unreadable, is not YAML, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(
            f"{path}: there is no such file. Name a spec with --spec FILE, or go to its folder."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}.") from None
    try:
        root = _compose(text)
        return Document(str(path), _construct(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"{place}: {_problem(error)}.") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: {_problem(error)}.") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply.") from None


def _problem(error: yaml.YAMLError) -> str:
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    words = " ".join(part for part in parts if part) or str(error).partition("\n")[0]
    return words.rstrip(".")


def _compose(text: str, kind: type[yaml.SafeLoader] = _Loader) -> Node | None:
    loader = kind(text)
    try:
        root: Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    _refuse_repeated_keys(root)
    return root


def _construct(root: Node | None) -> Any:
    if root is None:
        return None
    try:
        return _Loader("").construct_document(root)
    except (ValueError, KeyError, AttributeError) as error:  # as PyYAML says '!!int x' is none
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from None


def _refuse_repeated_keys(root: Node | None) -> None:
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, MappingNode):
            keys = set()
            for key, value in node.value:
                if isinstance(key, ScalarNode):
                    if key.value in keys:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key '{key.value}' is there twice", key.start_mark
                        )
                    keys.add(key.value)
                pending.append(value)


def _children(node: Node | None) -> Iterator[tuple[str | int, Node, Node]]:
    """Each child as (key, where the key is written, value); what was written last comes first."""
    if isinstance(node, MappingNode):
        for key, value in reversed(node.value):
            yield key.value, key, value
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield index, value, value


def _marks(node: Node | None, where: Where) -> Iterator[yaml.Mark]:
    """Where each part of ``where`` was written, as far down as it was."""
    for key in where:
        found = next((child for child in _children(node) if child[0] == key), None)
        if found is None:
            return
        node = found[2]
        yield found[1].start_mark


def _replace(data: Any, where: Where, override: Override) -> None:
    for depth, key in enumerate(where[:-1]):
        if not isinstance(data, dict) or not isinstance(data.get(key, {}), dict):
            name = ".".join(str(part) for part in where[: depth + 1])
            raise SpecError(
                f"--set {override.text}: '{name}' is a single value without keys of its own."
            )
        data[key] = dict(data.get(key, {}))  # a copy: what an anchor shares stays as it was
        data = data[key]
    data[where[-1]] = override.value
