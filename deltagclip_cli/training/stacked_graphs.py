"""Steps of a whole stack that are captured once in a CUDA graph, and then launched whole.

A graph holds both passes of all places. It reads its batches, their weights and the members' random
numbers from memory that it knows, into which each step's are copied, and what it makes is copied
before anybody has it: so the next step overwrites nothing that a member, or an optimizer of
somebody's own, still holds. The own steps of members are captured each for itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deltagclip_cli.core import shortened
from deltagclip_cli.parts.nested import leaves
from deltagclip_cli.training.captured import (
    MOST_GRAPHS,
    WARM_STEPS,
    Capturing,
    beside,
    capturing,
)
from deltagclip_cli.training.memberwise import Fill, PlaceStreams
from deltagclip_cli.training.program import StepBatches, Values
from deltagclip_cli.training.stacked_weights import (
    Answers,
    Gathered,
    Made,
    Rows,
    StackedWeights,
    answers,
    gathered,
)

logger = logging.getLogger(__name__)


class StackedGraphs:
    """The graphs of a stack: one for each kind of step, of which the first ones are as usual.

    All launch the same kernels in the same order, captured or not, so that it is no matter in what
    company, and after how many steps of it, a member is.

    Args:
        places: of the stack, all of which are computed.
        device: a GPU.
    """

    def __init__(self, places: int, device: torch.device) -> None:
        self._places, self._device = places, device
        make_stream: Any = torch.cuda.Stream
        self._stream = make_stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: Counter[Hashable] = Counter()
        self._drawing: set[Hashable] = set()
        self._captures = True

    def differentiate(self, weights: StackedWeights, rows: Rows, kind: Hashable) -> Answers:
        """Return objective, sums and gradients of each row.

        Args:
            kind: the same for steps that one graph serves.
        """
        batch = gathered(rows, 0, self._places)
        warm = self._seen[kind] >= WARM_STEPS
        if self._captures and warm and kind not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            self._capture(weights, batch, kind)
        if kind in self._graphs:
            made = self._graphs[kind].step(batch)
        else:
            made = self._beside(weights, batch, kind)
        return answers(made, rows, 0, self._places)

    def release(self) -> None:
        """Give up the graphs, and their memory, for good."""
        self._graphs.clear()
        self._captures = False

    def _beside(self, weights: StackedWeights, batch: Gathered, kind: Hashable) -> Made:
        """Make a step on the stream that captures, as usual."""
        with beside(self._stream, self._device) as handed_over:
            made = weights.compute(batch, 0, self._places)
            gradients = [each for each in made.gradients if each is not None]
            handed_over.extend([made.objective, *made.sums.values(), *gradients])
        self._seen[kind] += 1
        if batch.streams.drawn:
            self._drawing.add(kind)
        return made

    def _capture(self, weights: StackedWeights, batch: Gathered, kind: Hashable) -> None:
        """Record a step without making it; if it cannot be, that is said, and none is."""
        graph, own = torch.cuda.CUDAGraph(), list[torch.Generator]()
        if kind in self._drawing:
            own = [torch.Generator(self._device) for _ in range(self._places)]
            for each in own:
                graph.register_generator_state(each)
        even = torch.ones(self._places, dtype=torch.float64, device=self._device)
        static = batch._replace(streams=_GraphStreams(own), weights=even)
        try:
            with capturing(graph, self._pool, self._stream, self._device):
                made = weights.compute(static, 0, self._places)
        except RuntimeError as error:  # also where the memory has no room for a second step
            said = shortened(" ".join(str(error).split()), 300)
            logger.warning(
                "The stack's step is not captured in a graph, but launched as usual: %s", said
            )
            self._captures = False
        else:
            self._graphs[kind] = _Graph(graph, static, own, made)
        finally:
            torch.clear_autocast_cache()  # weights in half precision that only a replay makes


class OwnSteps(Capturing):
    """The steps of one member, whose gradients and objective are there, in the place of a batch."""

    def _kind_of_step(self, batches: StepBatches, number: int) -> Hashable:
        ((gradients, _),) = batches
        return (*gradients, super()._kind_of_step(batches, number))

    def _backward(self, batches: StepBatches) -> tuple[Tensor, Values]:
        ((gradients, objective),) = batches
        for number, gradient in gradients.items():
            self.stepper.weights[number].grad = gradient
        return objective, {}


@dataclass(frozen=True)
class _Graph:
    """A captured step, with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    static: Gathered
    own: Sequence[torch.Generator]  # of each place, which the graph knows; none if it draws nothing
    made: Made  # by each replay anew

    def step(self, batch: Gathered) -> Made:
        there = _leaves(self.static)
        for place, value in zip(there, _leaves(batch), strict=True):
            place.copy_(value)
        assert self.static.weights is not None
        if batch.weights is None:
            self.static.weights.fill_(1)
        else:
            self.static.weights.copy_(batch.weights, non_blocking=True)
        # Where the memory has no room for them, nothing has happened yet.
        objective, sums, gradients = self.made
        values = [torch.empty_like(each) for each in (objective, *sums.values())]
        theirs = [_memory(each) for each in gradients if each is not None]
        ours = [torch.empty_like(each) for each in theirs]
        with batch.streams.lent_to(self.own):
            self.graph.replay()
        torch._foreach_copy_(values, [objective, *sums.values()])
        torch._foreach_copy_(ours, theirs)
        memories = iter(ours)
        return Made(
            values[0],
            dict(zip(sums, values[1:], strict=True)),
            [
                None if g is None else next(memories).as_strided(g.shape, g.stride())
                for g in gradients
            ],
        )


class _GraphStreams(PlaceStreams):
    """Streams that a graph draws from, whose states nobody may look at while it is captured."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self._own = generators

    def draw(self, out: Tensor, fill: Fill) -> None:
        for row, generator in zip(out.unbind(), self._own, strict=True):
            fill(row, generator)


def _memory(gradient: Tensor) -> Tensor:
    """Return all memory that a gradient lies in, also what is between its rows."""
    return gradient.as_strided((len(gradient), gradient.stride(0)), (gradient.stride(0), 1))


def _leaves(batch: Gathered) -> list[Tensor]:
    return [*leaves((batch.inputs, batch.targets))]
