"""The folder of a report: what is in it is replaced only if it is this program's own."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deltagclip_cli.errors import UsageError
from deltagclip_cli.files import write_text

MANIFEST = ".deltagclip-report.json"
"""Names each file that was written, with its SHA-256."""


@contextmanager
def report_folder(folder: Path) -> Iterator[Path]:
    """An empty folder whose files appear in the report's folder together, or not at all.

    Args:
        folder: of the report; made if it is not there.

    Raises:
        UsageError: nothing can be written there, or a file of that name was made, or changed, by
            somebody else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as draft:
            yield Path(draft)
            _publish(Path(draft), folder)
    except (OSError, ValueError) as error:  # ValueError of a name with a zero byte
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder}: the report cannot be written there: {why}.\n"
            "  Name another folder with --output DIR."
        ) from None


def _publish(draft: Path, folder: Path) -> None:
    """Move the files of a draft, after none of them turned out to be somebody's."""
    known = _read(folder)
    drafts = {
        path.relative_to(draft).as_posix(): path
        for path in sorted(draft.rglob("*"))
        if path.is_file()
    }
    for name in drafts:
        _check(folder, name, known)
    digests = {name: _digest(path) for name, path in drafts.items()}
    # Both, for whoever is killed in between has files of the old report and of the new one.
    both = {name: [*known.get(name, []), digest] for name, digest in digests.items()}
    _write(folder, {**known, **both})
    for name, path in drafts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(folder / name)
    _write(folder, {**known, **{name: [digest] for name, digest in digests.items()}})


def _check(folder: Path, name: str, known: Mapping[str, Sequence[str]]) -> None:
    """Check that a file is not there, or is as it was when it was written."""
    path = folder / name
    if not (path.exists() or path.is_symlink()):
        return
    if not path.is_file() or path.is_symlink() or _digest(path) not in known.get(name, []):
        what = "was changed since it was written" if name in known else "is no report's"
        raise UsageError(
            f"{path}: it {what}, so nothing was written.\n"
            "  Move it away, or name another folder with --output DIR."
        )


def _read(folder: Path) -> dict[str, list[str]]:
    with suppress(OSError, ValueError):
        content = json.loads((folder / MANIFEST).read_bytes())
        if isinstance(content, dict) and all(isinstance(each, list) for each in content.values()):
            return content
    return {}


def _write(folder: Path, digests: Mapping[str, Sequence[str]]) -> None:
    write_text(folder / MANIFEST, json.dumps(digests, indent=1) + "\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
