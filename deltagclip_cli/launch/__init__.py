"""Where trials run: in this process, in workers on this machine.

A launcher takes trials from a :class:`~deltagclip_cli.launch.queue.Queue` until it is empty. In
this sense Slurm is none: trials are handed to it, and in its jobs the local launcher runs them.
"""

from __future__ import annotations

from deltagclip_cli.core import Catalogue, UsageError
from deltagclip_cli.spec.faults import nearest

TABLE = Catalogue(
    "launcher",
    {
        "local": "deltagclip_cli.launch.local:LocalLauncher",
        "inline": "deltagclip_cli.launch.inline:InlineLauncher",
    },
)

SLURM = "slurm"


def find_launcher(name: str) -> str:
    """The target of the launcher called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    target = TABLE.find(name)
    if target is None:
        names = [*TABLE.all(), SLURM]
        raise UsageError(
            f"--launcher {name}: there is no such launcher.\n"
            f"  launchers: {', '.join(names)}{nearest(name, names)}"
        )
    return target
