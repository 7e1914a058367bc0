"""Files that are damaged between two sweeps, trials that fail, and very many trials."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from sweep_cases import (
    LONG,
    SHORT,
    Place,
    assert_kept,
    assert_same_numbers,
    assert_tells_people,
    shows_summary,
    wait_for,
)

from deltagclip_cli.runs.folder import RunFolder


@pytest.mark.slow
def test_damaged_files_are_made_again_and_a_torn_trial_is_named(
    place: Place, undisturbed: Place
) -> None:
    """The same trials, finished, of which each has lost its mark in another way."""
    shutil.copytree(undisturbed.runs, place.runs)

    flipped = place.folder("long/sgd")
    flipped.result_file.unlink()
    content = bytearray(flipped.checkpoint_file.read_bytes())
    for at in range(len(content) // 3, len(content) // 3 + 200):
        content[at] ^= 0xFF
    flipped.checkpoint_file.write_bytes(content)

    cut = place.folder("long/delta-gclip")
    cut.result_file.write_bytes(b"")
    cut.checkpoint_file.write_bytes(cut.checkpoint_file.read_bytes()[:1000])
    cut.previous_checkpoint_file.write_bytes(b"")

    half = place.folder("long/adam")
    half.result_file.write_text('{"status": "finis')
    lines = half.metrics_file.read_bytes()
    half.metrics_file.write_bytes(lines[: len(lines) // 2])

    empty = place.folder("short/sgd")
    empty.result_file.write_bytes(b"")

    torn = place.folder("long/gclip")
    torn.result_file.unlink()
    text = torn.trial_file.read_text()
    torn.trial_file.write_text(text[: text.index("optimizer:") + 8])

    before = place.results()
    assert list(before) == [
        str(place.folder("short/delta-gclip").path.relative_to(place.runs)),
    ]
    done = place.sweep()
    assert done.code == 1, done.out
    assert_tells_people(done)
    assert f"{torn.trial_file.relative_to(place.path)}: not a trial that this version" in done.out
    assert "Delete the folder to run the trial again." in done.out
    assert shows_summary(done)
    assert_kept(place, before)
    assert_same_numbers(place, undisturbed, count=5)
    for folder in (flipped, cut, half):
        assert " cannot be used" in folder.log_file.read_text()
    assert "no checkpoint can be used; starting again at epoch 1" in cut.log_file.read_text()
    assert [place.starts(name) for name in [*SHORT, *LONG]] == [2, 1, 2, 2, 2, 1]


@pytest.mark.slow
def test_a_run_folder_of_pipes_and_devices_is_named_and_keeps_nobody(
    place: Place, undisturbed: Place
) -> None:
    shutil.copytree(undisturbed.runs, place.runs)
    hostile = place.folder("short/sgd")
    hostile.result_file.unlink()
    for name, make in {"log.txt": os.mkfifo, ".lock": os.mkfifo, "error.txt": os.mkfifo}.items():
        (hostile.path / name).unlink(missing_ok=True)
        make(hostile.path / name)
    hostile.next_checkpoint_file.symlink_to("/dev/zero")
    missing = place.folder("short/delta-gclip")
    missing.result_file.unlink()
    done = place.start("--all", "--retry-failed").finish()
    assert done.code == 1, done.out
    assert_tells_people(done)
    assert "failed: .lock cannot be read: it is a named pipe, not a file" in done.out
    assert missing.state == "finished"


# These asgd divide by 1 + lambd · lr · step, which is 0 at step 4 or 5, of which nobody can know
# before; and a rate of 1e30 makes the loss NaN in the second.
TROUBLE = """\
experiments:
  long:
    model: &model {name: mlp, hidden: [16]}
    data: &data {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 400
    optimizers:
      sgd: {name: sgd, lr: 0.1}
  trouble:
    model: *model
    data: *data
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      early: {name: asgd, lr: 0.1, lambd: -2.5}
      wild: {name: sgd, lr: 1e30}
      broken: {name: asgd, lr: 0.1, lambd: -2}
      adam: {name: adam, lr: 1e-3}
"""


@pytest.mark.slow
def test_trials_that_fail_or_diverge_are_recorded_and_left_alone(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(TROUBLE)
    done = place.sweep("--fail-fast")
    assert done.code == 1, done.out
    assert_tells_people(done)
    early = place.folder("trouble/early")
    assert place.states("trouble/sgd", "trouble/early") == ["finished", "failed"]
    assert "ZeroDivisionError" in early.reason
    assert f"trouble · early · seed 0: failed: {early.reason}" in done.out
    assert "trouble · early · seed 0: failed; --fail-fast stops the others." in done.out
    assert "long · sgd · seed 0: interrupted: stopped with a checkpoint" in done.out
    assert place.folder("long/sgd").checkpoint_file.exists()
    assert len(place.folders()) == 3, "no others were started"
    before = place.results()
    error = _written(early)

    done = place.sweep()
    assert done.code == 1, done.out
    assert_tells_people(done)
    names = [f"trouble/{label}" for label in ("early", "wild", "broken", "adam")]
    assert place.states("long/sgd", *names) == [
        *("finished", "failed", "diverged", "failed", "finished")
    ]
    assert "started trouble · early" not in done.out
    assert _written(early) == error, "it was not tried again"
    broken = place.folder("trouble/broken")
    assert "ZeroDivisionError" in broken.reason
    assert f"trouble · broken · seed 0: failed: {broken.reason}" in done.out
    assert "Traceback" in broken.error_file.read_text()
    wild = place.folder("trouble/wild").result()
    assert wild is not None
    assert wild["diverged"] == {"epoch": 1, "step": 2, "where": "training"}
    assert "wild · seed 0: diverged: the loss in training was not finite at step 2" in done.out
    assert shows_summary(done)
    assert_kept(place, before)

    before, errors = place.results(), [_written(early), _written(broken)]
    done = place.sweep()
    assert done.code == 1, done.out
    assert "started" not in done.out
    assert_kept(place, before)
    assert [_written(early), _written(broken)] == errors

    done = place.sweep("--retry-failed")
    assert done.code == 1, done.out
    assert_tells_people(done)
    assert done.out.count(" started ") == 2
    assert_kept(place, before)
    now = [_written(early), _written(broken)]
    assert all(one != other for one, other in zip(now, errors, strict=True))
    starts = [place.starts(f"trouble/{label}") for label in ("sgd", "wild", "broken", "adam")]
    assert starts == [1, 1, 2, 1]
    assert place.starts("long/sgd") == 2


def _written(folder: RunFolder) -> tuple[str, int]:
    """Why a trial failed, and when that was written."""
    return folder.reason, folder.error_file.stat().st_mtime_ns


@pytest.mark.slow
def test_a_hundred_and_twenty_trials_need_few_open_files(make_place: Callable[..., Place]) -> None:
    place = make_place(
        """\
experiments:
  many:
    model: {name: mlp, hidden: [4]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 4, test: 4}
    epochs: 1
    seeds: """
        + str(list(range(120)))
        + """
    optimizers:
      sgd: {name: sgd, lr: 0.1}
"""
    )
    sweep = place.start(files=100)
    wait_for(lambda: len(place.results()) >= 80, "eighty results")
    most = max(len(os.listdir(f"/proc/{pid}/fd")) for pid in place.fork_servers())
    children = len(place.processes())
    done = sweep.finish()
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert len(place.results()) == 120
    assert all(place.starts(f"many/sgd/{seed}") == 1 for seed in range(120))
    assert most < 60, "files of trials that have ended are closed"
    assert children < 12


@pytest.mark.slow
def test_gpus_that_only_the_environment_promises_fail_no_trial(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    words = [sys.executable, "-m", "deltagclip_cli", "sweep", "short"]
    done = subprocess.run(words, cwd=place.path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "cuda:1: torch sees 0 CUDA devices here" in done.stderr
    assert not place.runs.exists()
