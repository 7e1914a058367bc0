"""Messages of a training in a file or a pipe: those of epochs are few, and the last is there."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from deltagclip_cli.terminal.messages import shown_messages
from deltagclip_cli.training.process import EPOCHS, SOURCES


def said(epochs: int, *messages: str, of: int = 1000, every: int | None = None) -> list[str]:
    """Return what is shown of so many epochs, and of messages behind them."""
    file = io.StringIO()
    with shown_messages(Console(file=file, width=80), every=every):
        for number in range(1, epochs + 1):
            counted = {"number": number, "of": of}
            logging.getLogger(EPOCHS).info("epoch %d", number, extra=counted)
        for each in messages:
            logging.getLogger(SOURCES[0]).info(each)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("epochs", "shown"), [(1, [1]), (3, [1, 3]), (20, [1, 20]), (45, [1, 20, 40, 45])]
)
def test_the_last_epoch_is_told_wherever_the_training_ended(epochs: int, shown: list[int]) -> None:
    assert said(epochs) == [f"epoch {number}" for number in shown]


def test_it_is_told_before_what_comes_next() -> None:
    lines = said(7, "Stopping after this step.", every=5)
    assert lines == ["epoch 1", "epoch 5", "epoch 7", "Stopping after this step."]
