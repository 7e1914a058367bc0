"""Options that say where trials run, for every command that runs many, and who is handed them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.core import UsageError
from deltagclip_cli.launch import TABLE, find_launcher

if TYPE_CHECKING:
    from deltagclip_cli.launch.launcher import Launcher
    from deltagclip_cli.spec.load import Spec

Where = Annotated[
    str,
    typer.Option(
        "--launcher",
        metavar="|".join(TABLE.entries),
        help="Worker processes, this process, or batch jobs.",
        autocompletion=lambda incomplete: [e for e in TABLE.entries if e.startswith(incomplete)],
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, metavar="N", help="Train on the CPU, N trials at a time."),
]
Gpus = Annotated[
    str | None, typer.Option(metavar="all|0,2", help="The GPUs to use.", show_default="all")
]
TrialsPerGpu = Annotated[
    str,
    typer.Option(
        metavar="auto|N", help="Trials that share a GPU; auto: as many as it has room for."
    ),
]
SlurmKeys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Replace a key of the spec's slurm, such as time=04:00:00. Repeatable.",
    ),
]
Pack = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="K", help="Trials that share a Slurm job.", show_default="as in the spec"
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop when a trial does not finish.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Start nothing; show what would be run, or the scripts."),
]


def make_launcher(
    name: str,
    spec: Spec,
    runs: Path,
    data: Path,
    *,
    words: Sequence[str],
    threads: int | None,
    jobs: int | None,
    gpus: str | None,
    trials_per_gpu: str,
    slurm: Sequence[str] | None,
    pack: int | None,
    fail_fast: bool,
    retry_failed: bool,
    as_json: bool,
    quiet: bool,
    every: int | None = None,
    force: bool = False,
    ask: bool = False,
) -> Launcher:
    """Return the launcher of a name with what was asked for, all of which it must be able to do."""
    from deltagclip_cli.launch.launcher import SweepRequest
    from deltagclip_cli.slurm.jobs import find_jobs
    from deltagclip_cli.terminal.console import make_console

    shares = _shares(trials_per_gpu)
    given = {
        "every": every,
        "fail_fast": fail_fast,
        "jobs": jobs,
        "gpus": gpus,
        "trials_per_gpu": shares != 1,
        "slurm": slurm,
        "pack": pack,
    }
    make = find_launcher(name, [option for option, value in given.items() if value])
    return make(
        SweepRequest(
            spec=spec,
            runs=runs,
            data=data.expanduser(),
            console=make_console(stderr=as_json),
            elsewhere=partial(find_jobs, runs),
            words=words,
            threads=threads,
            jobs=jobs,
            gpus=gpus,
            trials_per_gpu=shares,
            fail_fast=fail_fast,
            slurm=[*(slurm or ()), *([f"pack={pack}"] if pack else [])],
            every=every,
            retry_failed=retry_failed,
            force=force,
            ask=ask and can_ask(),
            as_json=as_json,
            quiet=quiet,
        )
    )


def can_ask() -> bool:
    """Return whether somebody is there who can answer a question."""
    return sys.stdin.isatty()


def _shares(written: str) -> int | None:
    """Return how many trials share a GPU; None for as many as fit."""
    if written == "auto":
        return None
    if not written.isdecimal() or int(written) < 1:
        raise UsageError(
            f"--trials-per-gpu {written}: expected auto, or a number from 1.\n"
            "  With auto, a GPU gets as many trials at a time as its memory has room for."
        )
    return int(written)
