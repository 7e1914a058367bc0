"""The settings of an experiment: their names, types, limits and defaults."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.spec.component import Component, Settings
from deltagclip_cli.spec.faults import explained, faults_of, nearest, raised

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _check_name(value: object) -> object:
    if isinstance(value, str) and not NAME.fullmatch(value):
        # Names become folders, so nothing in them may lead out of the runs folder.
        hint = "names begin with a letter or digit and hold letters, digits, '-' and '_'"
        raise raised([explained(f"'{value}' cannot be a name.", hint, ())])
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, dict)) else value


Name = Annotated[str, BeforeValidator(_check_name)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Model(Component):
    """A network, built for the shape of the data and the number of classes."""

    table_target: ClassVar[str] = "deltagclip_cli.models:TABLE"


class Augmentation(Component):
    """A random change of training images, a batch at a time."""

    table_target: ClassVar[str] = "deltagclip_cli.datasets:AUGMENTATIONS"


class Normalization(Settings):
    """Mean and standard deviation per channel, for values in [0, 1]."""

    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[PositiveFloat], Field(min_length=1)]


class Data(Component):
    """A data set and how it is cut into batches."""

    table_target: ClassVar[str] = "deltagclip_cli.datasets:TABLE"

    batch_size: PositiveInt | Literal["full"]
    evaluation_batch_size: PositiveInt = 1000
    image_size: PositiveInt | None = None
    augment: Annotated[list[Augmentation], BeforeValidator(_as_list)] = Field(default_factory=list)
    normalize: Annotated[
        Annotated[Literal["dataset", "none"], Tag("word")]
        | Annotated[Normalization, Tag("mapping")],
        Discriminator(lambda value: "word" if isinstance(value, str) else "mapping"),
    ] = "dataset"
    train_samples: PositiveInt | None = None
    test_samples: PositiveInt | None = None


class Task(Component):
    """What is minimised, and what is measured."""

    table_target: ClassVar[str] = "deltagclip_cli.tasks:TABLE"


class Schedule(Component):
    """How the learning rate η changes, with times counted in ``unit``.

    A warm-up rises linearly from η/(warmup + 1) to η.
    """

    table_target: ClassVar[str] = "deltagclip_cli.schedules:TABLE"

    warmup: Annotated[int, Field(ge=0)] = 0
    unit: Literal["epoch", "step"] = "epoch"


class Optimizer(Component):
    """An optimizer with its hyper-parameters, and a schedule that replaces the experiment's."""

    table_target: ClassVar[str] = "deltagclip_cli.optim:TABLE"

    schedule: Schedule | None = None


class Checkpointing(Settings):
    """How often a trial writes a checkpoint: every so many epochs, and every so many minutes."""

    epochs: PositiveInt = 1
    minutes: PositiveFloat = 10.0


Values = Annotated[list[Any], Field(min_length=1)]
Grid = dict[str, Values | Annotated[dict[str, Values], Field(min_length=1)]]


class Experiment(Settings):
    """One comparison: a model, data, and the optimizers that are to be compared on them."""

    title: str = ""
    model: Model
    data: Data
    task: Task = Field(default_factory=lambda: Task.model_validate("classify"))
    epochs: PositiveInt
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default_factory=lambda: [0])
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    optimizers: Annotated[dict[Name, Optimizer], Field(min_length=1)]
    schedule: Schedule | None = None
    grid: dict[str, Grid] = Field(default_factory=dict)
    log_every: PositiveInt | None = None
    checkpoint: Checkpointing = Checkpointing()
    slurm: dict[str, Any] = Field(default_factory=dict)

    @field_validator("grid")
    @classmethod
    def _check_grid(cls, grid: dict[str, Grid], info: ValidationInfo) -> dict[str, Grid]:
        optimizers = info.data.get("optimizers")
        if optimizers is not None:  # else they have faults of their own
            faults = [fault for label in grid for fault in _grid_faults(label, grid, optimizers)]
            if faults:
                raise raised(faults)
        return grid

    def settings(self, label: str) -> list[Optimizer]:
        """The optimizer called ``label`` at every point of its grid; without a grid, as it is."""
        axes: list[list[dict[str, Any]]] = []
        for name, values in self.grid.get(label, {}).items():
            if isinstance(values, dict):
                rows = zip(*values.values(), strict=True)
                axes.append([dict(zip(values, row, strict=True)) for row in rows])
            else:
                axes.append([{name: value} for value in values])
        points = (
            {name: value for part in parts for name, value in part.items()}
            for parts in itertools.product(*axes)
        )
        return [varied(self.optimizers[label], point) for point in points]


def varied(optimizer: Optimizer, options: dict[str, Any]) -> Optimizer:
    """``optimizer`` with some options replaced, checked like the spec.

    Raises:
        ValidationError: an option is unknown or a value is wrong.
    """
    return Optimizer.model_validate({**optimizer.model_dump(), **options})


def _grid_faults(
    label: str, grid: dict[str, Grid], optimizers: dict[str, Optimizer]
) -> Iterator[InitErrorDetails]:
    if label not in optimizers:
        hint = f"optimizers: {', '.join(optimizers)}{nearest(label, list(optimizers))}"
        yield explained(f"there is no optimizer '{label}' in this experiment.", hint, (label,))
        return
    for name, values in grid[label].items():
        if isinstance(values, dict) and name != "zip":
            hint = "a mapping is for 'zip', which pairs the lists of several options up"
            yield explained(f"'{name}' must be a list of values.", hint, (label, name))
            return
    zipped = grid[label].get("zip", {})
    if isinstance(zipped, dict) and len({len(values) for values in zipped.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in zipped.items())
        yield explained("its lists must be of one length.", lengths, (label, "zip"))
    for where, name, value in _grid_values(grid[label]):
        if name == "name":
            hint = "a grid is over the options of one optimizer; give another one its own label"
            yield explained("a grid cannot change the optimizer.", hint, (label, *where))
            continue
        try:
            varied(optimizers[label], {name: value})
        except ValidationError as error:
            for fault in faults_of(error):
                fault["loc"] = (label, *where)
                yield fault


def _grid_values(grid: Grid) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    for name, values in grid.items():
        lists = values.items() if isinstance(values, dict) else [(name, values)]
        prefix = (name,) if isinstance(values, dict) else ()
        for option, items in lists:
            for index, item in enumerate(items):
                yield (*prefix, option, index), option, item
