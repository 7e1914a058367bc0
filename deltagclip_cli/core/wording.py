"""Words in messages and tables, for whoever writes some."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMES = 4


def plural(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """A text in which whatever a terminal would obey is written out, such as ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(text: str, most: int = 80) -> str:
    """A text for a message: on one line, and not much longer than ``most`` characters."""
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")


def listed(names: Sequence[str]) -> str:
    """Words as a list in a sentence, of many only the first ones."""
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} others"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def ranges(numbers: Sequence[int]) -> str:
    """``0-4, 7``: whole numbers in order, with runs of them drawn together."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(words)


def stopped(words: object) -> str:
    """Words of others, such as an error's, as the end of a sentence: with one full stop."""
    return f"{str(words).rstrip().rstrip('.')}."
