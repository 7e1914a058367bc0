"""``deltagclip cancel``: end the batch jobs of experiments, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import UsageError, nearest, plural

if TYPE_CHECKING:
    from deltagclip_cli.slurm.client import ArrayTask


def cancel(
    experiments: Annotated[
        list[str] | None, options.experiments("Whose jobs to end.", options.offer_read_experiments)
    ] = None,
    runs: options.Runs = options.RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be ended and end nothing.")
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """End the Slurm jobs of a runs folder, waiting or running.

    Trials that run write a checkpoint first: the sweep, submitted again, goes on with them.
    """
    from deltagclip_cli.slurm.client import SlurmError, cancel_tasks
    from deltagclip_cli.slurm.jobs import find_jobs
    from deltagclip_cli.terminal.console import make_console

    jobs = find_jobs(runs)
    if jobs.problem:
        raise SlurmError(f"{jobs.problem}\n  Nothing was ended.")
    for name in experiments or ():
        if name not in jobs.experiments:
            raise UsageError(
                f"{name}: no jobs of such an experiment were submitted for {runs}.\n"
                f"  experiments with jobs: {', '.join(jobs.experiments) or 'none'}"
                f"{nearest(name, jobs.experiments)}"
            )
    tasks = jobs.alive(experiments or ())
    arrays = sorted({task.job for task in tasks}, key=int)
    if arrays and not dry_run:
        cancel_tasks(arrays)
        jobs.record_cancel(tasks)
    console = make_console()
    console.quiet = quiet
    console.print(_outcome(tasks, arrays, dry_run), soft_wrap=True)


def _outcome(tasks: Sequence[ArrayTask], arrays: Sequence[str], dry_run: bool) -> str:
    if not tasks:
        return "No jobs wait or run."
    waiting = Counter(task.is_pending for task in tasks)
    running = plural(waiting[False], "running task")
    what = f"{running} and {waiting[True]} waiting of {', '.join(arrays)}"
    if dry_run:
        return f"Would end {what}."
    return f"Ended {what}." + (" What ran writes checkpoints first." if waiting[False] else "")
