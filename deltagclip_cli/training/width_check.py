"""What room there is for networks and data, before they are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from deltagclip_cli.core import DeviceError


def free_bytes(device: torch.device) -> int | None:
    """The memory that is free on a device; None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [_of_system("MemAvailable"), _of_container(lambda limit, used: max(0, limit - used))]
    return min((each for each in known if each is not None), default=None)


def total_bytes(device: torch.device) -> int | None:
    """The memory that a device has; None where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    known = [_of_system("MemTotal"), _of_container(lambda limit, used: limit)]
    return min((each for each in known if each is not None), default=None)


def _of_system(name: str) -> int | None:
    """What Linux says it has, or could give without swapping."""
    with suppress(OSError):
        found = re.search(rf"^{name}: +(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def _of_container(figure: Callable[[int, int], int]) -> int | None:
    """A figure of a container's limit and of what is used of it, if it has a limit."""
    with suppress(OSError, ValueError):
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        return figure(limit, used)
    return None


_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def check_width(width: int, parameters: Callable[[int], int], copy_bytes: int, free: int) -> None:
    """Check that a network of some width fits.

    Args:
        width: of its layers.
        parameters: how many it has for any width; grows with it.
        copy_bytes: what training takes for each of them.
        free: memory in bytes.

    Raises:
        DeviceError: it does not; the message says which width would.
    """
    needed = parameters(width) * copy_bytes
    if needed <= free:
        return
    fits, too_wide = 0, width
    while too_wide - fits > max(1, fits // 100):  # to a hundredth, for memory comes and goes
        middle = (fits + too_wide) // 2
        if parameters(middle) * copy_bytes <= free:
            fits = middle
        else:
            too_wide = middle
    raise DeviceError(
        f"model.width is {width}: training its {parameters(width):,} parameters takes about "
        f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.\n"
        f"  A width of {fits} would fit: --set model.width={fits}"
    )
