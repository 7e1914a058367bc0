"""The optimizers whose best settings are looked for, and the settings that were tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import SpecError, UsageError, nearest
from deltagclip_cli.runs.folder import SEARCH_JOURNAL
from deltagclip_cli.spec.axes import Distribution, as_written, extremes
from deltagclip_cli.spec.trial import Trial, make_trial, options_in_words
from deltagclip_cli.tuning.studies import drawn

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Experiment
    from deltagclip_cli.spec.search_settings import Search
    from deltagclip_cli.tuning.stages import DrawState


@dataclass(frozen=True)
class SearchedOptimizer:
    """One optimizer of an experiment, whose best setting is looked for."""

    name: str
    experiment: Experiment  # which has a ``search`` with a space for the label
    label: str
    seeds: tuple[int, ...]  # that every setting is run with, one after the other

    @property
    def search(self) -> Search:
        """The section of the spec that says how it is looked for."""
        assert self.experiment.search is not None, "the experiment has a search"
        return self.experiment.search

    @property
    def space(self) -> Mapping[str, Distribution]:
        """The distributions that the options are chosen from."""
        return self.search.space[self.label]

    @property
    def minimizes(self) -> bool:
        """True if a lower value is better."""
        return self.search.direction == "minimize"

    def draws(self, count: int) -> list[dict[str, Any]]:
        """Return the first settings that the sampler draws: those of a protocol's first study.

        There are none of a sampler that has to see what the ones before come to.
        """
        search = self.search
        if search.sampler == "tpe":
            return []
        draws = drawn(self.space, search.sampler, search.seed, count, self.label, 0)
        return [{option: each[option] for option in self.space} for each in draws]

    def drawn(self, count: int) -> list[list[Trial]]:
        """Return the trials of each of :meth:`draws`, which are made once."""
        if count not in self._drawn:
            self._drawn[count] = [self.trials(options) for options in self.draws(count)]
        return self._drawn[count]

    @cached_property
    def _drawn(self) -> dict[int, list[list[Trial]]]:
        return {}

    @property
    def least_rounds(self) -> int:
        """Return how many evaluations a trial has; the least number, where the data must tell."""
        settings = self.experiment
        if settings.steps is None:
            return settings.epochs or 1
        return -(-settings.steps // (settings.evaluate_every or settings.steps))

    def trials(self, options: Mapping[str, Any]) -> list[Trial]:
        """One setting with every seed."""
        optimizer = self.experiment.optimizers[self.label].varied(options)
        first = make_trial(self.name, self.experiment, self.label, self.seeds[0], optimizer)
        return [first, *map(first.with_seed, self.seeds[1:])]

    def extremes(self) -> list[Trial]:
        """Trials with the ends of what the options are chosen from, and with all that are words."""
        ends = {
            option: [value for _, value in extremes(each)] for option, each in self.space.items()
        }
        most = max(map(len, ends.values()))
        return [
            self.trials({option: each[min(n, len(each) - 1)] for option, each in ends.items()})[0]
            for n in range(most)
        ]

    @cached_property
    def premises(self) -> dict[str, Any]:
        """Everything that must stay the same for values of several searches to be comparable."""
        trial = make_trial(self.name, self.experiment, self.label, self.seeds[0])
        settings = {key: value for key, value in trial.settings.items() if key != "seed"}
        fixed = {k: v for k, v in settings["optimizer"].items() if k not in self.space}
        return {
            **settings,
            "optimizer": fixed,
            "seeds": list(self.seeds),
            "metric": self.search.metric,
            "direction": self.search.direction,
            "pruner": self.search.pruner,
            "search seed": self.search.seed,
            "space": {option: as_written(each) for option, each in self.space.items()},
        }


@dataclass(frozen=True)
class Tried:
    """A setting that was tried, or is being tried."""

    number: int  # among those drawn of its optimizer, from 0
    options: dict[str, Any]
    outcome: DrawState  # how far it has come
    value: float | None  # of the metric, as a mean over seeds; None without one

    @property
    def words(self) -> str:
        """The options in few words, such as ``lr=0.1 gamma=1``."""
        return options_in_words(self.options)


def check_journals(optimizers: Iterable[SearchedOptimizer], runs: Path) -> None:
    """Refuse to begin anew where the spec leaves open whether an earlier search is to go on."""
    for each in optimizers:
        journal = runs / each.name / SEARCH_JOURNAL
        if "sampler" not in each.search.model_fields_set and journal.exists():
            then = {"sampler": "tpe", "pruner": "median"}  # the defaults of earlier versions
            left_open = [
                f"{k}: {v}" for k, v in then.items() if k not in each.search.model_fields_set
            ]
            raise UsageError(
                f"{journal}: of a search with Optuna's TPE, which was the default then.\n"
                f"  To go on with it, write in {each.name}: search: {{{', '.join(left_open)}}};\n"
                "  to begin anew beside it, search: {sampler: sobol}."
            )


def find_searched(
    experiments: Mapping[str, Experiment],
    *,
    named: bool,
    labels: Sequence[str] = (),
    seeds: Iterable[int] = (),
) -> list[SearchedOptimizer]:
    """Find the optimizers that are to be searched.

    Args:
        named: whether each of the experiments was asked for; else those without a search are left
            out.
        labels: the optimizers to take; all that have a space if empty.
        seeds: instead of those of the protocols or experiments.
    """
    searched = {name: each for name, each in experiments.items() if each.search is not None}
    lacking = [name for name in experiments if name not in searched]
    if lacking and (named or not searched):
        raise UsageError(_EXAMPLE.format(name=lacking[0]))
    spaces = {name: list(each.search.space) for name, each in searched.items() if each.search}
    there = list(dict.fromkeys(label for space in spaces.values() for label in space))
    for label in labels:
        if label not in there:
            raise SpecError(
                f"--optimizer {label}: no search here has a space for it.\n"
                f"  optimizers with a space: {', '.join(there)}{nearest(label, there)}"
            )
    asked = tuple(dict.fromkeys(seeds))
    return [
        SearchedOptimizer(name, experiment, label, asked or _seeds(experiment))
        for name, experiment in searched.items()
        for label in spaces[name]
        if not labels or label in labels
    ]


def _seeds(experiment: Experiment) -> tuple[int, ...]:
    """Return the seeds that settings are judged by: in a protocol's first study, the same."""
    protocol = experiment.protocol
    return tuple(dict.fromkeys((protocol.seeds if protocol else ()) or experiment.seeds))


_EXAMPLE = """\
--search: {name} has no 'search:' that says what is to be searched.
  Write, with the labels of its optimizers and limits of your own:
    {name}:
      search:
        metric: validation/loss     # with data: {{validation: 0.1}}
        space:
          adam: {{lr: {{log_uniform: [1e-5, 1e-1]}}}}"""
