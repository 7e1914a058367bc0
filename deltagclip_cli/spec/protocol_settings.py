"""The rules by which the optimizers of an experiment are tuned and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import listed, plural
from deltagclip_cli.spec.faults import collected, explained, raised, unknown_label
from deltagclip_cli.spec.search_settings import Judged

if TYPE_CHECKING:
    from collections.abc import Collection

    from deltagclip_cli.spec.search_settings import Measured, Search

_SEEDS_END = 2**31
_SPACES = "write search: {space: {LABEL: {lr: {log_uniform: [1e-4, 1]}}}}, or {fixed: true} there"

Draws = Annotated[int, Field(ge=1, le=100_000)]


class Protocol(Judged):
    """Settings that are drawn of every optimizer, a choice, and fresh seeds for what was chosen.

    Args:
        metric: by which settings are chosen, as a mean over ``seeds`` at the end of the training.
        draws: settings of each optimizer, or by label. Those that are ``fixed`` have one.
        sampler: how settings are drawn: spread evenly, or independently. Both are functions of the
            spec and the number of a draw alone, so that all can be run at once.
        seeds: that each setting is run with; those of the experiment without any.
        fresh_seeds: how many seeds, on which nothing was chosen, a chosen setting is run with.
        studies: how often all of this is done, with other draws and other seeds.
        baseline: the label that the others are compared with; without one, each with each.
        unequal: why some have fewer draws than others; every table shows it.
    """

    draws: Draws | Annotated[dict[str, Draws], Field(min_length=1)]
    sampler: Literal["sobol", "random"] = "sobol"
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=_SEEDS_END)]], Field(min_length=1)] = Field(
        default_factory=list
    )
    fresh_seeds: Annotated[int, Field(ge=2, le=10_000)] = 10
    studies: Annotated[int, Field(ge=1, le=1_000)] = 1
    baseline: str | None = None
    unequal: Annotated[str, Field(min_length=1)] | None = None

    @property
    def search(self) -> dict[str, Any]:
        """The settings of the experiment's search that it does not write itself."""
        own = {key: getattr(self, key) for key in ("metric", "direction", "sampler")}
        return {**own, "pruner": "none"}

    def draws_of(self, label: str, fixed: Collection[str]) -> int:
        """Return how many settings of an optimizer a study has."""
        if label in fixed:
            return 1
        return self.draws if isinstance(self.draws, int) else self.draws[label]


def read_protocol(written: Any, measured: Measured) -> Protocol | None:
    """Read the protocol of an experiment."""
    if written is None:
        return None
    faults: list[InitErrorDetails] = []
    with collected(faults, ()):
        protocol = Protocol.model_validate(written, context=measured)
    if isinstance(written, dict) and written.get("sampler") == "tpe":
        message = "each draw of sampler: tpe hangs on those before, so nothing follows for others."
        hint = "write sampler: sobol or random; a search may have tpe: sweep --search"
        faults = [each for each in faults if each["loc"] != ("sampler",)]
        faults.append(explained(message, hint, ("sampler",)))
    if faults:
        raise raised(faults)
    return protocol


def protocol_faults(
    protocol: Protocol, search: Search | None, labels: Collection[str], seeds: list[int]
) -> list[InitErrorDetails]:
    """Return what a protocol lacks, or has too much, for the optimizers of its experiment."""
    faults: list[InitErrorDetails] = []
    fixed = search.fixed if search else frozenset()
    lacking = [e for e in labels if e not in fixed and (search is None or e not in search.space)]
    if lacking:
        message = f"{listed(lacking)} {'has' if len(lacking) == 1 else 'have'} no search space."
        faults.append(explained(message, _SPACES, ("protocol",)))
    if search is not None and (search.sampler == "tpe" or search.pruner != "none"):
        key = "sampler" if search.sampler == "tpe" else "pruner"
        message = f"a protocol runs every draw to its end, without {key}: {getattr(search, key)}."
        faults.append(
            explained(message, "leave it out, or leave out the protocol", ("search", key))
        )
    if search is not None and search.metric != protocol.metric:
        message = f"the search judges by {search.metric}, the protocol by {protocol.metric}."
        hint = "write the metric in the protocol alone"
        faults.append(explained(message, hint, ("search", "metric")))
    faults += [
        unknown_label(label, labels, ("protocol", key))
        for key, named in (("baseline", [protocol.baseline]), ("draws", _labels(protocol)))
        for label in named
        if label is not None and label not in labels
    ]
    if faults:
        return faults
    if isinstance(protocol.draws, dict):
        left_out = [each for each in labels if each not in fixed and each not in protocol.draws]
        if left_out:
            hint = "one number is for all: draws: 20"
            message = f"draws has no number for {listed(left_out)}."
            return [explained(message, hint, ("protocol", "draws"))]
    budgets = {label: protocol.draws_of(label, fixed) for label in labels}
    if len(set(budgets.values())) > 1 and protocol.unequal is None:
        most, least = max(budgets.values()), min(budgets, key=budgets.__getitem__)
        message = f"{least} has {plural(budgets[least], 'draw')}, another one {most}."
        hint = "who draws more finds more: give all the same, or say unequal: 'the reason'"
        faults.append(explained(message, hint, ("protocol", "draws")))
    studies = protocol.studies * (max(protocol.seeds or seeds) + 1 + protocol.fresh_seeds)
    if studies > _SEEDS_END:
        message = "so many studies have no room for seeds of their own."
        hint = f"seeds end at {_SEEDS_END - 1:,}: write smaller ones in protocol.seeds"
        faults.append(explained(message, hint, ("protocol", "studies")))
    return faults


def _labels(protocol: Protocol) -> list[str]:
    return list(protocol.draws) if isinstance(protocol.draws, dict) else []
