"""The status of many trials on a terminal: what runs, what waits, what went wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from deltagclip_cli.core import mark_of
from deltagclip_cli.runs.folder import State
from deltagclip_cli.terminal.console import STYLES, counted, running_table, summary_tables

if TYPE_CHECKING:
    from deltagclip_cli.plan.planned import Planned, RunStatus, Status

_MOST_PROBLEMS = 10
_SECONDS_BETWEEN_LOOKS = 2.0

_PROBLEMS = (State.FAILED, State.LOST, State.INTERRUPTED, State.DIVERGED)
_UNASKED = "Slurm cannot be asked, so this is what the files say"


def watch_status(console: Console, look: Callable[[], Status]) -> None:
    """Keep what ``look`` gives on the screen until Ctrl-C, or until there is no screen any more."""
    first = shown_status(look(), what_happens_first=True)
    with (
        suppress(KeyboardInterrupt),
        Live(first, console=console, screen=True, auto_refresh=False) as live,
    ):
        while console.file.isatty():
            live.update(shown_status(look(), what_happens_first=True), refresh=True)
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def shown_status(status: Status, *, what_happens_first: bool = False) -> RenderableType:
    """Lay a status out; a screen cuts off what comes last, so there the tables do."""
    tables: list[RenderableType] = [*summary_tables(status.planned)]
    tables += [Text(line) for line in _others(status.others)]
    happening: list[RenderableType] = []
    if running := [each for each in status.trials if each.state is State.RUNNING]:
        shared = Counter((each.beat.host, each.beat.pid) for each in running if each.beat)
        rows = ((_where(each, shared), _named(each, ", "), each.beat) for each in running)
        happening += [Text(f"\nrunning: {len(running)}", "bold"), running_table(rows)]
    happening += _queued(status)
    happening += _ended_early(status.planned)
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
        name = f"{each.experiment}/{each.label}, {each.kin}"
        counts.setdefault(name, Counter())[each.state] += 1
    return [f"{name}: {counted(states)}" for name, states in counts.items()]


def _where(trial: RunStatus, shared: Mapping[tuple[str, int], int]) -> str:
    """Name the machine and the device, and the process where that trains several as a stack."""
    beat, standing = trial.beat, trial.standing
    words = [standing.where] if standing.job is not None else [beat.host] if beat else []
    if beat:
        stack = f" (process {beat.pid})" if shared[beat.host, beat.pid] > 1 else ""
        on = f" ({trial.on})" if trial.on else ""
        words.append(f"{beat.device}{stack}{on}")
    return " ".join(words)


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


def _ended_early(planned: Sequence[Planned]) -> list[RenderableType]:
    """Say of finished trials which did not become better to their last step."""
    results = ((each.name, each.result or {}) for each in planned)
    found = [(name, result) for name, result in results if "ended_early" in result]
    if not found:
        return []
    lines: list[RenderableType] = [Text(f"\nended early: {len(found)}")]
    for name, result in found[:_MOST_PROBLEMS]:
        early = result["ended_early"]
        best = f"best at step {early['best']['step']:,}{mark_of(early['metric'])}"
        lines.append(Text(f"  {name}: at step {result['steps']:,}, {best}"))
    if len(found) > _MOST_PROBLEMS:
        lines.append(Text(f"  and {len(found) - _MOST_PROBLEMS} more: --json lists all"))
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
