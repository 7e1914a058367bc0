"""The checkpoints of a trial: written whole, and looked at closely before one is gone on with."""

from __future__ import annotations

import errno
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from deltagclip_cli.training.sinks import Record, checksum

if TYPE_CHECKING:
    from deltagclip_cli.runs.hold import HeldFolder

logger = logging.getLogger(__name__)

VERSION = 1  # of checkpoints


class Saving(Protocol):
    """Writes checkpoints."""

    def save(self, state: dict[str, Any]) -> None:
        """Write a state, or begin to; one before it is written then."""

    def wait(self) -> None:
        """Return when everything is written."""

    def close(self) -> None:
        """Return when nothing is being written any more, whatever became of it."""


class Checkpoints:
    """The two newest checkpoints of a trial; one of another identity is never loaded."""

    def __init__(self, held: HeldFolder, identity: str) -> None:
        self._held = held
        self._newest = held.folder.checkpoint_file
        self._previous = held.folder.previous_checkpoint_file
        self._staged = held.folder.next_checkpoint_file
        self._identity = identity

    def beside(self, device: torch.device) -> Saving:
        """Return what saves while a device trains: a GPU goes on, a CPU would share its cores."""
        if device.type != "cuda":
            return self
        from deltagclip_cli.training.background import BackgroundCheckpoints, SideStream

        return BackgroundCheckpoints(self.save, SideStream(device))

    def wait(self) -> None:
        """Return when everything is written, which it is."""

    def close(self) -> None:
        """Return when nothing is being written any more."""

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state``, and keep the newest until now as the previous.

        Raises:
            OSError: the disk is full or cannot be written; what was there is untouched.
        """
        marked = {"version": VERSION, "identity": self._identity, **state}
        try:
            with self._held.whole(self._staged) as file:
                torch.save(marked, file)
        except RuntimeError as error:
            # torch.save says "unexpected pos"; why the file took no more is what it hides.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        self._give_names()

    def _give_names(self) -> None:
        """Make the staged file, which is whole, the newest, and the newest the previous."""
        if self._newest.exists():
            self._held.rename(self._newest, self._previous)
        self._held.rename(self._staged, self._newest)

    def newest_first(self) -> Iterator[dict[str, Any]]:
        """Yield the checkpoints that can be used, the newest first, on the CPU; log which cannot.

        A file that cannot be read now raises, for that says nothing against it.
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
        if "shards" in state:
            from deltagclip_cli.training.ranks.sharded_checkpoints import damage

            if words := damage(state, self._held.folder):
                raise ValueError(words)
        return state

    def where_to_continue(self) -> tuple[dict[str, Any] | None, Sequence[Record]]:
        """Return the newest checkpoint whose records are all there, and those records.

        A checkpoint is written after the records that it counts on, but a disk can lose, tear or
        change what came before; then the one before it serves, and without any the trial starts
        again.
        """
        folder = self._held.folder
        records = list(folder.metrics())
        refused = False
        for state in self.newest_first():
            kept = [record for record in records if _is_covered(record, state)]
            reason = _objection(kept, state)
            if not reason:
                return state, kept
            refused = True
            said = f"The checkpoint at step {state['step']} cannot be used"
            logger.warning(f"{said}: {folder.metrics_file} {reason}.")
        if refused:
            with suppress(FileNotFoundError):
                self._held.rename(folder.metrics_file, folder.damaged_metrics_file)
                logger.warning("What it has is kept as %s.", folder.damaged_metrics_file.name)
        if refused or records:
            logger.warning("%s: no checkpoint can be used; starting again at epoch 1.", folder.path)
        return None, []


def _objection(kept: Sequence[Record], state: Mapping[str, Any]) -> str:
    """Say why records are not those that a checkpoint counts on; empty if they are."""
    if len(kept) < state["records"]:
        return f"has only {len(kept)} of its {state['records']} records"
    # Checkpoints of earlier versions know of the number alone.
    known = state.get("checksum")
    if len(kept) > state["records"] or known not in (None, checksum(kept)):
        return "is not what it was then"
    return ""


def _is_covered(record: Record, state: Mapping[str, Any]) -> bool:
    return bool(record["step"] <= state["step"])
