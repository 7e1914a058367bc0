"""Ground floor, of which every room makes use: no torch, no numpy.

The rooms above import from here, not from the modules, so that what they use of the ground floor
is one line.
"""

from deltagclip_cli.core.catalogue import (
    Catalogue,
    compact,
    derive_seed,
    load_target,
)
from deltagclip_cli.core.errors import (
    ClaimedError,
    DataError,
    DeltaGClipError,
    DeviceError,
    ExitCode,
    FullDiskError,
    LostDeviceError,
    LostNodeError,
    NotYetError,
    RankFailedError,
    RankLostError,
    RunFolderError,
    SpecError,
    TakenOverError,
    TrialError,
    UnwritableError,
    UsageError,
)
from deltagclip_cli.core.files import (
    DATA,
    MOST_BYTES,
    Seen,
    check_opens,
    check_writable,
    claimed,
    file_status,
    files_seen,
    is_claimed,
    is_disk_full,
    is_folder,
    open_file,
    read_file,
    subfolders,
    write_text,
    written_whole,
)
from deltagclip_cli.core.metrics import (
    CLIP_RATIO,
    COMPARED_METRICS,
    EPOCH_SECONDS,
    EVALUATED,
    MARK,
    MOST_METRICS,
    REGIME_FRACTIONS,
    REGIMES,
    SPEED,
    TEST_METRICS,
    TRAINED_METRICS,
    Mode,
    TrainedMetric,
    are_mixed_shares,
    choice_notes,
    mark_of,
    measured_on,
    more_is_better,
    shown_metrics,
)
from deltagclip_cli.core.synonyms import nearest, nearest_word, synonym
from deltagclip_cli.core.wording import (
    NOTHING,
    as_number,
    by_size,
    duration,
    finite,
    listed,
    memory,
    plural,
    printable,
    ranges,
    short,
    shortened,
    shown_with,
    standard_error,
    stopped,
    with_error,
)
