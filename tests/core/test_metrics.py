"""What the names of metrics tell."""

from __future__ import annotations

import pytest

from deltagclip_cli.core import COMPARED_METRICS, TRAINED_METRICS, more_is_better


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("test/accuracy", True),
        ("top5_acc", True),
        ("test/loss", False),
        ("val/perplexity", False),
        ("accuracy_loss", False),  # a loss, whatever of
        ("optim/lr", None),
        ("test/lossless", None),
    ],
)
def test_the_words_of_a_name_tell_which_way_is_good(name: str, more: bool | None) -> None:
    assert more_is_better(name) is more


def test_every_metric_that_is_trained_or_compared_has_a_direction() -> None:
    assert {more_is_better(name) for name in TRAINED_METRICS + COMPARED_METRICS} == {True, False}
