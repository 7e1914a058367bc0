"""A CUDA graph as a CPU can have one: operations that are carried out again on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RecordedGraph(TorchDispatchMode):
    """Records operations while it is entered; ``replay`` repeats them, without their Python.

    As in a CUDA graph, each reads and writes the memory that it had when it was recorded, and what
    Python decided then stays decided. Recording carries them out as well, which capturing does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        returned = func(*args, **kwargs)
        self._calls.append((func, args, kwargs, _tensors(returned)))
        return returned

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in self._calls:
                for place, value in zip(outputs, _tensors(func(*args, **kwargs)), strict=True):
                    if place.data_ptr() != value.data_ptr():
                        place.copy_(value)


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]


class Graph(RecordedGraph):
    """A record that undoes what it records: capturing carries nothing out."""

    made: ClassVar[list[Graph]] = []

    def __init__(self) -> None:
        super().__init__()
        self.replays = 0
        self._before: list[tuple[Tensor, Tensor]] = []
        Graph.made.append(self)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = zip(func._schema.arguments, args, strict=False)
        written = [value for each, value in named if each.alias_info and each.alias_info.is_write]
        for value in written:
            for tensor in value if isinstance(value, (list, tuple)) else [value]:
                self._before.append((tensor, tensor.detach().clone()))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Take notice of a stream, which is recorded with each operation that draws from it."""

    def undo(self) -> None:
        with torch.no_grad():
            for tensor, value in reversed(self._before):
                tensor.copy_(value)

    def replay(self) -> None:
        self.replays += 1
        super().replay()


@contextmanager
def captured_in(graph: Graph, **options: object) -> Iterator[None]:
    with graph:
        yield
    graph.undo()


def capture_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``torch.cuda`` capture graphs of this kind, which ``Graph.made`` then lists."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "CUDAGraph": Graph,
        "graph": captured_in,
        "Stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device: stream,
        "graph_pool_handle": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Graph, "made", [])
