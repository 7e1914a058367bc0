"""Groups of parameters, by patterns of names, that have options of their own."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from deltagclip_cli.spec.faults import (
    collected,
    explained,
    faults_of,
    naming_legal_options,
    raised,
    refused,
)

if TYPE_CHECKING:
    from deltagclip_cli.spec.component import OptionChecker

_PATTERNS: TypeAdapter[list[str]] = TypeAdapter(
    Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        Field(min_length=1),
    ]
)


def checked_groups(
    name: str,
    written: dict[Any, Any],
    checker: OptionChecker,
    offered: Collection[str],
    options: dict[str, Any],
) -> dict[Any, Any]:
    """Check all groups of an optimizer, as :func:`checked_group` does; others stay as they are.

    Args:
        offered: the names of arguments by which one is given more than its parameters.

    Raises:
        ValidationError: with all faults; one that makes its own groups has none.
    """
    if checker.first in offered:
        reason = f"{name} is given the {checker.first} itself, and makes its groups on its own."
        raise refused(f"no groups: {reason}", "leave them out")
    faults: list[InitErrorDetails] = []
    groups = dict(written)
    for label, each in written.items():
        with collected(faults, (label,)):
            if isinstance(each, dict):  # for all else pydantic has the words
                groups[label] = checked_group(name, label, each, checker, options)
    if faults:
        raise raised(faults)
    return groups


def checked_group(
    name: str, label: str, written: dict[Any, Any], checker: OptionChecker, options: dict[str, Any]
) -> dict[str, Any]:
    """Check a group: its patterns, and its options beside those that all parameters have.

    Args:
        name: of the optimizer.
        label: of the group.
        written: ``{match: [patterns], OPTION: value, …}``.
        options: of the optimizer; their faults are told elsewhere.

    Raises:
        ValidationError: with all faults, at their places below the group.
    """
    faults: list[InitErrorDetails] = []
    own = {key: value for key, value in written.items() if key != "match"}
    match: list[str] = []
    if "match" not in written:
        hint = 'write which parameters they are by their names: match: ["*.bias", "*norm*"]'
        faults.append(explained(f"group '{label}' has no match.", hint))
    else:
        with collected(faults, ("match",)):
            match = _PATTERNS.validate_python(written["match"], strict=True)
    if not own and match:
        hint = "give it an option of its own, such as weight_decay: 0, or leave it out"
        faults.append(explained(f"group '{label}' differs in no option.", hint))
    if own.get("lr") == "auto":
        hint = "write a number, or lr: auto for the whole optimizer"
        faults.append(explained("a group has no lr: auto of its own.", hint, ("lr",)))
    checked: dict[str, Any] = {}
    try:
        checked = checker.checked({**options, **own})
    except ValidationError as error:
        said = naming_legal_options(error, f" for {name}", checker.legal)
        faults += [each for each in faults_of(said) if each["loc"][0] in own]
    if faults:
        raise raised(faults)
    return {"match": match, **{key: checked[key] for key in own if key in checked}}
