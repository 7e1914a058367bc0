"""Words in messages."""

from __future__ import annotations

import pytest

from deltagclip_cli.core import stopped


@pytest.mark.parametrize(
    "words", ["it is wrong", "it is wrong.", "it is wrong...", "it is wrong.\n"]
)
def test_words_of_others_end_with_one_full_stop(words: str) -> None:
    assert stopped(ValueError(words)) == "it is wrong."
