"""The code of parts that somebody has written: where it is looked up, and which code it is.

A trial's identity covers it, by the name of a copy that is kept beside the run folders. Whoever
runs the trial imports that copy; whoever plans or reads imports nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deltagclip_cli.core import UsageError, subfolders
from deltagclip_cli.source.collecting import Code, changed, collect
from deltagclip_cli.source.snapshot import (
    check_copy,
    code_of,
    copy_of,
    find,
    keep,
    read_copy,
    time_of_copy,
    vouch,
)

FOLDER = ".code"
"""The folder in that of an experiment which holds the copies."""

_DIGITS = 16  # of a hash, which are the name of a code


@dataclass(frozen=True)
class CodeFolder:
    """The folder of a spec, or of a copy, in which ``FILE.py:NAME`` is looked up.

    It says nothing of what is found there, so that two of them are always equal.
    """

    path: Path = field(default=Path(), compare=False)
    # of the copies; None where nobody wants one
    store: Path | None = field(default=None, compare=False)
    _known: dict[tuple[str, ...], tuple[Code, str]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _copies: dict[tuple[str, ...], Path] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_spec(cls, folder: Path, runs: Path | None, experiment: str) -> CodeFolder:
        """Return the folder of a spec, with the copies that an experiment's runs folder has."""
        return cls(folder, None if runs is None else runs / experiment / FOLDER)

    @classmethod
    def of_copy(cls, runs: Path, experiment: str, name: str) -> CodeFolder:
        """Return the copy that a trial was planned with.

        Raises:
            LookupError: it is not there any more.
            RunFolderError: it is not as it was kept, or packages are of other versions by now.
        """
        store = runs / experiment / FOLDER
        check_copy(store, name)
        return cls(copy_of(store, name))

    def codes(self) -> list[str]:
        """Name the codes of which there are copies, in the order in which they were kept."""
        with suppress(OSError):
            if self.store is not None:
                return sorted(subfolders(self.store), key=partial(time_of_copy, self.store))
        return []

    def name(self, references: tuple[str, ...]) -> str | None:
        """Name the code behind some references; None if there are none."""
        return self._named(references)[1] if references else None

    def keep(self, references: tuple[str, ...]) -> None:
        """Keep a copy of the code behind some references; they are loaded from it from now on."""
        assert self.store is not None, "whoever runs trials has a runs folder"
        if references not in self._copies:
            self._copies[references] = keep(self._named(references)[0], self.store)

    def changes(
        self, references: tuple[str, ...], before: str
    ) -> tuple[Sequence[str], Sequence[str]]:
        """Return the references that an edit reaches, and where it is, if that is known.

        Args:
            before: the name of the code that was behind them.
        """
        assert self.store is not None, "there are trials with such code"
        try:
            old = read_copy(self.store, before)
        except LookupError:
            return references, []
        where = changed(old, self._named(references)[0])
        files = {each.partition(":")[0] for each in where}
        reached = [each for each in references if files & {*collect([each], self.path).files}]
        return reached or references, where

    def vouch(self, references: tuple[str, ...], before: str) -> None:
        """Record that what is behind some references now stands for the code ``before``."""
        assert self.store is not None, "there are trials with such code"
        self.keep(references)
        vouch(self.store, before, self._named(references)[1])

    def of(self, reference: str) -> Path:
        """Return the folder from which what a reference names is loaded."""
        copies = (path for references, path in self._copies.items() if reference in references)
        return next(copies, self.path)

    def _named(self, references: tuple[str, ...]) -> tuple[Code, str]:
        """Read the code once, so that all trials of one plan are of the same."""
        if references not in self._known:
            code = collect(references, self.path)
            name = code.hash[:_DIGITS] if self.store is None else find(code, self.store)
            self._known[references] = code, name
        return self._known[references]


def name_of_some(references: Collection[str], folder: Path, name: str) -> str:
    """Name the code of some of the parts that a code has; all of it if they cannot be told apart.

    Parts of the same files and packages have one copy, which lists the parts that first made it.

    Args:
        folder: of the experiment that has a copy.
    """
    try:
        return code_of(references, folder / FOLDER, name).hash[:_DIGITS]
    except (LookupError, UsageError):
        return name
