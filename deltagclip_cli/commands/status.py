"""``deltagclip status``: what is finished, running, interrupted, failed, diverged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from deltagclip_cli.commands import options
from deltagclip_cli.core import SpecError, UsageError, nearest
from deltagclip_cli.plan.planned import RunStatus, Status, experiments_in, find_status, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.slurm.jobs import asked_rarely
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand
from deltagclip_cli.terminal.console import (
    STYLES,
    counted,
    make_console,
    print_json,
    running_table,
    summary_tables,
)

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Experiment

_MOST_PROBLEMS = 10
_SECONDS_BETWEEN_LOOKS = 2.0

_PROBLEMS = (State.FAILED, State.LOST, State.INTERRUPTED, State.DIVERGED)
_UNASKED = "Slurm cannot be asked, so this is what the files say"


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
    """Show what is finished, queued, running, interrupted, lost, failed or diverged.

    The run folders tell it, and for trials that were submitted, Slurm's queue. Without a spec, what
    is in the runs folder is all that is known.
    """
    console = make_console()
    if watch and (as_json or not console.is_terminal):
        raise UsageError("--watch keeps a terminal up to date; without one, ask again instead.")
    ask = asked_rarely(runs)
    names, trials = _trials(spec, experiments or (), sets or (), runs, experiments_in(runs, ask()))

    def look() -> Status:
        jobs = ask()
        return find_status(runs, look_up(trials, runs, jobs), names, jobs)

    if as_json:
        found = look()
        problem = "\n".join(filter(None, [found.elsewhere.problem, *found.unlisted])) or None
        print_json({"trials": [_record(each) for each in found.trials], "problem": problem})
    elif watch:
        _watch(console, look)
    else:
        console.print(_shown(look()))


def _trials(
    spec: Path | None, chosen: Sequence[str], sets: Sequence[str], runs: Path, there: Sequence[str]
) -> tuple[list[str], list[Trial]]:
    """The experiments to show, and those of their trials that the spec knows."""
    specified = _experiments(spec, chosen, sets)
    for name in chosen:
        if name not in specified and name not in there:
            known = ", ".join(dict.fromkeys([*specified, *there])) or "none"
            raise UsageError(
                f"{name}: there is no such experiment, in the spec or in {runs}.\n"
                f"  experiments: {known}{nearest(name, [*specified, *there])}"
            )
    names = list(chosen) or list(there)
    return names, [
        trial for name in names if name in specified for trial in expand(name, specified[name])
    ]


def _experiments(
    spec: Path | None, chosen: Sequence[str], sets: Sequence[str]
) -> Mapping[str, Experiment]:
    """The experiments of the spec; of a default one that is missing or has faults, none."""
    if spec is None and not options.SPEC.exists():
        return {}
    try:
        experiments = load_spec(spec or options.SPEC).experiments
        if not sets:
            return experiments
        named = [name for name in chosen if name in experiments]
        return load_spec(spec or options.SPEC, named, sets).experiments
    except SpecError:
        if spec is not None or sets:
            raise
        typer.echo(f"{options.SPEC} has faults: see deltagclip validate. Without it:", err=True)
        return {}


def _watch(console: Console, look: Callable[[], Status]) -> None:
    """Keep what ``look`` gives on the screen until Ctrl-C, or until there is no screen any more."""
    first = _shown(look(), what_happens_first=True)
    with (
        suppress(KeyboardInterrupt),
        Live(first, console=console, screen=True, auto_refresh=False) as live,
    ):
        while console.file.isatty():
            live.update(_shown(look(), what_happens_first=True), refresh=True)
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _shown(status: Status, *, what_happens_first: bool = False) -> RenderableType:
    """Lay a status out; a screen cuts off what comes last, so there the tables do."""
    tables: list[RenderableType] = [*summary_tables(status.planned)]
    tables += [Text(line) for line in _others(status.others)]
    happening: list[RenderableType] = []
    if running := [each for each in status.trials if each.state is State.RUNNING]:
        rows = ((_where(each), _named(each, ", "), each.beat) for each in running)
        happening += [Text(f"\nrunning: {len(running)}", "bold"), running_table(rows)]
    happening += _queued(status)
    happening += _problems(status.trials)
    happening += [Text(each, "yellow") for each in status.unlisted]
    if status.elsewhere.problem:
        happening.append(Text(f"\n{_UNASKED}: {status.elsewhere.problem}", "yellow"))
    parts = happening + tables if what_happens_first else tables + happening
    return Group(*parts) if parts else Text("There are no runs yet.")


def _others(others: Sequence[RunStatus]) -> list[str]:
    """A line for each optimizer with run folders that belong to no trial of the spec."""
    counts: dict[str, Counter[str]] = {}
    for each in others:
        counts.setdefault(f"{each.experiment}/{each.label}", Counter())[each.state] += 1
    return [f"{name}, settings outside of the spec: {counted(c)}" for name, c in counts.items()]


def _where(trial: RunStatus) -> str:
    beat, standing = trial.beat, trial.standing
    if standing.job is not None:
        return " ".join([standing.where, *([beat.device] if beat else [])])
    return f"{beat.host} {beat.device}" if beat else ""


def _queued(status: Status) -> list[RenderableType]:
    """Say how many wait for what: thousands wait for the same."""
    queued = [each for each in status.trials if each.state is State.QUEUED]
    if not queued:
        return []
    reasons = Counter(each.reason for each in queued)
    lines: list[RenderableType] = [Text(f"\nqueued: {len(queued)}", STYLES[State.QUEUED])]
    for reason, count in reasons.most_common(_MOST_PROBLEMS):
        alike = [each.standing for each in queued if each.reason == reason]
        hint = status.elsewhere.hint(alike)
        words = f" ({hint})" if hint else ""
        lines.append(Text(f"  {count}: {reason or 'no reason given'}{words}"))
    return lines


def _problems(trials: Sequence[RunStatus]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for state in _PROBLEMS:
        found = [each for each in trials if each.state is state]
        if found:
            lines.append(Text(f"\n{state}: {len(found)}", STYLES[state]))
        lines += [Text(f"  {_named(each, ': ')}") for each in found[:_MOST_PROBLEMS]]
        if len(found) > _MOST_PROBLEMS:
            lines.append(Text(f"  and {len(found) - _MOST_PROBLEMS} more: --json lists all"))
    return lines


def _named(trial: RunStatus, before_reason: str) -> str:
    reason = f"{before_reason}{trial.reason}" if trial.reason else ""
    return f"{trial.experiment} · {trial.name}{reason}"


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
