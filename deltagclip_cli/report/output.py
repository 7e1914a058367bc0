"""The folder of a report: what is in it is replaced only if it is this program's own."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from deltagclip_cli.core import UsageError, open_file, read_file, write_text

MANIFEST = ".deltagclip-report.json"
"""Names each file that was written, with its SHA-256."""

_FILES = TypeAdapter(dict[str, list[str]])


@contextmanager
def report_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose files appear in the report's folder together, or not at all.

    Files of an earlier report that the new one does not have are removed.

    Raises:
        UsageError: nothing can be written there, or somebody else made or changed such a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".deltagclip-report-", dir=folder) as draft:
            yield Path(draft)
            _publish(Path(draft), folder)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder}: the report cannot be written there: {why}.\n"
            "  Name another folder with --output DIR."
        ) from None
    finally:
        if not (folder / MANIFEST).exists():  # nothing came of it: leave nothing behind
            with suppress(OSError):
                folder.rmdir()


def _publish(draft: Path, folder: Path) -> None:
    """Move the files of a draft, after none of them turned out to be in somebody's way."""
    known: dict[str, list[str]] = {}
    with suppress(OSError, ValueError):
        known = _FILES.validate_json(read_file(folder / MANIFEST))
    paths = [path for path in sorted(draft.rglob("*")) if path.is_file()]
    drafts = {path.relative_to(draft).as_posix(): path for path in paths}
    for name in drafts:
        _check(folder, name, known)
    digests = {name: [_digest(path)] for name, path in drafts.items()}
    # Both, for whoever is killed in between has files of the old report and of the new one.
    _write(folder, {**known, **{n: known.get(n, []) + each for n, each in digests.items()}})
    for name, path in drafts.items():
        path.replace(folder / name)
    for name in known.keys() - digests.keys():
        if _is_ours(folder, name, known):
            (folder / name).unlink()
            with suppress(OSError):
                (folder / name).parent.rmdir()
    _write(folder, digests)


def _check(folder: Path, name: str, known: Mapping[str, Sequence[str]]) -> None:
    """Make the folder of a file, which is not there or is as it was when it was written."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    is_free = _is_within(folder, name) and not path.exists()
    if not (is_free or _is_ours(folder, name, known)):
        was = "was changed since it was written" if name in known else "is no report's"
        raise UsageError(
            f"{path}: it {was}, so nothing was written.\n"
            "  Move it away, or name another folder with --output DIR."
        )


def _is_ours(folder: Path, name: str, known: Mapping[str, Sequence[str]]) -> bool:
    path = folder / name
    return _is_within(folder, name) and path.is_file() and _digest(path) in known.get(name, [])


def _is_within(folder: Path, name: str) -> bool:
    """Tell whether a file lies in the folder itself, not where a link or a ``..`` leads."""
    return (folder / name).resolve() == folder.resolve() / name


def _write(folder: Path, digests: Mapping[str, Sequence[str]]) -> None:
    write_text(folder / MANIFEST, json.dumps(digests, indent=1) + "\n")


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OTHER = re.compile(r"[^A-Za-z0-9_=+-]+")
_MOST_LETTERS = 80  # of a word


class FileNames:
    """Gives each thing a name of its own that every file system, shell and LaTeX can take."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, *words: str) -> str:
        """Return the words joined by dashes, with a number behind them if the name is taken.

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
    """Return the words as ASCII letters, digits and ``_=+-``, joined by dashes; never empty."""
    return "-".join(filter(None, map(_plain, words))) or "unnamed"


def _plain(word: str) -> str:
    text = unicodedata.normalize("NFKD", word.replace("δ", "delta"))
    ascii_text = text.encode("ascii", "ignore").decode()
    return _OTHER.sub("-", ascii_text)[:_MOST_LETTERS].strip("-")
