"""Options of what is asked about runs, alike for every command that answers."""

from __future__ import annotations

from typing import Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import Mode

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EXPERIMENT|FOLDER",
        help="Experiments of the runs folder, or folders with runs or with TensorBoard logs.",
        show_default="all experiments",
        autocompletion=options.offer_read_experiments,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="What to compare.",
        show_default="test/accuracy or test/loss",
        autocompletion=options.offer_metrics,
    ),
]
At = Annotated[
    str, typer.Option("--at", metavar="last|best|epoch=N|step=N", help="When the metric is read.")
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="OPTIMIZER",
        help="Test every other one against this.",
        autocompletion=options.offer_labels,
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="METRIC=VALUE",
        help="Show what it took to reach a value. EXPERIMENT:METRIC=VALUE for one experiment."
        " Repeatable for those.",
    ),
]
Interval = Annotated[
    bool, typer.Option("--interval", help="Show 95 % intervals instead of standard errors.")
]
Ddof = Annotated[
    int, typer.Option("--ddof", min=0, max=1, help="Of the standard error; 0 is the paper's.")
]
Better = Annotated[
    Mode | None,
    typer.Option("--mode", help="Which values of the metric are good.", show_default="by its name"),
]
Heatmap = Annotated[
    str | None,
    typer.Option("--heatmap", metavar="KEY,KEY", help="A map over two settings, such as lr,gamma."),
]
Within = Annotated[
    str,
    typer.Option(
        "--within", metavar="DISTANCE", help="How far from the best a good setting may be."
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="REGEX",
        help="How other people's runs are named: (?P<optimizer>…), (?P<seed>…), (?P<lr>…), ….",
    ),
]


def two_settings(text: str | None) -> tuple[str, str] | None:
    """The settings that ``--heatmap`` names.

    Raises:
        UsageError: they are not two.
    """
    from deltagclip_cli.core import UsageError

    if text is None:
        return None
    keys = [key.strip() for key in text.split(",")]
    if len(keys) != 2 or not all(keys) or keys[0] == keys[1]:
        raise UsageError(f"--heatmap {text}: say two settings, such as lr,gamma.")
    return keys[0], keys[1]
