"""Trees: a tensor, or dictionaries and tuples of trees; what inputs and targets may be.

All tensors of a tree have one row a sample, so that what is asked of a batch is asked of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from torch import Tensor

Tree: TypeAlias = Any  # Tensor | dict[str, Tree] | tuple[Tree, ...], which mypy cannot follow


def map_tree(function: Callable[[Tensor], Any], tree: Tree) -> Any:
    """Return the tree in which each tensor is what the function makes of it."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tree(function, each) for key, each in tree.items()}
    return tuple(map_tree(function, each) for each in tree)


def leaves(tree: Tree) -> Iterator[Tensor]:
    """Yield the tensors of a tree, in its order."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(each)


def samples_in(tree: Tree) -> int:
    """Return how many rows the first tensor of a tree has."""
    return len(next(leaves(tree)))


def _all_rows(size: int) -> slice:
    return slice(0, size)


class RowsOfBatches:
    """Lets a process have some rows of each batch alone, where several train together.

    Attributes:
        draws: whether a batch is made with random numbers, which are drawn for all of its samples.
    """

    draws = False
    _rows: Callable[[int], slice] = staticmethod(_all_rows)

    def take(self, rows: Callable[[int], slice]) -> None:
        """From now on make of a batch of so many samples only these; at least one of them."""
        self._rows = rows

    def close(self) -> None:
        """End the processes that fetch data, if there are any."""


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of so many samples; the last is as small as it must be."""
    full, rest = divmod(samples, batch_size)
    return [batch_size] * full + [rest] * (rest > 0)


def shapes(tree: Tree) -> Any:
    """Return the tree of the shapes of one sample, without the rows."""
    return map_tree(lambda leaf: tuple(leaf.shape[1:]), tree)


def outlined(tree: Tree) -> str:
    """Return what a tree is made of, such as ``{'ids': int64 (8, 16), 'mask': bool (8, 16)}``."""
    if isinstance(tree, Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')} {tuple(tree.shape)}"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {outlined(each)}" for key, each in tree.items()) + "}"
    return "(" + ", ".join(map(outlined, tree)) + ("," if len(tree) == 1 else "") + ")"
