"""``deltagclip worker``: what launchers start; its one argument is a run folder."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import options


def worker(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER")],
    data: options.Data = options.DATA,
    device: options.Device = "auto",
    threads: options.Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete what is there and start again.")
    ] = False,
    no_download: Annotated[
        bool, typer.Option("--no-download", help="Fetch no data: what is missing is an error.")
    ] = False,
    debug: options.Debug = False,
) -> None:
    """Train the trial of a run folder.

    Exit codes as those of train, and 76 if another process has the folder.
    """
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.training.process import StopRequest, shown_by
    from deltagclip_cli.training.worker import work

    with shown_by(logging.StreamHandler(sys.stdout)):
        code = work(
            RunFolder(folder),
            data_dir=data.expanduser(),
            device=device,
            threads=threads,
            force=force,
            download=not no_download,
            stop=StopRequest(),
        )
    raise typer.Exit(code)
