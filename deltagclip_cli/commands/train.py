"""``deltagclip train``: one trial in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options

if TYPE_CHECKING:
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial

DEFAULT_EXPERIMENT = "quickstart"


def train(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment of the spec.",
            show_default=True,
            autocompletion=options.offer_experiments,
        ),
    ] = DEFAULT_EXPERIMENT,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="One of its optimizers.",
            show_default="the first",
            autocompletion=options.offer_labels,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, metavar="N", help="Of the trial.", show_default="its first"
        ),
    ] = None,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    runs: options.Runs = options.RUNS,
    data: options.Data = options.DATA,
    device: options.Device = "auto",
    threads: options.Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete what is there and start again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the resolved trial and start nothing.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train one trial: one optimizer and one seed of an experiment.

    A trial that was interrupted continues where it was; a finished one is not run again.

    Exit codes: 0 finished; 1 failed or diverged; 2 wrong input; 75 stopped early, run it again;
    130 interrupted by Ctrl-C, with a checkpoint.
    """
    from deltagclip_cli.commands.train_session import Session
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.terminal.console import make_console

    read = load_spec(spec, [experiment], sets or ())
    trial = _choose(read, experiment, optimizer, seed)
    session = Session(
        runs=runs,
        data=data.expanduser(),
        device=device,
        threads=threads,
        console=make_console(stderr=as_json),
        as_json=as_json,
        quiet=quiet,
        spec=read,
    )
    if dry_run:
        session.show(trial)
        return
    code = session.train(trial, force=force)
    raise typer.Exit(code)


def _choose(spec: Spec, experiment: str, label: str | None, seed: int | None) -> Trial:
    """The trial that the options name: as written under ``optimizers``, whatever the grid."""
    from deltagclip_cli.core import SpecError
    from deltagclip_cli.spec.faults import nearest
    from deltagclip_cli.spec.trial import make_trial

    chosen = spec.experiments[experiment]
    labels = list(chosen.optimizers)
    if label is not None and label not in labels:
        raise SpecError(
            f"--optimizer {label}: {experiment} has no such optimizer.\n"
            f"  optimizers: {', '.join(labels)}{nearest(label, labels)}"
        )
    return make_trial(
        experiment, chosen, label or labels[0], chosen.seeds[0] if seed is None else seed
    )
