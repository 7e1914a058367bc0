"""``deltagclip tensorboard``: TensorBoard with train and test of all optimizers in one chart."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.commands.compare import Group, Targets


def tensorboard(
    targets: Targets = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="N", help="Where to listen.", show_default="a free one"
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(metavar="NAME", help="Who may connect: 0.0.0.0 lets other machines do so."),
    ] = "localhost",
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    group: Group = None,
    runs: options.Runs = options.RUNS,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Open TensorBoard with means and bands over seeds.

    All optimizers are in one chart, and HParams lists the settings. Reads run folders of this
    program, and logs of others, as compare does. Follows runs that go on.
    """
    from deltagclip_cli.core import ExitCode
    from deltagclip_cli.results.read.tree import Place
    from deltagclip_cli.tensorboard.server import show

    try:
        show(Place(targets or (), runs, group), host, port, opens=opens, quiet=quiet)
    except KeyboardInterrupt:  # the usual way to end it, of which nothing is to be said
        raise typer.Exit(ExitCode.INTERRUPTED) from None
