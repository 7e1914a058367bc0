"""The folder that TensorBoard looks at, made and kept as a plan says.

TensorBoard's fast loader keeps every file open and reads what is appended; its slow one goes on to
the next file by name and never back, and stays for ever at one that is gone. Neither sees that a
file was written anew or replaced by another of the same name, and what describes a run, such as its
hyper-parameters, is what came first. So what changes is written into a file with a new name that
sorts behind the old one, its first step makes TensorBoard forget the old points, and the old one
stays until the next change. What describes a run never changes, but is written before the links are
made. A run whose files are gone is gone in the fast loader, which is the usual one; the slow one
shows it until TensorBoard is started again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from deltagclip_cli.tensorboard.plan import Files, Plan

_MOST_BYTES = 255


@dataclass(frozen=True)
class _There:
    """What was made of the files of a run.

    Args:
        links: their targets, by their names.
        written: the names of ours; the last one counts.
        digest: of its content.
    """

    links: dict[str, Path]
    written: tuple[str, ...]
    digest: bytes


_NOTHING = _There({}, (), b"")


class BoardFolder:
    """A folder of runs for TensorBoard.

    Args:
        path: the folder; nothing else writes there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there: dict[str, _There] = {}
        self._numbers = count(1)

    def update(self, plan: Plan) -> int:
        """Make the folder hold a plan, and nothing else.

        Returns:
            How many runs were added, changed or removed.
        """
        changed = 0
        for run in [run for run in self._there if run not in plan.runs]:
            self._remove(self._path / run, self._there.pop(run))
            changed += 1
        for run, files in plan.runs.items():
            before = self._there.get(run, _NOTHING)
            now = self._make(self._path / run, before, files)
            changed += now != before
            self._there[run] = now
        return changed

    def _make(self, folder: Path, before: _There, files: Files) -> _There:
        links = {_link_name(target): target for target in files.links}
        digest = _digest(files.written)
        if links == before.links and digest == before.digest:
            return before
        folder.mkdir(parents=True, exist_ok=True)
        written = before.written
        if digest != before.digest:
            written = (*written[-1:], *self._write(folder, files.written))
        for name in links.keys() - before.links.keys():
            (folder / name).symlink_to(links[name])
        stale = {*before.links, *before.written} - {*links, *written}
        _unlink(folder, stale)
        return _There(links, written, digest)

    def _write(self, folder: Path, content: bytes | None) -> Sequence[str]:
        if content is None:
            return ()
        name = f"0.{next(self._numbers):09d}.tfevents"  # before the links, in order
        temporary = folder / "writing"  # which TensorBoard does not take for an event file
        temporary.write_bytes(content)
        temporary.replace(folder / name)
        return (name,)

    def _remove(self, folder: Path, there: _There) -> None:
        _unlink(folder, [*there.links, *there.written])
        with suppress(OSError):
            folder.rmdir()  # unless other runs are below


def _digest(content: bytes | None) -> bytes:
    return b"" if content is None else hashlib.sha256(content).digest()


def _link_name(target: Path) -> str:
    """The name of a link; in the order of the files' own names, as TensorBoard reads them."""
    name = f"run.{target.name}"
    if len(os.fsencode(name)) <= _MOST_BYTES:
        return name
    return f"run.{hashlib.sha256(os.fsencode(target.name)).hexdigest()}.tfevents"


def _unlink(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
