"""A trial over two nodes of a real Slurm: to its end, stopped, preempted, with a lost node."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from halting import proceed
from slurm_cases import Cluster, SlurmPlace, run
from sweep_cases import assert_same_numbers, numbers
from test_slurm_signals import halt, release, urgent

from deltagclip_cli.runs.environment import read_starts

pytestmark = pytest.mark.slurm

SPEC = """\
experiments:
  brief: &brief
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 36, test: 17}
    epochs: 5
    nodes: 2
    optimizers:
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
    slurm: {gpus: 0, time: 10}
  lasting:
    <<: *brief
    epochs: 300
    checkpoint: {epochs: 5}
    slurm: {gpus: 0, time: 10, partition: preemptable, mem: 5000}
"""
BRIEF, LASTING = "brief/delta-gclip", "lasting/delta-gclip"


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmPlace]:
    """Both trials on two devices of one node, from a local sweep that may still be under way."""
    place = SlurmPlace(tmp_path_factory.mktemp("undisturbed"), SPEC)
    place.start("--set", "nodes=1", "--set", "devices=2", "--jobs", 2)
    yield place
    place.clean_up()


@pytest.fixture
def mended(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster to break; the last argument, for it is to be mended before all else ends."""
    yield cluster
    cluster.restore()


@pytest.fixture
def place(make_place: Callable[..., SlurmPlace]) -> SlurmPlace:
    return make_place(SPEC)


def assert_unharmed(place: SlurmPlace, undisturbed: SlurmPlace) -> None:
    done = undisturbed.sweeps[0].finish()
    assert done.code == 0, done.out
    assert_same_numbers(place, undisturbed, count=1)


def halted(place: SlurmPlace, restarts: int) -> list[int]:
    """Halt the trial in the middle, once it has come back so often; its first process."""
    if restarts:
        place.wait_for(lambda: place.starts(LASTING) > restarts, f"start {restarts}")
        assert place.task_of(LASTING).restarts == restarts
    return halt(place, LASTING)


def test_a_trial_over_two_nodes_has_the_numbers_of_one(
    place: SlurmPlace, undisturbed: SlurmPlace, tmp_path: Path
) -> None:
    place.submit("brief")
    assert "#SBATCH --nodes=2\n" in place.arrays[0].script.read_text()
    place.wait_until_quiet()
    folder = place.folder(BRIEF)
    assert folder.result() is not None, place.report()
    assert (
        place.call("sweep", "brief", "--set", "nodes=1", "--runs", "alone", "--jobs", 1).code == 0
    )
    (alone,) = (place.path / "alone").glob("brief/*/*")
    for one, two in zip(numbers(type(folder)(alone)), numbers(folder), strict=True):
        assert two["test/accuracy"] == one["test/accuracy"]
        assert two["train/accuracy"] == one["train/accuracy"]
        assert two["train/loss"] == pytest.approx(one["train/loss"], rel=1e-6)
    place.wait_until_left()
    assert_unharmed(place, undisturbed)


def test_a_trial_over_two_nodes_is_stopped_and_preempted_and_comes_to_the_same_bits(
    place: SlurmPlace, undisturbed: SlurmPlace
) -> None:
    place.submit("lasting")
    pids = halted(place, 0)
    os.kill(place.batch_process(LASTING), signal.SIGUSR1)  # as before the time limit
    release(pids)
    place.wait_for(lambda: "The time is up: back into the queue." in place.logs(), "its return")

    pids = halted(place, 1)
    other = run("scontrol", "show", "hostnames", place.task_of(LASTING).node).split()[1]
    urgent(other)
    release(pids)
    place.wait_until_quiet()
    place.wait_until_left()
    assert place.folder(LASTING).result() is not None, place.report()
    assert "DUE TO PREEMPTION" in place.logs()
    assert place.starts(LASTING) == 3
    assert_unharmed(place, undisturbed)


def test_a_lost_node_is_named_and_the_trial_goes_on_once_there_is_another(
    place: SlurmPlace, undisturbed: SlurmPlace, mended: Cluster
) -> None:
    place.submit("lasting")
    (pid,) = halted(place, 0)
    other = mended.node_names()[1]
    mended.up("--down", other)
    proceed(pid)
    # Slurm or the trial notices it first: this one's Slurm is impatient.
    said = ("a node is lost: ", "DUE TO NODE FAILURE")
    place.wait_for(lambda: any(each in place.logs() for each in said), "the loss to be named")
    place.wait_for(lambda: place.task_of(LASTING).restarts, "its return")
    place.wait_for(lambda: mended.nodes()[other].startswith("down"), "the loss to be noticed")
    mended.up("--up", other)
    place.wait_until_quiet()
    place.wait_until_left()
    folder = place.folder(LASTING)
    assert folder.result() is not None, place.report()
    assert not folder.error_file.exists()
    assert len(list(read_starts(folder))) >= 2
    assert_unharmed(place, undisturbed)
