"""Runs of any program as frames of pandas, or as lists of dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.api.argument_types import checked
from deltagclip_cli.core import UsageError, listed, nearest, plural
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.results.tidy import TidyRow, metric_rows, result_rows

if TYPE_CHECKING:
    from pandas import DataFrame

    from deltagclip_cli.results.read.run import Run


class Runs:
    """The runs of some folders, as they were when this was made; make it anew to see more.

    ::

        runs = Runs("runs")
        runs.results().groupby(["experiment", "optimizer"])["test/accuracy"].agg(["mean", "std"])
        runs.select(optimizer="adam", seed=[0, 1]).metrics()

    Which columns there are, and in which units, :mod:`deltagclip_cli.results.tidy` tells.

    Args:
        targets: experiments of the runs folder, or folders with runs of this program or with logs
            of another, as ``deltagclip compare`` reads them; none for all experiments.
        runs: the runs folder.
        group: a regular expression with named groups, by which other people's runs are named, such
            as ``"(?P<optimizer>[a-z]+)_lr(?P<lr>[^_]+)_s(?P<seed>[0-9]+)"``. By default names are
            read in the usual ways.

    Attributes:
        problems: a sentence on each thing that could not be read or is in doubt.

    Raises:
        UsageError: there is no such folder, or no run in it.
        NotYetError: no trial there has begun yet.
    """

    @checked
    def __init__(
        self, *targets: str | Path, runs: str | Path = "runs", group: str | None = None
    ) -> None:
        place = Place([str(each) for each in targets], Path(runs), group)
        self._name = ", ".join(place.targets) or str(place.runs)
        self._reading = place.read()

    @property
    def problems(self) -> Sequence[str]:
        return self._reading.problems

    def select(
        self,
        experiment: str | Iterable[str] | None = None,
        optimizer: str | Iterable[str] | None = None,
        seed: int | str | Iterable[int | str] | None = None,
    ) -> Runs:
        """Return some of the runs: those that have one of the given values, where one is given.

        Args:
            experiment: names of experiments.
            optimizer: labels of optimizers.
            seed: seeds; numbers and their digits are the same.

        Raises:
            UsageError: no run has such a value.
        """
        asked = {"experiment": experiment, "optimizer": optimizer, "seed": seed}
        chosen = list(self._reading.runs)
        for name, wanted in asked.items():
            if wanted is not None:
                chosen = _having(chosen, name, wanted)
        selected = object.__new__(Runs)
        selected._name, selected._reading = self._name, replace(self._reading, runs=chosen)
        return selected

    def results(self) -> DataFrame:
        """Return a frame with a row for each run: settings, state, last metrics, circumstances."""
        return as_frame(self.result_rows(), "result_rows()")

    def metrics(self) -> DataFrame:
        """Return a frame with a row for each record of each run, in the order they were made."""
        return as_frame(self.metric_rows(), "metric_rows()")

    def result_rows(self) -> list[TidyRow]:
        """Return :meth:`results` as dictionaries, without pandas; None where there is nothing."""
        return result_rows(self._reading.runs)

    def metric_rows(self) -> list[TidyRow]:
        """Return :meth:`metrics` as dictionaries, without pandas; None where there is nothing."""
        return metric_rows(self._reading.runs)

    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self._reading.runs)

    def __repr__(self) -> str:
        experiments = {run.group.experiment for run in self._reading.runs}
        of = f"{plural(len(self), 'run')} of {plural(len(experiments), 'experiment')}"
        doubts = f", {plural(len(self.problems), 'problem')}" if self.problems else ""
        return f"<Runs in {self._name}: {of}{doubts}>"


def as_frame(rows: Sequence[TidyRow], instead: str) -> DataFrame:
    """Return rows as a frame of pandas; UsageError, naming what to call instead, without it."""
    try:
        from pandas import DataFrame
    except ModuleNotFoundError:
        raise UsageError(
            "Frames need pandas, which is not installed.\n"
            f"  Install it with pip install 'deltagclip_cli[pandas]', or call {instead} for"
            " a list of dictionaries."
        ) from None
    return DataFrame(rows)


def _having(runs: Sequence[Run], name: str, wanted: Any) -> list[Run]:
    """Return the runs with one of the wanted values of what ``name`` says."""
    several = isinstance(wanted, Iterable) and not isinstance(wanted, str)
    values = list(wanted) if several else [wanted]
    there = {str(_told(run, name)): None for run in runs}
    for value in map(str, values):
        if value not in there:
            raise UsageError(
                f"{name} {value}: no run has it.\n"
                f"  there are: {listed(list(there))}{nearest(value, there)}"
            )
    return [run for run in runs if str(_told(run, name)) in set(map(str, values))]


def _told(run: Run, name: str) -> object:
    return run.seed if name == "seed" else getattr(run.group, name)
