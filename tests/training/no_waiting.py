"""Watches that no step of an epoch waits for the device, on a machine that has none.

What lives on the device is marked, and so is whatever is computed of it; reading such a value, or
asking how many there are, is what waits on a GPU. So is a copy to the device from memory that is
not pinned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deltagclip_cli.training.sinks import Beginning, Sink

# Of these the host needs a value, or a size that hangs on values.
_WAITS = {
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "argwhere",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "nonzero_numpy",
    "unique_consecutive",
    "unique_dim",
}
_COPIES = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.__array__}


class WaitedError(AssertionError):
    """A step would wait for the device."""


class NoWaiting(TorchDispatchMode):
    """Follows what lives on the device; refuses what waits for it while ``is_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False
        self._function_mode = _Copies(self)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        given = [*tensors(args), *tensors(kwargs or {})]
        on_device = any(map(is_marked, given))
        name = function._schema.name.partition("::")[2]
        if self.is_on and on_device:
            if name in _WAITS or (name == "repeat_interleave" and "output_size" not in kwargs):
                raise WaitedError(f"{function} waits for the device")
            if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
                masks = [each for each in tensors(args[1]) if each.dtype in _MASKS]
                if masks:
                    raise WaitedError(f"{function} with a mask waits for the device")
            if name in ("copy_", "_foreach_copy_") and not (kwargs or {}).get("non_blocking"):
                to, source = (list(tensors(each)) for each in args[:2])
                if any(is_marked(a) != is_marked(b) for a, b in zip(to, source, strict=True)):
                    raise WaitedError(f"{function} between host and device waits for that")
        result = function(*args, **(kwargs or {}))
        if on_device:
            for each in tensors(result):
                mark(each)
            if name.endswith("_"):
                for each in tensors(args[0]):
                    mark(each)
        return result

    def switch(self, is_on: bool) -> None:
        self.is_on = is_on

    def __enter__(self) -> NoWaiting:
        self._function_mode.__enter__()
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._function_mode.__exit__(*error)


_MASKS = (torch.bool, torch.uint8)


class _Copies(TorchFunctionMode):
    """Sees the copies that a CPU need not make."""

    def __init__(self, watch: NoWaiting) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._watch.is_on and function in _COPIES and is_marked(args[0]):
            raise WaitedError(f"{function.__name__}() copies from the device, and waits for that")
        places = (*args[1:], kwargs.get("device"))
        if function is Tensor.to and any(isinstance(each, torch.device) for each in places):
            if is_marked(args[0]):
                return function(*args, **kwargs)
            if self._watch.is_on and not kwargs.get("non_blocking"):
                raise WaitedError("to(device) copies to the device, and waits for that")
            return mark(torch.ops.aten.alias(function(*args, **kwargs)))
        if isinstance(kwargs.get("device"), torch.device):
            if self._watch.is_on and function in (torch.tensor, torch.as_tensor):
                raise WaitedError(f"{function.__name__}(device=...) copies there, and waits")
            return mark(function(*args, **kwargs))
        return function(*args, **kwargs)


def mark(tensor: Any) -> Any:
    """Take a tensor for one that lives on the device."""
    if isinstance(tensor, Tensor):
        tensor._is_on_device = True  # type: ignore[attr-defined]
    return tensor


def is_marked(tensor: Any) -> bool:
    return getattr(tensor, "_is_on_device", False)


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors(each)


class BetweenSteps(Sink):
    """Calls ``begin`` after the first step of each pass, and ``end`` after its last."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end
        self.watched = 0

    def begin(self, beginning: Beginning) -> None:
        self._in_pass = beginning.course.in_pass

    def batch(self, step: int, samples: int) -> None:
        place = step % self._in_pass
        if place == 1:
            self._begin()
        elif place == 0:
            self._end()
        self.watched += place != 1

    def end(self, result: Any) -> None:
        self._end()


class PythonCalls:
    """Counts the calls of Python functions while it is on."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        sys.setprofile(self._called)

    def end(self) -> None:
        sys.setprofile(None)

    def _called(self, frame: Any, event: str, argument: Any) -> None:
        self.count += event == "call"
