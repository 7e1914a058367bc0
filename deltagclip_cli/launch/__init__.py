"""Places where trials run: this process, workers on this machine, the jobs of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deltagclip_cli.core import Catalogue, UsageError, load_target, nearest

if TYPE_CHECKING:
    from deltagclip_cli.launch.launcher import Launcher

TABLE = Catalogue(
    "launcher",
    {
        "local": "deltagclip_cli.launch.local:LocalLauncher",
        "inline": "deltagclip_cli.launch.inline:InlineLauncher",
        "slurm": "deltagclip_cli.slurm.submit:SlurmLauncher",
    },
)


def find_launcher(name: str, given: Iterable[str]) -> type[Launcher]:
    """Find a launcher that takes the options ``given``, of those that only some launchers take."""
    if name not in TABLE.entries:
        raise UsageError(
            f"--launcher {name}: there is no such launcher.\n"
            f"  launchers: {', '.join(TABLE.entries)}{nearest(name, TABLE.entries)}"
        )
    launchers: dict[str, type[Launcher]] = {
        each: load_target(target) for each, target in TABLE.entries.items()
    }
    launcher = launchers[name]
    for option in given:
        if option not in launcher.takes:
            taking = [each for each, other in launchers.items() if option in other.takes]
            words = f"--{option.replace('_', '-')}: only with --launcher {' or '.join(taking)}."
            raise UsageError("\n  ".join(filter(None, [words, launcher.instead])))
    return launcher
