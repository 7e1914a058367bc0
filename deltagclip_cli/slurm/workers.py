"""A search that jobs go through: a controller, and workers that run what it hands out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import ExitCode, check_writable, plural
from deltagclip_cli.plan.planned import look_up
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.slurm.array import Array, Head, ListedTrial, new_submission
from deltagclip_cli.slurm.awaited import FOLDER
from deltagclip_cli.slurm.handed import Handed, task_name
from deltagclip_cli.slurm.jobs import close_finished, find_jobs
from deltagclip_cli.slurm.submit import Batch, record_of, told_of
from deltagclip_cli.terminal.console import print_json

if TYPE_CHECKING:
    from deltagclip_cli.slurm.jobs import Jobs
    from deltagclip_cli.slurm.submit import SlurmLauncher
    from deltagclip_cli.spec.trial import Trial

DEFAULT_WORKERS = 8


def workers_of(launcher: SlurmLauncher, like: Trial, budget: int) -> int:
    """Return how many trials run at a time: ``throttle``, but never more than settings."""
    return min(launcher.resources_of(like).throttle or DEFAULT_WORKERS, budget)


def submit_workers(
    launcher: SlurmLauncher, like: Trial, workers: int, controller: Sequence[str], *, dry_run: bool
) -> int:
    """Submit a controller and workers, as far as they are not there, and return the exit code.

    Args:
        like: a trial like those that will be handed out.
        controller: the words of the command that hands them out.
    """
    request = launcher.request
    if dry_run:
        batches = _batches(launcher, like, workers, controller, find_jobs(request.runs))
        for batch in () if request.as_json else batches:
            print(f"# {batch.array.script}\n{batch.script}")
        _print_json(launcher, [{**record_of(each), "script": each.script} for each in batches])
        return ExitCode.OK
    check_writable(request.runs / FOLDER)
    with launcher.alone():
        jobs = launcher.jobs()
        batches = _batches(launcher, like, workers, controller, jobs)
        if batches:
            launcher.check_parts(look_up([like], request.runs))
            Handed(request.runs, like.experiment).open()  # before workers look
        numbers = launcher.submit_all(batches)
        close_finished(request.runs, jobs)
    for batch, number in zip(batches, numbers, strict=True):
        launcher.say(told_of(batch, number))
    if not batches:
        launcher.say("The controller and all workers wait or run: there is nothing to submit.")
    launcher.say(f"how it goes   {launcher.status_command(look_up([like], request.runs))}")
    launcher.say(f"end all       {launcher.command_for('cancel', [like.experiment])}")
    told = zip(batches, numbers, strict=True)
    _print_json(launcher, [{**record_of(batch), "job": number} for batch, number in told])
    return ExitCode.OK


def _batches(
    launcher: SlurmLauncher, like: Trial, workers: int, controller: Sequence[str], jobs: Jobs
) -> list[Batch]:
    runs, name = launcher.request.runs, like.experiment
    resources, folder = launcher.resources_of(like), new_submission(runs)
    # Trials on several devices are run one after the other, however many a task has.
    pack = min(resources.pack or 1, workers) if like.ranks == 1 else 1
    batches = []
    planned = tuple(look_up([like], runs))
    if names := _missing([task_name(name, 0, "controller")], runs, jobs):
        small = launcher.written_for(like).model_copy(
            update={
                "cpus": 1,
                "gpus": 0,
                "nodes": None,
                "pack": None,
                "throttle": None,
                "local_data": None,
            }
        )
        array = Array(folder / f"{name}-0")
        head = Head(name, 1, time.time(), 1)
        command = [sys.executable, "-P", "-m", "deltagclip_cli", *controller]
        entries = [ListedTrial(names[0], like, is_handed=True)]
        batches.append(Batch(array, head, small, [planned], command, entries=entries))
    tasks = [task_name(name, number, "worker") for number in range(-(-workers // pack))]
    if names := _missing(tasks, runs, jobs):
        array = Array(folder / f"{name}-1")
        head = Head(name, pack, time.time(), len(names), (1,) * len(names))
        entries = [ListedTrial(each, like, is_handed=True) for each in names]
        command = launcher.command_of(array, resources)
        units = [planned] * len(names)
        batches.append(Batch(array, head, resources, units, command, entries=entries))
    return batches


def _missing(names: Sequence[str], runs: Path, jobs: Jobs) -> list[str]:
    """Return those of some tasks that neither wait nor run."""
    return [
        name
        for name in names
        if not jobs.standing(name, RunFolder(runs / name), State.NEW).in_a_job
    ]


def _print_json(launcher: SlurmLauncher, arrays: Sequence[dict[str, Any]]) -> None:
    if launcher.request.as_json:
        print_json({"arrays": arrays, "trials": [], "problem": None})
    elif arrays and "script" in arrays[0]:
        launcher.say(f"{plural(len(arrays), 'array')} to submit.")
