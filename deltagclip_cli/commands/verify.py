"""``deltagclip verify``: every number of a report, worked out anew from the run folders."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ExitCode, UsageError, plural

if TYPE_CHECKING:
    from deltagclip_cli.terminal.console import Console
    from deltagclip_cli.verify.rerun import Rerun
    from deltagclip_cli.verify.verification import Verification

_MOST_SHOWN = 20


def verify(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="The page of a report, or its folder.")
    ],
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the runs lie now.",
            show_default="where they lay, seen from the page",
        ),
    ] = None,
    again: Annotated[
        int, typer.Option("--rerun", min=0, metavar="N", help="Train so many of the trials again.")
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Chooses these.", show_default="another each time"),
    ] = None,
    data: options.Data = options.DATA,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|cuda|cuda:N",
            help="Where to train them.",
            show_default="what each was trained on",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Work out every number of a report anew.

    Says what differs from the run folders. Looks at the page, at the files beside it and at all
    that was read for it: figures alone are judged by their checksums. With --rerun trains some
    trials again, and compares bits.

    Exit codes: 0 all as it should be; 1 something differs; 2 no report, or its runs are not there.
    """
    from deltagclip_cli.terminal.console import make_console, print_json, waiting
    from deltagclip_cli.verify.rerun import chosen, rerun
    from deltagclip_cli.verify.verification import verify as judge

    if seed is not None and not again:
        raise UsageError("--seed: chooses what --rerun N trains again, so say both.")
    console = make_console()
    with waiting(make_console(stderr=True), "working out the report anew", quiet=quiet):
        found = judge(report, runs)
    if not as_json:
        _print(console, found, quiet=quiet)
    trained: list[Rerun] = []
    if again:
        seed = secrets.randbelow(10**6) if seed is None else seed
        picked = chosen(found.runs, again, seed)
        if not (as_json or quiet):
            of = plural(len(found.runs), "run")
            console.print(f"Trained again: {len(picked)} of {of}, chosen by --seed {seed}.")
        for each in rerun(picked, data.expanduser(), device):
            trained.append(each)
            if not as_json and (each.is_at_fault or not quiet):
                console.print(str(each), soft_wrap=True)
    if as_json:
        print_json(_record(found, trained, seed))
    if found.differences or any(each.is_at_fault for each in trained):
        raise typer.Exit(ExitCode.FAILED)


def _print(console: Console, found: Verification, *, quiet: bool) -> None:
    for difference in found.differences[:_MOST_SHOWN]:
        console.print(str(difference), style="red", soft_wrap=True)
    if (more := len(found.differences) - _MOST_SHOWN) > 0:
        console.print(f"and {more} more of these; --json has all", style="red")
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True)
    if quiet:
        return
    what = f"{found.numbers:,} numbers of {plural(len(found.runs), 'run')}, {found.files:,} files"
    if found.differences:
        count = plural(len(found.differences), "difference")
        console.print(f"{found.report}: {count}; looked at {what}.", soft_wrap=True)
    else:
        console.print(f"{found.report}: as the run folders say: {what}.", soft_wrap=True)


def _record(found: Verification, trained: list[Rerun], seed: int | None) -> dict[str, Any]:
    return {
        "report": str(found.report),
        "verified": not found.differences and not any(each.is_at_fault for each in trained),
        "runs": len(found.runs),
        "files": found.files,
        "numbers": found.numbers,
        "differences": [vars(each) for each in found.differences],
        "notes": found.notes,
        "rerun": {
            "seed": seed,
            "trials": [
                {
                    "folder": str(each.run.folder),
                    "numbers": each.compared,
                    "difference": each.difference,
                    "reasons": each.reasons,
                    "failure": each.failure,
                }
                for each in trained
            ],
        },
    }
