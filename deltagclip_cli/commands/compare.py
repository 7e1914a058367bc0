"""``deltagclip compare``: which optimizer is better, by how much, how sure, at what cost.

What several commands ask about runs is described here once: ``report`` takes the same request.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ExitCode, UsageError, write_text
from deltagclip_cli.results.compare.request import Request

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EXPERIMENT|FOLDER",
        help="Experiments of the runs folder, or folders with runs or with logs of others.",
        show_default="all experiments",
        autocompletion=options.offer_read_experiments,
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

# Of a request, by its fields.
OPTIONS: dict[str, Any] = {
    "metric": typer.Option(
        "--metric",
        metavar="METRIC",
        help="What to compare.",
        show_default="a plan's, else test/accuracy or test/loss",
        autocompletion=options.offer_metrics,
    ),
    "at": typer.Option("--at", metavar="last|best|epoch=N|step=N", help="When the metric is read."),
    "baseline": typer.Option(
        "--baseline",
        metavar="OPTIMIZER",
        help="Test every other one against this.",
        autocompletion=options.offer_labels,
    ),
    "target": typer.Option(
        "--target",
        metavar="METRIC=VALUE",
        help="Show what it took to reach a value. EXPERIMENT:METRIC=VALUE for one experiment."
        " Repeatable for those.",
        autocompletion=options.offer_targets,
    ),
    "interval": typer.Option("--interval", help="Show 95 % intervals instead of standard errors."),
    "ddof": typer.Option(
        "--ddof", min=0, max=1, metavar="0|1", help="Of the standard error; 0 is the paper's."
    ),
    "mode": typer.Option(
        "--mode",
        metavar="max|min",
        help="Which values of the metric are good.",
        show_default="by its name",
    ),
    "heatmap": typer.Option(
        "--heatmap", metavar="KEY,KEY", help="A map over two settings, such as lr,gamma."
    ),
    "within": typer.Option(
        "--within", metavar="DISTANCE", help="How far from the best a good setting may be."
    ),
    "published": typer.Option("--published", help="Add what the paper's authors got."),
    "select_on_test": options.SELECT_ON_TEST,
}


def takes_request(**others: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a request: ``others`` instead, None for none."""
    chosen = {name: each for name, each in {**OPTIONS, **others}.items() if each is not None}
    types = get_type_hints(Request)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command).parameters.items():
            if name == "request":
                parameters += [
                    inspect.Parameter(
                        field,
                        inspect.Parameter.KEYWORD_ONLY,
                        default=getattr(Request, field),
                        annotation=Annotated.__class_getitem__((types[field], option)),  # type: ignore[attr-defined]
                    )
                    for field, option in chosen.items()
                ]
            else:
                kind = inspect.Parameter.KEYWORD_ONLY
                parameters.append(parameter.replace(annotation=hints[name], kind=kind))

        @functools.wraps(command)
        def taking(**values: Any) -> None:
            request = Request(**{field: values.pop(field) for field in chosen})
            command(request=request, **values)

        taking.__dict__["__signature__"] = inspect.Signature(parameters)
        taking.__annotations__ = {each.name: each.annotation for each in parameters}
        return taking

    return decorate


class Format(StrEnum):
    """Forms of a comparison."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    LATEX = "latex"


_ENDINGS = {
    "": Format.TABLE,
    ".txt": Format.TABLE,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".md": Format.MARKDOWN,
    ".tex": Format.LATEX,
}


@takes_request()
def compare(
    targets: Targets = None,
    *,
    request: Request,
    group: Group = None,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="table|csv|json|markdown|latex",
            help="What to write.",
            show_default="table",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; its ending tells the format.")
    ] = None,
    runs: options.Runs = options.RUNS,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare optimizers over seeds: means, tests, costs.

    Reads run folders of this program, and logs of others: TensorBoard, CSV, W&B, MLflow.

    Exit codes: 0 compared; 1 no run has come to its end yet; 2 wrong input.
    """
    from deltagclip_cli.api.compared import answer
    from deltagclip_cli.terminal.compare_view import print_tables
    from deltagclip_cli.terminal.console import make_console, print_problems, waiting
    from deltagclip_cli.terminal.streams import write_json

    written = _format(format_, output, as_json)
    with waiting(make_console(stderr=True), "reading runs", quiet=quiet):
        found = answer(targets or (), runs, group, request)
    if output is not None:
        _write(output, found.text(written))
    elif written is Format.TABLE:
        print_tables(make_console(), found.tables())
    else:
        write = write_json if written is Format.JSON else sys.stdout.write
        write(found.text(written))
    print_problems(found.analysis.problems)
    if not found.has_ended:
        print_problems(found.problems[-1:])
        raise typer.Exit(ExitCode.FAILED)


def _format(asked: Format | None, output: Path | None, as_json: bool) -> Format:
    """Return what was asked for, else what the ending of the file says, else a table."""
    if as_json and asked not in (None, Format.JSON):
        raise UsageError(f"--json and --format {asked}: say one of them.")
    if as_json or asked is not None or output is None:
        return Format.JSON if as_json else asked or Format.TABLE
    if output.suffix.lower() not in _ENDINGS:
        known = ", ".join(ending for ending in _ENDINGS if ending)
        raise UsageError(
            f"--output {output}: its ending is none of {known}.\n  Say the format with --format."
        )
    return _ENDINGS[output.suffix.lower()]


def _write(output: Path, text: str) -> None:
    try:
        write_text(output, text)
    except (OSError, ValueError) as error:  # ValueError of a name such as '' or '.'
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--output {output}: cannot be written: {why}.") from None
