"""``deltagclip job``: what a task of an array job runs; its one argument is the list of trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.training.process import StopRequest


def job(
    trials: Annotated[Path, typer.Argument(metavar="LIST")],
    task: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            envvar="SLURM_ARRAY_TASK_ID",
            help="The task of the array.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        bool | None,
        typer.Option("--gpus/--no-gpus", help="Train on GPUs.", show_default="if there are any"),
    ] = None,
    local_data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Copy the data to this folder first; $NAME is replaced."),
    ] = None,
    threads: options.Threads = None,
    data: options.Data = options.DATA,
    debug: options.Debug = False,
) -> None:
    """Run the trials of one task of an array job. Exit codes: 0, 1, 2 and 75 as sweep."""
    stop = StopRequest()
    with stop.listening():  # before anything slow is imported
        from deltagclip_cli.core import UsageError
        from deltagclip_cli.runs.hold import current_job
        from deltagclip_cli.slurm.array import Array
        from deltagclip_cli.slurm.task import JobSession
        from deltagclip_cli.terminal.console import make_console

        if task is None:
            raise UsageError(
                "job: which task of the array is not known.\n"
                "  Slurm sets SLURM_ARRAY_TASK_ID for arrays; by hand, add --task N."
            )
        session = JobSession(
            array=Array(trials.absolute().with_suffix("")),
            task=task,
            job=current_job(),
            data=data.expanduser(),
            local_data=local_data,
            gpus=gpus,
            threads=threads,
            console=make_console(),
            stop=stop,
        )
        code = session.run()
    raise typer.Exit(code)
