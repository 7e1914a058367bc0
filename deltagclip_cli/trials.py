"""One training run, fully resolved: an experiment, an optimizer setting and a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Literal

from pydantic import PositiveInt

from deltagclip_cli.spec.component import Settings
from deltagclip_cli.spec.schema import (
    Checkpointing,
    Data,
    Experiment,
    Model,
    Name,
    Optimizer,
    Schedule,
    Seed,
    Task,
)


class Trial(Settings):
    """Everything that one run is made of; what the worker is given, as ``trial.yaml``.

    ``schedule`` is the one in force: the optimizer's own if it has one, else the experiment's.
    """

    experiment: Name
    label: Name
    seed: Seed
    epochs: PositiveInt
    precision: Literal["fp32", "tf32", "bf16", "fp64"]
    model: Model
    data: Data
    task: Task
    optimizer: Optimizer
    schedule: Schedule | None
    log_every: PositiveInt | None
    checkpoint: Checkpointing

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What changes the numbers, as plain data: no names, no rhythm of writing files."""
        plain = self.model_dump(mode="json", exclude=_NOT_IDENTITY)
        plain["optimizer"].pop("schedule", None)  # the one in force stands beside it
        return plain

    @cached_property
    def identity(self) -> str:
        """A SHA-256 of :attr:`settings`, in hexadecimal.

        1 and 1.0 are the same setting. An option that is null counts like one that is absent, so
        that an option which a later version adds, off by default, leaves old identities as they
        were.
        """
        canonical = json.dumps(_canonical(self.settings), sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def folder(self) -> str:
        """The run folder below the runs folder, with forward slashes."""
        return f"{self.experiment}/{self.label}/seed-{self.seed}-{self.identity[:8]}"


_NOT_IDENTITY = {"experiment", "label", "log_every", "checkpoint"}


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def make_trial(
    name: str, experiment: Experiment, label: str, seed: int, optimizer: Optimizer | None = None
) -> Trial:
    """The trial of one optimizer setting, by default the one written under ``optimizers``."""
    optimizer = optimizer or experiment.optimizers[label]
    own = "schedule" in optimizer.model_fields_set
    return Trial(
        experiment=name,
        label=label,
        seed=seed,
        optimizer=optimizer,
        schedule=optimizer.schedule if own else experiment.schedule,
        **{key: getattr(experiment, key) for key in _SHARED},
    )


_SHARED = ("epochs", "precision", "model", "data", "task", "log_every", "checkpoint")


def expand(name: str, experiment: Experiment, seeds: Iterable[int] = ()) -> Iterator[Trial]:
    """Every trial of an experiment: each optimizer, at each point of its grid, with each seed.

    Settings that agree in everything that changes the numbers are one trial.
    """
    seen = set()
    for label in experiment.optimizers:
        for optimizer in experiment.settings(label):
            for seed in seeds or experiment.seeds:
                trial = make_trial(name, experiment, label, seed, optimizer)
                if trial.folder not in seen:
                    seen.add(trial.folder)
                    yield trial


def differing_keys(one: Any, other: Any, prefix: str = "") -> list[str]:
    """The dotted keys at which two sets of plain data differ, as ``"a.b (1 then, 2 now)"``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            difference
            for key in sorted({*one, *other})
            for difference in differing_keys(one.get(key), other.get(key), f"{prefix}{key}.")
        ]
    return [] if one == other else [f"{prefix[:-1]} ({one!r} then, {other!r} now)"]
