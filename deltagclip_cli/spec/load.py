"""From a file to checked experiments, with every fault of the file in one error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from deltagclip_cli.core import SpecError, nearest, plural, shortened
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.document import Document, Override, parse_override, read_document
from deltagclip_cli.spec.faults import MOST_FAULTS, NAME, NAMES, Where, raised, sentence
from deltagclip_cli.spec.schema import Experiment, is_variable


@dataclass(frozen=True)
class Spec:
    """The checked experiments of one file, in its order."""

    name: str
    experiments: Mapping[str, Experiment]
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    def place(self, experiment: str, *keys: str | int) -> str:
        """Return where a setting was written, or the innermost section around it that was.

        That is ``file:line:column``, or the words of ``--set``.
        """
        source = self.sources.get(experiment)
        return self.name if source is None else source.place(keys)

    def written(self, experiment: str, *keys: str | int) -> Any:
        """Return what was written there, before it was checked.

        Raises:
            LookupError, TypeError: nothing was.
        """
        return self.sources[experiment].value(keys)


@dataclass(frozen=True)
class Source:
    """The words of one experiment: in its own section, in the defaults, and by ``--set``.

    ``settings`` are all of that together.
    """

    document: Document
    name: str
    settings: Mapping[str, Any]
    overrides: Mapping[Where, Override]

    def place(self, keys: Where) -> str:
        """Return where a setting was written, or the innermost section around it that was."""
        override = self._override(keys)
        if override is not None:
            return f"--set {override.text}"
        return self.document.place((*self._section(keys), *keys))

    def value(self, keys: Where) -> Any:
        """Return what was written there.

        Raises:
            LookupError, TypeError: nothing was.
        """
        value: Any = self.settings
        for key in keys:
            value = value[key]
        return value

    def holds(self, keys: Where) -> bool:
        """Return whether anything was written there."""
        try:
            self.value(keys)
        except (LookupError, TypeError):
            return False
        return True

    def trail(self, keys: Where) -> Where:
        """Return the keys as a message has them, after the experiment or the defaults."""
        own = self._override(keys) is not None or len(self._section(keys)) > 1
        return (self.name if own else "defaults", *keys)

    def _override(self, keys: Where) -> Override | None:
        """Return the override that wrote a setting, or without which there would be none."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.overrides:
                return self.overrides[keys[:length]]
        section = self._section(keys)
        depth = len(self.document.marks((*section, *keys))) - len(section)
        for length in range(len(keys), depth, -1):
            for where, override in self.overrides.items():
                if where[:length] == keys[:length]:
                    return override
        return None

    def _section(self, keys: Where) -> Where:
        """Return what of the file holds the first key: the experiment, or else the defaults."""
        own, inherited = ("experiments", self.name), ("defaults",)
        if len(self.document.marks((*own, *keys[:1]))) > len(own):
            return own
        return inherited if len(self.document.marks((*inherited, *keys[:1]))) > 1 else own


def load_spec(
    path: Path | Document,
    only: Sequence[str] = (),
    sets: Sequence[str] = (),
    tags: Sequence[str] = (),
    runs: Path | None = None,
    folder: Path | None = None,
) -> Spec:
    """Read and check the experiments of a file.

    Args:
        path: a YAML file, as docs/reference/spec.md describes it, or what was read of one.
        only: the experiments to check; all if empty. The others may have faults.
        sets: ``KEY=VALUE`` words that are laid over each of these experiments.
        tags: words of which the experiments must have every one.
        runs: the runs folder, where copies of the code of parts are looked for and kept.
        folder: where files of parts are looked for; None for that of the file, and for the working
            folder without one.

    Raises:
        SpecError: the file is unreadable, an experiment is unknown, none has the tags, or there are
            faults. All faults are in the one error, each with file, line, column, path and the
            legal options; of more than :data:`MOST_FAULTS`, the first.
    """
    document = path if isinstance(path, Document) else read_document(path)
    beside = Path() if isinstance(path, Document) else path.parent
    faults = _top_level_faults(document)
    if faults:
        raise _error(faults)
    written = document.data["experiments"]
    for name in only:
        if name not in written:
            names = [str(each) for each in written]
            hint = f"experiments: {', '.join(names)}{nearest(name, names)}"
            if name.endswith((".yaml", ".yml")):
                hint = f"A file of experiments is named by --spec {name}."
            raise SpecError(f"{document.name}: there is no experiment '{name}'.\n  {hint}")
    overrides = [_in_grid(parse_override(text)) for text in sets]
    experiments, sources = {}, {}
    for name in _tagged(document, only or list(written), tags):
        try:
            sources[name] = _source(document, name, overrides)
            code = CodeFolder.of_spec(folder or beside, runs, name)
            experiments[name] = _checked(sources[name], code)
        except SpecError as error:
            faults += str(error).split("\n\n")
    if faults:
        raise _error(list(dict.fromkeys(faults)))
    return Spec(document.name, experiments, sources)


def experiment_names(path: Path) -> list[str]:
    """Return the names in a file of experiments, faulty or not; none if it cannot be read."""
    try:
        written = read_document(path).data["experiments"]
    except (SpecError, LookupError, TypeError):
        return []
    return list(written) if isinstance(written, dict) else []


def _error(faults: Sequence[str]) -> SpecError:
    more = len(faults) - MOST_FAULTS
    told = [*faults[:MOST_FAULTS], *([f"and {plural(more, 'more fault')}"] if more > 0 else [])]
    return SpecError("\n\n".join(told))


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


def _tagged(document: Document, names: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Return the experiments that have every tag, whether or not they have faults."""
    of_each = {name: _tags(document, name) for name in names}
    found = [name for name, own in of_each.items() if {*tags} <= {*own}]
    if names and not found:
        there = list(dict.fromkeys(tag for own in of_each.values() for tag in own))
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


def _in_grid(override: Override) -> Override:
    """Take ``grid.model.width`` for the key ``model.width`` of the grid, which may hold dots.

    So too below the ``zip`` and ``random`` of a grid.
    """
    where = override.where
    at = 2 if where[1:2] in (("zip",), ("random",)) else 1
    if where[0] != "grid" or len(where) < at + 2 or not is_variable(str(where[at])):
        return override
    return replace(override, where=(*where[:at], f"{where[at]}.{where[at + 1]}", *where[at + 2 :]))


# A training has one length: who says it anew need not take back how it was said before.
_INSTEAD = {"epochs": "steps", "steps": "epochs"}


def _source(document: Document, name: Any, overrides: Sequence[Override]) -> Source:
    base = ("experiments", name)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SpecError(
            f"{document.place(base)}: '{shortened(str(name))}' cannot be the name of an "
            f"experiment.\n  {NAMES}"
        )
    own = document.data["experiments"][name]
    if not isinstance(own, dict):
        raise SpecError(f"{document.place(base)}: '{name}' must be a mapping of settings.")
    inherited = document.data.get("defaults") or {}
    settings = {k: v for k, v in inherited.items() if _INSTEAD.get(k) not in own} | own
    for override in overrides:
        settings.pop(_INSTEAD.get(str(override.where[0])), None)
        section: Any = settings
        for depth, key in enumerate(override.where[:-1]):
            if not isinstance(section, dict) or not isinstance(section.get(key, {}), dict):
                path = ".".join(map(str, (*base, *override.where[: depth + 1])))
                raise SpecError(
                    f"--set {override.text}: '{path}' is a single value without keys of its own."
                )
            section[key] = dict(section.get(key, {}))  # what an anchor shares stays as it was
            section = section[key]
        section[override.where[-1]] = override.value
    return Source(document, name, settings, {each.where: each for each in overrides})


def _checked(source: Source, folder: CodeFolder) -> Experiment:
    faults: dict[Where, str] = {}
    beyond = list(faults_of_values(source.settings))
    if beyond:
        faults |= _faults(source, raised(beyond))
    try:
        experiment = Experiment.model_validate(source.settings, context=folder)
    except ValidationError as error:
        faults = {**faults, **_faults(source, error), **faults}
    if faults:
        raise SpecError("\n\n".join(dict.fromkeys(faults.values())))
    return experiment


def _faults(source: Source, error: ValidationError) -> dict[Where, str]:
    """Return a paragraph for each place that has a fault."""
    at_place: dict[Where, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        at_place.setdefault(_keys(source, details), []).append(details)
    return {keys: _fault(source, keys, details) for keys, details in at_place.items()}


def _keys(source: Source, details: ErrorDetails) -> Where:
    """Return the place that pydantic means, whose own also names the branches of unions."""
    *parts, last = details["loc"]
    keys: Where = ()
    for part in parts:
        keys = (*keys, part) if source.holds((*keys, part)) else keys
    absent = details["type"] == "missing" and isinstance(last, str)
    return (*keys, last) if absent or source.holds((*keys, last)) else keys


def _fault(source: Source, keys: Where, all_details: list[ErrorDetails]) -> str:
    trail, words = sentence(source.trail(keys), all_details)
    return f"{source.place(keys)}: {' › '.join(shortened(str(part)) for part in trail)}: {words}"


_BITS = 63  # of a whole number besides its sign, in files and in torch
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def faults_of_values(data: Any) -> Iterator[InitErrorDetails]:
    """Yield every whole number and text that YAML can write and no file or machine holds, once."""
    pending: list[tuple[Where, Any]] = [((), data)]
    seen = set()
    while pending:
        where, value = pending.pop()
        rule = ""
        if isinstance(value, (dict, list)):
            if id(value) in seen:  # an alias; and what many of them unfold to has no end
                continue
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += reversed([((*where, key), item) for key, item in items])
        elif isinstance(value, int) and value.bit_length() > _BITS:
            rule = "must be a whole number of at most 64 bits"
        elif isinstance(value, str) and _NO_TEXT.search(value):
            rule = r"must be a text without \0 or half a surrogate pair"
        if rule:
            kind = PydanticCustomError("limit", rule)
            yield InitErrorDetails(type=kind, loc=where, input=value)
