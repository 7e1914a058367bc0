"""The contract of torch's optimizers, by the tests that ``deltagclip check`` has; and our own."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from conformance_cases import SLOW, failures, trial_of
from optim_cases import BASE, IMPLEMENTATIONS, OPTIONS, gradients_like, parameters
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from deltagclip_cli.optim import DeltaGClip

every_implementation = pytest.mark.parametrize(
    "implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys()
)
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def make(params: list[Tensor] | None = None, **options: object) -> DeltaGClip:
    return DeltaGClip(parameters() if params is None else params, **{**BASE, **options})


def weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def advance(optimizer: DeltaGClip, steps: int = 3, first_seed: int = 0) -> None:
    for t in range(first_seed, first_seed + steps):
        grads = gradients_like(weights(optimizer), 3.0, seed=t)
        for param, grad in zip(weights(optimizer), grads, strict=True):
            param.grad = grad
        optimizer.step()


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


CHECKED = {**OPTIONS, **{name: {**IMPLEMENTATIONS[name]} for name in ("loop", "foreach")}}
del CHECKED["delta-2"]  # which no spec may have
BY_DESIGN = {
    "maximize": {"descends", "complex"},
    "maximize-weight-decay": {"descends", "complex"},
    "by-group": {"split in two"},
}
"""What some options are for."""


@pytest.mark.parametrize("name", ["plain", "by-parameter"])
def test_it_conforms(name):
    trial = trial_of("delta_gclip", **{**BASE, **CHECKED[name]})
    assert failures(trial, frozenset(SLOW)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_it_conforms_with_every_option(name):
    found = failures(trial_of("delta_gclip", **{**BASE, **CHECKED[name]}))
    assert found.keys() == BY_DESIGN.get(name, set()), found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gclip", "muon_adamw"])
def test_our_others_conform(name):
    options = {"lr": 0.1, "gamma": 1.0} if name == "gclip" else {}
    assert failures(trial_of(name, **options)) == {}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_a_copy_knows_of_the_steps_that_were_made(copied):
    one = make()
    advance(one)
    other = copied(one)
    assert torch.equal(other.regime_counts, one.regime_counts)
    assert torch.equal(other.grad_norm, one.grad_norm)


# Hyper-parameters


@pytest.mark.parametrize("name", ["lr", "gamma", "delta", "weight_decay"])
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), -float("inf")])
def test_impossible_hyper_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} should be >=? 0 and finite but is: {value}$"):
        make(**{name: value})
    with pytest.raises(ValueError, match=f"^{name} .* {value}$"):
        DeltaGClip([{"params": parameters(), name: value}], **BASE)


def test_gamma_0_would_stand_still():
    with pytest.raises(ValueError, match=r"gamma should be > 0 and finite but is: 0"):
        make(gamma=0.0)


def test_a_tensor_rate_is_checked_too():
    with pytest.raises(ValueError, match=r"lr should be >= 0 and finite but is: -1\.0"):
        make(lr=torch.tensor(-1.0))
    with pytest.raises(ValueError, match=r"one element but has shape \(2,\)"):
        make(lr=torch.tensor([0.1, 0.2]))


def test_an_unknown_scope_is_named():
    with pytest.raises(ValueError, match=r"'global', 'group', 'parameter'.* but is: 'layer'"):
        make(norm_scope="layer")


def test_the_scope_cannot_differ_between_groups():
    groups = [{"params": parameters(), "norm_scope": "group"}]
    with pytest.raises(ValueError, match="it is 'global', but a parameter group has: 'group'"):
        DeltaGClip(groups, **BASE)


@pytest.mark.parametrize(
    "flags", [("foreach", "fused"), ("fused", "differentiable"), ("foreach", "differentiable")]
)
def test_exclusive_flags_are_named(flags):
    with pytest.raises(RuntimeError, match=" and ".join(flags) + " cannot be True together"):
        make(**dict.fromkeys(flags, True))


@every_implementation
@pytest.mark.parametrize("norm_scope", ["global", "parameter"])
def test_sparse_gradients_are_refused_before_anything_changes(implementation, norm_scope):
    dense = torch.ones(2, requires_grad=True)
    table = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = make([dense, table.weight], norm_scope=norm_scope, **implementation)
    (dense.sum() + table(torch.tensor([1])).sum()).backward()
    with pytest.raises(RuntimeError, match=r"sparse.*shape \(5, 2\).*torch\.sparse_coo"):
        optimizer.step()
    assert dense.tolist() == [1.0, 1.0]


# Steps


@every_implementation
@every_option
@pytest.mark.parametrize("lr", [0.3, 0.0])
def test_zero_gradients_move_nothing_but_what_decays(implementation, options, lr):
    optimizer = make(**{**options, **implementation, "lr": lr})
    before = [p.detach().clone() for p in weights(optimizer)]
    for param in weights(optimizer):
        param.grad = torch.zeros_like(param)
    optimizer.step()
    factor = 1 - lr * options.get("weight_decay", 0)
    for param, was in zip(weights(optimizer), before, strict=True):
        torch.testing.assert_close(param.detach(), factor * was)


class _NoReading(TorchDispatchMode):
    """Fails on operations that hand a value of a tensor to Python."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        assert not any(word in name for word in ("local_scalar", "is_nonzero", "nonzero")), name
        return func(*args, **(kwargs or {}))


@every_implementation
@every_option
def test_nothing_is_read_back_from_the_device(implementation, options):
    optimizer = make(**{**options, **implementation, "lr": torch.tensor(0.3)})
    advance(optimizer, 1)
    with _NoReading():
        optimizer.step()
        with pytest.raises(AssertionError, match="local_scalar"):
            optimizer.regime_counts[0].item()


# Saving


def test_there_is_no_state_per_parameter():
    optimizer = make()
    advance(optimizer)
    assert optimizer.state_dict()["state"] == {} and len(optimizer.state) == 0


def test_named_parameters_keep_their_names():
    model = torch.nn.Linear(2, 1)
    optimizer = make(model.named_parameters())
    advance(optimizer)
    state = through_a_file(optimizer.state_dict())
    assert state["param_groups"][0]["param_names"] == ["weight", "bias"]
    make(model.parameters()).load_state_dict(state)


def test_older_checkpoints_can_be_loaded():
    """They hold no options but those of the formula."""
    state = make().state_dict()
    (group,) = state["param_groups"]
    kept = {"lr", "gamma", "delta", "params"}
    state["param_groups"] = [{name: group[name] for name in kept}]
    optimizer = make(weight_decay=0.5)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0].keys() == make().param_groups[0].keys()
    advance(optimizer)


def test_a_capturable_rate_stays_a_tensor():
    optimizer = make(capturable=True)
    rate = optimizer.param_groups[0]["lr"]
    assert isinstance(rate, Tensor) and rate.dtype == torch.float32
    torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    advance(optimizer)
    assert optimizer.param_groups[0]["lr"] is rate
    state = make().state_dict()
    state["param_groups"][0]["capturable"] = True
    optimizer.load_state_dict(state)
    assert isinstance(optimizer.param_groups[0]["lr"], Tensor)
    double = make([torch.zeros(1, dtype=torch.float64, requires_grad=True)], capturable=True)
    assert double.param_groups[0]["lr"].dtype == torch.float64


# Together with the rest of torch


def test_autocast_trains():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    optimizer = make(model.parameters(), lr=0.1)
    data, target = torch.randn(64, 8), torch.randn(64, 1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = (model(data) - target).square().mean()
        loss.backward()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("norm", [0.5, 3.0, 100.0], ids=["plain", "clipped", "floored"])
@pytest.mark.parametrize("norm_scope", ["global", "group", "parameter"])
def test_autograd_sees_the_step(norm, norm_scope):
    """Also that the norm depends on the gradient, which torch's check compares numerically."""
    direction = torch.tensor([0.6, -0.8, 0.3, 0.1], dtype=torch.float64)

    def stepped(start: Tensor, grad: Tensor, lr: Tensor) -> tuple[Tensor, ...]:
        params = [start[:2].clone(), start[2:].clone()]
        optimizer = make(
            params, lr=lr, weight_decay=0.1, norm_scope=norm_scope, differentiable=True
        )
        for param, part in zip(params, grad.split(2), strict=True):
            param.grad = part
        optimizer.step()
        assert not optimizer.grad_norm.requires_grad
        return tuple(params)

    start = torch.randn(4, dtype=torch.float64, generator=torch.manual_seed(0)).requires_grad_()
    grad = (norm * direction / direction.norm()).requires_grad_()
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(stepped, (start, grad, lr))


@pytest.mark.parametrize("size", [2, 2**16])
def test_autograd_survives_a_zero_gradient(size):
    """Where the norm has no derivative, and a square root of a sum would give NaN."""
    grad = torch.zeros(size, requires_grad=True)
    param = torch.ones(size, requires_grad=True).clone()
    optimizer = make([param], differentiable=True)
    param.grad = grad * 1.0
    optimizer.step()
    param.sum().backward()
    assert torch.isfinite(grad.grad).all()


COMPILED = {**IMPLEMENTATIONS, "by-group": {"norm_scope": "group"}}
COMPILED["by-parameter"] = {"norm_scope": "parameter"}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_step_is_the_same_step(name):
    options = {"weight_decay": 0.1, **COMPILED[name]}
    plain, compiled = make(**options), make(**options, lr=torch.tensor(0.3))
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # Dynamo and inductor warn about their own use of torch's deprecated parts.
        warnings.simplefilter("ignore")
        step = torch.compile(compiled.step, backend="inductor")
        for t in range(3):
            for optimizer, take_step in ((plain, plain.step), (compiled, step)):
                grads = gradients_like(weights(optimizer), 3.0, seed=t)
                for param, grad in zip(weights(optimizer), grads, strict=True):
                    param.grad = grad
                take_step()
    for a, b in zip(weights(plain), weights(compiled), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(plain.grad_norm, compiled.grad_norm)
    torch.testing.assert_close(plain.step_size, compiled.step_size)
    assert torch.equal(plain.regime_counts, compiled.regime_counts)
