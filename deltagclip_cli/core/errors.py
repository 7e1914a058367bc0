"""Everything that goes wrong on purpose, shown to the user as it is, without a traceback.

A message says where, what, what was got and what to do next.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The codes that the process returns to the shell."""

    OK = 0
    """All that was asked for is done."""
    FAILED = 1
    """A trial failed or diverged, a check found something, or there is no answer yet."""
    USAGE = 2
    """The command line, the spec, the data or a folder cannot be used; nothing was begun."""
    STOPPED = 75
    """A trial stopped early, with a checkpoint: run the same command again."""
    CLAIMED = 76
    """Of ``worker`` only: another process has its run folder."""
    PAUSED = 77
    """Of ``worker`` only: it has trained the part that it was told to."""
    INTERRUPTED = 130
    """Ctrl-C ended it; a trial has its checkpoint."""


class DeltaGClipError(Exception):
    """The base of all errors that are meant for the person at the terminal."""

    exit_code = ExitCode.FAILED


class UsageError(DeltaGClipError):
    """The command line, the spec, the data or a folder cannot be used as they are."""

    exit_code = ExitCode.USAGE


class SpecError(UsageError):
    """A spec has faults; the message lists all of them, a paragraph each."""


class DataError(UsageError):
    """The files of a data set are missing, torn or do not fit the experiment."""


class DeviceError(UsageError):
    """The device that was asked for does not exist here."""


class RunFolderError(UsageError):
    """A run folder cannot be made, read or continued."""


class ClaimedError(RunFolderError):
    """Another process works in the run folder."""


class TakenOverError(ClaimedError):
    """Another process has made the run folder its own while this one worked in it."""


class UnwritableError(RunFolderError):
    """Nothing can be written in a run folder, or it cannot be made."""


class NotYetError(DeltaGClipError):
    """Nothing is wrong: what is asked for is only not there yet."""


class TrialError(DeltaGClipError):
    """A trial failed while it was running."""


class LostDeviceError(TrialError):
    """A GPU that can no longer be used has interrupted a trial, which goes on elsewhere."""

    exit_code = ExitCode.STOPPED
    reason = "the GPU is lost"  # of which a launcher knows it by the trial's folder


class RankLostError(TrialError):
    """A process that trains a trial together with others has ended, or hangs; it goes on later."""

    exit_code = ExitCode.STOPPED


class LostNodeError(RankLostError):
    """A node that no longer answers has interrupted a trial, which goes on with another."""

    reason = "a node is lost"  # of which a job knows it by the trial's folder


class RankFailedError(TrialError):
    """A process that trains a trial together with others has failed; ``told`` is its traceback."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(f"{reason}\n\n{told}")
        self.reason = reason


class FullDiskError(TrialError):
    """A full disk has interrupted a trial, which goes on when there is room."""

    exit_code = ExitCode.STOPPED
