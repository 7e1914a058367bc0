"""``deltagclip status``: what is finished, running, interrupted, failed, diverged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import SpecError, UsageError, nearest

if TYPE_CHECKING:
    from deltagclip_cli.plan.planned import RunStatus, Status
    from deltagclip_cli.spec.schema import Experiment
    from deltagclip_cli.spec.trial import Trial


def status(
    experiments: Annotated[
        list[str] | None,
        options.experiments("Experiments to show.", options.offer_read_experiments),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file of experiments.", show_default="experiments.yaml"
        ),
    ] = None,
    sets: options.Sets = None,
    runs: options.Runs = options.RUNS,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show changes.")] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show which trials are finished, running, lost or failed.

    Or queued, interrupted, diverged. The run folders tell it, and for trials that were submitted,
    Slurm's queue. Without a spec, what is in the runs folder is all that is known.
    """
    from deltagclip_cli.terminal.console import make_console, print_json
    from deltagclip_cli.terminal.status_view import shown_status, watch_status

    console = make_console()
    if watch and (as_json or not console.is_terminal):
        raise UsageError("--watch keeps a terminal up to date; without one, ask again instead.")
    look = looking(spec, experiments or (), sets or (), runs)
    if as_json:
        found = look()
        problem = "\n".join(filter(None, [found.elsewhere.problem, *found.unlisted])) or None
        print_json({"trials": [_record(each) for each in found.trials], "problem": problem})
    elif watch:
        watch_status(console, look)
    else:
        console.print(shown_status(look()))


def looking(
    spec: Path | None, chosen: Sequence[str], sets: Sequence[str], runs: Path
) -> Callable[[], Status]:
    """Return what looks at all trials of some experiments, over and over.

    Args:
        spec: None for the usual file, which may be missing or have faults.
        chosen: the names of the experiments; all that have runs if empty.
        sets: words that are laid over them.
        runs: the runs folder.
    """
    from deltagclip_cli.plan.planned import experiments_in, find_status, look_up
    from deltagclip_cli.slurm.jobs import asked_rarely

    ask = asked_rarely(runs)
    names, trials = _trials(spec, chosen, sets, runs, experiments_in(runs, ask()))

    def look() -> Status:
        jobs = ask()
        return find_status(runs, look_up(trials, runs, jobs), names, jobs)

    return look


def _trials(
    spec: Path | None, chosen: Sequence[str], sets: Sequence[str], runs: Path, there: Sequence[str]
) -> tuple[list[str], list[Trial]]:
    """The experiments to show, and those of their trials that the spec knows.

    Of a tuned experiment, those that were begun: it is its plan that says what is still to run.
    """
    from os.path import exists  # of what nobody may look into, it says False

    from deltagclip_cli.spec.trial import expand
    from deltagclip_cli.tuning.lock import lock_file

    specified = _experiments(spec, chosen, sets, runs)
    for name in chosen:
        if name not in specified and name not in there:
            known = ", ".join(dict.fromkeys([*specified, *there])) or "none"
            raise UsageError(
                f"{name}: there is no such experiment, in the spec or in {runs}.\n"
                f"  experiments: {known}{nearest(name, [*specified, *there])}"
            )
    names = list(chosen) or list(there)
    tuned = {name for name in names if exists(lock_file(runs, name))}
    return names, [
        trial
        for name in names
        if name in specified
        for trial in expand(name, specified[name])
        if name not in tuned or exists(runs / trial.folder)
    ]


def _experiments(
    spec: Path | None, chosen: Sequence[str], sets: Sequence[str], runs: Path
) -> Mapping[str, Experiment]:
    """The experiments of the spec; of a default one that is missing or has faults, none."""
    from deltagclip_cli.spec.load import load_spec

    if spec is None and not options.SPEC.exists():
        return {}
    try:
        experiments = load_spec(spec or options.SPEC, runs=runs).experiments
        if not sets:
            return experiments
        named = [name for name in chosen if name in experiments]
        return load_spec(spec or options.SPEC, named, sets, runs=runs).experiments
    except SpecError:
        if spec is not None or sets:
            raise
        typer.echo(f"{options.SPEC} has faults: see deltagclip validate. Without it:", err=True)
        return {}


def _record(trial: RunStatus) -> dict[str, Any]:
    return {
        "folder": str(trial.folder.path),
        "experiment": trial.experiment,
        "optimizer": trial.label,
        "seed": trial.seed,
        "state": trial.state,
        "reason": trial.reason,
        "progress": asdict(trial.beat) if trial.beat else None,
        "job": trial.standing.job,
    }
