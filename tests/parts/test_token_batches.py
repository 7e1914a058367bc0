"""Batches of texts: what is in them, how little padding, and that the order decides all."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor

from deltagclip_cli.parts.datasets.dataset import Split
from deltagclip_cli.parts.datasets.texts import TokenBatches

CPU = torch.device("cpu")
PADDING = 9


def split_of(lengths: list[int], width: int = 40) -> Split:
    """Texts whose first token is their number, so that they can be told apart."""
    tokens = torch.full((len(lengths), width), PADDING, dtype=torch.int32)
    for number, length in enumerate(lengths):
        tokens[number, :length] = 100
        tokens[number, 0] = 1000 + number
    return Split(tokens, torch.arange(len(lengths)) % 7)


LENGTHS = torch.randint(1, 40, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
TEXTS = split_of(LENGTHS)


def batches(split: Split = TEXTS, batch_size: int = 5) -> TokenBatches:
    return TokenBatches(split, batch_size=batch_size, device=CPU, padding=PADDING)


def order(seed: int, samples: int = len(LENGTHS)) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))


def numbers(made: list[tuple[Tensor, Tensor]]) -> list[list[int]]:
    """Which texts each batch has."""
    return [(tokens[:, 0] - 1000).tolist() for tokens, _ in made]


@pytest.mark.parametrize("ordered", [True, False])
def test_every_text_comes_once_with_its_own_target(ordered: bool) -> None:
    made = list(batches().iterate(order(1) if ordered else None, None))
    assert sorted(chain.from_iterable(numbers(made))) == list(range(len(LENGTHS)))
    for (_, targets), inside in zip(made, numbers(made), strict=True):
        assert torch.equal(targets, TEXTS.targets[torch.tensor(inside)])


@pytest.mark.parametrize("samples", [1, 4, 5, 6, 500, 1003])
def test_sizes_are_those_of_the_batches_and_only_the_last_is_smaller(samples: int) -> None:
    made = batches(split_of(LENGTHS[:samples]))
    sizes = [len(targets) for _, targets in made.iterate(order(1, samples), None)]
    assert sizes == made.sizes == [5] * (samples // 5) + [samples % 5] * (samples % 5 > 0)
    assert (made.samples, made.steps) == (samples, len(sizes))


def test_a_batch_is_as_wide_as_its_longest_text_and_keeps_all_tokens() -> None:
    for tokens, _ in batches().iterate(order(1), None):
        lengths = (tokens != PADDING).sum(1)
        assert tokens.shape[1] == lengths.max()
        assert lengths.tolist() == [LENGTHS[i] for i in (tokens[:, 0] - 1000).tolist()]


def test_there_is_hardly_any_padding() -> None:
    padded = sum(tokens.numel() for tokens, _ in batches().iterate(order(1), None))
    assert sum(LENGTHS) <= padded < 1.05 * sum(LENGTHS)


def test_batches_of_all_lengths_come_from_the_beginning_to_the_end() -> None:
    widths = [tokens.shape[1] for tokens, _ in batches().iterate(order(1), None)]
    for start in range(0, 200, 20):
        part = widths[start : start + 20]
        assert min(part) < 15
        assert max(part) > 25


def test_the_order_alone_decides_which_batches_there_are() -> None:
    first, same, other = (numbers(list(batches().iterate(order(seed), None))) for seed in (1, 1, 2))
    assert first == same
    assert sorted(map(sorted, first)) != sorted(map(sorted, other))


def test_the_first_texts_of_the_data_do_not_always_come_first() -> None:
    places = set()
    for seed in range(5):
        made = numbers(list(batches().iterate(order(seed), None)))
        places.add(next(place for place, inside in enumerate(made) if 0 in inside))
    assert len(places) > 2


@pytest.mark.parametrize("start", [1, 77, 200, 201])
def test_a_pass_continues_where_it_was_left(start: int) -> None:
    whole = list(batches().iterate(order(3), None))
    rest = list(batches().iterate(order(3), None, start=start))
    assert numbers(rest) == numbers(whole[start:])


def test_without_an_order_the_longest_texts_come_first() -> None:
    widths = [tokens.shape[1] for tokens, _ in batches().iterate(None, None)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == max(LENGTHS)


def test_padding_within_a_text_belongs_to_it() -> None:
    split = split_of([3, 6])
    split.inputs[1, 3] = PADDING
    (tokens, _), *_ = batches(split).iterate(None, None)
    assert tokens.shape == (2, 6)


@pytest.mark.gpu
def test_batches_come_out_on_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    device = torch.device("cuda")
    moved = Split(TEXTS.inputs.to(device), TEXTS.targets.to(device))
    made = TokenBatches(moved, batch_size=5, device=device, padding=PADDING)
    there = list(made.iterate(order(1), None))
    here = list(batches().iterate(order(1), None))
    assert all(tokens.is_cuda and targets.is_cuda for tokens, targets in there)
    assert all(torch.equal(one[0].cpu(), two[0]) for one, two in zip(there, here, strict=True))
