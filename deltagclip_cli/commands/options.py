"""Options that several commands share, each described once, and what a shell offers after a Tab.

What is offered are names from the spec and from the runs folder. Nothing is checked or loaded, and
what cannot be read offers nothing: a Tab is answered quickly and quietly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from deltagclip_cli.core import DATA as DATA
from deltagclip_cli.core import TRAINED_METRICS, SpecError, load_target, subfolders

SPEC = Path("experiments.yaml")
RUNS = Path("runs")

_FIRST = 20  # records of a run that tell what it measures


def offer_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Experiments of the spec."""
    return _beginning(incomplete, _written(ctx))


def offer_read_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Experiments that have runs, then those of the spec."""
    return _beginning(incomplete, [*_names(_path(ctx, "runs", RUNS)), *_written(ctx)])


def offer_labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Optimizers of the experiments that are named, or of all."""
    written = _written(ctx)
    runs = _path(ctx, "runs", RUNS)
    found: list[str] = []
    there = [*written, *_names(runs)]
    for name in [each for each in _named(ctx) if each in there] or there:
        section = written.get(name)
        optimizers = section.get("optimizers") if isinstance(section, dict) else None
        found += map(str, optimizers) if isinstance(optimizers, dict) else _labels(runs / name)
    return _beginning(incomplete, found)


def offer_metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Metrics that runs of the experiments that are named have, or of all; else the usual ones."""
    from deltagclip_cli.runs.folder import RunFolder

    runs = _path(ctx, "runs", RUNS)
    there = _names(runs)
    found: dict[str, None] = {}
    for name in [each for each in _named(ctx) if each in there] or there:
        for label in _names(runs / name):
            for trial in _names(runs / name / label)[:1]:  # the others measure the same
                records = RunFolder(runs / name / label / trial).metrics()
                found |= dict.fromkeys(key for each in islice(records, _FIRST) for key in each)
    names = (key for key in found if "/" in key and not key.startswith("step/"))
    return _beginning(incomplete, sorted(names, key=_by_use) or TRAINED_METRICS)


def offer_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Metrics, before the value that is to be reached."""
    return [f"{name}=" for name in offer_metrics(ctx, incomplete)]


def offer_tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tags of the experiments of the spec."""
    sections = [each for each in _written(ctx).values() if isinstance(each, dict)]
    tags = [each["tags"] for each in sections if isinstance(each.get("tags"), list)]
    return _beginning(incomplete, (str(tag) for found in tags for tag in found))


def offer_optimizers(incomplete: str) -> list[str]:
    """Optimizers that have a short name."""
    return _beginning(incomplete, load_target("deltagclip_cli.optim:TABLE").all())


def offer_devices(incomplete: str) -> list[str]:
    """Words for where to train."""
    return _beginning(incomplete, ("auto", "cpu", "cuda"))


def _named(ctx: typer.Context) -> list[str]:
    """The experiments that are on the command line already.

    Before a Tab for the value of an option, nothing has been taken for an argument yet.
    """
    found = [ctx.params.get(key) for key in ("experiments", "experiment", "targets")]
    named = [name for each in found if each for name in ([each] if isinstance(each, str) else each)]
    return [*named, *ctx.args]


def _written(ctx: typer.Context) -> dict[str, object]:
    """The experiments of the spec, as they are written there."""
    from deltagclip_cli.spec.document import read_document  # here, so that help needs no YAML

    try:
        data = read_document(_path(ctx, "spec", SPEC)).data
    except SpecError:
        return {}
    written = data.get("experiments") if isinstance(data, dict) else None
    return {str(key): value for key, value in written.items()} if isinstance(written, dict) else {}


def _path(ctx: typer.Context, option: str, default: Path) -> Path:
    return Path(str(ctx.params.get(option) or default))


def _names(folder: Path) -> list[str]:
    try:
        return subfolders(folder)
    except OSError:
        return []


def _labels(experiment: Path) -> list[str]:
    """The optimizers that have runs there, where a report may lie beside them."""
    return [each for each in _names(experiment) if any((experiment / each).glob("seed-*"))]


def _by_use(metric: str) -> tuple[bool, bool, str]:
    """Return a key that sorts what is mostly asked for to the front."""
    return metric not in TRAINED_METRICS, metric.startswith(("optim/", "perf/")), metric


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


Spec = Annotated[Path, typer.Option("--spec", metavar="FILE", help="The file of experiments.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting of the experiment, such as optimizers.adam.lr=1e-4. Repeatable.",
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        autocompletion=offer_tags,
        help="Only experiments with this tag. Repeatable, for those that have all of them.",
    ),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders go.")]
Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", envvar="DELTAGCLIP_DATA", help="Where data sets lie."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to train.",
        autocompletion=offer_devices,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        metavar="N",
        help="Of the CPU, for each trial; one that was begun keeps its own.",
        show_default="1",
    ),
]
SameCode = Annotated[
    bool,
    typer.Option(
        "--same-code",
        help="Vouch that edits of your parts change no number: finished trials count as before.",
    ),
]
SELECT_ON_TEST = typer.Option(
    "--select-on-test",
    help="Choose by the test set where there is no validation split; what rests on it says so.",
)
SelectOnTest = Annotated[bool, SELECT_ON_TEST]
Every = Annotated[int | None, typer.Option(min=1, metavar="N", help="Print a line every N epochs.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def experiments(words: str, offer: Callable[..., list[str]], default: str = "all") -> Any:
    """Return the argument of a command that takes any number of experiments."""
    return typer.Argument(
        metavar="EXPERIMENT", help=words, show_default=default, autocompletion=offer
    )


def option_words(
    spec: Path = SPEC, runs: Path = RUNS, data: Path = DATA, sets: Sequence[str] = ()
) -> list[str]:
    """Return the options by which another command means the same experiments, runs and data."""
    words: list[str] = []
    for option, path, default in (
        ("--spec", spec, SPEC),
        ("--runs", runs, RUNS),
        ("--data", data, DATA),
    ):
        words += [option, str(path)] if path != default else []
    return [*words, *(word for each in sets for word in ("--set", each))]
