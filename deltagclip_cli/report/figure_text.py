"""Text in figures: drawn as it is, never as formulas, in letters that the fonts have."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from deltagclip_cli.core import printable

LITERAL: dict[str, Any] = {"parse_math": False}  # a dollar sign is a dollar sign
_LETTERS_IN_AN_INCH = 17.5  # of a legend in the paper's look


def drawable(text: str) -> str:
    """A text that the fonts of the style in force can draw.

    A letter that none of them has is written out, such as ``\\u4e2d``: boxes would all look the
    same. A style file that names a font with such letters has them drawn.
    """
    fonts: list[Any] = []
    return "".join(c if c.isascii() or _has(c, fonts) else _code(c) for c in printable(text))


def _code(letter: str) -> str:
    return ascii(letter)[1:-1]


def _has(letter: str, fonts: list[Any]) -> bool:
    """Whether a font has a letter; ``fonts`` is filled when it is needed."""
    if not fonts:
        from matplotlib import rcParams
        from matplotlib.font_manager import FontProperties, findfont, get_font

        # A name by itself would be read as a pattern, in which a hyphen and a colon mean something.
        names = [FontProperties(family=[family]) for family in rcParams["font.family"]]
        fonts += [get_font(findfont(name)) for name in names]
    return any(font.get_char_index(ord(letter)) for font in fonts)


def letters(share: float, least: int = 8) -> int:
    """How many letters there is room for in a share of a figure's width."""
    from matplotlib import rcParams

    return max(least, letters_in(share * rcParams["figure.figsize"][0]))


def letters_in(inches: float) -> int:
    """How many letters there is room for."""
    return int(inches * _LETTERS_IN_AN_INCH)


def shortened(text: str, most: int) -> str:
    """A text without its middle, if it is too long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def told_apart(names: Sequence[str], width: int) -> list[str]:
    """Names in lines of some letters, the fewest in which they differ; a middle may be left out."""
    tries = [[wrapped(name, width, lines) for name in names] for lines in range(1, 5)]
    return max(tries, key=lambda short: len(set(short)))  # the first of equally good ones


def wrapped(text: str, width: int, lines: int) -> str:
    """A text in a few lines of some letters each, without its middle if that is not enough."""
    short = shortened(text, width * lines - lines)
    return "\n".join(textwrap.wrap(short, width)[:lines]) if len(short) > width else short


def as_label(name: str) -> str:
    """A name for an axis: ``Accuracy`` of ``accuracy``."""
    return drawable(name[:1].upper() + name[1:])
