"""Muon for matrices, AdamW for all else, as one optimizer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import MultiStepLR

from deltagclip_cli.optim.muon_adamw import MuonAdamW

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon came with torch 2.9")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def learn(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = network(torch.randn(5, 4, generator=generator)).square().mean()
        loss.backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_matrices_go_the_way_of_muon_and_the_others_that_of_adamw(network: nn.Module) -> None:
    twin = copy.deepcopy(network)
    learn(network, MuonAdamW(network.parameters(), lr=0.01))
    matrices = [p for p in twin.parameters() if p.ndim == 2]
    others = [p for p in twin.parameters() if p.ndim != 2]
    muon = torch.optim.Muon(matrices, lr=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(others, lr=0.01, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        twin.zero_grad()
        twin(torch.randn(5, 4, generator=generator)).square().mean().backward()
        muon.step()
        adamw.step()
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_schedule_drives_both(network: nn.Module) -> None:
    optimizer = MuonAdamW(network.parameters(), lr=0.1)
    schedule = MultiStepLR(optimizer, [1], gamma=0.0)
    learn(network, optimizer, 1)
    schedule.step()
    before = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert torch.equal(learn(network, optimizer, 1), before)


def test_a_saved_one_goes_on_with_the_same_bits(network: nn.Module) -> None:
    optimizer = MuonAdamW(network.parameters(), lr=0.1)
    learn(network, optimizer)
    twin = copy.deepcopy(network)
    restored = MuonAdamW(twin.parameters(), lr=0.5)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(learn(network, optimizer), learn(twin, restored))


def test_the_loss_of_the_closure_is_returned(network: nn.Module) -> None:
    def closure() -> float:
        loss = network(torch.ones(1, 4)).square().mean()
        loss.backward()
        return float(loss.detach())

    loss = float(network(torch.ones(1, 4)).square().mean().detach())
    assert MuonAdamW(network.parameters()).step(closure) == pytest.approx(loss)


def test_a_model_of_matrices_only_needs_no_adamw() -> None:
    network = nn.Linear(4, 3, bias=False)
    before = network.weight.detach().clone()
    learn(network, MuonAdamW(network.parameters()), 1)
    assert not torch.equal(network.weight, before)


def test_a_model_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="the model has none; use adamw"):
        MuonAdamW(nn.Conv1d(1, 2, 3).parameters())
