"""Names of files, made of whatever experiments and settings are called."""

from __future__ import annotations

import re
import unicodedata

_OTHER = re.compile(r"[^A-Za-z0-9_=+-]+")
_MOST_LETTERS = 80  # of a word


class FileNames:
    """Gives each thing a name of its own that every file system, shell and LaTeX can take."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, *words: str) -> str:
        """The words joined by dashes, with a number behind them if the name is taken.

        It has no dot, for LaTeX takes what follows one for the kind of the file.
        """
        plain = plain_name(*words)
        name, number = plain, 1
        while name.lower() in self._taken:  # some file systems take A for a
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name.lower())
        return name


def plain_name(*words: str) -> str:
    """The words as ASCII letters, digits and ``_=+-``, joined by dashes; never empty."""
    return "-".join(filter(None, map(_plain, words))) or "unnamed"


def _plain(word: str) -> str:
    text = unicodedata.normalize("NFKD", word.replace("δ", "delta"))
    ascii_text = text.encode("ascii", "ignore").decode()
    return _OTHER.sub("-", ascii_text)[:_MOST_LETTERS].strip("-")
