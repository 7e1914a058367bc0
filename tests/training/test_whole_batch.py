"""What is drawn for a batch of which each rank has a share: the bits of a single process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deltagclip_cli.training.ranks.shares import Share, share_of
from deltagclip_cli.training.ranks.whole_batch import WholeBatch

SAMPLES, RANKS = 7, 3
DRAWING: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: functional.dropout(x, 0.3, True),
    "dropout2d": lambda x: functional.dropout2d(x, 0.3, True),
    "alpha dropout": lambda x: functional.alpha_dropout(x, 0.3, True),
    "feature alpha dropout": lambda x: functional.feature_alpha_dropout(x, 0.3, True),
    "alpha dropout in place": lambda x: functional.alpha_dropout(x * 2, 0.3, True, True),
    "noise": lambda x: x + torch.randn_like(x),
    "noise of a size": lambda x: x * torch.rand(len(x), *x.shape[1:]),
    "noise in place": lambda x: x + torch.empty_like(x).normal_(),
    "bernoulli": lambda x: x * torch.bernoulli(x.detach().sigmoid()),
    "gumbel softmax": lambda x: functional.gumbel_softmax(x, dim=1),
}


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_shares_of_all_ranks_are_what_one_process_draws_and_so_are_their_gradients(
    name: str, form: torch.memory_format
) -> None:
    inputs = torch.randn(SAMPLES, 4, 3, 3).to(memory_format=form).requires_grad_()
    (alone,), ends = drawn(DRAWING[name], [(inputs, None)])
    (of_one,) = torch.autograd.grad(alone.square().sum(), inputs)
    rows = [share_of(SAMPLES, number, RANKS) for number in range(RANKS)]
    shares = [
        (inputs[each], Share.of((inputs[each], inputs[each]), SAMPLES, each)) for each in rows
    ]
    parts, other_ends = drawn(DRAWING[name], shares)
    together = torch.cat(parts)
    (of_all,) = torch.autograd.grad(together.square().sum(), inputs)
    assert torch.equal(together, alone)
    assert torch.equal(of_all, of_one)
    assert set(other_ends) == set(ends), "the streams of all ranks stay alike"


def drawn(
    draw: Callable[[Tensor], Tensor], shares: list[tuple[Tensor, Share | None]]
) -> tuple[list[Tensor], list[float]]:
    """What each rank draws from one stream, and the number that it would draw next."""
    found, ends = [], []
    with torch.random.fork_rng():
        for inputs, share in shares:
            torch.manual_seed(3)
            if share is None:
                found.append(draw(inputs))
            else:
                with WholeBatch(share):
                    found.append(draw(inputs))
            ends.append(float(torch.rand(())))
    return found, ends
