"""What a trial came to, and where to look next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import TRAINED_METRICS, plural, short
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial


def print_summary(
    console: Console, trial: Trial, folder: RunFolder, result: Mapping[str, Any], runs: Path
) -> None:
    """Print the last and best metrics of a trial, its regimes, its folder and the next command."""
    console.print(_metrics_table(trial, result))
    for line in _facts(result):
        console.print(Text(line))
    console.print(Text(f"run folder   {folder.path}"), soft_wrap=True)
    console.print(
        Text(f"TensorBoard  tensorboard --logdir {runs / trial.experiment}"), soft_wrap=True
    )


def _metrics_table(trial: Trial, result: Mapping[str, Any]) -> Table:
    title = f"{trial.experiment} · {trial.label} · seed {trial.seed}"
    table = Table(box=box.SIMPLE_HEAD, title=Text(title, style="bold"), title_justify="left")
    table.add_column("metric")
    table.add_column("last", justify="right")
    table.add_column("best", justify="right")
    table.add_column("at epoch", justify="right")
    for name in TRAINED_METRICS:
        best = result["best"].get(name)
        if best is not None:
            last = result["last"].get(name)
            shown = "not finite" if last is None else short(last)
            table.add_row(name, shown, short(best["value"]), f"{best['epoch']}")
    return table


def _facts(result: Mapping[str, Any]) -> list[str]:
    seconds = result["seconds"]["epochs"]
    steps = plural(result["steps"], "step")
    facts = [f"epochs       {result['epochs']} ({steps}, {seconds:.1f} s)"]
    if result["regimes"]:
        kinds = ", ".join(f"{count} {name}" for name, count in result["regimes"].items())
        facts.append(f"steps        {kinds}")
    if result["diverged"]:
        at = result["diverged"]
        facts.append(
            f"diverged     the loss in {at['where']} was not finite at step {at['step']}"
            f" (epoch {at['epoch']})"
        )
    return facts
