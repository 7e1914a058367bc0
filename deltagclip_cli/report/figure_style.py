"""The look of the figures: a style file of matplotlib's, and the user's laid over it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deltagclip_cli.core import UsageError, printable
from deltagclip_cli.report.figure_text import shortened
from deltagclip_cli.report.line_styles import COLOURS

logger = logging.getLogger(__name__)

# Come with matplotlib, and are asked for a letter that the fonts of a style lack.
FALLBACK_FONTS = ("STIXGeneral", "DejaVu Serif", "DejaVu Sans")

_WITHOUT_COMMENT = re.compile(r'(?:[^"#]|"[^"]*")*')
_REFUSED = {
    "backend": "figures are written to files; leave the line out",
    "text.usetex": "names of settings may hold what LaTeX would obey; leave the line out, and say"
    " font.serif to have another font",
}
_MOST_LETTERS = 200  # of what matplotlib says is wrong; a line or three


@dataclass(frozen=True, eq=False)
class Style:
    """What figures look like, whatever the user's own matplotlibrc says.

    Args:
        settings: rcParams that are not matplotlib's defaults.
        file: the user's; None for the paper's look as it is.
    """

    settings: Mapping[str, Any]
    file: Path | None = None

    @classmethod
    def read(cls, file: Path | None = None) -> Style:
        """The paper's look, and a style file laid over it.

        A font that is not there is left out, and said once: matplotlib would say it for each letter
        that it draws.

        Raises:
            UsageError: the file cannot be read, or a line of it is wrong.
        """
        own = files(__package__ or "").joinpath("assets/paper.mplstyle").read_text("utf-8")
        from cycler import cycler

        settings = {"axes.prop_cycle": cycler(color=COLOURS), **_parsed(own, "paper.mplstyle")}
        if file is not None:
            settings |= _parsed(_text(file), f"--style {file}")
        families = [*settings["font.family"], *FALLBACK_FONTS]
        style = cls({**settings, "font.family": families}, file)
        with style.applied():
            missing = [family for family in families if not _is_there(family)]
        there = [family for family in families if family not in missing]
        if missing:
            names = printable(", ".join(missing))
            words = "--style %s: no font %s is here; %s stands in for it."
            logger.warning(words, file, names, there[0])
        return cls({**settings, "font.family": there}, file)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Draw and save in this look; afterwards everything is as it was.

        Raises:
            UsageError: matplotlib stumbles over what the user's file says, such as a size that it
                takes for one until it draws.
        """
        matplotlib = _matplotlib()
        try:
            with matplotlib.rc_context():
                matplotlib.rcdefaults()
                matplotlib.rcParams.update(self.settings)
                yield
        except Exception as error:
            if self.file is None:
                raise
            raise UsageError(
                f"--style {self.file}: figures cannot be drawn in it: {_reason(error)}.\n"
                "  Change the line of the file that this is about, or leave it out."
            ) from error


def _is_there(family: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont

    try:
        findfont(FontProperties(family=[family]), fallback_to_default=False)
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> str:
    """What matplotlib says, in a line."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    words = str(error.args[0]) if error.args else ""  # str() of a KeyError has quotes around it
    first = next(iter(words.splitlines()), "") or type(error).__name__
    return shortened(printable(first).rstrip("."), _MOST_LETTERS)


def _matplotlib() -> Any:
    """The package, imported without what a user's files and variables say of other work.

    A backend that is not installed, or a broken matplotlibrc, would keep it from being imported.
    """
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    own = Path(spec.origin).with_name("mpl-data") / "matplotlibrc"
    with _environment({"MPLBACKEND": "agg", "MATPLOTLIBRC": str(own)}):
        import matplotlib
    return matplotlib


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, word in before.items():
            if word is None:
                del os.environ[name]
            else:
                os.environ[name] = word


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError of what is no text
        why = getattr(error, "strerror", None) or "it is not a text file in UTF-8"
        raise UsageError(f"--style {file}: cannot be read: {why}.") from None


def _parsed(text: str, name: str) -> dict[str, Any]:
    """What a style file says; matplotlib's own reader leaves out what it does not know."""
    settings: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _WITHOUT_COMMENT.match(line)
        stripped = found[0].strip() if found else ""
        if stripped:
            settings.update(_setting(stripped, f"{name}, line {number}"))
    return settings


def _setting(line: str, where: str) -> Mapping[str, Any]:
    key, colon, word = (part.strip() for part in line.partition(":"))
    if not colon:
        raise UsageError(f"{where}: {line!r} is not KEY: VALUE, such as font.size: 9.")
    if len(word) > 1 and word[0] == word[-1] == '"':
        word = word[1:-1]
    params = _matplotlib().RcParams()
    try:
        params[key] = word
    except KeyError:
        raise UsageError(f"{where}: matplotlib has no setting {key}.{_nearest(key)}") from None
    except Exception as error:  # its checks raise whatever the word makes them stumble over
        raise UsageError(f"{where}: {key}: {error}") from None
    setting: Mapping[str, Any] = {key: dict.__getitem__(params, key)}
    _check(key, setting[key], where)
    return setting


def _check(key: str, value: Any, where: str) -> None:
    """Refuse what is a setting, but cannot be used."""
    from matplotlib import colormaps

    if key in _REFUSED and value:
        raise UsageError(f"{where}: {key} cannot be used here: {_REFUSED[key]}.")
    if key == "axes.prop_cycle" and not value:
        raise UsageError(f"{where}: {key}: it is empty; name some colours, or leave the line out.")
    if key == "image.cmap" and value not in colormaps:
        raise UsageError(f"{where}: {key}: no colours are called {value}; say viridis, or grey.")


def _nearest(key: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, _matplotlib().rcParamsDefault.keys(), n=3)
    return f"\n  Did you mean {' or '.join(near)}?" if near else ""
