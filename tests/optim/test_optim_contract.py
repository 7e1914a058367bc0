"""What every torch optimizer must do, whatever its formula."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from optim_cases import BASE, IMPLEMENTATIONS, OPTIONS, gradients_like, parameters
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from deltagclip_cli.optim import DeltaGClip, GClip

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


def assert_same_weights(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


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


def test_params_are_checked_as_by_torch():
    param = torch.zeros(2, requires_grad=True)
    with pytest.raises(TypeError, match="should be an iterable"):
        make(param)
    with pytest.raises(ValueError, match="empty parameter list"):
        make([])
    with pytest.raises(ValueError, match="more than one parameter group"):
        make([{"params": [param]}, {"params": [param]}])
    with pytest.raises(TypeError, match="must be a dict"):
        make().add_param_group([param])


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
def test_without_gradients_nothing_happens(implementation, options):
    optimizer = make(**{**options, **implementation})
    before = [p.detach().clone() for p in weights(optimizer)]
    optimizer.step()
    assert optimizer.grad_norm is None
    assert all(torch.equal(a, b) for a, b in zip(weights(optimizer), before, strict=True))


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


@every_implementation
def test_no_rate_is_no_step_even_for_huge_gradients(implementation):
    optimizer = make(lr=0.0, **implementation)
    before = [p.detach().clone() for p in weights(optimizer)]
    advance(optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(weights(optimizer), before, strict=True))


def test_the_loss_of_the_closure_is_returned():
    param = torch.tensor([3.0], requires_grad=True)
    optimizer = make([param])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert optimizer.step() is None
    assert param.item() < 3.0


def test_the_rate_is_read_at_every_step():
    optimizer = make(gamma=1e9)
    advance(optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.125
    advance(optimizer, 1)
    assert optimizer.step_size.tolist() == [0.125]


def test_hooks_run_in_torchs_order():
    calls: list[str] = []
    optimizer = make()
    handles = [
        register_optimizer_step_pre_hook(lambda *_: calls.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: calls.append("global post")),
    ]
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    optimizer.step()
    for handle in handles:
        handle.remove()
    assert calls == ["global pre", "pre", "post", "global post"]


def test_it_can_be_printed():
    assert "gamma: 1.0" in repr(make()) and repr(make()).startswith("DeltaGClip (")
    assert repr(GClip(parameters(), lr=1.0, gamma=1.0)).startswith("GClip (")


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


@every_implementation
@every_option
@pytest.mark.parametrize("lr", [0.3, torch.tensor(0.3)], ids=["float", "tensor"])
def test_a_saved_optimizer_continues_where_it_was(implementation, options, lr):
    options = {**options, **implementation, "lr": lr}
    one = make(**options)
    advance(one, 2)
    other = make([p.detach().clone().requires_grad_() for p in weights(one)], **options)
    other.param_groups[0].update(lr=0.9, gamma=0.9, delta=0.9)
    other.load_state_dict(through_a_file(one.state_dict()))
    for optimizer in (one, other):
        advance(optimizer, 2, first_seed=2)
    assert_same_weights(one, other)


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


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
@every_option
def test_a_copy_goes_the_same_way(copied: Callable[[DeltaGClip], DeltaGClip], options):
    one = make(**options)
    advance(one)
    other = copied(one)
    assert torch.equal(other.regime_counts, one.regime_counts)
    assert torch.equal(other.grad_norm, one.grad_norm)
    for optimizer in (one, other):
        advance(optimizer, 2, first_seed=3)
    assert_same_weights(one, other)
    assert torch.equal(other.regime_counts, one.regime_counts)


# Together with the rest of torch

SCHEDULERS = {
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
    "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.9},
    "StepLR": {"step_size": 1},
    "MultiStepLR": {"milestones": [1, 2]},
    "ConstantLR": {"total_iters": 2},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.3, "cycle_momentum": False, "step_size_up": 2},
    "OneCycleLR": {"max_lr": 0.3, "total_steps": 10, "cycle_momentum": False},
    "ReduceLROnPlateau": {"patience": 0},
}
NOT_BUILT_ALONE = {"LRScheduler", "ChainedScheduler", "SequentialLR"}


def test_the_list_of_schedulers_is_complete():
    module = torch.optim.lr_scheduler
    assert set(SCHEDULERS) | NOT_BUILT_ALONE == set(module.__all__)


@pytest.mark.parametrize("capturable", [False, True], ids=["float", "tensor"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_drives_it(name, capturable):
    param = torch.ones(1, requires_grad=True)
    groups = [{"params": [param]}, {"params": [torch.ones(1, requires_grad=True)]}]
    optimizer = make(groups, gamma=1e9, capturable=capturable)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **SCHEDULERS[name])
    seen = []
    for _ in range(5):
        param.grad = torch.ones(1)
        before = param.item()
        optimizer.step()
        (h,) = optimizer.step_size.tolist()
        assert h == pytest.approx(float(optimizer.param_groups[0]["lr"]), rel=1e-6)
        assert before - param.item() == pytest.approx(h, rel=1e-3, abs=1e-6)
        seen.append(h)
        scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
    assert len(set(seen)) > 1


def test_the_gradient_scaler_unscales_first_and_skips_infinite_steps():
    param = torch.zeros(4, requires_grad=True)
    optimizer = make([param], gamma=1.0, delta=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(param.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.grad_norm.item() == 2.0
    assert param.tolist() == pytest.approx([-0.15] * 4)

    param.grad = torch.full((4,), float("inf"))
    scaler.step(optimizer)
    scaler.update()
    assert param.tolist() == pytest.approx([-0.15] * 4)
    assert optimizer.regime_counts.tolist() == [0, 1, 0]
    assert scaler.get_scale() == 512.0


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


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("aot_eager", "by-group"),  # inductor does all that it does, and compiles
        *(pytest.param("inductor", name, marks=pytest.mark.slow) for name in COMPILED),
    ],
)
def test_a_compiled_step_is_the_same_step(backend, name):
    options = {"weight_decay": 0.1, **COMPILED[name]}
    plain, compiled = make(**options), make(**options, lr=torch.tensor(0.3))
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # Dynamo and inductor warn about their own use of torch's deprecated parts.
        warnings.simplefilter("ignore")
        step = torch.compile(compiled.step, backend=backend)
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
