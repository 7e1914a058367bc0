"""Parts of an experiment that are chosen by name: ``{name: adam, lr: 1e-3}``.

The name is looked up in a :class:`~deltagclip_cli.core.Catalogue`; the other keys are checked
against the real signature of what it names, and filled up with the defaults found there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, ClassVar, Self, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import Catalogue, load_target
from deltagclip_cli.core.catalogue import REQUIRED, UNKNOWN, Option, Signature, read_signature
from deltagclip_cli.spec.document import Where
from deltagclip_cli.spec.faults import (
    explained,
    faults_of,
    naming_legal_options,
    nearest,
    raised,
    refused,
    unknown_option,
)

AS_WRITTEN = "as written"
"""The context of a validation that looks no names up."""

_CONFIG = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SpecSection(BaseModel):
    """A frozen, strict group of settings that names the legal ones when it meets another."""

    model_config = _CONFIG

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
        """Where an option stands that is not one of this group, if that is known."""
        return None


class Component(BaseModel):
    """A name, its options, and in subclasses settings that every component of the kind has.

    Validated in the context :data:`AS_WRITTEN`, the name may mean nothing here and the options are
    taken as they are: so are trials read that another version of this program has run.
    """

    model_config = _CONFIG
    table_target: ClassVar[str]

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def table(cls) -> Catalogue:
        """The table that the name is looked up in."""
        return cast(Catalogue, load_target(cls.table_target))

    @property
    def target(self) -> str:
        """``"module:attribute"`` of what the name means."""
        target = self.table().find(self.name)
        assert target is not None, "the name was checked when the component was made"
        return target

    @classmethod
    @cache
    def common(cls) -> tuple[str, ...]:
        """The settings that every component of the kind has."""
        return tuple(name for name in cls.model_fields if name not in ("name", "options"))

    def legal(self) -> list[str]:
        """The names of all options of what the name means, and of the common settings."""
        return [*_checker(self.table_target, self.target).legal, *self.common()]

    def refusal(self, option: str, where: Where) -> InitErrorDetails | None:
        """Why ``option``, written at ``where``, cannot be varied whatever its values; or None."""
        if option == "name":
            hint = "other options go with another name; give it its own label, or vary the whole"
            return explained("a name cannot be varied without its options.", hint, where)
        legal = self.legal()
        if option in legal or _checker(self.table_target, self.target).takes_any(option):
            return None
        return unknown_option(option, f" for {self.name}", legal, where)

    def with_option(self, option: str, value: Any) -> Self:
        """:meth:`varied` in one option; the places of faults are below the value.

        Raises:
            ValidationError: the value is wrong.
        """
        try:
            return self.varied({option: value})
        except ValidationError as error:
            faults = list(faults_of(error))
        for fault in faults:
            fault["loc"] = fault["loc"][1:]
        raise raised(faults)

    def varied(self, changes: Mapping[str, Any]) -> Self:
        """This component with some options or common settings replaced, checked like the spec.

        Raises:
            ValidationError: an option is unknown or a value is wrong.
        """
        return self.model_validate({**self.model_dump(), **changes})

    def simpler(self) -> Iterator[tuple[str, Self | None]]:
        """What was written, option by option, and this component without it.

        That is None for an option that must be there.
        """
        written = self.model_dump()
        for option in [each for each in written if each != "name"]:
            other = None
            with suppress(ValidationError):
                other = self.model_validate({k: v for k, v in written.items() if k != option})
            if other != self:
                yield option, other

    def taking(self, changes: Mapping[str, Self]) -> Self:
        """This component with each option as another, already checked component has it.

        What was checked alone needs no check together: no limit of an option depends on another.
        """
        if not changes:
            return self
        update: dict[str, Any] = {"options": dict(self.options)}
        for option, other in changes.items():
            if option in self.common():
                update[option] = getattr(other, option)
            else:
                _carry_over(option, other.options, update["options"])
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
        options = {key: item for key, item in value.items() if key not in (*common, "name")}
        if info.context == AS_WRITTEN:
            return handler({**common, "name": value["name"], "options": options})
        faults: list[InitErrorDetails] = []
        name, complete = value["name"], options
        try:
            name, complete = cls._resolved(name, options)
        except ValidationError as error:
            faults += faults_of(error)
        try:
            component = handler({**common, "name": name, "options": complete})
        except ValidationError as error:
            faults += faults_of(error)
        if faults:
            raise raised(faults)
        return component

    @classmethod
    def _resolved(cls, name: str, options: dict[Any, Any]) -> tuple[str, dict[str, Any]]:
        table = cls.table()
        target = table.find(name)
        if target is None:
            raise _unknown_name(table, name)
        known = name if name in table.entries else table.spelling(name)
        checker = _checker(cls.table_target, target)
        try:
            checked = checker.checked(options)
        except ValidationError as error:
            legal = [*checker.legal, *cls.common()]
            raise naming_legal_options(error, f" for {known}", legal) from None
        return known, checker.completed(checked)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        common = {name: getattr(self, name) for name in self.common()}
        said = {k: v for k, v in common.items() if v is not None or k in self.model_fields_set}
        return {"name": self.name, **self.options, **said}


def _carry_over(option: str, source: dict[str, Any], target: dict[str, Any]) -> None:
    """A switch that is off by default and off in ``source`` is absent there, and so afterwards."""
    if option in source:
        target[option] = source[option]
    else:
        target.pop(option, None)


class _Checker:
    """Checks the options of one target, and knows their defaults."""

    def __init__(self, signature: Signature, table: Catalogue) -> None:
        options = {k: o for k, o in signature.options.items() if k not in table.supplied}
        self._supplied = table.supplied
        self._open = signature.open
        # Behind aliases, since an option may have the name of one of BaseModel's own methods.
        fields: dict[str, Any] = {
            f"option_{number}": _field(name, option, table)
            for number, (name, option) in enumerate(options.items())
        }
        config = ConfigDict(**{**_CONFIG, "extra": "allow" if signature.open else "forbid"})
        self._model = create_model("Options", __config__=config, **fields)
        self.legal = list(options)
        self.defaults = {
            name: _as_yaml(option.default)
            for name, option in options.items()
            if option.default is not REQUIRED and option.default is not UNKNOWN
        }

    def takes_any(self, option: str) -> bool:
        """Whether every keyword is accepted, this one too."""
        return self._open and option not in self._supplied

    def checked(self, options: dict[Any, Any]) -> dict[str, Any]:
        """``options``, each of the right type and within its limits.

        Raises:
            ValidationError: one is not, is missing or is unknown.
        """
        supplied = [name for name in options if name in self._supplied]
        if supplied:
            raise raised([_extra(name, options[name]) for name in supplied])
        model: BaseModel = self._model.model_validate(options)
        # Without warnings, for a word may stand where a number does.
        return model.model_dump(by_alias=True, exclude_unset=True, warnings=False)

    def completed(self, options: dict[str, Any]) -> dict[str, Any]:
        """``options`` and the defaults of the others, less what is off by default and stays off.

        A switch that a later version adds, off, so leaves the identity of old trials as it was.
        """
        complete = {**self.defaults, **options}
        off = {name for name, value in self.defaults.items() if value is None or value is False}
        return {k: v for k, v in complete.items() if k not in off or v is not self.defaults[k]}


def _extra(name: str, value: object) -> InitErrorDetails:
    return InitErrorDetails(type="extra_forbidden", loc=(name,), input=value)


def _field(name: str, option: Option, table: Catalogue) -> tuple[Any, Any]:
    default: Any = ... if option.default is REQUIRED else None
    has_limits = name in table.bounds and not _holds_list(option.annotation)
    limits = cast(dict[str, Any], table.bounds[name]) if has_limits else {}
    if name not in table.words:
        return option.annotation, Field(default, alias=name, **limits)
    number: Any = Annotated[
        option.annotation, Field(**limits), WrapValidator(_or(table.words[name]))
    ]
    return number, Field(default, alias=name)


def _or(word: str) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        return value if value == word else handler(value)

    return check


def _holds_list(annotation: Any) -> bool:
    """Whether a value may be a list, to which the limits of a number do not apply."""
    if get_origin(annotation) in (list, tuple):
        return True
    return any(_holds_list(part) for part in get_args(annotation))


@cache
def _checker(table_target: str, target: str) -> _Checker:
    return _Checker(read_signature(target), load_target(table_target))


def _as_yaml(value: Any) -> Any:
    return [_as_yaml(item) for item in value] if isinstance(value, tuple) else value


def _unknown_name(table: Catalogue, name: str) -> ValidationError:
    names = list(table.all())
    kinds = f"{table.kind}s"
    more = len(names) - len(table.entries)
    rest = f", and {more} more: deltagclip list {kinds.replace(' ', '')}" if more else ""
    hint = f"{kinds}: {', '.join(table.entries)}{rest}{nearest(table.spelling(name), names)}"
    return refused(f"there is no {table.kind} '{name}'.", hint, ("name",))
