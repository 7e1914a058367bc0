"""``deltagclip export``: runs as tables in files, or in a tracker of experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.commands.compare import Group, Targets
from deltagclip_cli.core import NotYetError

if TYPE_CHECKING:
    from deltagclip_cli.export.destination import Change
    from deltagclip_cli.export.following import Round, Shown
    from deltagclip_cli.results.read.tree import Place


class To(StrEnum):
    """Names of ``DESTINATIONS`` in the room ``export``."""

    PARQUET = "parquet"
    CSV = "csv"
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TRACKIO = "trackio"


def export(
    targets: Targets = None,
    to: Annotated[To, typer.Option("--to", metavar="|".join(To), help="What to export to.")] = ...,  # type: ignore[assignment]
    into: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URI",
            help="Where to: a folder, or a store of MLflow such as http://HOST:PORT.",
            show_default="export for files, else where its own tools look",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until every trial has ended.")
    ] = False,
    group: Group = None,
    runs: options.Runs = options.RUNS,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Send runs to Parquet, CSV, W&B, MLflow or Trackio.

    A run is there once, however often it is sent and wherever that was stopped: the same command
    goes on, and adds what is new. Run it on a machine with a network: trials never use one.

    Exit codes: 0 all is there; 2 wrong input; 75 stopped, run it again.
    """
    from deltagclip_cli.export import following
    from deltagclip_cli.export.destination import open_destination
    from deltagclip_cli.results.read.tree import Place
    from deltagclip_cli.terminal.console import make_console

    place = Place(targets or (), runs, group)
    try:
        place.folders()  # before anything is made
    except NotYetError:
        if not follow:
            raise
    shown = _shown(quiet=quiet)
    with open_destination(to, into) as destination:
        if follow:
            if not quiet:
                console = make_console(stderr=True)
                console.print("Until every trial has ended; Ctrl-C ends it earlier.", style="dim")
            rounds = following.follow(place, destination, shown, _awaited(place))
        else:
            rounds = iter([following.export(place, destination, shown)])
        before: Round | None = None
        for each in rounds:
            _print(each, before, quiet=quiet)
            before = each
    if not quiet:
        typer.echo(f"They are in {destination.where}.")
        if destination.next_step:
            typer.echo(f"Next: {destination.next_step}")


def _awaited(place: Place) -> Callable[[], int]:
    """Return what says how many trials of the experiments of a place have not ended."""
    from deltagclip_cli.commands.status import looking
    from deltagclip_cli.spec.load import experiment_names

    specified = experiment_names(place.spec)
    named = [t for t in place.targets if t in specified or (place.runs / t).is_dir()]
    if place.targets and not named:  # folders, of which no spec is known
        return lambda: 0
    look = looking(None, named, (), place.runs)
    return lambda: look().going_on


def _shown(*, quiet: bool) -> Shown:
    """Return what shows on a terminal how many of the runs are sent."""
    from rich.progress import track

    from deltagclip_cli.terminal.console import make_console

    console = make_console(stderr=True)

    def shown(changes: Iterable[Change], all_: int) -> Iterable[Change]:
        if quiet or not console.is_terminal:
            return changes
        return track(changes, "sending runs", all_, console=console, transient=True)

    return shown


def _print(found: Round, before: Round | None, *, quiet: bool) -> None:
    """Print what came of a round, if that is something else than what came of the one before."""
    from deltagclip_cli.terminal.console import print_problems

    if not quiet and found.changes and (before is None or found.is_news):
        typer.echo(str(found))
    print_problems([each for each in found.problems if not before or each not in before.problems])
