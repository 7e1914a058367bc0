"""Ground floor, of which every room makes use: no torch, no numpy.

The rooms above import from here, not from the modules, so that what they use of the ground floor
is one line.
"""

from deltagclip_cli.core.catalogue import Catalogue, compact, load_target
from deltagclip_cli.core.errors import (
    ClaimedError,
    DataError,
    DeltaGClipError,
    DeviceError,
    ExitCode,
    FullDiskError,
    NotYetError,
    RunFolderError,
    SpecError,
    TakenOverError,
    TrialError,
    UnwritableError,
    UsageError,
)
from deltagclip_cli.core.files import (
    Check,
    check_writable,
    claimed,
    file_status,
    is_claimed,
    is_disk_full,
    is_folder,
    open_file,
    read_file,
    subfolders,
    unchecked,
    write_text,
    written_whole,
)
from deltagclip_cli.core.seeds import derive_seed
from deltagclip_cli.core.wording import listed, plural, printable, ranges, shortened, stopped

__all__ = [
    "Catalogue",
    "Check",
    "ClaimedError",
    "DataError",
    "DeltaGClipError",
    "DeviceError",
    "ExitCode",
    "FullDiskError",
    "NotYetError",
    "RunFolderError",
    "SpecError",
    "TakenOverError",
    "TrialError",
    "UnwritableError",
    "UsageError",
    "check_writable",
    "claimed",
    "compact",
    "derive_seed",
    "file_status",
    "is_claimed",
    "is_disk_full",
    "is_folder",
    "listed",
    "load_target",
    "open_file",
    "plural",
    "printable",
    "ranges",
    "read_file",
    "shortened",
    "stopped",
    "subfolders",
    "unchecked",
    "write_text",
    "written_whole",
]
