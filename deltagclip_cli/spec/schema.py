"""The settings of an experiment: their names, types, limits and defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from deltagclip_cli.core import shortened
from deltagclip_cli.spec.component import Component, SpecSection
from deltagclip_cli.spec.faults import Where, explained, raised, refused, synonym
from deltagclip_cli.spec.grid import (
    Grid,
    Point,
    Search,
    read_grid,
    read_search,
)
from deltagclip_cli.spec.slurm_settings import Slurm, read_slurm

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

# Names become folders: nothing may lead out of the runs folder, or be longer than 255 bytes.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
NAMES = "names begin with a letter or digit and hold up to 200 letters, digits, '-' and '_'"


def _check_name(value: object) -> object:
    if isinstance(value, str) and not NAME.fullmatch(value):
        raise refused(f"'{shortened(value)}' cannot be a name.", NAMES)
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, dict)) else value


def _classifying(value: object) -> object:
    """Options of a task that is not named are those of the task that is the default."""
    return {"name": "classify", **value} if isinstance(value, dict) else value


Name = Annotated[str, BeforeValidator(_check_name)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Model(Component):
    """A network, built for the shape of the data and the number of classes."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.models:TABLE"


class Augmentation(Component):
    """A random change of training images, a batch at a time."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.datasets:AUGMENTATIONS"


class Normalization(SpecSection):
    """Mean and standard deviation per channel, for values in [0, 1]."""

    mean: Annotated[list[float], Field(min_length=1)]
    std: Annotated[list[PositiveFloat], Field(min_length=1)]


class Data(Component):
    """A data set and how it is cut into batches."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.datasets:TABLE"

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

    table_target: ClassVar[str] = "deltagclip_cli.parts.tasks:TABLE"


class Schedule(Component):
    """How the learning rate η changes, with times counted in ``unit``.

    A warm-up rises linearly from η/(warmup + 1) to η.
    """

    table_target: ClassVar[str] = "deltagclip_cli.parts.schedules:TABLE"

    warmup: Annotated[int, Field(ge=0)] = 0
    unit: Literal["epoch", "step"] = "epoch"


class Optimizer(Component):
    """An optimizer with its hyper-parameters, and a schedule that replaces the experiment's."""

    table_target: ClassVar[str] = "deltagclip_cli.optim:TABLE"

    schedule: Schedule | None = None

    def plain(self) -> dict[str, Any]:
        """Return what changes the numbers but the schedule, since a trial has the one in force."""
        return {key: value for key, value in super().plain().items() if key != "schedule"}


class CertificateSettings(SpecSection):
    """The numbers of the convergence theorem, of which the costly ones every so many epochs."""

    every: PositiveInt = 10


class Checkpointing(SpecSection):
    """How often a trial writes a checkpoint: every so many epochs, and every so many minutes.

    ``keep`` is what is left of them when it has ended; it needs none then.
    """

    epochs: PositiveInt = 1
    minutes: PositiveFloat = 10.0
    keep: Literal["last", "none"] = "last"


@dataclass(frozen=True)
class Variant:
    """One point of a grid: the experiment with its settings there, and one optimizer."""

    experiment: Experiment
    optimizer: Optimizer


@dataclass(frozen=True)
class Role:
    """What a setting is to a trial; a part of the annotation of its field.

    Args:
        identity: whether trials that differ in it are different trials, of settings that they have.
            A value of None counts like none, so that a setting which is new leaves the identities
            of trials as they were where it is None.
        fixed: why a grid cannot vary it; empty if it can.
    """

    identity: bool = True
    fixed: str = ""


NUMBERS_STAY = Role(identity=False, fixed="it does not change the numbers")
_EACH_SEED = Role(fixed="every point of a grid is run with every seed")
_BY_LABEL = Role(fixed="what is varied of one stands below its label: {LABEL: {lr: [0.1, 1]}}")
_VARIES_ITSELF = Role(fixed="it says itself what is varied")


class TrialSettings(SpecSection):
    """The settings that an experiment hands on to each of its trials.

    Each says on its own field, by a :class:`Role`, what it is to the trial; without one it is part
    of the identity and a grid may vary it.
    """

    model: Model
    data: Data
    task: Annotated[Task, BeforeValidator(_classifying)] = Field(
        default_factory=dict, validate_default=True
    )
    epochs: PositiveInt
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    schedule: Schedule | None = None
    log_every: Annotated[PositiveInt | None, NUMBERS_STAY] = None
    certificate: Annotated[CertificateSettings | None, NUMBERS_STAY] = None
    checkpoint: Annotated[Checkpointing, NUMBERS_STAY] = Checkpointing()


class Experiment(TrialSettings):
    """One comparison: a model, data, and the optimizers that are to be compared on them.

    ``figure`` says which published table or figure it repeats, ``tags`` are words to choose by.
    """

    title: Annotated[str, NUMBERS_STAY] = ""
    figure: Annotated[str, NUMBERS_STAY] = ""
    tags: Annotated[list[Name], NUMBERS_STAY] = Field(default_factory=list)
    seeds: Annotated[list[Seed], _EACH_SEED] = Field(default_factory=lambda: [0], min_length=1)
    optimizers: Annotated[dict[Name, Optimizer], Field(min_length=1), _BY_LABEL]
    grid: Annotated[Grid, _VARIES_ITSELF] = Grid()
    search: Annotated[Search | None, _VARIES_ITSELF] = None
    slurm: Annotated[Slurm, NUMBERS_STAY] = Slurm()

    @classmethod
    def elsewhere(cls, option: str) -> str | None:
        """The key with dots of an option that people write beside the sections."""
        key = setting_named(option)
        return key if key is not None and "." in key else None

    @field_validator("grid", mode="plain")
    @classmethod
    def _read_grid(cls, written: Any, info: ValidationInfo) -> Grid:
        checked = info.data
        return read_grid(written, checked.get("optimizers"), checked, FIXED, _check_setting)

    @field_validator("search", mode="plain")
    @classmethod
    def _read_search(cls, written: Any, info: ValidationInfo) -> Search | None:
        return None if written is None else read_search(written, info.data.get("optimizers"))

    @field_validator("slurm", mode="plain")
    @classmethod
    def _read_slurm(cls, written: Any, info: ValidationInfo) -> Slurm:
        return read_slurm(written, info.data.get("optimizers"))

    @model_validator(mode="after")
    def _check_theorem(self) -> Self:
        """Refuse a certificate, or a rate of 1/β, of what the theorem says nothing about.

        Each value of a grid is looked at alone, as no condition hangs on two of them.
        """
        rates = list(self._rates())
        faults = [
            explained(f"no lr: auto: {obstacle.reason}", obstacle.remedy, (*where, "lr"))
            for where, obstacle in ((where, obstacle_to_auto(each)) for where, each in rates)
            if obstacle is not None
        ]
        if self.certificate is not None or rates:
            asked = "no certificate" if self.certificate is not None else "no lr: auto"
            faults += [
                explained(f"{asked}: {each.reason}", each.remedy, where)
                for where, each in self._obstacles()
            ]
        if faults:
            raise raised(faults)
        return self

    def _obstacles(self) -> Iterator[tuple[Where, Obstacle]]:
        """What stands between any of the trials and a certificate, and where it was written."""
        for each in obstacles(self):
            yield tuple(each.key.split(".")), each
        for key, value in self.grid.values():
            for each in obstacles_of(key, value):
                yield ("grid", key), each

    def _rates(self) -> Iterator[tuple[Where, Optimizer]]:
        """Every optimizer whose learning rate is to be found out, and where it was written."""
        for label, each in self.optimizers.items():
            if wants_auto(each):
                yield ("optimizers", label), each
        for key, value in self.grid.values():
            if key == "lr" and wants_auto(value):
                yield ("grid",), value

    def variants(self, label: str) -> Iterator[Variant]:
        """The optimizer called ``label`` at every point of the grid; without a grid, as it is."""
        optimizer = self.optimizers[label]
        for shared in self.grid.shared_points(label):
            settings = {key: value for key, value in shared.items() if is_variable(key)}
            options = {key: value for key, value in shared.items() if key not in settings}
            experiment = self._with(settings)
            for point in self.grid.own_points(label):
                yield Variant(experiment, optimizer.taking(options | point))

    def _with(self, settings: Point) -> Experiment:
        """The experiment with settings as a grid has checked them."""
        if not settings:
            return self
        changes: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            section, _, option = key.partition(".")
            changes.setdefault(section, {})[option] = value
        update = {
            section: options[""] if "" in options else getattr(self, section).taking(options)
            for section, options in changes.items()
        }
        return self.model_copy(update=update)


def role(field: FieldInfo) -> Role:
    """The role of a setting, as its annotation says it."""
    return next((each for each in field.metadata if isinstance(each, Role)), Role())


FIXED = {
    **{name: role(field).fixed for name, field in Experiment.model_fields.items()},
    "name": "other optimizers have other options; give another one its own label",
}
"""Why each setting of an experiment, and a name, cannot be varied; empty if it can."""


def is_variable(key: str) -> bool:
    """Whether this is varied in the experiment itself, not in an optimizer."""
    return FIXED.get(key.partition(".")[0]) == ""


def _check_setting(name: str, value: Any) -> Any:
    return _adapter(name).validate_python(value)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    setting = Experiment.model_fields[name]
    if isinstance(setting.annotation, type) and issubclass(setting.annotation, Component):
        return TypeAdapter(setting.annotation)  # which has a configuration of its own
    kind: Any = Annotated[setting.annotation, setting]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def setting_named(word: str) -> str | None:
    """The key, with dots, of the setting that somebody means by a word; None if it is none.

    Such as ``optimizers.LABEL.lr`` by ``learning_rate``.
    """
    for section, options in _sections().items():
        option = synonym(word, options)
        if option is not None:
            return f"{section}.{option}" if section else option
    return None


@cache
def _sections() -> dict[str, list[str]]:
    """For each section of an experiment, and for the experiment itself, what there is to set."""
    optimizers = [*Optimizer.table().limited(), "betas"]
    return {
        "": list(Experiment.model_fields),
        "data": [*Data.common(), *Data.table().limited()],
        "optimizers.LABEL": optimizers,
        "model": Model.table().limited(),
        "task": ["loss", "reduction"],
        "schedule": [*Schedule.common(), "milestones", "factor"],
        "checkpoint": list(Checkpointing.model_fields),
    }


AUTO = "auto"
"""As a learning rate: 1/β, with β the largest eigenvalue of the Hessian at the first weights."""

_DESCENTS = ("delta_gclip", "gclip", "sgd")


class Obstacle(NamedTuple):
    """A setting for which there is no certificate.

    Args:
        key: of the setting, with dots.
        reason: why the theorem says nothing then.
        remedy: what it may be instead.
    """

    key: str
    reason: str
    remedy: str


def obstacles(experiment: Experiment | Trial) -> list[Obstacle]:
    """What stands between an experiment, or a trial, and a certificate."""
    found = [*_of_data(experiment.data), *_of_task(experiment.task)]
    return found + list(_of_precision(experiment.precision))


def obstacles_of(key: str, value: Any) -> list[Obstacle]:
    """The same for one point of a grid: a key, and what a check made of its value."""
    match key.split(".")[0]:
        case "data":
            return list(_of_data(value))
        case "task":
            return list(_of_task(value))
        case "precision":
            return list(_of_precision(value))
    return []


def wants_auto(optimizer: Optimizer) -> bool:
    """Whether the learning rate is to be found out."""
    return optimizer.options.get("lr") == AUTO


def obstacle_to_auto(optimizer: Optimizer) -> Obstacle | None:
    """Why a learning rate of 1/β means nothing to an optimizer; None if it does."""
    if optimizer.name in _DESCENTS:
        return None
    reason = f"it is 1/β, a rate of gradient descent, which {optimizer.name} is not."
    return Obstacle("lr", reason, f"give it a number; auto is for {', '.join(_DESCENTS)}")


def _of_data(data: Data) -> Iterator[Obstacle]:
    if data.batch_size != "full":
        reason = "the theorem is about steps along the gradient of all points, not of a mini-batch."
        remedy = f"write batch_size: full instead of {data.batch_size}"
        yield Obstacle("data.batch_size", reason, remedy)
    if data.augment:
        reason = "the theorem is about fixed points, which augmentation changes at every step."
        yield Obstacle("data.augment", reason, "leave it out")


def _of_task(task: Task) -> Iterator[Obstacle]:
    if task.name != "classify":
        reason = f"the theorem is about the squared loss ½‖F(w) - y‖², which {task.name} has not."
        yield Obstacle("task", reason, "task: {name: classify, loss: squared, reduction: sum}")
        return
    loss = task.options.get("loss")  # none in a trial that another version has written
    if loss != "squared":
        reason = (
            "the theorem is about the squared loss ½‖F(w) - y‖²; "
            f"{str(loss).replace('_', '-')} has no minimum to converge to."
        )
        yield Obstacle("task.loss", reason, "write loss: squared and reduction: sum")
    elif task.options.get("reduction") != "sum":
        reason = "the theorem's loss is the sum over the points; their mean has other μ and β."
        yield Obstacle("task.reduction", reason, "write reduction: sum")


def _of_precision(precision: str) -> Iterator[Obstacle]:
    if precision not in ("fp64", "fp32"):
        reason = f"{precision} rounds so coarsely that the least eigenvalues cannot be told."
        yield Obstacle("precision", reason, "write precision: fp64, or fp32")
