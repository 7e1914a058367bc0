"""The data of an experiment, and how they are cut into batches and splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, PositiveInt, Tag
from pydantic_core import InitErrorDetails

from deltagclip_cli.spec.component import Component, SpecSection
from deltagclip_cli.spec.faults import explained, got, refused

if TYPE_CHECKING:
    from deltagclip_cli.spec.code import CodeFolder


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, dict)) else value


def _share(value: object) -> object:
    """Refuse a validation split that is neither a number of samples, nor a share, nor a word."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_count = isinstance(value, int) and is_number and value >= 1
    is_share = isinstance(value, float) and 0 < value < 1
    if value is None or value == "official" or is_count or is_share:
        return value
    said = f"'validation' is {got(value)}, neither a number of samples nor a share of them."
    hint = "write 5000 or 0.1, of the training samples; or official, for a split of the data's own"
    raise refused(said, hint)


class Augmentation(Component):
    """A random change of training images, a batch at a time."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.datasets:AUGMENTATIONS"
    may_be_own: ClassVar[bool] = False


class Normalization(SpecSection):
    """Mean and standard deviation per channel, for values in [0, 1]."""

    mean: Annotated[list[float], Field(min_length=1)]
    """Of each channel."""
    std: Annotated[list[PositiveFloat], Field(min_length=1)]
    """Of each channel."""


class Data(Component):
    """A data set and how it is cut into batches."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.datasets:TABLE"

    batch_size: PositiveInt | Literal["full"]
    """Samples of a batch, which is a step unless ``accumulate`` says more; or ``full``, for all."""
    evaluation_batch_size: PositiveInt = 1000
    """Samples at a time where nothing is trained."""
    image_size: PositiveInt | None = None
    """Height and width that images get, in pixels; without it, those of the data set."""
    augment: Annotated[list[Augmentation], BeforeValidator(_as_list)] = Field(default_factory=list)
    """Random changes of training images: names, or mappings with options."""
    normalize: Annotated[
        Annotated[Literal["dataset", "none"], Tag("word")]
        | Annotated[Normalization, Tag("mapping")],
        Discriminator(lambda value: "word" if isinstance(value, str) else "mapping"),
    ] = "dataset"
    """``dataset`` for the statistics of the data, ``none``, or numbers of your own."""
    validation: Annotated[int | float | Literal["official"] | None, BeforeValidator(_share)] = None
    """Training samples to choose by: a number, a share, or ``official``, if the data have them."""
    train_samples: PositiveInt | None = None
    """At most so many training samples, without those of the validation split."""
    test_samples: PositiveInt | None = None
    """At most so many test samples."""
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Processes that fetch samples of a ``Dataset`` and change no number; 0: the trial's own."""

    def plain(self) -> dict[str, Any]:
        """Return what changes the numbers, which the number of workers does not."""
        return {key: value for key, value in super().plain().items() if key != "workers"}

    @property
    def data_seed(self) -> int:
        """The seed of what is drawn of the data, whatever that of a trial."""
        seed = self.options.get("data_seed")
        return seed if type(seed) is int and not self.is_own else 0

    @property
    def has_validation(self) -> bool:
        """True if it is written that there is a validation split."""
        splits = self.options.get("splits")
        return self.validation is not None or "validation" in (splits or ())

    @classmethod
    def _checked_inside(
        cls,
        name: str,
        options: dict[Any, Any],
        common: dict[Any, Any],
        folder: CodeFolder,
        faults: list[InitErrorDetails],
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Refuse a validation split that is said twice."""
        said, splits = common.get("validation"), options.get("splits")
        if said is not None and isinstance(splits, dict) and "validation" in splits:
            message = "validation and splits.validation both say what choices look at."
            faults.append(explained(message, "keep one of them", ("validation",)))
        return options, common

    def own_folder(self, root: Path) -> Path | None:
        """Return the folder of data of one's own, below that of all; None for ours."""
        return root / self.name.rpartition(":")[2] if self.is_own else None
