"""``deltagclip train``: one trial in this process."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ExitCode


def train(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="An experiment of the spec.",
            show_default="the first",
            autocompletion=options.offer_experiments,
        ),
    ] = None,
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
    same_code: options.SameCode = False,
    select_on_test: options.SelectOnTest = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete what is there and start again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the resolved trial and start nothing.")
    ] = False,
    every: options.Every = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train one trial: one optimizer and one seed.

    A trial that was interrupted continues where it was; a finished one is not run again.

    Exit codes: 0 finished; 1 failed or diverged; 2 wrong input; 75 stopped early, run it again;
    130 interrupted by Ctrl-C, with a checkpoint.
    """
    import yaml

    from deltagclip_cli.api.one_trial import choose_trial
    from deltagclip_cli.runs.folder import State
    from deltagclip_cli.spec.load import experiment_names
    from deltagclip_cli.terminal.console import make_console, print_json, print_summary, waiting
    from deltagclip_cli.training.process import StopRequest

    chosen = choose_trial(
        spec,
        experiment or next(iter(experiment_names(spec)), None),
        optimizer=optimizer,
        seed=seed,
        overrides=sets or (),
        runs=runs,
        vouches=same_code and not dry_run,
        select_on_test=select_on_test,
    )
    trial, folder, console = chosen.trial, chosen.folder, make_console(stderr=as_json)
    state = folder.state
    for sentence in () if quiet else chosen.remarks:
        console.print(sentence, soft_wrap=True)
    if dry_run:
        resolved = trial.model_dump(mode="json")
        if as_json:
            print_json({"folder": str(folder.path), "state": state, "trial": resolved})
            return
        text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
        console.print(f"# {folder.path} ({state})\n{text}", soft_wrap=True, end="")
        return
    if chosen.has_ended and not force:
        if not quiet:
            words = f"{folder.path} is {state} already; --force runs it again."
            console.print(words, soft_wrap=True)
    else:
        with waiting(console, "loading torch", quiet=quiet):
            import deltagclip_cli.training.imported  # noqa: F401
        stop = StopRequest()
        ending = chosen.run(
            data=data,
            device=device,
            threads=threads,
            force=force,
            console=console,
            quiet=quiet,
            stop=stop,
            every=every,
        )
        if ending == "stopped":
            raise typer.Exit(stop.exit_code)
    result = folder.result()
    assert result is not None, "it was there before, or the training has written it"
    if as_json:
        print_json({"folder": str(folder.path), **result})
    elif not quiet:
        print_summary(console, trial, folder, result, runs)
    raise typer.Exit(ExitCode.FAILED if result["status"] == State.DIVERGED else ExitCode.OK)
