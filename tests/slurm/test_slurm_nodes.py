"""Nodes that are lost, a controller that does not answer, folders that are gone, and no Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from halting import proceed
from slurm_cases import Cluster, SlurmPlace, run
from sweep_cases import assert_same_numbers, assert_tells_people, wait_for

from deltagclip_cli.runs.hold import read_owner

pytestmark = pytest.mark.slurm

HELD = ["--slurm", "sbatch=--hold"]


@pytest.fixture
def mended(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster to break; the last argument, for it is to be mended before all else ends."""
    yield cluster
    cluster.restore()


def test_a_lost_node_gives_its_trials_to_another_even_if_its_processes_live_on(
    place: SlurmPlace, undisturbed: SlurmPlace, mended: Cluster
) -> None:
    lost, other = mended.node_names()
    run("scontrol", "update", f"nodename={other}", "state=drain", "reason=test")
    place.submit("long")
    place.wait_until_under_way("long/sgd", "long/delta-gclip", epochs=150)
    assert [place.task_of(f"long/{label}").node for label in ("sgd", "delta-gclip")] == [lost] * 2
    old = place.halt("long/sgd", epochs=150)
    run("scontrol", "update", f"nodename={other}", "state=resume")
    mended.up("--down-daemon", lost)
    place.kill_job("long/delta-gclip")  # of these two jobs, one lives on
    assert place.workers() == {"long/sgd/0": [old]}
    assert place.folder("long/delta-gclip").result() is None

    # Slurm notices after a while, and starts both again. Of the two copies, one waits.
    wait_for(lambda: mended.nodes()[lost].startswith("down"), "the loss to be noticed")
    place.wait_for(lambda: place.logs().count("restarts 1") == 2, "both restarts")
    place.wait_until_under_way("long/delta-gclip")
    assert place.task_of("long/sgd").node == other
    status = place.call("status").out
    assert "lost:" not in status
    assert f"{other} cpu" in status
    assert "restarted 1 ×" in status
    time.sleep(1.0)
    assert place.workers()["long/sgd/0"] == [old], "it waits for its old self"
    assert place.starts("long/sgd") == 1

    # Locks do not hold on every file system. Then the newcomer takes over, and the old one stops.
    folder = place.folder("long/sgd")
    folder.lock_file.unlink()
    place.wait_for(lambda: _owner(place, "long/sgd") != old, "the take-over")
    place.wait_until_under_way("long/sgd", epochs=150)
    proceed(old)
    place.wait_for(lambda: old not in place.processes(), "the end of the old one")
    place.wait_until_quiet()
    place.wait_until_left()
    assert_same_numbers(place, undisturbed, count=2)
    assert [place.starts(f"long/{label}") for label in ("sgd", "delta-gclip")] == [2, 2]
    assert not folder.error_file.exists()
    assert not folder.stopped_file.exists()
    assert "Traceback" not in place.logs() + folder.log_file.read_text()


def _owner(place: SlurmPlace, name: str) -> int:
    owner = read_owner(place.folder(name))
    return owner.pid if owner else 0


def test_while_the_controller_is_down_nothing_is_lost_and_nothing_is_submitted(
    make_place: Callable[..., SlurmPlace], undisturbed: SlurmPlace, mended: Cluster
) -> None:
    place, empty = make_place(), make_place()
    place.submit("long")
    place.wait_until_under_way("long/sgd", "long/delta-gclip", epochs=150)
    (array,) = place.arrays
    copy = {"SLURM_ARRAY_JOB_ID": array.job, "SLURM_ARRAY_TASK_ID": "0"}
    batch = place.batch_process("long/delta-gclip")
    halted, other = (place.halt(f"long/{label}", epochs=150) for label in ("sgd", "delta-gclip"))
    mended.lose_controller()
    with ThreadPoolExecutor() as pool:  # each of Slurm's commands waits for seconds
        second = pool.submit(place.call, "job", array.list_file, **copy)
        status = pool.submit(place.call, "status")
        sweeps = [pool.submit(place.submit, code=2), pool.submit(empty.submit, code=2)]
        cancel = pool.submit(place.call, "cancel", code=2)
        local = pool.submit(place.sweep, "long")

        shown = status.result().out
        assert "Slurm cannot be asked, so this is what the files say" in shown
        assert "Unable to contact slurm controller" in shown
        assert "running: " in shown
        assert "lost" not in shown
        assert "interrupted" not in shown
        proceed(halted)
        for done in (*(each.result() for each in sweeps), cancel.result()):
            assert "Unable to contact slurm controller" in done.out
            assert_tells_people(done)
        assert "Nothing was submitted." in sweeps[0].result().out
        assert "Nothing was ended." in cancel.result().out
        assert [each.job for each in place.arrays] == [array.job]
        assert not empty.runs.exists()
        assert second.result().code == 0, second.result().out
        assert local.result().code == 75, local.result().out  # jobs have them, or may have
    assert place.states("long/sgd") == ["finished"]
    assert [place.starts(f"long/{label}") for label in ("sgd", "delta-gclip")] == [1, 1]

    os.kill(batch, signal.SIGUSR1)  # as at the time limit, which Slurm's own processes keep
    time.sleep(1.0)
    proceed(other)
    wait_for(lambda: "Asking again." in place.logs(), f"the request; {place.logs()}")
    mended.restore()
    wait_for(lambda: "back into the queue" in place.logs(), f"the requeue; {place.logs()}")
    assert "trials" in empty.submit(*HELD).out
    assert "There is nothing to submit." in place.submit("long").out
    place.wait_until_quiet()
    assert_same_numbers(place, undisturbed, count=2)
    assert place.starts("long/delta-gclip") == 2


def test_a_log_folder_that_was_removed_ends_a_job_at_once_and_another_is_submitted(
    place: SlurmPlace, undisturbed: SlurmPlace, mended: Cluster
) -> None:
    words = ["short", "--optimizer", "sgd"]
    place.submit(*words, *HELD)
    (array,) = place.arrays
    shutil.rmtree(array.logs)
    run("scontrol", "release", array.job)
    wait_for(lambda: not any(task.is_alive for task in place.tasks()), "the failed launch")
    (task,) = place.tasks()
    assert task.reason == "JobLaunchFailure"
    status = place.call("status", "short").out
    assert "lost: 1" in status
    assert f"job {task.id} is gone (FAILED, JobLaunchFailure)" in status
    assert "has left no log" in status

    # The next one has a folder of its own, and needs it no more once it has begun.
    place.submit(*words)
    place.wait_for(lambda: "short, job" in place.logs(), "the second job")
    (second,) = (task for task in place.tasks() if task.is_alive)
    shutil.rmtree(place.runs / ".slurm")
    assert "lost" not in place.call("status", "short").out
    place.wait_for(place.results, "the end of the trial")
    wait_for(lambda: not run("squeue", "-h", "-j", second.id), "the end of the job")
    assert run("squeue", "-h", "-t", "all", "-j", second.id, "-o", "%T").strip() == "COMPLETED"
    place.wait_until_left()
    assert_same_numbers(place, undisturbed, count=1)
    assert "There is nothing to submit." in place.submit(*words).out


def test_without_slurms_commands_the_files_tell_and_local_sweeps_run(
    cluster: Cluster, make_place: Callable[..., SlurmPlace], undisturbed: SlurmPlace, tmp_path: Path
) -> None:
    place, empty = make_place(), make_place()
    words = ["short", "--optimizer", "sgd"]
    place.submit(*words, *HELD)
    (array,) = place.arrays
    without = {"PATH": str(tmp_path / "bin")}
    missing = "Slurm's commands are not on this machine"
    with ThreadPoolExecutor() as pool:
        status = pool.submit(place.call, "status", **without)
        sweeps = [pool.submit(p.submit, *words, code=2, **without) for p in (place, empty)]
        cancel = pool.submit(place.call, "cancel", code=2, **without)
        assert f"this is what the files say: squeue: {missing}" in status.result().out
        assert "lost" not in status.result().out
        for done in (*(sweep.result() for sweep in sweeps), cancel.result()):
            assert missing in done.out
            assert_tells_people(done)
        for sweep in sweeps:
            assert "Run this on a login node, or leave out --launcher slurm." in sweep.result().out
    assert not empty.runs.exists()
    done = place.call("sweep", *words, "--jobs", 1, **without)
    assert_tells_people(done)
    assert_same_numbers(place, undisturbed, count=1)

    # The job that waited for this trial finds it finished.
    run("scontrol", "release", array.job)
    place.wait_until_quiet()
    assert [task.state for task in place.tasks()] == ["COMPLETED"]
    assert place.starts("short/sgd") == 1
