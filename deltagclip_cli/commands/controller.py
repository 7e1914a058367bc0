"""``deltagclip controller``: what hands out the trials of a search whose workers are jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.training.process import StopRequest


def controller(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Whose search it is.")],
    search: Annotated[
        int, typer.Option(min=1, metavar="N", help="Settings of each optimizer, in all.")
    ],
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Settings at a time.")],
    optimizer: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Only these optimizers. Repeatable.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(metavar="N", help="These seeds instead. Repeatable.")
    ] = None,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    runs: options.Runs = options.RUNS,
    data: options.Data = options.DATA,
    debug: options.Debug = False,
) -> None:
    """Hand out the trials of a search with Optuna. Exit codes as those of sweep."""
    stop = StopRequest()
    with stop.listening():  # before anything slow is imported
        from deltagclip_cli.search.tpe_search import run_controller

        code = run_controller(
            experiment,
            budget=search,
            workers=workers,
            labels=optimizer or (),
            seeds=seed or (),
            spec=spec,
            sets=sets or (),
            runs=Path(runs),
            data=data,
            stop=stop,
        )
    raise typer.Exit(code)
