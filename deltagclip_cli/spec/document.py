"""A YAML file that remembers where everything in it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import Node

from deltagclip_cli.core import SpecError, shortened, stopped
from deltagclip_cli.core.files import MOST_BYTES
from deltagclip_cli.spec.nodes import children, compose, construct, parse, problem

Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Override:
    """One ``--set KEY=VALUE``: its words as messages show them, their path and the value."""

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
    shown = shortened(text)
    if not equals or not all(where):
        raise SpecError(f"{option} {shown}: expected KEY=VALUE, such as {option} {example}.")
    try:
        return Override(shown, where, parse(value))
    except yaml.YAMLError as error:
        raise SpecError(
            f"{option} {shown}: the value is not readable YAML: {problem(error)}."
        ) from None


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
    _index: dict[int, dict[str | int, tuple[Node, Node]]] = field(
        default_factory=dict, repr=False, compare=False
    )

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
        return replace(self, data=data, overrides=placed)

    def place(self, where: Where) -> str:
        """``file:line:column`` of the deepest part of ``where`` that was written down."""
        for length in range(len(where), 0, -1):
            if where[:length] in self.overrides:
                return f"--set {self.overrides[where[:length]].text}"
        marks = list(self._marks(where))
        for length in range(len(where), len(marks), -1):  # what only an override has made
            for below, override in self.overrides.items():
                if below[:length] == where[:length]:
                    return f"--set {override.text}"
        return f"{self.name}:{marks[-1].line + 1}:{marks[-1].column + 1}" if marks else self.name

    def was_written(self, where: Where) -> bool:
        """Whether the whole of ``where`` was written: in the file, or by an override."""
        if any(where[:length] in self.overrides for length in range(1, len(where) + 1)):
            return True
        return len(list(self._marks(where))) == len(where)

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

    def _marks(self, where: Where) -> Iterator[yaml.Mark]:
        """Where each part of ``where`` was written, as far down as it was."""
        node = self.root
        for key in where:
            below = self._below(node)
            if key not in below:
                return
            at, node = below[key]
            yield at.start_mark

    def _below(self, node: Node | None) -> Mapping[str | int, tuple[Node, Node]]:
        """The children of a node by their keys; of the same key, what was written last."""
        if id(node) not in self._index:
            below = self._index[id(node)] = {}
            for key, at, value in children(node):
                below.setdefault(key, (at, value))
        return self._index[id(node)]


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        SpecError: the file is missing or unreadable, is not YAML, or repeats a key.
    """
    try:
        with path.open("rb") as file:  # which may be a pipe
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SpecError(f"{path}: larger than {MOST_BYTES / 2**20:.0f} MiB, so no spec.")
        text = content.decode()
    except FileNotFoundError:
        raise SpecError(
            f"{path}: there is no such file. Name a spec with --spec FILE, or go to its folder."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {stopped(error)}") from None
    try:
        root = compose(text)
        return Document(str(path), construct(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"{place}: {problem(error)}.") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: {problem(error)}.") from None


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
