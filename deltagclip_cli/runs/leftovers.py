"""Files of a run folder that nobody needs any more: old checkpoints, halves of killed writes."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deltagclip_cli.core import Check, unchecked
from deltagclip_cli.runs.folder import RunFolder


@dataclass(frozen=True)
class Leftover:
    """A file that can go."""

    file: Path
    size_bytes: int


def leftovers(folder: RunFolder, *, keep_last: bool = True) -> list[Leftover]:
    """What can go of a folder that no process works in.

    A trial without a result needs its checkpoints, for it may go on. One that has ended needs none;
    the last is kept for whoever wants the weights.

    Args:
        folder: whose links are left alone.
        keep_last: keep the last checkpoint of a trial that has ended.
    """
    files = [*folder.path.glob(".*.part")]
    if folder.result() is not None:
        all_there = folder.next_checkpoint_file, folder.checkpoint_file
        last = next((file for file in all_there if file.exists()), None)
        checkpoints = (*all_there, folder.previous_checkpoint_file)
        files += [file for file in checkpoints if not (keep_last and file == last)]
    found = []
    for file in files:
        with suppress(OSError):
            status = file.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append(Leftover(file, status.st_size))
    return found


def remove_leftovers(
    folder: RunFolder, *, keep_last: bool = True, check: Check = unchecked
) -> list[Leftover]:
    """Delete them, and return them; only who holds the folder may call this.

    Args:
        folder: of the trial.
        keep_last: as for :func:`leftovers`.
        check: called before each; raises an error if the folder is another's now.

    Raises:
        OSError: one cannot be deleted.
    """
    found = leftovers(folder, keep_last=keep_last)
    for each in found:
        check()
        each.file.unlink(missing_ok=True)
    return found
