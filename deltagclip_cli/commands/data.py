"""``deltagclip data``: what can be done with data sets without training on them."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from deltagclip_cli.commands import options
from deltagclip_cli.commands.app import Command, reports_errors
from deltagclip_cli.core import DataError, UsageError, memory
from deltagclip_cli.parts.datasets.staging import folder_of
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand
from deltagclip_cli.terminal.console import make_console, print_json, shown_messages, waiting

if TYPE_CHECKING:
    from deltagclip_cli.parts.datasets.dataset import Dataset
    from deltagclip_cli.spec.schema import Data

app = typer.Typer(help="Get the data of experiments ready.", no_args_is_help=True)

_WHOLE = {"batch_size": "full", "train_samples": None, "test_samples": None}

_Uses = dict[tuple[str, str], Trial]  # by experiment, and by the data's settings as text
_Faults = defaultdict[tuple[str, str], dict[str, None]]  # experiments by data set and message


@app.command("prepare", cls=Command)
@reports_errors
def prepare(
    experiments: Annotated[
        list[str] | None, options.experiments("Experiments of the spec.", options.offer_experiments)
    ] = None,
    tags: options.Tags = None,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    data: options.Data = options.DATA,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Download and decode the data of experiments, so that no job needs the network for them.

    Run it where there is a network, such as on the login node of a cluster.

    Exit codes: 0 all are there; 2 some are not, or the spec is wrong.
    """
    chosen = load_spec(spec, experiments or (), sets or (), tags or ()).experiments
    trials = (trial for name, experiment in chosen.items() for trial in expand(name, experiment))
    console = make_console(stderr=as_json)
    there, faults = prepare_data(trials, data.expanduser(), console, quiet=quiet)
    if as_json:
        print_json([{**asdict(each), "experiments": users} for each, users in there.items()])
    if faults:
        raise DataError("\n\n".join(faults))
    if not quiet:
        next_words = [
            *("deltagclip", "sweep", *(experiments or ())),
            *(word for tag in tags or () for word in ("--tag", tag)),
            *options.option_words(spec, data=data, sets=sets or ()),
        ]
        line = f"No job needs the network for these. Next: {shlex.join(next_words)}"
        console.print(Text(line), soft_wrap=True)


@dataclass(frozen=True)
class Prepared:
    """A data set that is there."""

    name: str  # as in the spec
    experiments: tuple[str, ...]  # that use it
    train: int  # number of training samples, all that there are
    test: int  # number of test samples
    shape: tuple[int, ...] | str  # of one input; in words where that is several tensors
    tokens: bool  # whether that is the longest text's, in tokens
    classes: int  # number of classes
    size_bytes: int  # of inputs and targets in memory
    folder: str | None  # where its files lie; None if it is made when it is used

    def __str__(self) -> str:
        shape = self.shape if isinstance(self.shape, str) else " x ".join(map(str, self.shape))
        shape = f"at most {shape} tokens" if self.tokens else shape
        size = f"{memory(self.size_bytes)} in memory" if self.size_bytes else "fetched one by one"
        where = f"in {self.folder}" if self.folder else "made when they are used"
        return f"{self.name}: {self.train:,} + {self.test:,} samples of {shape}, {size}, {where}"


def prepare_data(
    trials: Iterable[Trial], root: Path, console: Console, *, quiet: bool = False
) -> tuple[dict[Prepared, list[str]], list[str]]:
    """Download and decode the data of trials, each set once whatever is wrong with another.

    Return the experiments of each that is there, and what is wrong with the others.
    """
    there: dict[Prepared, dict[str, None]] = {}
    faults: _Faults = defaultdict(dict)
    with shown_messages(console, quiet=quiet):
        for uses in _by_content(trials).values():
            data = next(iter(uses.values())).data
            with waiting(console, f"Preparing {data.name}", quiet=quiet):
                prepared = _prepared(uses, root, faults)
            if prepared is None:
                continue
            same = replace(prepared, experiments=())  # but for sizes in batches
            if same not in there and not quiet:
                console.print(Text(str(prepared)), soft_wrap=True)
            there.setdefault(same, {}).update(dict.fromkeys(prepared.experiments))
    return (
        {each: list(experiments) for each, experiments in there.items()},
        [_fault(*about, list(users)) for about, users in faults.items()],
    )


def _by_content(trials: Iterable[Trial]) -> dict[str, _Uses]:
    """The uses of each data set: what differs in batches and the like is the same data set."""
    contents: dict[str, _Uses] = defaultdict(dict)
    for trial in trials:
        data = trial.data
        pretrained = trial.model.options.get("pretrained")  # whose tokenizer cuts texts
        content = json.dumps([data.name, data.options, data.image_size, pretrained])
        contents[content].setdefault((trial.experiment, data.model_dump_json()), trial)
    return contents


def _prepared(uses: _Uses, root: Path, faults: _Faults) -> Prepared | None:
    """Load a data set, and add what is wrong with it, or with a use of it, to the faults."""
    from deltagclip_cli.training.assembly import fitted, load_dataset  # which load torch

    first = next(iter(uses.values()))
    data = first.data
    experiments = dict.fromkeys(experiment for experiment, _ in uses)
    try:
        dataset = load_dataset(data.model_copy(update=_WHOLE), root, model=first.model)
    except UsageError as error:
        faults[data.name, str(error)].update(experiments)
        return None
    for (experiment, _), use in uses.items():
        try:
            fitted(dataset, use.data)
        except UsageError as error:
            faults[data.name, str(error)][experiment] = None
    return _described(data, root, dataset, tuple(experiments))


def _described(data: Data, root: Path, dataset: Dataset, experiments: tuple[str, ...]) -> Prepared:
    folder = folder_of(data, root)
    return Prepared(
        name=data.name,
        experiments=experiments,
        train=len(dataset.train),
        test=len(dataset.test),
        shape=dataset.shape if _is_plain(dataset.shape) else str(dataset.shape),
        tokens=dataset.padding is not None,
        classes=dataset.classes,
        size_bytes=sum(split.nbytes for split in dataset.splits.values()),
        folder=None if folder is None else str(folder),
    )


def _is_plain(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(each, int) for each in shape)


def _fault(name: str, message: str, experiments: Sequence[str]) -> str:
    noun = "experiment" if len(experiments) == 1 else "experiments"
    return f"data {name} of {noun} {', '.join(experiments)}: {message}"
