"""What ``cancel`` ends, and what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from deltagclip_cli.core import UsageError, plural
from deltagclip_cli.slurm.client import ArrayTask, SlurmError, cancel
from deltagclip_cli.slurm.jobs import Jobs, find_jobs
from deltagclip_cli.spec.faults import nearest


def cancel_jobs(console: Console, runs: Path, experiments: Sequence[str], *, dry_run: bool) -> None:
    """End the jobs of some experiments, or of all.

    Raises:
        SlurmError: Slurm cannot be asked, or refuses.
        UsageError: nothing was ever submitted for one of the experiments.
    """
    jobs = find_jobs(runs)
    if jobs.problem:
        raise SlurmError(f"{jobs.problem}\n  Nothing was ended.")
    _check_names(jobs, experiments, runs)
    tasks = jobs.alive(experiments)
    arrays = sorted({task.job for task in tasks}, key=int)
    if arrays and not dry_run:
        cancel(arrays)
        jobs.record_cancel(tasks)
    console.print(_said(tasks, arrays, dry_run), soft_wrap=True)


def _check_names(jobs: Jobs, experiments: Sequence[str], runs: Path) -> None:
    there = jobs.experiments
    for name in experiments:
        if name not in there:
            raise UsageError(
                f"{name}: no jobs of such an experiment were submitted for {runs}.\n"
                f"  experiments with jobs: {', '.join(there) or 'none'}{nearest(name, there)}"
            )


def _said(tasks: Sequence[ArrayTask], arrays: Sequence[str], dry_run: bool) -> str:
    if not tasks:
        return "No jobs wait or run."
    waiting = Counter(task.is_pending for task in tasks)
    running = plural(waiting[False], "running task")
    what = f"{running} and {waiting[True]} waiting of {', '.join(arrays)}"
    if dry_run:
        return f"Would end {what}."
    return f"Ended {what}." + (" What ran writes checkpoints first." if waiting[False] else "")
