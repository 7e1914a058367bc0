"""The trials of a protocol: its studies, their draws, and the seeds of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deltagclip_cli.spec.trial import Trial, in_a_word, make_trial
from deltagclip_cli.tuning.draws import drawn

if TYPE_CHECKING:
    from deltagclip_cli.spec.protocol_settings import Protocol
    from deltagclip_cli.spec.schema import Experiment


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
        return " ".join(f"{name}={in_a_word(value)}" for name, value in self.options.items())


@dataclass(frozen=True)
class Tuning:
    """A protocol with the experiment that it is for.

    Studies are alike and share nothing: the seeds of each begin where those of the one before end.
    """

    name: str
    experiment: Experiment  # which has a protocol and a search

    @property
    def protocol(self) -> Protocol:
        """The section of the spec."""
        assert self.experiment.protocol is not None, "the experiment has a protocol"
        return self.experiment.protocol

    @property
    def labels(self) -> list[str]:
        """The optimizers, in the order of the spec."""
        return list(self.experiment.optimizers)

    @property
    def minimizes(self) -> bool:
        """True if a lower value is better."""
        return self.protocol.direction == "minimize"

    @property
    def fixed(self) -> frozenset[str]:
        """The labels that take part as they are written."""
        search = self.experiment.search
        return search.fixed if search else frozenset()

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the first study that settings are chosen by."""
        return tuple(dict.fromkeys(self.protocol.seeds or self.experiment.seeds))

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

    @cached_property
    def draws(self) -> Sequence[Draw]:
        """All draws: by study, then by label, then in their order."""
        return list(self._drawn())

    def _drawn(self) -> Iterator[Draw]:
        search, protocol = self.experiment.search, self.protocol
        for study in range(protocol.studies):
            for label in self.labels:
                if label in self.fixed:
                    yield Draw(study, label, 0, {})
                    continue
                assert search is not None, "a label that is not fixed has a space"
                count = protocol.draws_of(label, self.fixed)
                space = search.space[label]
                settings = drawn(space, protocol.sampler, search.seed, count, label, study)
                for number, options in enumerate(settings):
                    yield Draw(study, label, number, options)

    def trials(self, draw: Draw, seeds: Sequence[int]) -> list[Trial]:
        """Return the trials of a setting, one for each seed."""
        optimizer = self.experiment.optimizers[draw.label].varied(draw.options)
        first = make_trial(self.name, self.experiment, draw.label, seeds[0], optimizer)
        return [first, *map(first.with_seed, seeds[1:])]
