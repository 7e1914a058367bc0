"""``deltagclip list``: what there is, with one line each."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from deltagclip_cli.commands import options


class Kind(StrEnum):
    """What can be listed."""

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
    from deltagclip_cli.core import UsageError
    from deltagclip_cli.terminal.listing import print_listing
    from deltagclip_cli.terminal.streams import print_json

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


def _experiments(path: options.Spec, tags: Sequence[str]) -> list[dict[str, str | list[str]]]:
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


def _components(table_target: str) -> list[dict[str, str | list[str]]]:
    from deltagclip_cli.core import Catalogue, load_target
    from deltagclip_cli.core.catalogue import read_signature

    table: Catalogue = load_target(table_target)
    rows: list[dict[str, str | list[str]]] = []
    for name, target in table.all().items():
        signature = read_signature(target)
        supplied = table.supplied
        own = name in table.entries
        rows.append(
            {
                "name": name,
                "about": signature.summary if own else target.replace(":", "."),
                "options": [key for key in signature.options if key not in supplied],
            }
        )
    return rows
