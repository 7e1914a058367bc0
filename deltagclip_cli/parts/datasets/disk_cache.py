"""Results that are worked out of a data set once and kept beside it, such as decoded images."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deltagclip_cli.core import written_whole

_LOG = logging.getLogger("deltagclip_cli")


def load_kept(file: Path, what: str) -> dict[str, Any] | None:
    """The content of a file that :func:`keep` wrote; None where it has to be made (again).

    The file is named by all that the content depends on, so that any change makes another.
    """
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(file, weights_only=True)
        intact = content.pop("checksum") == _checksum(content)
    except MemoryError:
        raise
    except Exception:  # torch.load has no narrower class for a bad file
        intact = False
    if not intact:
        _LOG.warning("%s is damaged; making %s anew", file, what)
        return None
    return content


def keep(content: Mapping[str, Any], file: Path, what: str) -> None:
    """Write tensors and plain values, whole or not at all; a folder that takes none is no error."""
    try:
        file.parent.mkdir(exist_ok=True)
        with written_whole(file) as opened, _without_sums():
            torch.save({**content, "checksum": _checksum(content)}, opened)
    except (OSError, RuntimeError) as error:
        _LOG.warning("cannot keep %s in %s: %s", what, file.parent, error)


@contextmanager
def _without_sums() -> Iterator[None]:
    """Keep torch from making checksums of its own, which take longer than all else."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def _checksum(content: Mapping[str, Any]) -> int:
    # Torch notices a file that was cut short, but not a byte that changed.
    checksum = 0
    for value in content.values():
        if isinstance(value, Tensor):
            checksum = zlib.crc32(value.contiguous().numpy().data, checksum)
    return checksum
