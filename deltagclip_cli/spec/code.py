"""The code of parts that somebody has written: where it is looked up, and which code it is.

A trial's identity covers it, by the name of a copy that is kept beside the run folders. Whoever
runs the trial imports that copy; whoever plans or reads imports nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deltagclip_cli.core import subfolders
from deltagclip_cli.source.collecting import Code, collect
from deltagclip_cli.source.snapshot import check_copy, copy_of, find, keep

FOLDER = ".code"
"""The folder in that of an experiment which holds the copies."""


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
    def of_spec(cls, file: Path, runs: Path | None, experiment: str) -> CodeFolder:
        """Return the folder of a spec, with the copies that an experiment's runs folder has."""
        return cls(file.parent, None if runs is None else runs / experiment / FOLDER)

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
        """Name the codes of which there are copies."""
        with suppress(OSError):
            return [] if self.store is None else subfolders(self.store)
        return []

    def code(self, references: tuple[str, ...]) -> Code:
        """Return the code behind some references, as it was when it was first asked for."""
        return self._named(references)[0]

    def name(self, references: tuple[str, ...]) -> str | None:
        """Name the code behind some references; None if there are none."""
        return self._named(references)[1] if references else None

    def keep(self, references: tuple[str, ...]) -> None:
        """Keep a copy of the code behind some references; they are loaded from it from now on."""
        assert self.store is not None, "whoever runs trials has a runs folder"
        if references not in self._copies:
            self._copies[references] = keep(self._named(references)[0], self.store)

    def of(self, reference: str) -> Path:
        """Return the folder from which what a reference names is loaded."""
        copies = (path for references, path in self._copies.items() if reference in references)
        return next(copies, self.path)

    def _named(self, references: tuple[str, ...]) -> tuple[Code, str]:
        """Read the code once, so that all trials of one plan are of the same."""
        if references not in self._known:
            code = collect(references, self.path)
            name = code.hash[:16] if self.store is None else find(code, self.store)
            self._known[references] = code, name
        return self._known[references]
