"""A run folder: what its files say, whoever wrote them and wherever they were torn."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from obstacles import OBSTACLES, as_nobody
from run_cases import result_text
from tiny_spec import trial_of

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.runs.folder import RunFolder, State, read_heartbeat
from deltagclip_cli.runs.hold import HeldFolder, create, hold, read_owner
from deltagclip_cli.spec.trial import Trial


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return trial_of(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, trial: Trial) -> RunFolder:
    """The folder of ``trial``, not made yet."""
    return RunFolder.of(tmp_path / "runs", trial)


def test_the_path_says_experiment_optimizer_seed_and_identity(
    tmp_path: Path, trial: Trial, folder: RunFolder
) -> None:
    assert folder.path == tmp_path / "runs/tiny/sgd" / f"seed-0-{trial.identity[:8]}"


def test_the_names_of_the_files_are_these(folder: RunFolder) -> None:
    files = [
        folder.trial_file,
        folder.environment_file,
        folder.metrics_file,
        folder.checkpoint_file,
        folder.previous_checkpoint_file,
        folder.log_file,
        folder.error_file,
        folder.result_file,
        folder.owner_file,
    ]
    assert [file.name for file in files] == [
        "trial.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "log.txt",
        "error.txt",
        "result.json",
        "owner.json",
    ]
    assert {file.parent for file in files} == {folder.path}


def test_a_state_is_derived_from_the_files(trial: Trial, folder: RunFolder) -> None:
    assert folder.state is State.NEW
    create(folder, trial)
    assert folder.state is State.NEW
    folder.metrics_file.touch()
    assert folder.state is State.INTERRUPTED
    folder.error_file.write_text("why")
    assert folder.state is State.FAILED
    folder.result_file.write_text(result_text("diverged"))
    assert folder.state is State.DIVERGED
    folder.result_file.write_text(result_text())
    assert folder.state is State.FINISHED


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b'{"status": "fin', b"[]", b"{}", b"null", b'{"stat', b"\xff\xfe", b"\x00" * 64],
)
def test_a_result_that_is_empty_or_torn_is_no_result(
    trial: Trial, folder: RunFolder, content: bytes
) -> None:
    create(folder, trial)
    folder.metrics_file.touch()
    folder.result_file.write_bytes(content)
    assert folder.result() is None
    assert folder.state is State.INTERRUPTED


def line(epoch: object) -> bytes:
    return json.dumps({"epoch": epoch, "step": 2, "time": 1e9, "test/loss": 0.5}).encode() + b"\n"


WHOLE = line(1) + line(2)


@pytest.mark.parametrize(
    ("content", "epochs"),
    [
        (WHOLE, [1, 2]),
        (WHOLE + line(3)[:9], [1, 2]),
        (WHOLE + line(3)[:-1], [1, 2]),
        (line(1) + line(2)[:9] + line(3), [1]),
        (line(1) + b"\x00\x00\x00", [1]),
        (line(1) + b"\xff\n" + line(3), [1]),
        (line(1) + b"3\n", [1]),
        (line(1) + b"[" * 100_000 + b"\n" + line(3), [1]),
        (line(1) + b" " * 2**21 + line(2), [1]),
        (line(1) + line("2"), [1]),
        (line(1) + line(1.5), [1, 1.5]),
        (line(1) + line(True), [1]),
        (line(1) + line(None), [1]),
        (line(1) + b'{"epoch": 2, "time": 1e9}\n', [1]),
        (line(1) + line(2).replace(b"1000000000.0", b"null"), [1]),
        (line(1) + line(2).replace(b"0.5", b"Infinity"), [1]),
        (line(1) + line(2).replace(b"0.5", b"1e999"), [1]),
        (line(1) + line(2).replace(b"0.5", b"9" * 400), [1]),
        (line(1) + line(2).replace(b"0.5", b'"low"'), [1]),
        (line(1) + line(2).replace(b"0.5", b"[0.5]"), [1]),
        (line(1) + line(2).replace(b"0.5", b"null"), [1, 2]),
        (line(1) + line(2).replace(b"0.5", b"3"), [1, 2]),
        (b"\n" + WHOLE, []),
        (b"", []),
    ],
)
def test_metrics_are_read_up_to_the_first_line_that_is_no_record(
    trial: Trial, folder: RunFolder, content: bytes, epochs: list[int]
) -> None:
    create(folder, trial)
    folder.metrics_file.write_bytes(content)
    assert [record["epoch"] for record in folder.metrics()] == epochs


FILES = [
    *(".lock", "trial.yaml", "environment.json", "metrics.jsonl", "metrics.damaged.jsonl"),
    *("checkpoint.pt", "checkpoint.next.pt", "checkpoint.previous.pt", "progress.json"),
    *("log.txt", "error.txt", "stopped.txt", "pruned.txt", "owner.json", "result.json"),
    *("certificate.json", "events.out.tfevents.1.host.2"),
]


@pytest.mark.parametrize("why", OBSTACLES)
def test_what_lies_in_the_place_of_a_file_is_named_at_once(
    trial: Trial, folder: RunFolder, why: str
) -> None:
    for name in FILES:
        create(folder, trial)
        (folder.path / name).unlink(missing_ok=True)
        OBSTACLES[why](folder.path / name)
        assert (folder.state, folder.reason) == (State.FAILED, f"{name} cannot be read: {why}")
        with pytest.raises(RunFolderError, match=re.escape(f"{name} cannot be read: {why}")):
            folder.check_files()
        assert folder.result() is None
        assert folder.is_claimed() is False
        assert read_owner(folder) is None
        assert read_heartbeat(folder) is None
        if name == "trial.yaml":
            with pytest.raises(RunFolderError, match="trial"):
                folder.trial()
        shutil.rmtree(folder.path)


def test_what_is_nobodys_is_no_obstacle(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    (folder.path / "plots").mkdir()
    os.mkfifo(folder.path / "pipe")
    folder.check_files()
    assert folder.state is State.NEW
    folder.result_file.write_text(result_text())
    os.mkfifo(folder.log_file)
    assert folder.state is State.FINISHED, "what is finished needs no log"


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("has_files", [True, False])
def test_a_folder_that_another_user_keeps_to_himself_is_named(
    open_folder: Path, trial: Trial, mode: int, has_files: bool
) -> None:
    folder = RunFolder.of(open_folder / "runs", trial)
    create(folder, trial)
    if not has_files:
        folder.trial_file.unlink()
    folder.path.chmod(mode)
    with as_nobody():
        assert folder.state is State.FAILED
        assert "cannot be read: Permission denied" in folder.reason
    folder.path.chmod(0o755)


def test_a_trial_that_is_nested_without_end_is_no_trial(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    folder.trial_file.write_text("[" * 100_000)
    with pytest.raises(RunFolderError, match="not a trial that this version reads"):
        folder.trial()


def test_every_cut_of_the_metrics_gives_the_whole_lines_before_it(
    trial: Trial, folder: RunFolder
) -> None:
    create(folder, trial)
    for length in range(len(WHOLE) + 1):
        folder.metrics_file.write_bytes(WHOLE[:length])
        assert len(list(folder.metrics())) == WHOLE[:length].count(b"\n")


def test_there_are_no_metrics_without_a_file(folder: RunFolder) -> None:
    assert list(folder.metrics()) == []


def test_a_folder_remembers_its_trial(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    create(folder, trial)
    remembered = RunFolder(folder.path)
    assert remembered.trial_to_run() == trial
    assert remembered.trial().identity == trial.identity
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "trial.yaml"]


def test_settings_that_leave_the_numbers_alone_may_change(
    tmp_path: Path, trial: Trial, folder: RunFolder
) -> None:
    create(folder, trial)
    later = trial_of(tmp_path, "checkpoint.epochs=7", "log_every=3")
    assert RunFolder.of(tmp_path / "runs", later) == folder
    create(folder, later)
    assert folder.trial_to_run() == later


def test_a_folder_of_another_spec_is_refused_with_what_differs(
    tmp_path: Path, trial: Trial, folder: RunFolder
) -> None:
    create(folder, trial)
    before = folder.trial_file.read_bytes()
    other = trial_of(tmp_path, "optimizers.sgd.lr=0.2", "data.augment=flip")
    for refused in (partial(create, folder), folder.check):
        with pytest.raises(RunFolderError) as caught:
            refused(other)
        message = str(caught.value)
        assert message.startswith(f"{folder.path}: made from another spec: ")
        assert "optimizer.lr (0.1 then, 0.2 now)" in message
        assert "data.augment ([] then, " in message
        assert "momentum" not in message
        assert "--runs DIR" in message
    assert folder.trial_file.read_bytes() == before


@pytest.mark.parametrize("content", ["", "seed: 1\n", "a: [", "\x00", "experiment: ../x\n", "3"])
def test_a_trial_file_that_is_torn_or_foreign_is_named_with_the_next_step(
    trial: Trial, folder: RunFolder, content: str
) -> None:
    create(folder, trial)
    folder.trial_file.write_text(content)
    for refused in (folder.trial, lambda: create(folder, trial)):
        with pytest.raises(RunFolderError, match="not a trial that this version reads") as caught:
            refused()
        assert str(caught.value).startswith(str(folder.trial_file))
        assert str(caught.value).count("\n") == 1


def test_a_trial_file_that_is_not_text_is_refused(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    folder.trial_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunFolderError, match="not a trial that this version reads"):
        folder.trial()


def test_a_folder_without_a_trial_is_no_run_folder(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"not a run folder, for it has no trial\.yaml"):
        folder.trial()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path, trial: Trial) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(RunFolderError, match="cannot be made or written: ") as caught:
        create(RunFolder.of(tmp_path / "runs", trial), trial)
    assert "--runs DIR" in str(caught.value)
    assert (tmp_path / "runs").read_text() == "not a folder"


def test_files_of_other_trials_survive_a_folder_that_cannot_be_written(
    tmp_path: Path, folder: RunFolder, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = RunFolder.of(tmp_path / "runs", trial_of(tmp_path, "seeds=[1]"))
    create(neighbour, trial_of(tmp_path, "seeds=[1]"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deltagclip_cli.runs.hold.write_text", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        create(folder, trial)
    assert neighbour.trial().seed == 1


def test_leftovers_of_a_killed_writer_are_harmless(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    for name in (".result.json.123.part", ".trial.yaml.123.part", ".metrics.jsonl.9.part"):
        (folder.path / name).write_text(result_text())
    assert folder.result() is None
    assert folder.state is State.NEW
    assert folder.trial_to_run() == trial
    assert folder.event_files() == []
    create(folder, trial)


def test_a_failure_is_written_with_its_traceback(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    try:
        raise ValueError("the loss fell off")
    except ValueError as error:
        HeldFolder(folder).record_failure(error, "the loss fell off.\n  Try again.")
    text = folder.error_file.read_text()
    assert text.startswith("the loss fell off.\n\nTraceback")
    assert folder.reason == "the loss fell off."
    assert "ValueError: the loss fell off" in text
    assert folder.state is State.FAILED


def test_a_failure_that_cannot_be_written_is_not_a_second_one(folder: RunFolder) -> None:
    HeldFolder(folder).record_failure(ValueError("nowhere to write"), "nowhere to write")
    assert not folder.path.exists()


def test_of_a_cleared_folder_the_claim_alone_is_left(trial: Trial, folder: RunFolder) -> None:
    """So that no other process comes in between that and the new start."""
    create(folder, trial)
    folder.result_file.write_text(result_text())
    (folder.path / "mine").mkdir()
    (folder.path / "mine" / "notes").touch()
    with hold(folder) as held:
        held.clear()
        assert [path.name for path in folder.path.iterdir()] == [".lock"]
        assert folder.state is State.NEW
        assert folder.is_claimed()


def test_event_files_come_oldest_first(trial: Trial, folder: RunFolder) -> None:
    create(folder, trial)
    for name in ("events.out.tfevents.20.b", "events.out.tfevents.10.a"):
        (folder.path / name).touch()
    assert [path.name[-1] for path in folder.event_files()] == ["a", "b"]


def test_a_folder_that_another_process_works_in_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with hold(folder):
        other = subprocess.run(
            [sys.executable, "-c", CLAIM, str(tmp_path)], capture_output=True, text=True
        )
        assert "another process is working in this run folder" in other.stderr
    with hold(folder):
        pass


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    """The lock is the operating system's: a file that stays behind does not count."""
    subprocess.run(
        [sys.executable, "-c", CLAIM + "; os.kill(os.getpid(), 9)", str(tmp_path)], check=False
    )
    assert RunFolder(tmp_path).lock_file.exists()
    with hold(RunFolder(tmp_path)):
        pass


CLAIM = """
import os, sys
from pathlib import Path
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.runs.folder import RunFolder
claim = hold(RunFolder(Path(sys.argv[1])))
claim.__enter__()""".strip()
