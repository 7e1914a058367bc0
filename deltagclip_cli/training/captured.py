"""Steps that are captured once in a CUDA graph, and then launched whole.

A network whose kernels are small spends its time in launching them. A graph holds all of a step:
both passes, clipping, the optimizer and what is observed of it. It reads its batch and its learning
rates from memory that it knows, into which each step's are copied, and repeats neither Python nor
what Python decided. So there is one for each shape of batch, for steps with a norm and without, and
for all options of the optimizer but the rate.

``torch.compile`` has a mode that captures by itself, of each pass for itself; a step of several
batches, and results that are kept, are beyond it.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from deltagclip_cli.core import shortened
from deltagclip_cli.parts.nested import leaves, map_tree
from deltagclip_cli.training.compiled import Compiled
from deltagclip_cli.training.program import Eager, StepBatches, Values

logger = logging.getLogger(__name__)

WARM_STEPS = 3
"""Steps of each kind that are made as usual, on the stream that captures: libraries then make what
they make once, and the optimizer its state."""

MOST_GRAPHS = 8
"""Graphs of a trial, each of which keeps the memory of a step for itself."""

_MOST_KINDS = 64  # that are counted


@dataclass(frozen=True)
class _Graph:
    """A captured step, with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batches: StepBatches
    made: tuple[Values, Values]  # by each replay anew

    def step(self, batches: StepBatches) -> tuple[Values, Values]:
        places, values = [*_leaves(self.batches)], [*_leaves(batches)]
        torch._foreach_copy_(places, values, non_blocking=True)
        self.graph.replay()
        sums, observed = self.made
        return _copies(sums), _copies(observed)


class Capturing(Eager):
    """Steps that are captured, after the first ones of each kind, unless there is an obstacle.

    All steps launch the same kernels in the same order, captured or not, so that it is no matter
    when a trial was interrupted.
    """

    def _prepare(self) -> None:
        super()._prepare()
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: Counter[Hashable] = Counter()
        self._most = MOST_GRAPHS
        self.obstacle = _obstacle(self.parts.optimizer, self.parts.device)
        if self.stepper.needs_closure is not False:
            self.obstacle = "its step may evaluate the model again"
        self._captures = not self.obstacle
        if self._captures:
            make_stream: Any = torch.cuda.Stream
            self._stream = make_stream(self.parts.device)
            self._pool: Any = torch.cuda.graph_pool_handle()
            self._rates: list[tuple[float, Tensor]] = []

    def step(self, batches: StepBatches, number: int) -> tuple[Values, Values]:
        if not self._captures:
            return super().step(batches, number)
        with self._rates_on_device():
            kind = self._kind_of_step(batches, number)
            if kind in self._graphs:
                self.observer.repeated()
                return self._graphs[kind].step(batches)
            if kind in self._seen or len(self._seen) < _MOST_KINDS:
                self._seen[kind] += 1
            if self._seen[kind] > WARM_STEPS and len(self._graphs) < self._most:
                graph = self._capture(batches, number)
                if graph is not None:
                    self._graphs[kind] = graph
                    return graph.step(batches)
            return self._beside(batches, number)

    def _kind_of_step(self, batches: StepBatches, number: int) -> Hashable:
        """Return in what steps differ that one graph does not serve."""
        shapes = tuple((each.shape, each.stride(), each.dtype) for each in _leaves(batches))
        options = tuple(
            (key, value)
            for group in self.parts.optimizer.param_groups
            for key, value in group.items()
            if key not in ("params", "lr") and isinstance(value, (bool, int, float, tuple))
        )
        return (shapes, self.observer.measures(number), options)

    def _beside(self, batches: StepBatches, number: int) -> tuple[Values, Values]:
        """Make a step on the stream that captures, as usual."""
        with beside(self._stream, self.parts.device) as handed_over:
            made = super().step(batches, number)
            handed_over.extend([*made[0].values(), *made[1].values()])
        return made

    def _capture(self, batches: StepBatches, number: int) -> _Graph | None:
        """Record a step without making it; None if it cannot be, which is said."""
        places = [map_tree(torch.clone, batch) for batch in batches]
        graph, counted = torch.cuda.CUDAGraph(), dict(vars(self.observer))
        self.parts.optimizer.zero_grad()  # so that gradients lie in the memory of the graph
        try:
            with capturing(graph, self._pool, self._stream, self.parts.device):
                made = super().step(places, number)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            said = shortened(" ".join(str(error).split()), 300)
            logger.warning("The step is not captured in a graph, but launched as usual: %s", said)
            self._most = 0  # its bits hang on how it steps, so that remains as it is
            vars(self.observer).update(counted)
            return None
        return _Graph(graph, places, made)

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its learning rates from the device while it steps.

        For schedules and checkpoints they are the numbers that they always were.
        """
        groups = self.parts.optimizer.param_groups
        options = _CAPTURABLE.get(type(self.parts.optimizer), {"capturable": True})
        kept = [{name: group[name] for name in ("lr", *options)} for group in groups]
        if not self._rates:
            self._rates = [(math.nan, torch.zeros((), device=self.parts.device)) for _ in groups]
            self._place_counts()
        for number, group in enumerate(groups):
            rate, on_device = self._rates[number]
            if group["lr"] != rate:
                self._rates[number] = (group["lr"], on_device.fill_(group["lr"]))
            group.update(options, lr=on_device)
        try:
            yield
        finally:
            for group, values in zip(groups, kept, strict=True):
                group.update(values)

    def _place_counts(self) -> None:
        """Bring the counts of steps, which a checkpoint has on the CPU, to the device."""
        for state in self.parts.optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    state[name] = value.to(self.parts.device)


class Captured(Capturing, Compiled):
    """Whole steps as graphs of compiled passes; the first ones, and what has no graph, compiled.

    Optimizers that cannot be captured step as they do; ``name`` is ``compiled`` then.
    """

    name = "captured"

    def _prepare(self) -> None:
        super()._prepare()
        if self._compiled is None:
            self._captures = False
        elif self.obstacle:
            self.name = "compiled"
            name, why = self.trial.optimizer.name, self.obstacle
            logger.info("Steps of optimizer '%s' are compiled, not captured: %s.", name, why)


@contextmanager
def beside(stream: Any, device: torch.device) -> Iterator[list[Tensor]]:
    """Compute on a stream; what is put into the list is there for the one that was current."""
    current, handed_over = torch.cuda.current_stream(device), list[Tensor]()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield handed_over
    current.wait_stream(stream)
    for each in handed_over:
        if each.is_cuda:
            each.record_stream(current)


@contextmanager
def capturing(graph: Any, pool: Any, stream: Any, device: torch.device) -> Iterator[None]:
    """Capture in a graph, on a stream, what is computed."""
    with (
        # A capture that fails leaves its own stream the current one.
        torch.cuda.stream(torch.cuda.current_stream(device)),
        torch.cuda.graph(
            graph,
            pool=pool,
            stream=stream,
            capture_error_mode="thread_local",  # others may copy data meanwhile
        ),
    ):
        yield


# Of others in torch that can be captured, one option says so.
_CAPTURABLE: dict[type[Optimizer], dict[str, Any]] = {SGD: {"fused": True, "foreach": False}}


def _obstacle(optimizer: Optimizer, device: torch.device) -> str:
    """Return why an optimizer's steps cannot be captured, in words; nothing if they can."""
    if device.type != "cuda":
        return "only a GPU captures"
    takes = inspect.signature(type(optimizer).__init__).parameters
    if type(optimizer) not in _CAPTURABLE and "capturable" not in takes:
        return "it has no option capturable"
    groups = optimizer.param_groups
    if not all(isinstance(group.get("lr"), (int, float)) for group in groups):
        return "it has no learning rate that is a number"
    if any(each.dtype == torch.float64 for group in groups for each in group["params"]):
        return "captured, its rate would be of single precision"
    return ""


def _leaves(batches: StepBatches) -> Iterator[Tensor]:
    return leaves(tuple(batches))


def _copies(values: Values) -> Values:
    return {name: value.clone() for name, value in values.items()}
