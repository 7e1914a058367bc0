"""Writes checkpoints of a GPU beside its work: neither the device nor the next step waits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.training.continuation import leaves


class SideStream:
    """Copies tensors into pinned memory of the host, beside what the device computes."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copies(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Callable[[], object]]:
        """Begin to copy tensors as they are now, and return the copies and who waits for them.

        The device keeps its own copies until then, so that the next step may write to the tensors.
        Without room for them it is the device that waits, not the host.
        """
        now = torch.cuda.current_stream(self._stream.device)
        try:
            kept, has_room = [each.clone() for each in tensors], True
        except torch.OutOfMemoryError:
            kept = [each if each.is_cuda else each.clone() for each in tensors]
            has_room = False
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            made = [_on_host(each) if each.is_cuda else each for each in kept]
            event = self._stream.record_event()
        if not has_room:
            now.wait_stream(self._stream)

        def wait() -> None:
            event.synchronize()
            kept.clear()

        return made, wait


def _on_host(tensor: Tensor) -> Tensor:
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


class BackgroundCheckpoints:
    """Has checkpoints written by a thread, one at a time, of copies that ``stream`` makes.

    Why one could not be written is raised by what comes next: :meth:`save` or :meth:`wait`.

    Args:
        write: writes one, whole or not at all.
    """

    def __init__(self, write: Callable[[dict[str, Any]], None], stream: SideStream) -> None:
        self._write, self._stream = write, stream
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Begin to write a state as it is now, once the one before is written."""
        self.wait()
        copied, wait = self._copied(state)
        self._thread = Thread(target=self._run, args=(copied, wait), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when everything is written."""
        self.close()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Return when nothing is being written any more, whatever became of it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, state: dict[str, Any], wait: Callable[[], object]) -> None:
        try:
            wait()
            self._write(state)
        except BaseException as error:
            self._error = error

    def _copied(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[], object]]:
        """Return a state that nobody writes to; what was one tensor or one list stays one."""
        found = {id(leaf): leaf for _, leaf in leaves(state) if isinstance(leaf, Tensor)}
        alike: dict[tuple[Any, ...], Tensor] = {}
        for leaf in found.values():
            alike.setdefault(_place(leaf), leaf)
        made, wait = self._stream.copies([each.detach() for each in alike.values()])
        of_place = dict(zip(alike, made, strict=True))
        memo: dict[int, Any] = {key: of_place[_place(leaf)] for key, leaf in found.items()}
        for key, leaf in found.items():
            if isinstance(leaf, nn.Parameter):
                memo[key] = nn.Parameter(memo[key], leaf.requires_grad)
        return copy.deepcopy(dict(state), memo), wait


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two tensors share that are the same numbers in the same memory."""
    storage = tensor.untyped_storage()
    at = storage.data_ptr() or id(tensor)  # of an empty one nothing is known
    return at, tensor.device, tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride()
