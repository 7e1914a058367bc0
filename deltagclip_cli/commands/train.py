"""``deltagclip train``: one trial in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ExitCode, SpecError, nearest

if TYPE_CHECKING:
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial

DEFAULT_EXPERIMENT = "quickstart"


def train(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
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
    from rich.text import Text

    from deltagclip_cli.launch.rehearsal import Stage, check_parts
    from deltagclip_cli.plan.edits import find_edits, vouch_for
    from deltagclip_cli.results.compare.choosing import check_ends
    from deltagclip_cli.runs.folder import RunFolder, State
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.terminal.console import (
        make_console,
        print_json,
        print_summary,
        shown_messages,
        shown_progress,
        waiting,
    )
    from deltagclip_cli.training.process import StopRequest

    read = load_spec(spec, [experiment], sets or (), runs=runs)
    trial = _choose(read, experiment, optimizer, seed)
    if trial.early_stopping is not None:
        check_ends(read.experiments, select_on_test=select_on_test)
    edits = find_edits([trial], runs) if trial.code else []
    of_edits = [str(edit) for edit in edits]
    if same_code and edits and not dry_run:
        of_edits = vouch_for(edits)
        read = load_spec(spec, [experiment], sets or (), runs=runs)
        trial = _choose(read, experiment, optimizer, seed)
    folder, console = RunFolder.of(runs, trial), make_console(stderr=as_json)
    state, data_dir = folder.state, data.expanduser()
    for sentence in () if quiet else of_edits:
        console.print(Text(sentence), soft_wrap=True)
    if dry_run:
        resolved = trial.model_dump(mode="json")
        if as_json:
            print_json({"folder": str(folder.path), "state": state, "trial": resolved})
            return
        text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
        console.print(Text(f"# {folder.path} ({state})\n{text}"), soft_wrap=True, end="")
        return
    if state in (State.FINISHED, State.DIVERGED) and not force:
        folder.check(trial)
        if not quiet:
            words = f"{folder.path} is {state} already; --force runs it again."
            console.print(Text(words), soft_wrap=True)
    else:
        with waiting(console, "loading torch and trying the parts out", quiet=quiet):
            check_parts(read, [trial], lambda trial: Stage(device), data_dir)
        stop = StopRequest()
        with (
            shown_messages(console, quiet=quiet, every=every),
            stop.listening(),
            shown_progress(console, quiet=quiet) as sinks,
        ):
            from deltagclip_cli.training.worker import run_trial  # which loads torch

            ending = run_trial(
                folder,
                trial,
                data_dir=data_dir,
                device=device,
                threads=threads,
                force=force,
                sinks=sinks,
                should_stop=stop,
            )
        if ending == "stopped":
            raise typer.Exit(stop.exit_code)
    result = folder.result()
    assert result is not None, "it was there before, or run_trial has written it"
    if as_json:
        print_json({"folder": str(folder.path), **result})
    elif not quiet:
        print_summary(console, trial, folder, result, runs)
    raise typer.Exit(ExitCode.FAILED if result["status"] == State.DIVERGED else ExitCode.OK)


def _choose(spec: Spec, experiment: str, label: str | None, seed: int | None) -> Trial:
    """Return the trial that is named, as written under ``optimizers``, whatever the grid."""
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
