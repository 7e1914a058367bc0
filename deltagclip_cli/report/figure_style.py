"""The look of the figures: a style file of matplotlib's, and the user's laid over it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deltagclip_cli.errors import UsageError
from deltagclip_cli.report.looks import COLOURS

# Come with matplotlib, and are asked for a letter that the fonts of a style lack.
FALLBACK_FONTS = ("STIXGeneral", "DejaVu Serif", "DejaVu Sans")

_WITHOUT_COMMENT = re.compile(r'(?:[^"#]|"[^"]*")*')
_REFUSED = {
    "backend": "figures are written to files; leave the line out",
    "text.usetex": "names of settings may hold what LaTeX would obey; leave the line out, and say"
    " font.serif to have another font",
}


@dataclass(frozen=True, eq=False)
class Style:
    """What figures look like, whatever the user's own matplotlibrc says.

    Args:
        settings: rcParams that are not matplotlib's defaults.
    """

    settings: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path | None = None) -> Style:
        """The paper's look, and a style file laid over it.

        Raises:
            UsageError: the file cannot be read, or a line of it is wrong.
        """
        own = files(__package__ or "").joinpath("assets/paper.mplstyle").read_text("utf-8")
        from cycler import cycler

        settings = {"axes.prop_cycle": cycler(color=COLOURS), **_parsed(own, "paper.mplstyle")}
        if file is not None:
            settings |= _parsed(_text(file), f"--style {file}")
        settings["font.family"] = [*settings["font.family"], *FALLBACK_FONTS]
        return cls(settings)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Draw and save in this look; afterwards everything is as it was."""
        matplotlib = _matplotlib()
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(self.settings)
            yield


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
    if key in _REFUSED and setting[key]:
        raise UsageError(f"{where}: {key} cannot be used here: {_REFUSED[key]}.")
    return setting


def _nearest(key: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, _matplotlib().rcParamsDefault.keys(), n=3)
    return f"\n  Did you mean {' or '.join(near)}?" if near else ""
