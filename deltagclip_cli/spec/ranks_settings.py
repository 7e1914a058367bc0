"""The processes that train one trial together: ``devices``, ``nodes`` and ``parallel``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deltagclip_cli.core import plural
from deltagclip_cli.spec.faults import explained

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails

    from deltagclip_cli.spec.schema import TrialSettings


def ranks_faults(settings: TrialSettings) -> Iterator[InitErrorDetails]:
    """Yield what an experiment has that several processes cannot train together."""
    ranks = settings.ranks
    if not settings.is_shared:
        return
    key = "devices" if settings.devices > 1 else "nodes" if ranks > 1 else "parallel"
    kept = "one device" if ranks > 1 else "parallel: ddp"
    if settings.stack is not None:
        said = f"{key} and stack exclude each other: a stack has one device and whole networks."
        yield explained(said, "keep one of them", (key,))
    if settings.compile == "on":
        said = f"{key} and compile: on exclude each other: steps of DDP and FSDP2 are eager."
        yield explained(said, f"leave compile out, or keep {kept}", (key,))
    size = settings.data.batch_size
    if size != "full" and size < ranks:
        said = f"a batch of {size} samples is smaller than the {ranks} devices that share it."
        yield explained(said, f"write data.batch_size: {ranks} or more, or fewer devices", (key,))


def said_of_ranks(settings: TrialSettings) -> str:
    """Say on what a trial trains, such as ``4 devices`` or ``2 × 4 devices``, of two nodes."""
    if settings.devices == 1:
        return plural(settings.nodes, "node")
    on_each = f"{settings.nodes} × " if settings.nodes > 1 else ""
    return f"{on_each}{settings.devices} devices"
