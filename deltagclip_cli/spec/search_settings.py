"""What a search tries: the options it may choose, and the number it judges them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from deltagclip_cli.spec.component import Component, Settings
from deltagclip_cli.spec.distributions import AnyDistribution, extremes, read_distribution
from deltagclip_cli.spec.faults import collected, raised, unknown_label

Metric = Literal["train/loss", "train/accuracy", "test/loss", "test/accuracy"]
Space = Annotated[dict[str, AnyDistribution], Field(min_length=1)]


class Search(Settings):
    """The best ``metric`` is looked for among the options in ``space``, for each label alone.

    ``seed`` is that of the sampler; the trials have the seeds of the experiment.
    """

    metric: Metric
    direction: Literal["minimize", "maximize"]
    pruner: Literal["median", "halving", "none"] = "median"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    space: Annotated[dict[str, Space], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _follow_the_metric(cls, value: Any) -> Any:
        """More accuracy is better and less loss, unless the direction is written."""
        if not isinstance(value, dict):
            return value
        accuracy = str(value.get("metric")).endswith("accuracy")
        return {"direction": "maximize" if accuracy else "minimize", **value}


def read_search(written: Any, optimizers: Mapping[str, Component] | None) -> Search:
    """The search of an experiment; ``optimizers`` are None if they have faults of their own.

    Raises:
        ValidationError: it has faults; all of them.
    """
    faults: list[InitErrorDetails] = []
    with collected(faults, ()):
        search = Search.model_validate(written)
    if optimizers is not None and isinstance(written, dict):
        for label, options in _entries(written.get("space")):
            if label in optimizers:
                faults += _faults_of_options(optimizers[label], label, options)
            else:
                faults.append(unknown_label(label, list(optimizers), ("space", label)))
    if faults:
        raise raised(faults)
    return search


def _entries(written: Any) -> list[tuple[Any, Any]]:
    return list(written.items()) if isinstance(written, dict) else []


def _faults_of_options(
    optimizer: Component, label: str, options: Any
) -> Iterator[InitErrorDetails]:
    """What the optimizer has against the options; the form of their values is known already."""
    for option, distribution in _entries(options):
        where = ("space", label, option)
        refusal = optimizer.refusal(option, where)
        if refusal is not None:
            yield refusal
            continue
        faults: list[InitErrorDetails] = []
        for place, value in _extremes(distribution):
            with collected(faults, (*where, *place)):
                optimizer.with_option(option, value)
        yield from faults


def _extremes(written: Any) -> Iterator[tuple[Any, Any]]:
    try:
        distribution = read_distribution(written)
    except ValidationError:
        return
    yield from extremes(distribution)
