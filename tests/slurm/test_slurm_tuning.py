"""Protocols tuned on a real Slurm: the results of one machine, whatever becomes of the jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurm_cases import SlurmPlace, run
from sweep_cases import assert_same_numbers

pytestmark = pytest.mark.slurm

SPEC = """\
experiments:
  tuned:
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 100
    checkpoint: {epochs: 5}
    seeds: [0]
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
    search:
      space: {sgd: {lr: {log_uniform: [0.01, 1]}}, adam: {lr: {log_uniform: [1e-4, 0.1]}}}
    protocol: {draws: 2, fresh_seeds: 2, metric: test/loss}
    slurm: {cpus: 1, time: 10, pack: 2}
"""
DRAWN, CHOSEN = 4, 4


@pytest.fixture(scope="module")
def tuned_here(cluster: object, tmp_path_factory: pytest.TempPathFactory) -> SlurmPlace:
    """The protocol as it is tuned on this machine, where nothing befell it."""
    place = SlurmPlace(tmp_path_factory.mktemp("tuned-here"), SPEC)
    place.call("tune", "tuned", "--jobs", "2", "--select-on-test")
    return place


def tune(place: SlurmPlace) -> str:
    return place.call("tune", "tuned", "--launcher", "slurm", "--select-on-test").out


def test_a_protocol_is_tuned_with_one_command_whatever_becomes_of_its_jobs(
    make_place: Callable[..., SlurmPlace], tuned_here: SlurmPlace
) -> None:
    place = make_place(SPEC)
    tune(place)
    tasks = sorted(place.tasks(), key=lambda task: (int(task.job), task.task))
    assert len(tasks) == (DRAWN + CHOSEN) / 2
    run("scancel", tasks[1].id)  # so that its trials are left
    place.wait_for(place.folders, "the first run folder")
    run("scontrol", "requeue", tasks[0].id)  # which goes on later, by itself
    place.wait_for(
        lambda: not any(task.is_alive for task in place.tasks() if task.id == tasks[1].id),
        "the end of the task that was cancelled",
    )
    tune(place)  # which submits what was cancelled, and nothing else
    known = {task.job for task in tasks}
    assert len([task for task in place.tasks() if task.job not in known]) == 1
    run("scancel", max(task.job for task in place.tasks()))
    place.wait_until_quiet()
    assert "2 of 4 draws are not finished." in place.logs()  # as tasks of slots have said
    assert len(place.results()) == DRAWN / 2

    tune(place)
    place.wait_until_quiet()
    assert_same_numbers(place, tuned_here, DRAWN + CHOSEN)
    assert "nothing to submit" in tune(place)


HALVED = """\
experiments:
  half:
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 6
    optimizers: {sgd: {name: sgd, lr: 0.1}}
    seeds: [0]
    search: {pruner: halving, metric: train/loss, space: {sgd: {lr: {log_uniform: [0.01, 1]}}}}
    slurm: {cpus: 1, time: 10, pack: 3}
"""


def test_a_search_is_halved_in_jobs_as_in_one_process(
    make_place: Callable[..., SlurmPlace], tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    here, place = SlurmPlace(tmp_path / "here", HALVED), make_place(HALVED)
    here.call("sweep", "half", "--search", 3, "--launcher", "inline")
    words = ("sweep", "half", "--search", 3, "--launcher", "slurm")
    place.call(*words)
    _, second = sorted(place.tasks(), key=lambda task: int(task.job))
    run("scancel", second.id)  # while it waits
    place.wait_until_quiet()
    assert [str(each.state) for each in place.folders().values()] == ["interrupted"] * 3
    place.call(*words)
    place.wait_until_quiet()
    assert_same_numbers(place, here, 1)
    states = {name: str(each.state) for name, each in place.folders().items()}
    assert states == {name: str(each.state) for name, each in here.folders().items()}
    assert "All have ended" in place.call(*words).out


TPE = """\
experiments:
  drawn:
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 60
    checkpoint: {epochs: 5}
    optimizers: {sgd: {name: sgd, lr: 0.1}}
    seeds: [0]
    search: {sampler: tpe, metric: train/loss, space: {sgd: {lr: {log_uniform: [0.01, 1]}}}}
    slurm: {cpus: 1, time: 10, throttle: 2}
"""
SETTINGS = 5


def test_a_controller_and_its_workers_can_be_killed_and_nothing_is_drawn_twice(
    make_place: Callable[..., SlurmPlace],
) -> None:
    place = make_place(TPE)
    words = ("sweep", "drawn", "--search", SETTINGS, "--launcher", "slurm")
    place.call(*words)
    assert len(place.tasks()) == 3

    def begun() -> list[dict[str, Any]]:
        """What the journal has of settings that were drawn, in their order."""
        told = (place.runs / "drawn" / "search.journal").read_text().splitlines()
        records = [json.loads(line) for line in told]
        return [record for record in records if record["op_code"] == 4]  # a trial is added

    place.wait_for(place.folders, "the first run folder")
    drawn = begun()
    controller, worker, _ = sorted(place.tasks(), key=lambda task: (int(task.job), task.task))
    run("scancel", "--signal=KILL", "--full", controller.id)  # so that it can say nothing
    run("scontrol", "requeue", worker.id)  # which goes on later, by itself
    place.wait_for(lambda: not is_alive(place, controller.id), "the end of the controller")
    place.call(*words)  # which submits another controller
    place.wait_until_quiet()

    assert "Traceback" not in place.logs()
    assert [str(each.state) for each in place.folders().values()] == ["finished"] * SETTINGS
    assert begun()[: len(drawn)] == drawn and len(begun()) == SETTINGS
    board = place.call(*words).out
    assert " 5 " in board and "not finished" not in board
    assert len(place.tasks()) == 4, "when all is over, nothing is submitted"


def is_alive(place: SlurmPlace, task_id: str) -> bool:
    """Whether a task waits or runs."""
    return any(task.id == task_id and task.is_alive for task in place.tasks())
