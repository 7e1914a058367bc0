"""The streams of random numbers of one trial, where several take turns in a process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class OwnStreams:
    """The global streams of random numbers, and the number of threads, as one member left them."""

    def __init__(self, device: torch.device) -> None:
        self._threads = torch.get_num_threads()
        self._python = random.getstate()
        self._numpy = np.random.MT19937()
        self._torch = torch.Generator()
        self._cuda: dict[int, torch.Generator] = {}
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._cuda[index] = torch.Generator(f"cuda:{index}")

    @property
    def threads(self) -> int:
        return self._threads

    @property
    def generator(self) -> torch.Generator:
        """The stream of the device that computes."""
        return next(iter(self._cuda.values()), self._torch)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let them be those of the process while the context lasts."""
        numpy = np.random.get_bit_generator()  # type: ignore[attr-defined]
        torch.set_num_threads(self._threads)
        random.setstate(self._python)
        np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
        torch.default_generator.set_state(self._torch.get_state())
        for index, generator in self._cuda.items():
            torch.cuda.default_generators[index].set_state(generator.get_state())
        try:
            yield
        finally:
            self._threads = torch.get_num_threads()
            self._python = random.getstate()
            np.random.set_bit_generator(numpy)  # type: ignore[attr-defined]
            self._torch.set_state(torch.default_generator.get_state())
            for index, generator in self._cuda.items():
                generator.set_state(torch.cuda.default_generators[index].get_state())
