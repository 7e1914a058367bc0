"""The settings of an experiment: their names, types, limits and defaults."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import synonym
from deltagclip_cli.source.signatures import HOLDERS
from deltagclip_cli.spec.component import AS_WRITTEN, Component, SpecSection
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.spec.faults import Name, Where, collected, raised, refused
from deltagclip_cli.spec.grid import (
    BY_LABEL,
    EACH_SEED,
    NUMBERS_STAY,
    SAME_RULE,
    VARIES_ITSELF,
    Grid,
    Point,
    check_scale,
    combinations,
    read_grid,
    role,
)
from deltagclip_cli.spec.groups import checked_groups
from deltagclip_cli.spec.inner import checked_inner, inner_of
from deltagclip_cli.spec.ranks_settings import ranks_faults
from deltagclip_cli.spec.search_settings import (
    EarlyStopping,
    Measured,
    Protocol,
    Search,
    protocol_faults,
    read_protocol,
    read_search,
)
from deltagclip_cli.spec.slurm_settings import Slurm, read_slurm
from deltagclip_cli.spec.task_settings import Task
from deltagclip_cli.spec.theorem import theorem_faults

if TYPE_CHECKING:
    from deltagclip_cli.spec.code import CodeFolder


def _classifying(value: object) -> object:
    """Take options of a task that is not named for those of the task that is the default."""
    return {"name": "classify", **value} if isinstance(value, dict) else value


Seed = Annotated[int, Field(ge=0, lt=2**31)]

AUTO = "auto"
"""As a learning rate: 1/β, with β the largest eigenvalue of the Hessian at the first weights."""


class Model(Component):
    """A network, built for the shape of the data and the number of classes."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.models:TABLE"


class Schedule(Component):
    """A change of the learning rate η by ``unit``, after a linear warm-up from η/(warmup + 1)."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.schedules:TABLE"

    warmup: Annotated[int, Field(ge=0)] = 0
    """Epochs or steps in which η rises linearly from η/(warmup + 1)."""
    unit: Literal["epoch", "step"] | None = None
    """``epoch`` or ``step``: when η changes; without it, as the training is counted."""


class Optimizer(Component):
    """An optimizer with its hyper-parameters, and a schedule that replaces the experiment's."""

    table_target: ClassVar[str] = "deltagclip_cli.optim:TABLE"

    schedule: Schedule | None = None
    """In place of the schedule of the experiment."""
    groups: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)] | None = None
    """By a pattern of names of parameters, such as ``*.bias``: other values of the options."""
    clip_grad_norm: PositiveFloat | None = None
    """The longest gradient that a step is made with: the norm of all together."""

    @property
    def wants_auto(self) -> bool:
        """True if the learning rate is to be found out."""
        return bool(self.options.get("lr") == AUTO)

    @cached_property
    def inner(self) -> tuple[str, Optimizer] | None:
        """The optimizer that this one steps with, and the option that has it; None without one."""
        return inner_of(self) if self.is_own else None

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The names of all whose code the identity of a trial covers."""
        inside = () if self.inner is None else self.inner[1].references
        return tuple(dict.fromkeys([*super().references, *inside]))

    @classmethod
    def _checked_inside(
        cls,
        name: str,
        options: dict[Any, Any],
        common: dict[Any, Any],
        folder: CodeFolder,
        faults: list[InitErrorDetails],
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Check an optimizer that this one takes, and what groups have of its options."""
        if not faults and any(each in HOLDERS for each in options):
            with collected(faults, ()):
                options = checked_inner(cls, name, options, folder)
        if isinstance(common.get("groups"), dict):  # for all else pydantic has the words
            with collected(faults, ("groups",)):
                checker, offered = cls._checker(name, folder), cls.table().offered
                groups = checked_groups(name, common["groups"], checker, offered, options)
                common = {**common, "groups": groups}
        return options, common

    def plain(self) -> dict[str, Any]:
        """Return what changes the numbers but the schedule, since a trial has the one in force."""
        return {key: value for key, value in super().plain().items() if key != "schedule"}


class CertificateSettings(SpecSection):
    """The numbers of the convergence theorem, of which the costly ones every so many epochs."""

    every: PositiveInt = 10
    """Epochs between two measurements of curvature and tangent kernel, which are costly."""


class Checkpointing(SpecSection):
    """The rhythm of checkpoints, and which of them are kept when a trial has ended."""

    epochs: PositiveInt = 1
    """Epochs between two checkpoints."""
    minutes: PositiveFloat = 10.0
    """A longer epoch has one after so many minutes, too."""
    keep: Literal["last", "none"] = "last"
    """``last`` keeps the last checkpoint of a trial that has ended, ``none`` none."""


class Variant(NamedTuple):
    """One point of a grid: the experiment with its settings there, and one optimizer."""

    experiment: Experiment
    optimizer: Optimizer


class TrialSettings(SpecSection):
    """The settings that an experiment hands on to each of its trials.

    Each says on its own field, by a :class:`Role`, what it is to the trial; without one it is part
    of the identity and a grid may vary it.
    """

    model: Model
    """The network, by name."""
    data: Data
    """The data set, by name, and its batches and splits."""
    task: Annotated[Task, BeforeValidator(_classifying)] = Field(
        default_factory=dict, validate_default=True
    )
    """The loss that is minimised and the metrics; ``classify`` without it."""
    epochs: PositiveInt | None = None
    """Passes over the training samples; or write ``steps``."""
    steps: Annotated[PositiveInt | None, Field(validate_default=True)] = None
    """Optimizer steps; or write ``epochs``."""
    evaluate_every: PositiveInt | None = None
    """Steps between two evaluations; without it, one after each pass over the data."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The decay of an exponential average of the weights, evaluated as ``test_ema/…`` too."""
    early_stopping: Annotated[EarlyStopping | None, SAME_RULE] = None
    """The end of a training that gets no better."""
    accumulate: PositiveInt | None = None
    """Batches whose gradients make one step."""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """Of the computation: ``tf32`` and ``bf16`` keep the weights in 32 bits."""
    determinism: Literal["exact", "fast"] = "exact"
    """``exact``: the same bits each time; ``fast``: kernels that may differ from run to run."""
    compile: Literal["auto", "on", "off"] = "auto"
    """A step as one program; ``auto``: where the training is long enough to gain by it."""
    stack: Annotated[int, Field(ge=2, le=64)] | None = None
    """Up to so many trials train together, as one program."""
    devices: Annotated[PositiveInt, NUMBERS_STAY] = 1
    """Devices of each node that one trial trains on, with a process for each."""
    nodes: Annotated[PositiveInt, NUMBERS_STAY] = 1
    """Nodes that one trial trains on."""
    parallel: Annotated[Literal["ddp", "fsdp"], NUMBERS_STAY] = "ddp"
    """``ddp``: each device holds all weights; ``fsdp``: a share of them."""
    schedule: Schedule | None = None
    """A change of the learning rate, by name; without it there is none."""
    log_every: Annotated[PositiveInt | None, NUMBERS_STAY] = None
    """Steps between two records of the steps themselves, ``step/…``."""
    certificate: Annotated[CertificateSettings | None, NUMBERS_STAY] = None
    """Measurements for the convergence theorem, of full batches and smooth networks."""
    checkpoint: Annotated[Checkpointing, NUMBERS_STAY] = Checkpointing()
    """When the state is saved, and what is kept of it."""

    @property
    def ranks(self) -> int:
        """The number of processes that train a trial together, one for each device."""
        return self.devices * self.nodes

    @property
    def is_shared(self) -> bool:
        """A group of processes trains it: several, or one whose network FSDP2 holds."""
        return self.ranks > 1 or self.parallel == "fsdp"

    @field_validator("early_stopping", mode="wrap")
    @classmethod
    def _read_early_stopping(
        cls, written: Any, _: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> EarlyStopping | None:
        if written is None or isinstance(written, EarlyStopping):
            return written
        known = Measured(names=()) if info.context == AS_WRITTEN else _measured(info)
        return EarlyStopping.model_validate(written, context=known)

    @field_validator("steps")
    @classmethod
    def _check_length(cls, steps: int | None, info: ValidationInfo) -> int | None:
        """Refuse a training whose length is said twice, or not at all."""
        epochs = info.data.get("epochs", 0)  # which is not there if it has faults
        if epochs is None and steps is None:
            hint = "write epochs: 10, for passes over the data, or steps: 5000, for optimizer steps"
            raise refused("'epochs' is missing.", hint)
        if epochs and steps is not None:
            said = f"epochs: {epochs} and steps: {steps} both say how long the training is."
            raise refused(said, "keep one of them")
        return steps

    @field_validator("stack")
    @classmethod
    def _check_stack(cls, stack: int | None, info: ValidationInfo) -> int | None:
        if stack is not None and info.data.get("compile") == "on":
            said = "stack and compile: on exclude each other: no step of a stack is compiled."
            raise refused(said, "keep one of them")
        return stack


class Experiment(TrialSettings):
    """One comparison: a model, data, and the optimizers that are to be compared on them."""

    title: Annotated[str, NUMBERS_STAY] = ""
    """The name that reports use."""
    figure: Annotated[str, NUMBERS_STAY] = ""
    """The published table or figure that it repeats."""
    tags: Annotated[list[Name], NUMBERS_STAY] = Field(default_factory=list)
    """Words to choose experiments by: ``--tag``."""
    seeds: Annotated[list[Seed], EACH_SEED] = Field(default_factory=lambda: [0], min_length=1)
    """Of weights and batches; every optimizer is run with each."""
    optimizers: Annotated[dict[Name, Optimizer], Field(min_length=1), BY_LABEL]
    """The rivals, by labels of your own."""
    grid: Annotated[Grid, VARIES_ITSELF] = Grid()
    """Values whose product is run; options stand below the label of their optimizer."""
    scale: Annotated[Grid, VARIES_ITSELF] = Grid()
    """Sizes, such as ``{model.width: [128, 256]}``, at each of which the whole is run."""
    protocol: Annotated[Protocol | None, NUMBERS_STAY] = None
    """A fair tuning of all optimizers, for ``tune``."""
    search: Annotated[Search | None, VARIES_ITSELF] = None
    """Spaces to draw settings from, for ``tune`` and ``sweep --search``."""
    slurm: Annotated[Slurm, NUMBERS_STAY] = Slurm.model_construct()
    """Resources of batch jobs; ``--slurm KEY=VALUE`` replaces a key."""

    @classmethod
    def elsewhere(cls, option: str) -> str | None:
        """Return the key with dots of an option that people write beside the sections."""
        key = setting_named(option)
        return key if key is not None and "." in key else None

    @field_validator("grid", "scale", mode="plain")
    @classmethod
    def _read_grid(cls, written: Any, info: ValidationInfo) -> Grid:
        def check(name: str, value: Any) -> Any:
            return _adapter(name).validate_python(value, context=info.context)

        epochs = info.data.get("epochs", 1) is not None
        reason = f"the length of this training is said in {'epochs' if epochs else 'steps'}"
        fixed = {**FIXED, "steps" if epochs else "epochs": reason}
        if info.field_name == "scale":
            check_scale(written, fixed, info.data.get("grid", Grid()))
        return read_grid(written, info.data.get("optimizers"), info.data, fixed, check)

    @field_validator("search", mode="plain")
    @classmethod
    def _read_search(cls, written: Any, info: ValidationInfo) -> Search | None:
        if written is None:
            return None
        protocol = info.data.get("protocol")
        if isinstance(written, dict) and "protocol" not in info.data:
            written = {"metric": "test/loss", **written}  # that of a protocol which has faults
        elif isinstance(written, dict) and protocol is not None:
            written = {**protocol.search, **written}
        return read_search(written, info.data.get("optimizers"), _measured(info))

    @field_validator("protocol", mode="plain")
    @classmethod
    def _read_protocol(cls, written: Any, info: ValidationInfo) -> Protocol | None:
        return read_protocol(written, _measured(info))

    @field_validator("slurm", mode="plain")
    @classmethod
    def _read_slurm(cls, written: Any, info: ValidationInfo) -> Slurm:
        return read_slurm(written, info.data.get("optimizers"))

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        """Refuse several batches in a step where one has all samples."""
        if (self.accumulate or 1) > 1 and self.data.batch_size == "full":
            varied = {key for key, _ in self.grid.values()}
            if varied.isdisjoint(("accumulate", "data", "data.batch_size")):
                message = "several batches make a step, but batch_size: full is one of all samples."
                hint = "write data.batch_size as a number, or leave accumulate out"
                raise refused(message, hint, ("accumulate",))
        return self

    @model_validator(mode="after")
    def _check_ranks(self) -> Self:
        """Refuse what several devices cannot train together."""
        if faults := list(ranks_faults(self)):
            raise raised(faults)
        return self

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        """Refuse scales where one setting is looked for, whose trials know of none."""
        if self.scaled is not None and (self.protocol or self.search):
            other = "protocol" if self.protocol else "search"
            message = f"a {other} finds settings at one scale, and there are several."
            hint = f"give each scale an experiment with a {other} of its own, or leave one out"
            raise refused(message, hint, ("scale",))
        return self

    @model_validator(mode="after")
    def _check_protocol(self) -> Self:
        """Refuse a protocol that is not fair, or whose optimizers have no space."""
        if self.protocol is not None:
            labels = list(self.optimizers)
            faults = protocol_faults(self.protocol, self.search, labels, self.seeds)
            if faults:
                raise raised(faults)
        return self

    @model_validator(mode="after")
    def _check_theorem(self) -> Self:
        """Refuse a certificate, or a rate of 1/β, of what the theorem says nothing about."""
        rates: list[tuple[Where, Optimizer]]
        rates = [(("optimizers", label), each) for label, each in self.optimizers.items()]
        rates += [(("grid",), value) for key, value in self.grid.values() if key == "lr"]
        faults = list(theorem_faults(self, [each for each in rates if each[1].wants_auto]))
        if faults:
            raise raised(faults)
        return self

    @property
    def scaled(self) -> str | None:
        """The key of the size that its scales differ in; None without scales."""
        return next((key for key, _ in self.scale.values()), None)

    def variants(self, label: str) -> Iterator[Variant]:
        """Yield the optimizer at every point of the grid; without a grid, as it is."""
        optimizer = self.optimizers[label]
        axes = [*self.scale.shared.get(label, ()), *self.grid.shared.get(label, ())]
        for shared in combinations(axes):
            settings = {key: value for key, value in shared.items() if is_variable(key)}
            options = {key: value for key, value in shared.items() if key not in settings}
            experiment = self._with(settings)
            for point in combinations(self.grid.own.get(label, ())):
                yield Variant(experiment, optimizer.taking(options | point))

    def _with(self, settings: Point) -> Experiment:
        """Return the experiment with settings as a grid has checked them."""
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


def _measured(info: ValidationInfo) -> Measured:
    return Measured.of(*map(info.data.get, ("task", "data", "ema")))


FIXED = {
    **{name: role(field).fixed for name, field in Experiment.model_fields.items()},
    "name": "other optimizers have other options; give another one its own label",
}
"""Why each setting of an experiment, and a name, cannot be varied; empty if it can."""


def is_variable(key: str) -> bool:
    """Return whether this is varied in the experiment itself, not in an optimizer."""
    return FIXED.get(key.partition(".")[0]) == ""


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    setting = Experiment.model_fields[name]
    if name in ("epochs", "steps"):  # one may be missing, but not in the grid that varies it
        return TypeAdapter(PositiveInt, config=ConfigDict(strict=True))
    if isinstance(setting.annotation, type) and issubclass(setting.annotation, Component):
        return TypeAdapter(setting.annotation)  # which has a configuration of its own
    kind: Any = Annotated[setting.annotation, setting]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def setting_named(word: str) -> str | None:
    """Return the key, such as ``optimizers.LABEL.lr``, that is meant by ``learning_rate``."""
    sections: dict[str, list[str]] = {
        "": list(Experiment.model_fields),
        "data": [*Data.common(), *Data.table().limited()],
        "optimizers.LABEL": [*Optimizer.table().limited(), "betas", "clip_grad_norm", "groups"],
        "model": Model.table().limited(),
        "task": ["loss", "reduction"],
        "schedule": [*Schedule.common(), "milestones", "factor"],
        "checkpoint": list(Checkpointing.model_fields),
        "early_stopping": list(EarlyStopping.model_fields),
    }
    for section, options in sections.items():
        option = synonym(word, options)
        if option is not None:
            return f"{section}.{option}" if section else option
    return None
