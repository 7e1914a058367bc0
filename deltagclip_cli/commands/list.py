"""``deltagclip list``: experiments and parts, with one line each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import Catalogue, UsageError, listed, load_target, printable

if TYPE_CHECKING:
    from rich.console import Console

Row = dict[str, Any]


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
# Of which packages have some that are known by what they make.
_KINDS = (Kind.MODELS, Kind.OPTIMIZERS, Kind.SCHEDULES)


def list_components(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="What to list.")] = Kind.EXPERIMENTS,
    spec: options.Spec = options.SPEC,
    tags: options.Tags = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="PACKAGE",
            help="Of an installed package: its models, optimizers or schedules; repeatable.",
        ),
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List experiments, or the parts that they can be made of.

    With --package, what an installed package offers. Its source is read, and nothing of it is run.
    """
    from deltagclip_cli.terminal.console import print_json

    if kind is Kind.EXPERIMENTS:
        rows = _experiments(spec, tags or ())
    elif tags:
        raise UsageError(f"--tag: experiments have tags, and {kind.value} have none.")
    elif package and kind not in _KINDS:
        words = listed(_KINDS)
        raise UsageError(f"--package: {words} of packages can be listed, not {kind.value}.")
    elif package:
        rows = [row for each in package for row in _of_package(each, kind)]
    else:
        rows = _components(_TABLES[kind])
    if as_json:
        print_json(rows)
    else:
        print_listing(_as_lines(rows) if package else rows)


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


def _of_package(package: str, kind: Kind) -> list[Row]:
    from deltagclip_cli.source.offered import offered

    table: Catalogue = load_target(_TABLES[kind])
    offers = offered(package, table.kind)
    if not offers:
        raise UsageError(f"{package} offers no {kind.value}, as far as its source tells.")
    return [
        {
            "name": offer.name,
            "about": offer.signature.summary,
            "role": offer.role,
            **offer.options(table.positional, table.offered),
        }
        for offer in offers
    ]


def _as_lines(rows: Sequence[Row]) -> list[Row]:
    """Return rows of parts of packages as they are shown: each option with its default."""
    return [
        {
            "name": row["name"],
            "about": ": ".join(filter(None, (row["role"], row["about"]))),
            "options": [
                f"{name}={json.dumps(row['defaults'][name], default=str)}"
                if name in row["defaults"]
                else f"{name} (needed)"
                if name in row["needed"]
                else name
                for name in row["options"]
            ],
        }
        for row in rows
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
