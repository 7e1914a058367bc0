"""``deltagclip data``: what can be done with data sets without training on them."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import completion, options
from deltagclip_cli.commands.app import reports_errors
from deltagclip_cli.commands.command import Command

app = typer.Typer(help="Get the data of experiments ready.", no_args_is_help=True)


@app.command("prepare", cls=Command)
@reports_errors
def prepare(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Experiments of the spec.",
            show_default="all",
            autocompletion=completion.experiments,
        ),
    ] = None,
    tags: options.Tags = None,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    data: options.Data = options.DATA,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Download and decode the data of experiments, so that no job needs the network for them.

    Run it where there is a network, such as on the login node of a cluster.

    Exit codes: 0 all are there; 2 some are not, or the spec is wrong.
    """
    from deltagclip_cli.commands.data_session import DataSession
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.spec.trial import expand
    from deltagclip_cli.terminal.console import make_console

    chosen = load_spec(spec, experiments or (), sets or (), tags or ()).experiments
    session = DataSession(
        data=data.expanduser(),
        console=make_console(stderr=as_json),
        as_json=as_json,
        quiet=quiet,
        next_words=[
            *("deltagclip", "sweep", *(experiments or ())),
            *(word for tag in tags or () for word in ("--tag", tag)),
            *options.said(spec, data=data, sets=sets or ()),
        ],
    )
    session.prepare(
        trial for name, experiment in chosen.items() for trial in expand(name, experiment)
    )
