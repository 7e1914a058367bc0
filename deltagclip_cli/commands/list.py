"""``deltagclip list``: experiments and parts, with one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import Catalogue, UsageError, load_target, printable

if TYPE_CHECKING:
    from rich.console import Console

Row = dict[str, str | list[str]]


class Kind(StrEnum):
    """The lists that there are."""

    EXPERIMENTS = "experiments"
    MODELS = "models"
    DATASETS = "datasets"
    TASKS = "tasks"
    OPTIMIZERS = "optimizers"
    SCHEDULES = "schedules"
    AUGMENTATIONS = "augmentations"


_TABLES = {
    Kind.MODELS: "deltagclip_cli.parts.models:TABLE",
    Kind.DATASETS: "deltagclip_cli.parts.datasets:TABLE",
    Kind.TASKS: "deltagclip_cli.parts.tasks:TABLE",
    Kind.OPTIMIZERS: "deltagclip_cli.optim:TABLE",
    Kind.SCHEDULES: "deltagclip_cli.parts.schedules:TABLE",
    Kind.AUGMENTATIONS: "deltagclip_cli.parts.datasets:AUGMENTATIONS",
}


def list_components(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.EXPERIMENTS,
    spec: options.Spec = options.SPEC,
    tags: options.Tags = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List the experiments of a file, or the parts that they can be made of."""
    from deltagclip_cli.terminal.console import print_json

    if kind is Kind.EXPERIMENTS:
        rows = _experiments(spec, tags or ())
    elif tags:
        raise UsageError(f"--tag: experiments have tags, and {kind.value} have none.")
    else:
        rows = _components(_TABLES[kind])
    if as_json:
        print_json(rows)
    else:
        print_listing(rows)


def _experiments(path: Path, tags: Sequence[str]) -> list[Row]:
    from deltagclip_cli.spec.load import load_spec

    return [
        {
            "name": name,
            "about": experiment.title,
            "optimizers": list(experiment.optimizers),
            "tags": list(experiment.tags),
            "figure": experiment.figure,
        }
        for name, experiment in load_spec(path, tags=tags).experiments.items()
    ]


def _components(table_target: str) -> list[Row]:
    from deltagclip_cli.source.signatures import read_signature

    table: Catalogue = load_target(table_target)
    rows: list[Row] = []
    for name, target in table.all().items():
        signature = read_signature(target)
        about = signature.summary if name in table.entries else target.replace(":", ".")
        options = [key for key in signature.options if key not in table.supplied]
        rows.append({"name": name, "about": about, "options": options})
    return rows


def print_listing(
    rows: Sequence[Mapping[str, str | list[str]]], console: Console | None = None
) -> None:
    """Print rows with the same keys, each a name, what it is, and more, which goes on below that.

    To a file or pipe, a row is one line, separated by tabs.
    """
    from rich.table import Table
    from rich.text import Text

    from deltagclip_cli.terminal.console import make_console

    console = console or make_console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(map(_text, row.values())), file=console.file)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for row in rows:
        (_, name), (_, about), *others = row.items()
        more = "".join(f"\n{key}: {_text(value)}" for key, value in others if value)
        table.add_row(Text(_text(name)), Text(_text(about)).append(more, style="dim"))
    console.print(table)


def _text(value: str | list[str]) -> str:
    return printable(value if isinstance(value, str) else ", ".join(value))
