"""How samples are divided into splits: by names, by shares, by class."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.splits import divided


def test_what_is_left_over_is_trained_on() -> None:
    drawn = divided({"test": 0.2, "validation": 0.1}, "csv").drawn(50, data_seed=3)
    assert {name: len(each) for name, each in drawn.items()} == {
        "train": 35,
        "validation": 5,
        "test": 10,
    }
    assert sorted(torch.cat(list(drawn.values())).tolist()) == list(range(50))
    assert all(torch.equal(each, each.sort().values) for each in drawn.values())


def test_a_share_of_training_leaves_the_rest_unused_and_the_test_split_as_it_was() -> None:
    whole = divided({"test": 0.2}, "csv").drawn(50, data_seed=3)
    part = divided({"train": 0.5, "test": 0.2}, "csv").drawn(50, data_seed=3)
    assert torch.equal(whole["test"], part["test"])
    assert len(part["train"]) == 25
    assert set(part["train"].tolist()) < set(whole["train"].tolist())


def test_another_seed_draws_others() -> None:
    division = divided({"test": 0.5}, "csv")
    one, again, other = (division.drawn(50, data_seed=seed)["test"] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_each_split_has_its_share_of_each_class() -> None:
    classes = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    drawn = divided({"validation": 0.1, "test": 0.2}, "csv").drawn(100, 0, classes)
    counts = {name: torch.bincount(classes[each]).tolist() for name, each in drawn.items()}
    assert counts == {"train": [49, 14, 7], "validation": [7, 2, 1], "test": [14, 4, 2]}


def test_a_class_of_one_sample_is_trained_on() -> None:
    classes = torch.tensor([0] * 9 + [1])
    assert 9 in divided({"test": 0.3}, "csv").drawn(10, 0, classes)["train"]


def test_names_and_shares_go_together() -> None:
    division = divided({"train": "a.csv", "validation": 0.25, "test": "b.csv"}, "csv")
    assert division.named == {"train": "a.csv", "test": "b.csv"}
    assert division.sizes(8) == {"train": 6, "validation": 2}


def test_shares_that_add_up_to_one_but_for_rounding_are_all() -> None:
    assert divided({"train": 0.8, "validation": 0.1, "test": 0.1}, "csv").sizes(15) == {
        "train": 11,
        "validation": 2,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("splits", "why"),
    [
        ({"test": 0.6, "validation": 0.5}, r"are 0\.5 \+ 0\.6 = 1\.1, more than all"),
        ({"test": 0.5, "validation": 0.5}, "leaves none for train"),
        ({"test": 1}, "test is 1, which is no share"),
        ({"test": -0.1}, r"test is -0\.1, which is no share"),
        ({"test": float("nan")}, "test is nan, which is no share"),
        ({"test": True}, "test is True"),
        ({"test": ""}, "test is ''"),
        ({"train": 0.5}, "has no test"),
        ({"val": 0.1, "test": 0.1}, "has 'val' - did you mean 'validation'"),
        ({"train": "a", "test": "a"}, "names 'a' twice"),
        ("test", "splits is 'test'"),
    ],
)
def test_splits_that_mean_nothing_are_refused(splits: Any, why: str) -> None:
    with pytest.raises(DataError, match=rf"data csv: .*{why}"):
        divided(splits, "csv")


@pytest.mark.parametrize("samples", [1, 2])
def test_a_split_without_a_sample_is_refused(samples: int) -> None:
    division = divided({"validation": 0.1, "test": 0.1}, "csv")
    with pytest.raises(DataError, match="cannot be divided into train, validation and test"):
        division.sizes(samples)
    assert division.sizes(3) == {"train": 1, "validation": 1, "test": 1}
