"""Who may write in a run folder: its holder, and nobody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from obstacles import OBSTACLES
from tiny_spec import trial_of

from deltagclip_cli.core import ClaimedError, UnwritableError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create, hold
from deltagclip_cli.spec.trial import Trial

HOLD = """
import sys
from pathlib import Path
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.runs.folder import RunFolder
with hold(RunFolder(Path(sys.argv[1])), make=True):
    print("held", flush=True)
    sys.stdin.read()
""".strip()

CLEAR = """
import sys
from pathlib import Path
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.runs.folder import RunFolder
with hold(RunFolder(Path(sys.argv[1]))) as held:
    held.clear()
    held.take()
""".strip()


@contextmanager
def held_elsewhere(folder: RunFolder) -> Iterator[None]:
    """Another process holds the folder, which it makes, while the context lasts."""
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
        process.communicate("")


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return trial_of(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, trial: Trial) -> RunFolder:
    """The folder of ``trial``, not made yet."""
    return RunFolder.of(tmp_path / "runs", trial)


def test_a_folder_that_is_removed_while_it_is_made_is_said_to_be(
    folder: RunFolder, trial: Trial
) -> None:
    with hold(folder, make=True) as held:
        shutil.rmtree(folder.path)
        with pytest.raises(UnwritableError, match="cannot be made or written: No such file"):
            held.keep(trial)


def test_a_folder_that_another_process_holds_is_not_written(
    folder: RunFolder, trial: Trial
) -> None:
    with held_elsewhere(folder):
        with pytest.raises(ClaimedError, match="another process is working in this run folder"):
            create(folder, trial)
        with pytest.raises(ClaimedError), hold(folder):
            raise AssertionError
        assert [path.name for path in folder.path.iterdir()] == [".lock"]
    create(folder, trial)
    assert folder.trial_to_run() == trial


def test_a_trial_file_that_means_the_same_is_left_as_it_is(
    tmp_path: Path, trial: Trial, folder: RunFolder
) -> None:
    """A sweep writes what the spec says, such as 0; whoever reads it again has 0.0."""
    create(folder, trial)
    before = folder.trial_file.stat()
    for same in (folder.trial(), trial_of(tmp_path, "optimizers.sgd.weight_decay=0.0")):
        create(folder, same)
    after = folder.trial_file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("make", OBSTACLES.values(), ids=OBSTACLES)
def test_whatever_lies_in_place_of_the_owner_can_be_cleared_away(
    folder: RunFolder, trial: Trial, make: Callable[[Path], None]
) -> None:
    create(folder, trial)
    make(folder.owner_file)
    command = [sys.executable, "-c", CLEAR, str(folder.path)]
    subprocess.run(command, check=True, timeout=300)  # a pipe would never answer
    assert os.listdir(folder.path) == [folder.lock_file.name]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".result.json.123.part", ".a.9.part", "a", ".hidden", "a.part"):
        (tmp_path / name).touch()
    HeldFolder(RunFolder(tmp_path)).remove_unfinished()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a", "a.part"]
