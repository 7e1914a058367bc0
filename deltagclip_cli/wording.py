"""Words in messages and tables, for whoever writes some."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """A text in which whatever a terminal would obey is written out, such as ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(text: str, most: int = 80) -> str:
    """A text for a message: on one line, and not much longer than ``most`` characters."""
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")
