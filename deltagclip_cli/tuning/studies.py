"""The trials of a protocol: its studies, their draws, and the seeds of each.

Draws are a function of the spec and their number alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from deltagclip_cli.core import derive_seed
from deltagclip_cli.spec.axes import Distribution
from deltagclip_cli.spec.trial import Trial, make_trial, options_in_words

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Experiment
    from deltagclip_cli.spec.search_settings import Protocol, Search


def drawn(
    space: Mapping[str, Distribution],
    sampler: Literal["sobol", "random"],
    seed: int,
    count: int,
    *parts: str | int,
) -> list[dict[str, Any]]:
    """Draw settings: the first ones are the same, however many follow.

    Args:
        space: of each option; the order of its keys changes nothing.
        sampler: ``sobol`` spreads them evenly over the space (Owen's scrambling of Sobol's
            sequence, by scipy); ``random`` draws each by itself.
        seed: of the sampler.
        parts: what tells these draws from others with the same seed, such as a label.

    Returns:
        ``count`` settings, each with a value for every option.
    """
    options = sorted(space)
    shares = _sobol if sampler == "sobol" else _independent
    rows = shares(derive_seed(seed, "draws", *parts), count, len(options))
    return [
        {option: space[option].at(share) for option, share in zip(options, row, strict=True)}
        for row in rows
    ]


def _sobol(seed: int, count: int, options: int) -> Sequence[Sequence[float]]:
    from scipy.stats import qmc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no power of two is as balanced: nor are budgets
        rows: Sequence[Sequence[float]] = (
            qmc.Sobol(options, seed=seed % 2**32).random(count).tolist()
        )
    return rows


def _independent(seed: int, count: int, options: int) -> Sequence[Sequence[float]]:
    random = Random(seed)
    return [[random.random() for _ in range(options)] for _ in range(count)]


@dataclass(frozen=True)
class Draw:
    """A setting that a study tries for one optimizer."""

    study: int  # from 0
    label: str
    number: int  # among those of the label in the study, from 0
    options: Mapping[str, Any]  # that replace those of the spec; none for a fixed one

    @property
    def words(self) -> str:
        """The options in few words, such as ``lr=0.1 gamma=1``."""
        return options_in_words(self.options)


@dataclass(frozen=True)
class Tuning:
    """A protocol with all that its trials follow from.

    Studies are alike and share nothing: the seeds of each begin where those of the one before end.
    It comes from a spec by :meth:`of`, or from the lock of one by ``read_lock``.

    Args:
        protocol: with the seeds in it that settings of the first study are chosen by.
        search: the spaces that settings are drawn from.
        bases: a trial of each optimizer as it is written, at the first of these seeds.
        draws: by study, then by label, then in their order.
    """

    name: str  # of the experiment
    protocol: Protocol
    search: Search
    bases: Mapping[str, Trial]
    draws: Sequence[Draw]
    _make: Callable[[Draw], Trial] = field(repr=False, compare=False)

    @classmethod
    def of(cls, name: str, experiment: Experiment) -> Tuning:
        """Return the tuning of an experiment that has a protocol, and so a search."""
        protocol, search = experiment.protocol, experiment.search
        assert protocol is not None and search is not None, "the spec was checked"
        seeds = list(dict.fromkeys(protocol.seeds or experiment.seeds))
        labels = list(experiment.optimizers)
        bases = {label: make_trial(name, experiment, label, seeds[0]) for label in labels}

        def make(draw: Draw) -> Trial:
            base = bases[draw.label]
            optimizer = experiment.optimizers[draw.label].varied(draw.options)
            if (
                "schedule" in draw.options or base.optimizer.is_own
            ):  # whose code others may be part of
                return make_trial(name, experiment, draw.label, base.seed, optimizer)
            return base.model_copy(update={"optimizer": optimizer})

        draws = list(_drawn(protocol, search, labels))
        return cls(name, protocol.model_copy(update={"seeds": seeds}), search, bases, draws, make)

    def with_draws(self, draws: Sequence[Draw]) -> Tuning:
        """Return the same tuning with other draws, as those that were drawn earlier."""
        return replace(self, draws=draws)

    @property
    def labels(self) -> list[str]:
        """The optimizers, in the order of the spec."""
        return list(self.bases)

    @property
    def minimizes(self) -> bool:
        """True if a lower value is better."""
        return self.protocol.direction == "minimize"

    @property
    def fixed(self) -> frozenset[str]:
        """The labels that take part as they are written."""
        return self.search.fixed

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The pairs of optimizers that are to be compared; the baseline is the first of each."""
        baseline = self.protocol.baseline
        if baseline is None:
            return list(combinations(self.labels, 2))
        return [(baseline, label) for label in self.labels if label != baseline]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the first study that settings are chosen by."""
        return tuple(self.protocol.seeds)

    @property
    def _stride(self) -> int:
        return max(self.seeds) + 1 + self.protocol.fresh_seeds

    def search_seeds(self, study: int) -> list[int]:
        """Return the seeds that settings of a study are chosen by."""
        return [seed + study * self._stride for seed in self.seeds]

    def fresh_seeds(self, study: int) -> list[int]:
        """Return the seeds of a study that the chosen settings are judged by."""
        first = max(self.seeds) + 1 + study * self._stride
        return list(range(first, first + self.protocol.fresh_seeds))

    def draws_of(self, study: int, label: str) -> list[Draw]:
        """Return the draws of an optimizer in a study."""
        return self._by_label.get((study, label), [])

    @cached_property
    def _by_label(self) -> Mapping[tuple[int, str], list[Draw]]:
        found: dict[tuple[int, str], list[Draw]] = {}
        for draw in self.draws:
            found.setdefault((draw.study, draw.label), []).append(draw)
        return found

    def trials(self, draw: Draw, seeds: Sequence[int]) -> list[Trial]:
        """Return the trials of a setting, one for each seed."""
        made = self._made
        key = draw.study, draw.label, draw.number
        if key not in made:
            made[key] = self._make(draw)
        return list(map(made[key].with_seed, seeds))

    @property
    def drawn_trials(self) -> list[Trial]:
        """The trials of all draws at the seeds of their studies, each once."""
        found: dict[tuple[str, int], Trial] = {}
        for draw in self.draws:
            for trial in self.trials(draw, self.search_seeds(draw.study)):
                found.setdefault((f"{trial.label} {trial.setting_hash}", trial.seed), trial)
        return list(found.values())

    @cached_property
    def _made(self) -> dict[tuple[int, str, int], Trial]:
        return {}


def _drawn(protocol: Protocol, search: Search, labels: Sequence[str]) -> Iterator[Draw]:
    for study in range(protocol.studies):
        for label in labels:
            if label in search.fixed:
                yield Draw(study, label, 0, {})
                continue
            count = protocol.draws_of(label, search.fixed)
            space = search.space[label]
            settings = drawn(space, protocol.sampler, search.seed, count, label, study)
            for number, options in enumerate(settings):
                yield Draw(study, label, number, options)
