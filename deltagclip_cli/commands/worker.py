"""``deltagclip worker``: what launchers start; its arguments are run folders."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import options


def worker(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN_FOLDER")],
    data: options.Data = options.DATA,
    device: options.Device = "auto",
    threads: options.Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete what is there and start again.")
    ] = False,
    part: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Stop once one in N of its evaluations is made."),
    ] = 1,
    no_download: Annotated[
        bool, typer.Option("--no-download", help="Fetch no data: what is missing is an error.")
    ] = False,
    rendezvous: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where the processes of one trial meet."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of this process among them.")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of each node, of which it is the first process."),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Train the trial of a run folder, or those of several as members of one stack.

    Exit codes as those of train, 76 if another process has the folder, and 77 if it stopped after
    its --part. Of several, each folder tells how its own trial ended.
    """
    import deltagclip_cli.training.imported  # noqa: F401
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.training.process import StopRequest, shown_by
    from deltagclip_cli.training.worker import work_together

    if rendezvous is not None:
        from deltagclip_cli.training.ranks.process_group import attend, rendezvous_at

        code = attend(
            folders[0],
            rendezvous_at(rendezvous, rank, devices),
            data_dir=data.expanduser(),
            device=device,
            threads=threads,
            download=not no_download,
        )
        raise typer.Exit(code)
    stop, trained = StopRequest(), [*map(RunFolder, folders)]
    with shown_by(logging.StreamHandler(sys.stdout)):
        codes = work_together(
            trained,
            data_dir=data.expanduser(),
            device=device,
            threads=threads,
            force=trained if force else (),
            download=not no_download,
            part=part,
            stop=stop,
        )
    together = len(trained) > 1
    raise typer.Exit(stop.exit_code if together and stop() else max(codes.values()))
