"""Uses code of one's own once, as a trial will: with its data, in two steps on two samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.datasets.fetched import FetchedBatches
from deltagclip_cli.parts.models import build
from deltagclip_cli.parts.nested import Tree, map_tree
from deltagclip_cli.parts.tasks.outcome import check_task
from deltagclip_cli.training.assembly import first_samples, make_batches, make_task
from deltagclip_cli.training.continuation import check_continuation
from deltagclip_cli.training.exactness import parameter_dtype, try_out
from deltagclip_cli.training.loaded import input_shape, load_dataset
from deltagclip_cli.training.stepping import Stepper, make_optimizer

if TYPE_CHECKING:
    from deltagclip_cli.parts.datasets.dataset import Outline
    from deltagclip_cli.spec.trial import Trial

_SMALL_RATE = 1e-3  # of steps with code of one's own
_FEW = 2  # samples that are put through a network
_MOST_SAMPLES = 64  # of a split, which more is not needed of


@dataclass(frozen=True)
class Samples:
    """A data set as the other parts of a trial see it: its sizes, and the first of its samples."""

    # the shape of inputs, the classes, the shape of targets, the vocabulary, what padding is
    sizes: tuple[Any, int | None, Any, int | None, int | None]
    batches: int  # in an epoch
    first: Mapping[str, tuple[Tree, Tree]]  # inputs and targets, by the names of the splits

    def few(self, split: str, count: int = _FEW) -> tuple[Tree, Tree]:
        """Return the first samples of a split, so many or all there are."""
        inputs, targets = (map_tree(lambda leaf: leaf[:count], each) for each in self.first[split])
        return inputs, targets


def batches_in(outline: Outline, batch_size: int | str) -> int:
    """Return how many batches an epoch has."""
    return 1 if isinstance(batch_size, str) else -(-outline.train // batch_size)


class OwnCode:
    """Makes the parts of a trial where it is to be trained, and uses them once."""

    def __init__(self, data_dir: Path, device: torch.device) -> None:
        self._data_dir, self._device = data_dir, device

    def samples(self, outline: Outline | None, trial: Trial) -> Samples | None:
        """Load data of one's own; take others for what is known of them, which may be nothing."""
        if trial.data.is_own:
            dataset = load_dataset(trial.data, self._data_dir, model=trial.model)
        elif outline is None or outline.texts:
            return None
        else:
            train, test, validation = (
                min(samples, _MOST_SAMPLES)
                for samples in (outline.train, outline.test, outline.validation)
            )
            few = replace(outline, train=train, test=test, validation=validation)
            dataset = few.stand_in()
        first, steps = {}, []
        dtype = parameter_dtype(trial.precision)
        for name in dataset.splits:
            batches = make_batches(trial.data, dataset, name, self._device, dtype)
            first[name] = first_samples(batches, _MOST_SAMPLES)
            steps.append(batches.steps)
            if isinstance(batches, FetchedBatches):
                batches.close()
        shape = input_shape(trial.data, dataset.shape)
        tokens = dataset.vocabulary, dataset.padding
        sizes = (shape, dataset.classes or None, dataset.targets_shape, *tokens)
        if not trial.data.is_own and outline is not None:  # of which there are only a few here
            steps[0] = batches_in(outline, trial.data.batch_size)
        return Samples(sizes, steps[0], first)

    def network(self, samples: Samples, trial: Trial) -> nn.Module:
        """Build the network."""
        network = build(trial.model, *samples.sizes)
        return network.to(self._device, parameter_dtype(trial.precision))

    def task(self, samples: Samples, network: nn.Module, trial: Trial) -> None:
        """Apply the task to the network, in an evaluation and in training."""
        task = make_task(trial)
        for split in samples.first:
            try_out(task, network, *samples.few(split))
        check_task(task, network, partial(samples.few, "test"), trial.task.name)
        _loss(samples, network, trial).backward()  # type: ignore[no-untyped-call]

    def optimizer(self, samples: Samples, network: nn.Module, trial: Trial) -> None:
        """Make steps, with a checkpoint among them."""
        rate = _SMALL_RATE if trial.optimizer.wants_auto else None

        def evaluate() -> Tensor:
            network.zero_grad()
            loss = _loss(samples, network, trial)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        steps = -(-samples.batches // (trial.accumulate or 1))

        def make() -> Stepper:
            optimizer = make_optimizer(trial, network, steps, rate)
            return Stepper(optimizer, trial.optimizer.clip_grad_norm)

        check_continuation(f"optimizer '{trial.optimizer.name}'", network, make, evaluate)


def _loss(samples: Samples, network: nn.Module, trial: Trial) -> Tensor:
    """Return the loss of two samples in training."""
    objective: Tensor = make_task(trial)(network.train(), *samples.few("train")).objective
    if not objective.requires_grad:
        raise UsageError(
            f"the loss has no gradient: it depends on no parameter of model '{trial.model.name}'.\n"
            "  Look for detach(), .data, .item() or torch.no_grad() on the way to it."
        )
    return objective
