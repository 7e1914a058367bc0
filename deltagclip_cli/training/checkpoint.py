"""Checkpoints: tensors and plain values only, so that they load without running any code."""

from __future__ import annotations

import errno
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from deltagclip_cli.core import Check, unchecked, written_whole
from deltagclip_cli.runs.folder import RunFolder

logger = logging.getLogger(__name__)

VERSION = 1


class Checkpoints:
    """The two newest checkpoints of a run folder.

    Args:
        folder: the run folder.
        identity: the trial's; a checkpoint of another trial is never loaded.
        check: called before every write; raises an error if the folder is another's now.
    """

    def __init__(self, folder: RunFolder, identity: str, check: Check = unchecked) -> None:
        self._newest = folder.checkpoint_file
        self._previous = folder.previous_checkpoint_file
        self._staged = folder.next_checkpoint_file
        self._identity = identity
        self._check = check

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state``, keeping the checkpoint that was the newest until now as the previous.

        Raises:
            OSError: the disk is full or cannot be written; what was there is untouched.
        """
        marked = {"version": VERSION, "identity": self._identity, **state}
        try:
            with written_whole(self._staged, self._check) as file:
                torch.save(marked, file)
        except RuntimeError as error:
            # torch.save says "unexpected pos"; why the file took no more is what it hides.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        self._give_names()

    def _give_names(self) -> None:
        """Make the staged file, which is whole, the newest, and the newest the previous."""
        if self._newest.exists():
            self._check()
            self._newest.replace(self._previous)
        self._check()
        self._staged.replace(self._newest)

    def newest_first(self) -> Iterator[dict[str, Any]]:
        """Every checkpoint that can be used, the newest first, on the CPU; says which cannot.

        Raises:
            OSError, MemoryError, torch.OutOfMemoryError: a file cannot be read now, which says
                nothing against it.
        """
        if self._staged.is_file():  # its process was killed before the last rename
            self._give_names()
        for path in (self._newest, self._previous):
            if not path.exists():
                continue
            try:
                yield self._read(path)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # torch.load has no narrower class for a bad file
                # A damaged file sends its readers to places before its beginning, which is EINVAL.
                if isinstance(error, OSError) and error.errno != errno.EINVAL:
                    raise
                reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
                logger.warning("%s cannot be used (%s); trying the one before it.", path, reason)

    def _read(self, path: Path) -> dict[str, Any]:
        # torch.load does not look at the checksums that torch.save has written.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("its content is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise ValueError("it was not written by this version")
        if state.get("identity") != self._identity:
            raise ValueError("it belongs to another trial")
        return state
