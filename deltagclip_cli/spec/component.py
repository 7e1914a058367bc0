"""Sections of a spec, and parts of an experiment that are chosen by name: ``{name: adam, lr: 1}``.

The name is looked up in a :class:`~deltagclip_cli.core.Catalogue`; the other keys are checked
against the real signature of what it names, and filled up with the defaults found there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Self, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import Catalogue, load_target, nearest
from deltagclip_cli.source.loading import load_own
from deltagclip_cli.source.reference import (
    FileReference,
    Reference,
    ReferenceRefusedError,
    check_reference,
    parse_reference,
)
from deltagclip_cli.source.signatures import REQUIRED, UNKNOWN, Option, Signature, read_signature
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.faults import (
    Where,
    explained,
    faults_of,
    naming_legal_options,
    raised,
    refused,
    unknown_option,
)

# Their versions are in environment.json, and in no identity.
_COVERED_BY_VERSIONS = ("deltagclip_cli", "torch", "torchvision")

EXTRA = "extra"
"""The options of a part of one's own that its source does not tell."""

AS_WRITTEN = "as written"
"""The context of a validation that looks no names up."""

# Built when first used: help and completion load these classes and use none.
_CONFIG = ConfigDict(
    extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True
)


class Frozen(BaseModel):
    """A model that was checked and does not change any more."""

    model_config = _CONFIG

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, without what was computed from the values that ``update`` replaces."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def plain(self) -> dict[str, Any]:
        """Return what changes the numbers of a trial, as plain data."""
        return self.model_dump(mode="json")

    @cached_property
    def as_canonical_json(self) -> str:
        """:meth:`plain` as JSON that is the same for what is the same."""
        return canonical_json(self.plain())


class SpecSection(Frozen):
    """A group of settings that names the legal ones when it meets another."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain_unknown_options(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            legal = list(cls.model_fields)
            raise naming_legal_options(error, "", legal, cls.elsewhere) from None

    @classmethod
    def elsewhere(cls, option: str) -> str | None:
        """Return where an option stands that is not one of this group, if that is known."""
        return None


class Component(Frozen):
    """A name, its options, and in subclasses settings that every component of the kind has.

    Validated in the context :data:`AS_WRITTEN`, the name may mean nothing here and the options are
    taken as they are: so are trials read that another version of this program has run.
    """

    table_target: ClassVar[str]
    may_be_own: ClassVar[bool] = True  # whether the name may refer to code that no table has

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    _folder: CodeFolder = PrivateAttr(default_factory=CodeFolder)

    @classmethod
    def table(cls) -> Catalogue:
        """Return the table that the name is looked up in."""
        return cast(Catalogue, load_target(cls.table_target))

    @classmethod
    @cache
    def common(cls) -> tuple[str, ...]:
        """Return the settings that every component of the kind has."""
        return tuple(name for name in cls.model_fields if name not in ("name", "options"))

    @property
    def target(self) -> str:
        """The ``"module:attribute"`` or ``"FILE.py:attribute"`` of what the name means."""
        return self.table().find(self.name) or self.name

    @property
    def is_own(self) -> bool:
        """True if the name refers to code that no table has."""
        return self.table().find(self.name) is None

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The names of all whose code the identity of a trial covers."""
        package = self.target.partition(":")[0].partition(".")[0]
        return () if package in _COVERED_BY_VERSIONS else (self.target,)

    def load(self) -> Any:
        """Import what the name means: a class, or a function that makes it."""
        reference = parse_reference(self.name) if self.is_own else None
        if isinstance(reference, FileReference):
            folder = self._folder.of(self.name)
            return load_own(folder, reference.file, reference.attribute)
        return load_target(self.target)

    def legal(self) -> list[str]:
        """Return the options of what the name means, and the common settings."""
        return [*self._checker(self.name, self._folder).legal, *self.common()]

    def refusal(self, option: str, where: Where) -> InitErrorDetails | None:
        """Return why an option, written at ``where``, cannot be varied whatever its values."""
        if option == "name":
            hint = "other options go with another name; give it its own label, or vary the whole"
            return explained("a name cannot be varied without its options.", hint, where)
        legal = self.legal()
        if option in legal or self._checker(self.name, self._folder).takes_any(option):
            return None
        return unknown_option(option, f" for {self.name}", legal, where)

    def varied(self, changes: Mapping[str, Any]) -> Self:
        """Return this component with some options replaced, checked like the spec."""
        return self.model_validate({**self.model_dump(), **changes}, context=self._folder)

    def with_option(self, option: str, value: Any) -> Self:
        """Return :meth:`varied` in one option; the places of faults are below the value."""
        try:
            return self.varied({option: value})
        except ValidationError as error:
            faults = list(faults_of(error))
        for fault in faults:
            fault["loc"] = fault["loc"][1:]
        raise raised(faults)

    def simpler(self) -> Iterator[tuple[str, Self | None]]:
        """Yield what was written, option by option, with this component without it.

        That is None for an option that must be there.
        """
        written = self.model_dump()
        for option in [each for each in written if each != "name"]:
            other = None
            with suppress(ValidationError):
                others = {key: value for key, value in written.items() if key != option}
                other = self.model_validate(others, context=self._folder)
            if other != self:
                yield option, other

    def taking(self, changes: Mapping[str, Self]) -> Self:
        """Return this component with each option as another, already checked component has it.

        What was checked alone needs no check together: no limit of an option depends on another.
        """
        if not changes:
            return self
        options = dict(self.options)
        update: dict[str, Any] = {"options": options}
        for option, other in changes.items():
            if option in self.common():
                update[option] = getattr(other, option)
            elif option in other.options:
                options[option] = other.options[option]
            else:  # a switch that is off by default and off there
                options.pop(option, None)
        return self.model_copy(update=update)

    @model_validator(mode="wrap")
    @classmethod
    def _check_options(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Split ``value`` into name, options and common settings, and report every fault of all."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            return handler(value)  # pydantic has the words for it
        common = {key: item for key, item in value.items() if key in cls.common()}
        if not isinstance(value.get("name"), str):  # nor is it known which options there are
            return handler({**common, **{k: v for k, v in value.items() if k == "name"}})
        name: str = value["name"]
        options = {key: item for key, item in value.items() if key not in (*common, "name")}
        faults: list[InitErrorDetails] = []
        folder = info.context if isinstance(info.context, CodeFolder) else CodeFolder()
        if info.context != AS_WRITTEN:
            try:
                name, options = cls._resolved(name, options, folder)
            except ValidationError as error:
                faults += faults_of(error)
            if not any(fault["loc"] == ("name",) for fault in faults):
                options, common = cls._checked_inside(name, options, common, folder, faults)
        try:
            component = handler({**common, "name": name, "options": options})
            component._folder = folder
        except ValidationError as error:
            faults += faults_of(error)
        if faults:
            raise raised(faults)
        return component

    @classmethod
    def _resolved(
        cls, name: str, options: dict[Any, Any], folder: CodeFolder
    ) -> tuple[str, dict[str, Any]]:
        """Return the name as the table has it, and the options with their defaults."""
        table = cls.table()
        target = table.find(name)
        reference = cls._reference(name) if target is None else None
        if target is None and reference is None:
            names = list(table.all())
            kinds = f"{table.kind}es" if table.kind.endswith("s") else f"{table.kind}s"
            more = len(names) - len(table.entries)
            rest = f", and {more} more: deltagclip list {kinds.replace(' ', '')}" if more else ""
            prefix = name.partition(":")[0]
            if prefix in table.closed:
                names = list(table.unlisted[prefix]())
                rest = "" if names else f"; install {prefix} for others: {table.closed[prefix]}"
            near = nearest(table.spelling(name), names)
            hint = f"{kinds}: {', '.join(table.entries)}{rest}{near}"
            raise refused(f"there is no {table.kind} '{name}'.", hint, ("name",))
        known = name if name in table.entries else table.spelling(name)
        known = known if reference is None else str(reference)
        checker = cls._checker(known, folder)
        try:
            return known, checker.completed(checker.checked(options))
        except ValidationError as error:
            legal = [*checker.legal, *cls.common()]
            raise naming_legal_options(error, f" for {known}", legal) from None

    @classmethod
    def _checked_inside(
        cls,
        name: str,
        options: dict[Any, Any],
        common: dict[Any, Any],
        folder: CodeFolder,
        faults: list[InitErrorDetails],
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Return options and common settings; those that hold parts or options are checked.

        Args:
            options: with their defaults; as they were written if they have faults.
            faults: those of the options; what is found is added to them.
        """
        return options, common

    @classmethod
    def _reference(cls, name: str) -> Reference | None:
        """Return what a name that the table lacks refers to; None if it is a short name."""
        listed = {each.partition(":")[0] for each in cls.table().all() if ":" in each}
        prefixes = listed | cls.table().closed.keys()
        is_short = not cls.may_be_own or name.partition(":")[0] in prefixes
        return None if is_short else parse_reference(name)

    @classmethod
    def _checker(cls, name: str, folder: CodeFolder) -> OptionChecker:
        """Return what checks the options of a part; a file may have changed since the last time."""
        table = cls.table()
        target = table.find(name)
        if target is not None:
            if (cls, target) not in _CHECKERS:
                _CHECKERS[cls, target] = OptionChecker(target, read_signature(target), table)
            return _CHECKERS[cls, target]
        reference = parse_reference(name)
        assert reference is not None, "the name was checked when the component was made"
        try:
            signature = check_reference(reference, folder.path, table.kind)
        except ReferenceRefusedError as error:
            others = table.unlisted.get(name.partition(":")[0], dict)()
            hint = nearest(name, others).removeprefix(" - ") or error.hint
            raise refused(error.message, hint, ("name",)) from None
        return OptionChecker(name, signature, table, own=True)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        common = {name: getattr(self, name) for name in self.common()}
        said = {k: v for k, v in common.items() if v is not None or k in self.model_fields_set}
        return {"name": self.name, **self.options, **said}


def canonical(value: Any) -> Any:
    """Return plain data in which what is the same looks the same.

    1 and 1.0 are the same. An option that is null counts like one that is absent, so that an option
    which a later version adds, off by default, leaves old identities as they were.
    """
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def canonical_json(value: Any) -> str:
    """Return :func:`canonical` data as JSON."""
    return json.dumps(canonical(value), sort_keys=True, allow_nan=False)


class OptionChecker:
    """Checks the options of one target, and knows their defaults.

    A part of one's own may be given what the runner would supply. Of other options than those that
    it is known to take, it gets those below ``extra``; also the rest, unless they look misspelt, if
    nobody can follow its ``**kwargs`` to where they go.
    """

    def __init__(
        self, target: str, signature: Signature, table: Catalogue, *, own: bool = False
    ) -> None:
        self._own, self._offered = own, table.offered
        self.first = next(iter(signature.positional), "")  # of its arguments
        self._supplied = frozenset() if own else table.supplied
        self._open = signature.open
        passed = table.positional + (0 if signature.is_class else table.arguments)
        self.holder = signature.holder if own and table.kind == "optimizer" else None
        given = {*signature.positional[: passed if own else 0]} - {self.holder}
        if own and table.positional and self.first in table.offered:
            given |= table.supplied
        options = {
            name: option
            for name, option in signature.options.items()
            if name not in self._supplied and name not in given
        }
        offered = {
            name
            for name, option in options.items()
            if own
            and name in table.offered
            and (option.default is REQUIRED or name not in table.if_required)
        }
        options |= {name: replace(options[name], default=None) for name in offered}
        if self.holder in options:  # which has its own checks
            options[self.holder] = replace(options[self.holder], written=None)
        # Behind aliases, since an option may have the name of one of BaseModel's own methods.
        fields: dict[str, Any] = {
            f"option_{number}": _field(target, name, option, table)
            for number, (name, option) in enumerate(options.items())
        }
        if own and EXTRA not in options:
            fields["extra"] = (dict[str, Any], Field(None, alias=EXTRA))
        config = ConfigDict(**{**_CONFIG, "extra": "allow" if self._open else "forbid"})
        self._model = create_model("Options", __config__=config, **fields)
        self.legal = [name for name in options if name not in offered]
        self.defaults = {
            name: _as_yaml(option.default)
            for name, option in options.items()
            if option.default is not REQUIRED and option.default is not UNKNOWN
        }

    def takes_any(self, option: str) -> bool:
        """Return whether every keyword is accepted, this one too."""
        return self._open and option not in self._supplied

    def checked(self, options: dict[Any, Any]) -> dict[str, Any]:
        """Check that each option is known, of the right type and within its limits."""
        faults = [
            InitErrorDetails(type="extra_forbidden", loc=(name,), input=options[name])
            for name in options
            if name in self._supplied or self._is_misspelt(name)
        ]
        there = ", ".join(f"${each}" for each in sorted(self._offered)) or "none"
        faults += [
            explained(f"there is no '{word}' here.", f"there are: {there}", (name,))
            for name, word in options.items()
            if isinstance(word, str)
            and word[:1] == "$"
            and word[1:].isidentifier()
            and word[1:] not in self._offered
        ]
        if faults:
            raise raised(faults)
        model: BaseModel = self._model.model_validate(options)
        # Without warnings, for a word may stand where a number does.
        return model.model_dump(by_alias=True, exclude_unset=True, warnings=False)

    def _is_misspelt(self, name: Any) -> bool:
        """Return whether an option that nobody can look up is near one of those that are known."""
        return (
            self._own
            and self._open
            and name != EXTRA
            and name not in self.legal
            and bool(nearest(name, self.legal))
        )

    def completed(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return ``options`` and the defaults of the others, less switches that stay off.

        A switch that a later version adds, off, so leaves the identity of old trials as it was.
        """
        complete = {**self.defaults, **options}
        off = {name for name, value in self.defaults.items() if value is None or value is False}
        return {k: v for k, v in complete.items() if k not in off or v is not self.defaults[k]}


_CHECKERS: dict[tuple[type[Component], str], OptionChecker] = {}  # of what tables name


def _field(target: str, name: str, option: Option, table: Catalogue) -> tuple[Any, Any]:
    default: Any = ... if option.default is REQUIRED else None
    holds_list = _holds_list(option.annotation)
    limits = cast(dict[str, Any], {} if holds_list else table.limits(target, name))
    words = {f"${each}" for each in table.offered}
    words |= {table.words[name]} if name in table.words else set()
    is_untyped = option.annotation is Any
    if not words and not is_untyped:
        return option.annotation, Field(default, alias=name, **limits)
    number: Any = Annotated[
        option.annotation, Field(**limits), WrapValidator(_or(words, is_untyped))
    ]
    return number, Field(default, alias=name)


def _or(words: Set[str], anything: bool) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """Let these words stand for a number, or whatever is no number itself."""

    def checked(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        is_other = anything and not isinstance(value, (int, float))
        return value if is_other or (isinstance(value, str) and value in words) else handler(value)

    return checked


def _holds_list(annotation: Any) -> bool:
    """Return whether a value may be a list, to which the limits of a number do not apply."""
    parts = [annotation]
    for part in parts:  # of which there are more as it goes on
        parts += get_args(part)
    return any(get_origin(part) in (list, tuple) for part in parts)


def _as_yaml(value: Any) -> Any:
    return [_as_yaml(item) for item in value] if isinstance(value, tuple) else value
