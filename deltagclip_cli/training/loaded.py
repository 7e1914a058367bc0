"""A data set that is loaded once, for all trials of a process that have the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deltagclip_cli.parts.datasets.dataset import Dataset, Split, Windows, place
from deltagclip_cli.training.assembly import fingerprint, load_dataset, parameter_dtype

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial


@dataclass(frozen=True)
class Loaded:
    """A data set where it is trained on, for all trials of a process that have the same."""

    dataset: Dataset
    fingerprint: str  # of what was loaded

    @property
    def can_be_shared(self) -> bool:
        """True if several can go through it at once, which not everybody's own code lets them."""
        return all(isinstance(each, (Split, Windows)) for each in self.dataset.splits.values())


def load_placed(
    trial: Trial, data_dir: Path, device: torch.device, *, download: bool = True
) -> Loaded:
    """Load the data of a trial, put them on the device, and make them as exact as its weights."""
    dataset = load_dataset(trial.data, data_dir, model=trial.model, download=download)
    dtype = parameter_dtype(trial.precision)

    def exact(leaf: Tensor) -> Tensor:
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    placed: dict[str, Any] = {
        name: place(split, device).placed(exact) if isinstance(split, (Split, Windows)) else split
        for name, split in dataset.splits.items()
    }
    return Loaded(replace(dataset, **placed), fingerprint(dataset))
