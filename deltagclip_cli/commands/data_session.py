"""One ``data prepare`` in a terminal: every data set once, and what is there afterwards."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import DataError, UsageError, memory
from deltagclip_cli.spec.schema import Data
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.console import waiting
from deltagclip_cli.terminal.console import shown_messages
from deltagclip_cli.terminal.streams import print_json

if TYPE_CHECKING:
    from deltagclip_cli.parts.datasets.dataset import Dataset

_WHOLE = {"batch_size": "full", "train_samples": None, "test_samples": None}

_Uses = dict[tuple[str, str], Trial]  # by experiment, and by the data's settings as text
_Faults = defaultdict[tuple[str, str], dict[str, None]]  # experiments by data set and message


@dataclass(frozen=True)
class Prepared:
    """A data set that is there.

    Args:
        name: as in the spec.
        experiments: that use it.
        train: number of training samples, all that there are.
        test: number of test samples.
        shape: of one input.
        tokens: whether that is the longest text's, in tokens.
        classes: number of classes.
        size_bytes: of inputs and targets in memory.
        folder: where its files lie; None if it is made when it is used.
    """

    name: str
    experiments: tuple[str, ...]
    train: int
    test: int
    shape: tuple[int, ...]
    tokens: bool
    classes: int
    size_bytes: int
    folder: str | None

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        shape = f"at most {shape} tokens" if self.tokens else shape
        where = f"in {self.folder}" if self.folder else "made when they are used"
        return (
            f"{self.name}: {self.train:,} + {self.test:,} samples of {shape}, "
            f"{memory(self.size_bytes)} in memory, {where}"
        )


@dataclass(frozen=True)
class DataSession:
    """How data sets are got ready, and shown.

    Args:
        data: where they lie.
        console: where everything for people goes.
        as_json: print the answer as JSON on stdout.
        quiet: print warnings and errors only.
        next_words: the command that uses the data.
    """

    data: Path
    console: Console
    as_json: bool = False
    quiet: bool = False
    next_words: Sequence[str] = ()

    def prepare(self, trials: Iterable[Trial]) -> None:
        """Download and decode the data of trials, each set once whatever is wrong with another.

        Raises:
            DataError: some are missing or broken, or do not fit an experiment; all faults in one.
        """
        there: dict[Prepared, tuple[str, ...]] = {}
        faults: _Faults = defaultdict(dict)
        with shown_messages(self.console, quiet=self.quiet):
            for uses in _by_content(trials).values():
                prepared = self._prepared(uses, faults)
                if prepared is None:
                    continue
                same = replace(prepared, experiments=())  # but for sizes in batches
                if same not in there:
                    self._say(str(prepared))
                there[same] = (*there.get(same, ()), *prepared.experiments)
        if self.as_json:
            self._print_json(there)
        if faults:
            raise DataError(
                "\n\n".join(_fault(*about, list(users)) for about, users in faults.items())
            )
        self._say(f"No job needs the network for these. Next: {shlex.join(self.next_words)}")

    def _print_json(self, there: Mapping[Prepared, Iterable[str]]) -> None:
        records = [
            {**asdict(each), "experiments": list(dict.fromkeys(experiments))}
            for each, experiments in there.items()
        ]
        print_json(records)

    def _prepared(self, uses: _Uses, faults: _Faults) -> Prepared | None:
        """Load a data set, and add what is wrong with it, or with a use of it, to the faults."""
        from deltagclip_cli.training.loading import fitted, load_dataset

        first = next(iter(uses.values()))
        data = first.data
        experiments = dict.fromkeys(experiment for experiment, _ in uses)
        try:
            with waiting(self.console, f"Preparing {data.name}", quiet=self.quiet):
                whole = data.model_copy(update=_WHOLE)
                dataset = load_dataset(whole, self.data, model=first.model)
        except UsageError as error:
            faults[data.name, str(error)].update(experiments)
            return None
        for (experiment, _), use in uses.items():
            try:
                fitted(dataset, use.data)
            except UsageError as error:
                faults[data.name, str(error)][experiment] = None
        return _described(data, self.data, dataset, tuple(experiments))

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(Text(line), soft_wrap=True)


def _by_content(trials: Iterable[Trial]) -> dict[str, _Uses]:
    """The uses of each data set: what differs in batches and the like is the same data set."""
    contents: dict[str, _Uses] = defaultdict(dict)
    for trial in trials:
        data = trial.data
        pretrained = trial.model.options.get("pretrained")  # whose tokenizer cuts texts
        content = json.dumps([data.name, data.options, data.image_size, pretrained])
        contents[content].setdefault((trial.experiment, data.model_dump_json()), trial)
    return contents


def _described(data: Data, root: Path, dataset: Dataset, experiments: tuple[str, ...]) -> Prepared:
    from deltagclip_cli.parts.datasets.staging import folder_of

    folder = folder_of(data, root)
    splits = (dataset.train, dataset.test)
    return Prepared(
        name=data.name,
        experiments=experiments,
        train=len(dataset.train),
        test=len(dataset.test),
        shape=dataset.shape,
        tokens=dataset.padding is not None,
        classes=dataset.classes,
        size_bytes=sum(split.inputs.nbytes + split.targets.nbytes for split in splits),
        folder=None if folder is None else str(folder),
    )


def _fault(name: str, message: str, experiments: Sequence[str]) -> str:
    noun = "experiment" if len(experiments) == 1 else "experiments"
    return f"data {name} of {noun} {', '.join(experiments)}: {message}"
