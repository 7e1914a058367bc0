"""A validation split: the same for all who look at the data, and of every class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset

from deltagclip_cli.core import DataError
from deltagclip_cli.launch.rehearsal.building import Outline
from deltagclip_cli.parts.datasets.adopted import adopted
from deltagclip_cli.parts.datasets.dataset import (
    Dataset,
    Split,
    Windows,
    channel_statistics,
)
from deltagclip_cli.parts.datasets.fetched import Items
from deltagclip_cli.parts.datasets.validation import (
    Wanted,
    outline_with_validation,
    with_validation,
)
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.training.loaded import load_dataset

NUMBERS = torch.arange(40)
LABELS = NUMBERS % 4
TEST = Split(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def classes(targets: torch.Tensor = LABELS) -> Dataset:
    inputs = torch.arange(len(targets)).float()[:, None]
    return Dataset(Split(inputs, targets), TEST, 4, None, None)


def places(samples: Any) -> list[int]:
    return [int(each) for each in samples.inputs[:, 0]]


def loaded(folder: Path = Path("nowhere"), **settings: Any) -> Dataset:
    made = {"name": "synthetic", "train": 40, "test": 8, "size": 4, "classes": 4, "batch_size": 4}
    data = Data.model_validate(settings if "name" in settings else {**made, **settings})
    return load_dataset(data, folder)


@pytest.mark.parametrize("wanted", [8, 0.2])
def test_it_takes_of_each_class_alike_and_leaves_the_others(wanted: Wanted) -> None:
    made = with_validation(classes(), wanted, "t")
    assert made.validation is not None
    assert isinstance(made.train, Split) and isinstance(made.validation, Split)
    assert torch.bincount(made.validation.targets).tolist() == [2, 2, 2, 2]
    assert sorted(places(made.train) + places(made.validation)) == NUMBERS.tolist()
    assert torch.equal(made.train.targets, torch.tensor(places(made.train)) % 4)
    assert made.test is TEST
    assert list(made.splits) == ["train", "test", "validation"]


def test_it_is_drawn_by_the_seed_of_the_data_alone() -> None:
    def drawn(seed: int) -> list[int]:
        torch.manual_seed(int(torch.randint(1000, ())))  # whatever else is drawn
        return places(with_validation(classes(), 8, "t", seed).validation)

    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0) != list(range(8))


def test_what_is_trained_with_may_become_less_and_what_is_chosen_by_stays() -> None:
    whole, less = (loaded(validation=8, train_samples=each) for each in (None, 12))
    assert [len(split) for split in less.splits.values()] == [12, 8, 8]
    assert whole.validation is not None and less.validation is not None
    assert whole.validation.checksum(0) == less.validation.checksum(0)


def test_a_share_of_classes_that_are_unlike_is_a_share_of_each() -> None:
    made = with_validation(classes(torch.tensor([0] * 30 + [1] * 10)), 0.2, "t")
    assert isinstance(made.validation, Split)
    assert torch.bincount(made.validation.targets).tolist() == [6, 2]


def test_images_are_normalised_by_what_is_left_to_train_with() -> None:
    made = loaded(validation=8)
    assert isinstance(made.train, Split)
    assert (made.mean, made.std) == channel_statistics(made.train.inputs)
    assert made.mean != loaded().mean


def test_published_statistics_stay() -> None:
    images = Split(torch.randint(0, 256, (8, 1, 2, 2), dtype=torch.uint8), LABELS[:8])
    made = with_validation(Dataset(images, images, 4, (0.1307,), (0.3081,)), 4, "t")
    assert (made.mean, made.std) == ((0.1307,), (0.3081,))


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_columns_and_targets_are_standardized_by_what_is_left(kind: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    inputs, targets = draw.normal(3, 2, (60, 2)), draw.normal(-5, 7, 60)
    words = {"path": f"t.{kind}", "standardize": True, "splits": {"test": 0.2}, "batch_size": 4}
    if kind == "npz":
        np.savez(tmp_path / "t.npz", x=inputs, y=targets)
    else:
        rows = "".join(f"{a},{b},{y}\n" for (a, b), y in zip(inputs, targets, strict=True))
        (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}")
        words["target"] = "y"
    made = loaded(tmp_path, name=kind, validation=0.25, **words)
    whole = loaded(tmp_path, name=kind, **words)
    assert isinstance(made.train, Split) and isinstance(whole.train, Split)
    assert [len(split) for split in made.splits.values()] == [36, 12, 12]
    for values in (made.train.inputs, made.train.targets):
        assert values.mean(0).numpy() == pytest.approx(0, abs=1e-9)
        assert values.std(0, correction=0).numpy() == pytest.approx(1)
    assert made.train.targets.std(correction=0) * made.target_scale == pytest.approx(
        made.target_scale
    )
    # the test samples, in the unit of the file, are the same as without a validation split
    ours, theirs = ((each.test.targets * each.target_scale).diff(dim=0) for each in (made, whole))  # type: ignore[union-attr]
    assert ours.numpy() == pytest.approx(theirs.numpy())
    assert made.target_scale != pytest.approx(whole.target_scale, rel=1e-6)


def test_a_row_of_tokens_gives_its_last_windows() -> None:
    row = Windows.cut(torch.arange(41), 4)
    made = with_validation(Dataset(row, row, 41, None, None, vocabulary=41), 0.3, "t")
    assert isinstance(made.train, Windows) and isinstance(made.validation, Windows)
    assert (len(made.train), len(made.validation)) == (7, 3)
    assert made.train.tokens.tolist() == list(range(29))
    assert made.validation.inputs[0].tolist() == [28, 29, 30, 31]
    assert made.validation.targets[-1].tolist() == [37, 38, 39, 40]


class Fetched(TorchDataset[Any]):
    """Samples that say their place, with or without classes that are told beforehand."""

    def __init__(self, targets: list[int] | None) -> None:
        if targets is not None:
            self.targets = targets

    def __len__(self) -> int:
        return 40

    def __getitem__(self, place: int) -> Any:
        return torch.tensor([float(place)]), place % 4


@pytest.mark.parametrize("told", [True, False])
def test_samples_that_are_fetched_are_chosen_by_their_places(told: bool) -> None:
    source = Fetched(LABELS.tolist() if told else None)
    made = with_validation(adopted((source, source), "t"), 8, "t")
    assert isinstance(made.train, Items) and isinstance(made.validation, Items)
    inputs, targets = made.validation.fetch((0, range(8)))
    left, _ = made.train.fetch((0, range(32)))
    assert sorted([*map(int, inputs), *map(int, left)]) == NUMBERS.tolist()  # type: ignore[arg-type]
    assert isinstance(targets, torch.Tensor)
    assert not told or torch.bincount(targets).tolist() == [2, 2, 2, 2]
    fewer, _ = made.train.limited(5).fetch((0, range(5)))
    assert torch.equal(fewer, left[:5])  # type: ignore[arg-type, index]


def test_classes_of_a_subset_are_those_of_its_samples() -> None:
    source = Subset(Fetched(LABELS.tolist()), list(range(39, -1, -1)))
    made = with_validation(adopted((source, source), "t"), 8, "t")
    assert isinstance(made.validation, Items)
    _, targets = made.validation.fetch((0, range(8)))
    assert isinstance(targets, torch.Tensor)
    assert torch.bincount(targets).tolist() == [2, 2, 2, 2]


def test_the_split_of_the_data_themselves_is_official() -> None:
    pair = (NUMBERS.float()[:, None], LABELS)
    own = {"train": pair, "test": pair, "validation": (pair[0][:4], pair[1][:4])}
    made = with_validation(adopted(own, "t"), "official", "t")
    assert made.validation is not None and len(made.validation) == 4
    with pytest.raises(DataError, match="a split for it already, of 4 samples"):
        with_validation(made, 0.1, "t")


@pytest.mark.parametrize(
    ("targets", "wanted", "words"),
    [
        (LABELS, "official", r"validation is official, but these data have no such split"),
        (LABELS, 40, r"leaves nothing for training: there are 40 training samples"),
        (LABELS, 41, r"leaves nothing for training"),
        (LABELS, 2, r"leaves class \d and 1 other without a sample in validation"),
        (LABELS, 38, r"leaves class \d and 1 other without a sample for training: .*\n.*fewer"),
        (torch.tensor([0] * 39 + [1]), 0.5, r"there is 1 sample of class 1.\n  One sample cannot"),
    ],
)
def test_a_split_that_leaves_nothing_of_something_is_refused(
    targets: torch.Tensor, wanted: Wanted, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        with_validation(classes(targets), wanted, "t")


@pytest.mark.parametrize("wanted", [8, 0.1])
def test_the_outline_has_the_sizes_of_what_is_made(wanted: Wanted) -> None:
    made = with_validation(classes(), wanted, "t")
    told = outline_with_validation(Outline((1,), 4, 40, 3), wanted, "t")
    assert [told.train, told.test, told.validation] == [len(each) for each in made.splits.values()]
    with pytest.raises(DataError, match="official"):
        outline_with_validation(Outline((1,), 4, 40, 3), "official", "t")
