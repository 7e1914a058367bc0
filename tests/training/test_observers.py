"""What observers tell of the steps of an optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from deltagclip_cli.optim import DeltaGClip, GClip
from deltagclip_cli.training.meter import observer


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(4))]


def told(optimizer: Optimizer, scale: float = 1.0) -> tuple[dict[str, Tensor], Tensor | None]:
    """One step with a gradient of norm 5 times ``scale``; the last parameter has none."""
    watched = observer(optimizer)
    first, second, _ = (p for group in optimizer.param_groups for p in group["params"])
    first.grad, second.grad = torch.tensor([3.0, 0.0]) * scale, torch.tensor([4.0]) * scale
    before = watched.before(0)
    optimizer.step()
    return {**before, **watched.after()}, watched.regimes()


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: Adam(p),
        lambda p: SGD(p, momentum=0.9),
        lambda p: SGD(p),
        lambda p: DeltaGClip(p, lr=0.1, gamma=1.0, delta=0.5),
        lambda p: GClip([{"params": p[:1]}, {"params": p[1:]}], lr=0.1, gamma=1.0),
    ],
    ids=["adam", "momentum", "sgd", "delta_gclip", "gclip with two groups"],
)
def test_the_norm_is_that_of_all_gradients_together(make, scale: float) -> None:
    values, _ = told(make(parameters()), scale)
    assert values["grad_norm"].item() == pytest.approx(5 * scale)
    assert values["grad_norm"].ndim == 0


@pytest.mark.parametrize(
    ("delta", "scale", "size", "regimes"),
    [
        (0.1, 0.1, 0.4, [1, 0, 0]),  # norm 0.5 <= gamma
        (0.1, 1.0, 0.4 / 5, [0, 1, 0]),  # gamma / norm = 0.2 > delta
        (0.5, 1.0, 0.4 * 0.5, [0, 0, 1]),  # gamma / norm = 0.2 <= delta
    ],
    ids=["plain", "clipped", "floored"],
)
def test_delta_gclip_tells_its_step_size_and_regime(
    delta: float, scale: float, size: float, regimes: list[int]
) -> None:
    values, counts = told(DeltaGClip(parameters(), lr=0.4, gamma=1.0, delta=delta), scale)
    assert values["step_size"].item() == pytest.approx(size)
    assert counts is not None
    assert counts.tolist() == regimes


def test_what_was_told_does_not_change_with_the_next_step() -> None:
    optimizer = DeltaGClip(parameters(), lr=0.4, gamma=1.0, delta=0.1)
    values, counts = told(optimizer)
    before = counts.clone()
    told(optimizer, 0.1)
    assert torch.equal(counts, before)
    assert values["grad_norm"].item() == 5


def test_blocks_with_steps_of_their_own_are_told_as_one_norm_and_a_mean_step() -> None:
    optimizer = DeltaGClip(parameters(), lr=1.0, gamma=1.0, delta=0.0, norm_scope="parameter")
    values, counts = told(optimizer)
    assert values["grad_norm"].item() == pytest.approx(5)
    assert values["step_size"].item() == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert counts.tolist() == [0, 2, 0]


@pytest.mark.parametrize("make", [Adam, SGD, lambda p: SGD(p, momentum=0.9)])
def test_a_norm_that_is_not_known_anyway_is_taken_at_every_tenth_batch(make) -> None:
    optimizer = make(parameters())
    watched = observer(optimizer)
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    batches = [batch for batch in range(31) if "grad_norm" in watched.before(batch)]
    assert batches == [0, 10, 20, 30]


def test_delta_gclip_tells_of_every_batch() -> None:
    optimizer = DeltaGClip(parameters(), lr=0.4, gamma=1.0, delta=0.1)
    told(optimizer)
    watched = observer(optimizer)
    for batch in range(12):
        assert set({**watched.before(batch), **watched.after()}) == {"grad_norm", "step_size"}


def test_plain_gradient_descent_makes_plain_steps_of_size_lr() -> None:
    values, counts = told(SGD(parameters(), lr=0.1, weight_decay=0.1))
    assert values["step_size"].item() == 0.1, "not rounded to single precision"
    assert counts.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "optimizer",
    [Adam(parameters()), SGD(parameters(), momentum=0.9), SGD(parameters(), lr=0.1, momentum=1e-9)],
    ids=["adam", "momentum", "a little momentum"],
)
def test_other_optimizers_have_no_step_size_and_no_regimes(optimizer: Optimizer) -> None:
    values, counts = told(optimizer)
    assert set(values) == {"grad_norm"}
    assert counts is None


def test_delta_gclip_that_never_had_a_gradient_tells_nothing() -> None:
    optimizer = DeltaGClip(parameters(), lr=0.4, gamma=1.0, delta=0.1)
    watched = observer(optimizer)
    before = watched.before(0)
    optimizer.step()
    assert {**before, **watched.after()} == {}
    assert watched.regimes() is None


def test_the_norm_is_that_of_the_gradient_as_it_was_before_the_step() -> None:
    """Nesterov's momentum writes into the gradients when torch takes its foreach way."""
    for foreach in (False, True):
        optimizer = SGD(parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=foreach)
        values, _ = told(optimizer)
        assert values["grad_norm"].item() == 5
