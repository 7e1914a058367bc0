"""From a file to checked experiments, with every fault of the file in one error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from deltagclip_cli.core import SpecError, plural, shortened
from deltagclip_cli.spec.document import Document, Override, parse_override, read_document
from deltagclip_cli.spec.faults import MOST_FAULTS, Where, nearest, raised, sentence
from deltagclip_cli.spec.schema import NAME, NAMES, Experiment, is_variable


@dataclass(frozen=True)
class Spec:
    """The checked experiments of one file, in its order."""

    name: str
    experiments: Mapping[str, Experiment]
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)
    """For each experiment the file with what the command line has changed."""

    def place(self, experiment: str, *keys: str | int) -> str:
        """Where a setting was written, or the innermost section around it that was.

        That is ``file:line:column``, or the words of ``--set``.
        """
        document = self.documents.get(experiment)
        if document is None:
            return self.name
        return document.place((*_base(document, experiment, keys), *keys))

    def written(self, experiment: str, *keys: str | int) -> Any:
        """What was written there, before it was checked.

        Raises:
            LookupError, TypeError: nothing was.
        """
        document = self.documents[experiment]
        return document.value((*_base(document, experiment, keys), *keys))


def load_spec(
    path: Path, only: Sequence[str] = (), sets: Sequence[str] = (), tags: Sequence[str] = ()
) -> Spec:
    """Read and check the experiments of a file.

    Args:
        path: a YAML file, as design and README describe it.
        only: the experiments to check; all if empty. The others may have faults.
        sets: ``KEY=VALUE`` words that are laid over each of these experiments.
        tags: words of which the experiments must have every one.

    Raises:
        SpecError: the file is unreadable, an experiment is unknown, none has the tags, or there are
            faults. All faults are in the one error, each with file, line, column, path and the
            legal options; of more than :data:`MOST_FAULTS`, the first.
    """
    document = read_document(path)
    faults = _top_level_faults(document)
    written = document.data.get("experiments") if not faults else None
    if faults or not isinstance(written, dict):
        raise _error(faults)
    for name in only:
        if name not in written:
            names = [str(each) for each in written]
            raise SpecError(
                f"{document.name}: there is no experiment '{name}'.\n"
                f"  experiments: {', '.join(names)}{nearest(name, names)}"
            )
    chosen = _tagged(document, only or list(written), tags)
    overrides = [_in_grid(parse_override(text)) for text in sets]
    experiments, documents = {}, {}
    found: dict[str, None] = {}
    for name in chosen:
        try:
            experiments[name], documents[name] = _experiment(document, name, overrides)
        except SpecError as error:
            found |= dict.fromkeys(error.args[0].split("\n\n"))
    if found:
        raise _error(list(found))
    return Spec(document.name, experiments, documents)


def _error(faults: Sequence[str]) -> SpecError:
    more = len(faults) - MOST_FAULTS
    told = [*faults[:MOST_FAULTS], *([f"and {plural(more, 'more fault')}"] if more > 0 else [])]
    return SpecError("\n\n".join(told))


def experiment_names(path: Path) -> list[str]:
    """The names in a file of experiments, whatever is wrong with it; none if it cannot be read."""
    try:
        written = read_document(path).value(("experiments",))
    except (SpecError, KeyError, IndexError, TypeError):
        return []
    return list(written) if isinstance(written, dict) else []


def _tagged(document: Document, names: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The experiments that have every tag, whether or not they have faults."""
    found = [name for name in names if {*tags} <= {*_tags(document, name)}]
    if names and not found:
        there = list(dict.fromkeys(tag for name in names for tag in _tags(document, name)))
        words = " and ".join(f"'{tag}'" for tag in tags)
        known = f"tags: {', '.join(there)}{nearest(tags[0], there)}"
        hint = known if there else "none of them has a tag"
        raise SpecError(f"{document.name}: there is no experiment with the tag {words}.\n  {hint}")
    return found


def _tags(document: Document, name: str) -> list[str]:
    settings = [document.data["experiments"][name], document.data.get("defaults")]
    written = [each["tags"] for each in settings if isinstance(each, dict) and "tags" in each]
    listed = written[0] if written and isinstance(written[0], list) else []
    return [tag for tag in listed if isinstance(tag, str)]


def _top_level_faults(document: Document) -> list[str]:
    data, name = document.data, document.name
    if not isinstance(data, dict) or "experiments" not in data:
        return [
            f"{name}: there is no 'experiments:' in this file.\n"
            "  expected: experiments: {NAME: ...}"
        ]
    known = ["defaults", "experiments"]
    faults = [
        f"{document.place((key,))}: unknown key '{key}'.\n"
        f"  keys: {', '.join(known)}{nearest(key, known)}"
        for key in data
        if key not in known
    ]
    for key in known:
        if not isinstance(data.get(key) or {}, dict) or (key == "experiments" and not data[key]):
            faults.append(f"{document.place((key,))}: '{key}' must be a mapping, NAME: ...")
    return faults


def _in_grid(override: Override) -> Override:
    """``grid.model.width`` is the key ``model.width`` of the grid, not a mapping called ``model``.

    So too below the ``zip`` and ``random`` of a grid.
    """
    where = override.where
    at = 2 if where[1:2] in (("zip",), ("random",)) else 1
    if where[0] != "grid" or len(where) < at + 2 or not is_variable(str(where[at])):
        return override
    return replace(override, where=(*where[:at], f"{where[at]}.{where[at + 1]}", *where[at + 2 :]))


def _experiment(
    document: Document, name: Any, overrides: list[Override]
) -> tuple[Experiment, Document]:
    base = ("experiments", name)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SpecError(
            f"{document.place(base)}: '{shortened(str(name))}' cannot be the name of an "
            f"experiment.\n  {NAMES}"
        )
    if not isinstance(document.data["experiments"][name], dict):
        raise SpecError(f"{document.place(base)}: '{name}' must be a mapping of settings.")
    defaults = document.data.get("defaults") or {}
    document = _reached(document, name, defaults, overrides).overridden(overrides, base)
    settings = {**defaults, **document.data["experiments"][name]}
    faults: dict[Where, str] = {}
    beyond = list(faults_of_values(settings))
    if beyond:
        faults |= _faults(document, name, raised(beyond))
    try:
        experiment = Experiment.model_validate(settings)
    except ValidationError as error:
        faults = {**faults, **_faults(document, name, error), **faults}
    if faults:
        raise SpecError("\n\n".join(dict.fromkeys(faults.values())))
    return experiment, document


def _reached(
    document: Document, name: str, defaults: Mapping[str, Any], overrides: Sequence[Override]
) -> Document:
    """The document with what an override changes a part of taken over from the defaults."""
    reached = {override.where[0] for override in overrides if len(override.where) > 1}
    inherited = {key: value for key, value in defaults.items() if key in reached}
    if not inherited:
        return document
    experiments = document.data["experiments"]
    experiments = {**experiments, name: {**inherited, **experiments[name]}}
    return replace(document, data={**document.data, "experiments": experiments})


def _faults(document: Document, name: str, error: ValidationError) -> dict[Where, str]:
    """A paragraph for each place that has a fault."""
    at_place: dict[Where, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        base = _base(document, name, details["loc"])
        at_place.setdefault(_written(document, base, details), []).append(details)
    return {where: _fault(document, where, details) for where, details in at_place.items()}


def _base(document: Document, name: str, keys: Where) -> Where:
    """What holds the first key: the experiment, or the defaults if it does not set its own."""
    own, inherited = (("experiments", name), ("defaults",))
    if not document.holds((*inherited, *keys[:1])):
        return own
    if not document.holds((*own, *keys[:1])):
        return inherited
    # An override of another part has had this one copied from the defaults; see _reached.
    is_copy = (
        not document.was_written((*own, *keys[:1]))
        and not document.was_written((*own, *keys))
        and document.was_written((*inherited, *keys))
    )
    return inherited if is_copy else own


def _written(document: Document, base: Where, details: ErrorDetails) -> Where:
    """The place in the file that pydantic means; it also names the branches of unions."""
    *parts, last = details["loc"]
    for part in parts:
        base = (*base, part) if document.holds((*base, part)) else base
    absent = details["type"] == "missing" and isinstance(last, str)
    return (*base, last) if absent or document.holds((*base, last)) else base


def _fault(document: Document, where: Where, all_details: list[ErrorDetails]) -> str:
    shown = where[1:] if where[0] == "experiments" else where
    trail, words = sentence(shown, all_details)
    return f"{document.place(where)}: {' › '.join(shortened(str(part)) for part in trail)}: {words}"


_BITS = 63  # of a whole number besides its sign, in files and in torch
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def faults_of_values(data: Any) -> Iterator[InitErrorDetails]:
    """Every whole number of more than 64 bits and every text that no file can hold, once each."""
    pending: list[tuple[Where, Any]] = [((), data)]
    seen = set()
    while pending:
        where, value = pending.pop()
        if isinstance(value, (dict, list)):
            if id(value) in seen:  # an alias; and what many of them unfold to has no end
                continue
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += reversed([((*where, key), item) for key, item in items])
        elif isinstance(value, int) and value.bit_length() > _BITS:
            yield _limit("must be a whole number of at most 64 bits", where, value)
        elif isinstance(value, str) and _NO_TEXT.search(value):
            yield _limit(r"must be a text without \0 or half a surrogate pair", where, value)


def _limit(rule: str, where: Where, value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("limit", rule), loc=where, input=value)
