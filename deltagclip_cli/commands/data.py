"""``deltagclip data``: what can be done with data sets without training on them."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import DataError, UsageError, memory

if TYPE_CHECKING:
    from rich.console import Console

    from deltagclip_cli.spec.trial import Trial

app = typer.Typer(help="Get the data of experiments ready.")

_WHOLE = {"batch_size": "full", "train_samples": None, "test_samples": None}


@app.command()
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
    from rich.text import Text

    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.spec.trial import expand
    from deltagclip_cli.terminal.console import make_console, print_json

    chosen = load_spec(spec, experiments or (), sets or (), tags or ()).experiments
    trials = (trial for name, experiment in chosen.items() for trial in expand(name, experiment))
    console = make_console(stderr=as_json)
    there, faults = prepare_data(trials, data.expanduser(), console, quiet=quiet)
    if as_json:
        print_json(
            [
                {"name": each.name, "experiments": users, **asdict(each)}
                for each, users in there.items()
            ]
        )
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
    train: int  # number of training samples, all that there are but those for validation
    validation: int  # number of samples that choices look at
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
        aside = f"{self.validation:,} for validation + " if self.validation else ""
        counts = f"{self.train:,} + {aside}{self.test:,}"
        return f"{self.name}: {counts} samples of {shape}, {size}, {where}"


def prepare_data(
    trials: Iterable[Trial], root: Path, console: Console, *, quiet: bool = False
) -> tuple[dict[Prepared, list[str]], list[str]]:
    """Download and decode the data of trials, each set once whatever is wrong with another.

    Return the experiments of each that is there, and what is wrong with the others.
    """
    from rich.text import Text

    from deltagclip_cli.terminal.console import waiting
    from deltagclip_cli.terminal.messages import shown_messages

    there: dict[Prepared, dict[str, None]] = defaultdict(dict)
    faults: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    with shown_messages(console, quiet=quiet):
        for trial, experiments in _by_content(trials).values():
            name = trial.data.name
            try:
                with waiting(console, f"Preparing {name}", quiet=quiet):
                    prepared = _prepared(trial, root)
            except UsageError as error:
                faults[name, str(error)].update(experiments)
                continue
            if prepared not in there and not quiet:
                console.print(Text(str(prepared)), soft_wrap=True)
            there[prepared].update(experiments)
    return (
        {each: list(experiments) for each, experiments in there.items()},
        [
            f"data {name} of experiment{'s' * (len(users) > 1)} {', '.join(users)}: {message}"
            for (name, message), users in faults.items()
        ],
    )


def _by_content(trials: Iterable[Trial]) -> dict[str, tuple[Trial, dict[str, None]]]:
    """Return a trial and the experiments of each data set, whatever the sizes of their batches."""
    contents: dict[str, tuple[Trial, dict[str, None]]] = {}
    for trial in trials:
        data = trial.data
        pretrained = trial.model.options.get("pretrained")  # whose tokenizer cuts texts
        what = [data.name, data.options, data.image_size, data.validation, pretrained]
        content = json.dumps(what)
        contents.setdefault(content, (trial, {}))[1][trial.experiment] = None
    return contents


def _prepared(trial: Trial, root: Path) -> Prepared:
    from deltagclip_cli.parts.datasets.staging import folder_of
    from deltagclip_cli.training.loaded import load_dataset  # which loads torch

    data = trial.data
    dataset = load_dataset(data.model_copy(update=_WHOLE), root, model=trial.model)
    folder = folder_of(data, root)
    return Prepared(
        name=data.name,
        train=len(dataset.train),
        validation=len(dataset.validation or ()),
        test=len(dataset.test),
        shape=dataset.shape if _is_plain(dataset.shape) else str(dataset.shape),
        tokens=dataset.padding is not None,
        classes=dataset.classes,
        size_bytes=sum(split.nbytes for split in dataset.splits.values()),
        folder=None if folder is None else str(folder),
    )


def _is_plain(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(each, int) for each in shape)
