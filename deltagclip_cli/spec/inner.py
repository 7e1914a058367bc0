"""Optimizers that step with another one, as SAM and Lookahead do: ``optimizer: {name: sgd, …}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deltagclip_cli.source.signatures import HOLDERS
from deltagclip_cli.spec.component import AS_WRITTEN
from deltagclip_cli.spec.faults import collected, explained, raised

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails

    from deltagclip_cli.spec.code import CodeFolder
    from deltagclip_cli.spec.schema import Optimizer


def checked_inner(
    kind: type[Optimizer], name: str, options: dict[Any, Any], folder: CodeFolder
) -> dict[Any, Any]:
    """Return options in which an optimizer, if one is taken, has its name and all of its own.

    Args:
        name: of the optimizer around it.
        options: of that one; the inner one is a name, or a mapping, as of any optimizer.

    Raises:
        ValidationError: with all faults, at their places below the option.
    """
    holder = kind._checker(name, folder).holder
    if holder is None or holder not in options:
        return options
    faults: list[InitErrorDetails] = []
    plain: dict[str, Any] = {}
    with collected(faults, (holder,)):
        inner = kind.model_validate(options[holder], context=folder)
        plain = inner.plain()
        common = [each for each in kind.common() if getattr(inner, each) is not None]
        if common:
            hint = "write it for the optimizer around it"
            reason = f"an optimizer inside of another has no {common[0]} of its own."
            raise raised([explained(reason, hint, (common[0],))])
    if faults:
        raise raised(faults)
    return {**options, holder: plain}


def inner_of(part: Optimizer) -> tuple[str, Optimizer] | None:
    """Return the option that has another optimizer, and that; None if there is none.

    It was checked with the spec, and is taken as it is written.
    """
    for holder in HOLDERS:
        written = part.options.get(holder)
        if isinstance(written, dict) and "name" in written:
            inner = type(part).model_validate(written, context=AS_WRITTEN)
            inner._folder = part._folder
            return holder, inner
    return None
