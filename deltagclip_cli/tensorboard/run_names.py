"""Names of runs in TensorBoard, which are the paths of their folders."""

from __future__ import annotations

from collections.abc import Hashable

from deltagclip_cli.core import printable

_MOST_BYTES = 180  # file systems allow 255; what tells equal names apart comes behind
# A slash would make a folder. TensorBoard looks for the run of a line behind the first bracket.
_REPLACED = str.maketrans({"/": "_", "\\": "_", "(": "[", ")": "]"})


def safe(text: str) -> str:
    """A text as the name of a folder, wherever it came from: one that leads nowhere else."""
    name = printable(text).translate(_REPLACED).strip(". ")
    return name.encode()[:_MOST_BYTES].decode(errors="ignore").strip(". ") or "_"


class Names:
    """Gives names, each to one thing only; a thing that comes again keeps its name.

    So the folder of a run stays where it is while other runs appear.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[str, Hashable], str] = {}
        self._taken: set[str] = set()

    def path(self, parent: str, key: Hashable, text: str) -> str:
        """The path of a folder.

        Args:
            parent: the path of the folder around it; empty for none.
            key: what tells the thing from all others there.
            text: how people call it.
        """
        name = self._given.get((parent, key))
        if name is None:
            name = self._given[parent, key] = self._free(f"{parent}/{safe(text)}".lstrip("/"))
        return name

    def _free(self, path: str) -> str:
        # Some file systems know no capitals, and some only one form of an accent.
        number, free = 1, path
        while free.casefold() in self._taken:
            number += 1
            free = f"{path} [{number}]"
        self._taken.add(free.casefold())
        return free
