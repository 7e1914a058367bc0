"""Samples that are fetched one by one, by torch's DataLoader, in the same bits each time.

A batch is fetched with all generators seeded by its place in the training, so neither the number of
workers nor where a training was interrupted changes what a user's ``__getitem__`` draws.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import random
import signal
import sys
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate
from torch.utils.data import Dataset as TorchDataset

from deltagclip_cli.core import DataError, derive_seed, shortened
from deltagclip_cli.parts.making import own_lines
from deltagclip_cli.parts.nested import (
    RowsOfBatches,
    Tree,
    batch_sizes,
    leaves,
    map_tree,
    samples_in,
)

Collate = Callable[[list[Any]], Any]
Key = tuple[int, Sequence[int]]  # a seed, and the places of samples

_LOG = logging.getLogger("deltagclip_cli")
_PR_SET_PDEATHSIG = 1
_GENERATOR = np.random.MT19937()
_drawn_from = np.random.get_bit_generator  # type: ignore[attr-defined]
_draw_from = np.random.set_bit_generator  # type: ignore[attr-defined]


class Items:
    """The samples of a map-style data set.

    Args:
        dataset: has ``__getitem__``, and perhaps ``__getitems__`` of a list of places, as data sets
            of Hugging Face do.
        collate: makes (inputs, targets) of a list of samples; None for torch's, of samples that are
            such pairs.
        where: what it is, for messages.
        places: of the samples in the data set, int64 ``(N,)``; None for all from its beginning.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Collate | None,
        where: str,
        samples: int,
        places: Tensor | None = None,
    ) -> None:
        self._dataset, self._collate, self._where = dataset, collate, where
        self._samples, self._places = samples, places

    def __len__(self) -> int:
        return self._samples

    nbytes = 0  # in memory, as far as is known

    @property
    def classes(self) -> int:
        """The number of classes that the data set says it has; 0 if it says none."""
        there = self._dataset
        while hasattr(there, "dataset") and not hasattr(there, "classes"):
            there = there.dataset  # of which it is a part
        named = getattr(there, "classes", None)  # as torchvision has them
        if isinstance(named, (list, tuple)):
            return len(named)
        features = getattr(there, "features", None)  # as Hugging Face has them
        found = [each.num_classes for each in _values(features) if hasattr(each, "num_classes")]
        return int(found[0]) if len(found) == 1 else 0

    def limited(self, samples: int) -> Items:
        """Return the first samples."""
        return Items(self._dataset, self._collate, self._where, samples, self._places)

    def taken(self, rows: Tensor) -> Items:
        """Return the samples at some places, int64 ``(N,)``."""
        places = rows if self._places is None else self._places[rows]
        return Items(self._dataset, self._collate, self._where, len(rows), places)

    def known_classes(self) -> Tensor | None:
        """Return the class ``(N,)`` of each sample, where the data set tells it without fetching.

        As the data sets of torchvision do in ``targets``, or ``labels``, and their ``Subset``.
        """
        there, places = self._dataset, self._places
        while hasattr(there, "dataset") and hasattr(there, "indices"):
            indices = torch.as_tensor(there.indices)
            there, places = there.dataset, indices if places is None else indices[places]
        for name in ("targets", "labels"):
            with suppress(TypeError, ValueError, RuntimeError):
                told = torch.as_tensor(getattr(there, name, None))
                is_whole = told.ndim == 1 and not told.is_floating_point()
                if is_whole and len(told) == len(there) and int(told.min()) >= 0:
                    found = told.long() if places is None else told.long()[places]
                    return found[: self._samples]
        return None

    @cached_property
    def _example(self) -> tuple[Tree, Tree]:
        return self.fetch((0, range(min(2, self._samples))))

    def example(self) -> tuple[Tree, Tree]:
        """Return inputs and targets of the first two samples, or of the only one."""
        return self._example

    def check(self) -> None:
        """Fetch two samples; warn if they are not the same when they are fetched once more."""
        first = self.example()
        again = self.fetch((0, range(min(2, self._samples))))
        if _checksum(first, 0) != _checksum(again, 0):
            _LOG.warning(
                "%s: its samples are not the same when they are fetched again from the same seed, "
                "so a training that is interrupted will not go on with the same bits.\n"
                "  Draw from torch, random or numpy.random, which are seeded for each batch.",
                self._where,
            )

    @cached_property
    def draws(self) -> bool:
        """True if a sample is made with random numbers, as far as its first two tell."""
        with seeded(0):
            before = _streams()
            self._taken(range(min(2, self._samples)))
            return _streams() != before

    def checksum(self, before: int) -> int:
        """Return a checksum of three samples, behind one of what came before."""
        last = self._samples - 1
        places = sorted({0, last // 2, last})
        return _checksum(self.fetch((0, places)), zlib.crc32(str(len(self)).encode(), before))

    def fetch(self, key: Key) -> tuple[Tree, Tree]:
        """Return inputs and targets of some samples, drawn with a seed; DataError if they fail."""
        seed, places = key
        with seeded(seed):
            return self._collated(self._taken(places), len(places))

    def _taken(self, places: Sequence[int]) -> list[Any]:
        if self._places is not None:
            places = self._places[list(places)].tolist()
        place = places[0]
        try:
            if hasattr(self._dataset, "__getitems__"):
                return list(self._dataset.__getitems__(list(places)))
            return [self._dataset[place := each] for each in places]
        except Exception as error:
            raise self._failed(f"sample {place} cannot be fetched", error) from error

    def _collated(self, samples: list[Any], count: int) -> tuple[Tree, Tree]:
        if self._collate is None:
            is_pair = isinstance(samples[0], (tuple, list)) and len(samples[0]) == 2
            if not is_pair:
                raise DataError(
                    f"{self._where}: a sample is {_described(samples[0])}, not a pair (inputs, "
                    "targets).\n  Return such pairs, or add 'collate', a function that makes "
                    "(inputs, targets) of a list of samples."
                )
        try:
            made = (self._collate or default_collate)(samples)
        except Exception as error:
            words = "samples cannot be made a batch"
            raise self._failed(words, error) from error
        by = "collate" if self._collate else "torch"
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise DataError(
                f"{self._where}: collate returns {_described(made)}, not a pair (inputs, targets)."
                "\n  Return both, such as (batch, batch['labels'])."
            )
        inputs, targets = (
            _tree(each, f"{self._where}: the {part} that {by} makes of a batch")
            for each, part in zip(made, ("inputs", "targets"), strict=True)
        )
        if samples_in(targets) != count:
            raise DataError(
                f"{self._where}: {by} makes {samples_in(targets)} targets of {count} samples.\n"
                "  The first dimension of each of the targets is the number of samples."
            )
        return inputs, targets

    def _failed(self, words: str, error: Exception) -> DataError:
        said = f"{type(error).__name__}: {shortened(str(error), 400)}"
        return DataError(f"{self._where}: {words}: {said}{own_lines(error)}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all generators of the CPU for a while, and leave them as they were.

    Torch computes in one thread, as it does in a worker: sums differ with the number of threads.
    """
    before, drawn = torch.get_rng_state(), random.getstate()
    threads = torch.get_num_threads()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    # Numpy takes 50 µs to read and write its state, and 1 to draw from another generator.
    numpy_draws_from = _drawn_from()
    _draw_from(_GENERATOR)
    np.random.seed(seed % 2**32)
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        _draw_from(numpy_draws_from)
        torch.set_rng_state(before)
        random.setstate(drawn)
        if threads > 1:
            torch.set_num_threads(threads)


def _streams() -> tuple[bytes, Any, str]:
    """Return the states of all generators of the CPU."""
    state = torch.get_rng_state().numpy().tobytes()
    of_numpy: Any = np.random.get_state()
    return state, random.getstate(), f"{of_numpy[1].tobytes()!r} {of_numpy[2:]}"


def _tree(value: Any, where: str) -> Tree:
    if isinstance(value, Tensor) and value.ndim:
        return value
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "biufc":
        return torch.as_tensor(value)
    if isinstance(value, Mapping) and value:
        return {str(key): _tree(each, f"{where}[{key!r}]") for key, each in value.items()}
    if isinstance(value, (tuple, list)) and value:
        return tuple(_tree(each, f"{where}[{n}]") for n, each in enumerate(value))
    raise DataError(
        f"{where} are {_described(value)}.\n"
        "  They must be tensors of one row a sample, or dictionaries and tuples of them."
    )


def _values(mapping: Any) -> list[Any]:
    return list(mapping.values()) if isinstance(mapping, Mapping) else []


def _described(value: Any) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        return f"a {type(value).__name__} {value.dtype} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        kinds = ", ".join(sorted({type(each).__name__ for each in value}))
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    return f"{type(value).__name__} {shortened(repr(value))}"


def _checksum(tree: Tree, before: int) -> int:
    for leaf in leaves(tree):
        before = zlib.crc32(leaf.contiguous().reshape(-1).view(torch.uint8).numpy().data, before)
    return before


class FetchedBatches(RowsOfBatches):
    """Batches of samples that are fetched, by workers ahead of time or by this process.

    Args:
        device: that trains; batches come out there, floating point in ``dtype``.
        workers: processes that fetch; 0 for this one.
    """

    def __init__(
        self,
        items: Items,
        *,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        workers: int = 0,
    ) -> None:
        self._items, self.samples = items, len(items)
        self.sizes = batch_sizes(self.samples, batch_size)
        self.steps = len(self.sizes)
        self._batch_size, self._device, self._dtype = batch_size, device, dtype
        self._keys = _Keys()
        self._loader: DataLoader[Any] | None = DataLoader(
            _Fetching(items),
            batch_size=None,
            sampler=self._keys,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=_begin_worker,
            # The code of a user's own has a name in this process alone: nothing can be pickled.
            multiprocessing_context="fork" if workers else None,
            generator=torch.Generator(),  # lest it draws from the one that trains
        )
        if workers:  # which could not be joined after that, for they heed no signal
            atexit.register(_close, weakref.ref(self))

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return self._items.draws

    def close(self) -> None:
        """End the workers, which have open what this process had when they began."""
        self._loader = None

    def first(self, count: int) -> tuple[Tree, Tree]:
        """Return inputs and targets of so many samples, or of all there are."""
        inputs, targets = self._items.fetch((0, range(min(count, self.samples))))
        return map_tree(self._placed, inputs), map_tree(self._placed, targets)

    def iterate(
        self, order: Tensor | None, generator: torch.Generator | None, start: int = 0
    ) -> Iterator[tuple[Tree, Tree]]:
        """Yield inputs and targets of one pass from a batch on.

        Args:
            order: an int64 permutation of all samples, or None for the order of the data.
            generator: whose seed, not its state, is what batches are fetched with.
        """
        assert self._loader is not None, "it is not closed"
        seed = 0 if generator is None else generator.initial_seed()
        order = torch.arange(self.samples) if order is None else order.cpu()
        batches = torch.split(order, self._batch_size)
        self._keys.keys = (
            (derive_seed(seed, "batch", number), each[self._rows(len(each))].tolist())
            for number, each in enumerate(batches[start:], start)
        )
        for fetched in self._loader:
            if isinstance(fetched, DataError):
                raise fetched
            # Numpy then forgets half of a pair of normal numbers, as after a batch fetched here.
            _draw_from(_drawn_from())
            yield map_tree(self._placed, fetched[0]), map_tree(self._placed, fetched[1])

    def _placed(self, leaf: Tensor) -> Tensor:
        dtype = self._dtype if leaf.is_floating_point() else leaf.dtype
        return leaf.to(self._device, dtype, non_blocking=True)


class _Keys(Sampler[Key]):
    """The keys of the batches of the next pass."""

    keys: Iterator[Key] = iter(())

    def __iter__(self) -> Iterator[Key]:
        return self.keys


class _Fetching(TorchDataset[Any]):
    """Gives a batch for its key, or why there is none: an error of a worker would be garbled."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def __getitem__(self, key: Key) -> Any:
        try:
            return self._items.fetch(key)
        except DataError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def _begin_worker(number: int) -> None:
    """Leave signals to the process that trains, which stops between two steps, and end with it."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _close(batches: weakref.ref[FetchedBatches]) -> None:
    there = batches()
    if there is not None:
        there.close()
