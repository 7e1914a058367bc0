"""Kolmogorov-Arnold networks: their splines, layers and first weights, and what they refuse."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from tiny_spec import TINY, faults_of_text
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts import models
from deltagclip_cli.parts.models.kan import SplineLayer, spline_basis
from deltagclip_cli.spec.schema import Model

ORDERS = range(1, 11)


def build(shape: tuple[int, ...] = (4,), classes: int = 3, **options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    model = models.build(Model.model_validate({"name": "kan", **options}), shape, classes)
    assert isinstance(model, nn.Sequential)
    return model


def layer_of(fan_in: int, fan_out: int, grid: int = 5, order: int = 3) -> SplineLayer:
    torch.manual_seed(0)
    return SplineLayer(fan_in, fan_out, grid=grid, order=order, grid_range=(-1.0, 1.0))


def knots_of(grid: int, order: int) -> np.ndarray:
    return np.arange(-order, grid + order + 1) * 2 / grid - 1


def centres_of(grid: int, order: int) -> Tensor:
    return layer_of(1, 1, grid, order).centres.double()


def scipys_basis(inputs: np.ndarray, grid: int, order: int, derivative: int = 0) -> np.ndarray:
    """Every spline or its derivative at inputs ``(N,)``, one a column; zero off its support."""
    knots = knots_of(grid, order)
    columns = []
    for first in range(grid + order):
        spline = BSpline.basis_element(knots[first : first + order + 2], extrapolate=False)
        columns.append(spline.derivative(derivative)(inputs) if derivative else spline(inputs))
    return np.nan_to_num(np.stack(columns, axis=1))


def cox_de_boor(inputs: Tensor, grid: int, order: int) -> Tensor:
    """The basis ``(N, D, K)`` by the textbook's recursion."""
    knots, x = torch.from_numpy(knots_of(grid, order)).to(inputs), inputs[..., None]
    basis = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for n in range(1, order + 1):
        rising = (x - knots[: -n - 1]) / (knots[n:-1] - knots[: -n - 1])
        falling = (knots[n + 1 :] - x) / (knots[n + 1 :] - knots[1:-n])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


# The basis


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_basis_is_scipys(order: int, dtype: torch.dtype, error: float) -> None:
    inputs = torch.linspace(-4, 4, 2001)
    for grid in (1, 5, 20):
        centres = centres_of(grid, order).to(dtype)
        basis = spline_basis(inputs.to(dtype)[:, None] * grid / 2, centres, order)[..., 0]
        expected = scipys_basis(inputs.double().numpy(), grid, order)
        assert basis.dtype == dtype
        assert basis.shape == (2001, grid + order)
        assert np.abs(basis.double().numpy() - expected).max() < error


@pytest.mark.parametrize("order", ORDERS)
def test_the_basis_sums_to_one_within_the_range_and_is_nowhere_negative(order: int) -> None:
    inputs = torch.linspace(-2.5, 2.5, 501, dtype=torch.float64)[:, None]  # 5 intervals
    basis = spline_basis(inputs, centres_of(5, order), order)
    torch.testing.assert_close(basis.sum(-2), torch.ones(501, 1).double(), rtol=0, atol=1e-12)
    assert basis.min() > -1e-12


@pytest.mark.parametrize("order", [1, 3, 4])
def test_beyond_order_intervals_outside_the_range_the_basis_is_exactly_zero(order: int) -> None:
    edge = 2.5 + order
    outside = torch.tensor([-1e30, -edge - 1, -edge, edge, edge + 1, 1e30])[:, None]
    outside.requires_grad_()
    basis = spline_basis(outside, centres_of(5, order).float(), order)
    basis.sum().backward()
    assert torch.equal(basis, torch.zeros_like(basis))
    assert torch.equal(outside.grad, torch.zeros_like(outside))


@pytest.mark.parametrize("order", [2, 3, 5])
def test_the_derivatives_of_the_basis_are_scipys(order: int) -> None:
    inputs = torch.linspace(-3.9, 3.9, 202, dtype=torch.float64)
    centres = centres_of(5, order)

    def value(x: Tensor) -> Tensor:
        return spline_basis(x[None] * 2.5, centres, order)[..., 0]

    first = vmap(jacrev(value))(inputs)
    second = vmap(jacrev(jacrev(value)))(inputs)
    for ours, derivative in ((first, 1), (second, 2)):
        expected = scipys_basis(inputs.numpy(), 5, order, derivative)
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-10)


# The layer


def test_a_layer_is_a_base_and_scaled_splines_on_every_edge() -> None:
    layer = layer_of(6, 4).double()
    inputs = 1.5 * torch.randn(20, 6, dtype=torch.float64)
    edges = layer.spline_scale * torch.einsum(
        "nik,oki->noi", cox_de_boor(inputs, 5, 3), layer.spline_weight
    )
    edges = edges + layer.base_weight * functional.silu(inputs)[:, None]
    torch.testing.assert_close(layer(inputs), edges.sum(-1))


def test_a_grid_lies_on_its_range() -> None:
    torch.manual_seed(0)
    layer = SplineLayer(3, 2, grid=4, order=3, grid_range=(1.0, 5.0)).double()
    twin = layer_of(3, 2, grid=4).double()
    layer.base_weight.data.zero_()
    twin.load_state_dict(layer.state_dict())
    inputs = torch.rand(9, 3, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(layer(inputs * 2 + 3), twin(inputs))


def test_the_gradients_of_a_layer_are_right_to_second_order() -> None:
    layer = layer_of(3, 2).double()
    inputs = (2 * torch.randn(5, 3, dtype=torch.float64)).requires_grad_()
    weights = [parameter.detach().requires_grad_() for parameter in layer.parameters()]

    def apply(x: Tensor, *values: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(apply, (inputs, *weights))
    assert torch.autograd.gradgradcheck(apply, (inputs, *weights))


@pytest.mark.slow
def test_a_network_compiles_whole_and_gives_the_same_gradients() -> None:
    model, inputs = build((1, 4, 4), hidden=(5,)), torch.randn(8, 1, 4, 4)
    torch._dynamo.reset()
    results = []
    with warnings.catch_warnings():
        # Dynamo and inductor warn about their own use of torch's deprecated parts.
        warnings.simplefilter("ignore")
        for network in (model, torch.compile(model, fullgraph=True)):
            model.zero_grad()
            images = inputs.clone().requires_grad_()
            output = network(images)
            output.square().sum().backward()
            results.append([output, images.grad, *(p.grad for p in model.parameters())])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled)


@pytest.mark.slow
def test_a_network_traces_into_one_graph() -> None:
    model, inputs = build((1, 4, 4), hidden=(5,)), torch.randn(8, 1, 4, 4)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.compile(model, fullgraph=True, backend="eager")(inputs)
    torch.testing.assert_close(traced, model(inputs))


def test_gradients_of_single_samples_by_vmap_are_those_of_a_loop() -> None:
    model, inputs = build().double(), torch.randn(6, 4, dtype=torch.float64)
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, weights, (sample[None],)).square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(weights, inputs)
    for number, sample in enumerate(inputs):
        alone = grad(loss)(weights, sample)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][number], value)


# Torch's own forward mode scripts its decompositions, and warns of it.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning")
def test_the_jacobian_and_the_hessian_are_those_of_autograd() -> None:
    model, inputs = build(hidden=(2,)).double(), torch.randn(5, 4, dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return model(x).square().sum()

    jacobian = torch.autograd.functional.jacobian(model, inputs)
    torch.testing.assert_close(jacrev(model)(inputs), jacobian)
    torch.testing.assert_close(jacfwd(model)(inputs), jacobian)
    expected = torch.autograd.functional.hessian(value, inputs)
    torch.testing.assert_close(hessian(value)(inputs), expected)


def test_the_splines_keep_full_precision_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build((1, 8, 8), hidden=(6,)), torch.rand(4, 1, 8, 8) * 2 - 1
    exact, dtypes = model(inputs), []

    def seen(positions: Tensor, *arguments: Any) -> Tensor:
        dtypes.append(positions.dtype)
        return spline_basis(positions, *arguments)

    monkeypatch.setattr("deltagclip_cli.parts.models.kan.spline_basis", seen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(inputs)
    assert dtypes == [torch.float32, torch.float32]
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), exact, rtol=0.05, atol=0.05)


# The first weights


def test_base_and_scale_start_uniform_within_one_over_the_root_of_the_inputs() -> None:
    layer = layer_of(100, 200)
    for weight in (layer.base_weight, layer.spline_scale):
        assert weight.abs().max().item() == pytest.approx(0.1, rel=1e-3)
        assert weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("order", [1, 3, 4])
def test_splines_start_as_the_shortest_fit_of_a_little_noise(order: int) -> None:
    layer = layer_of(30, 40, order=order).double()
    points = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
    basis = spline_basis(points * 2.5, layer.centres, order)[..., 0]
    weights = layer.spline_weight.detach().transpose(0, 1).flatten(1)
    noise = basis @ weights
    assert noise.abs().max().item() == pytest.approx(0.05 / 5, rel=1e-2)
    assert noise.std().item() == pytest.approx(0.1 / 5 / 12**0.5, rel=0.05)
    shortest = torch.linalg.lstsq(basis, noise, driver="gelsd").solution
    torch.testing.assert_close(weights, shortest, rtol=0, atol=1e-7)


# What it is built of


def test_centres_are_no_part_of_the_state() -> None:
    names = ["base_weight", "spline_scale", "spline_weight"]
    assert list(layer_of(2, 2).state_dict()) == names


@pytest.mark.parametrize(("grid", "order"), [(1, 1), (5, 3), (8, 2)])
def test_each_edge_has_grid_plus_order_plus_two_weights(grid: int, order: int) -> None:
    model = build((3, 2, 2), 7, hidden=(5, 4), grid=grid, order=order)
    edges = 12 * 5 + 5 * 4 + 4 * 7
    assert sum(p.numel() for p in model.parameters()) == edges * (grid + order + 2)


def test_a_kan_without_hidden_layers_is_one_layer() -> None:
    assert [type(part) for part in build(hidden=())] == [nn.Flatten, SplineLayer]


# What it refuses


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("grid: 0", "'grid' must be greater than or equal to 1 (got 0)."),
        ("grid: 2.5", "'grid'"),
        ("order: 0", "'order' must be greater than or equal to 1 (got 0)."),
        ("order: 11", "'order' must be less than or equal to 10 (got 11)."),
        ("grid_range: [1]", "'grid_range"),
    ],
)
def test_a_wrong_option_is_an_error_of_its_line(option: str, words: str, tmp_path: Path) -> None:
    text = TINY.replace("{name: mlp, hidden: [8]}", f"{{name: kan, {option}}}")
    (fault,) = faults_of_text(tmp_path, text)
    assert fault.startswith("spec.yaml:4:")
    assert words in fault


@pytest.mark.parametrize("grid_range", [(1.0, -1.0), (0.5, 0.5)])
def test_an_empty_range_is_refused(grid_range: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=r"kan: grid_range must go from low to high \(got \["):
        build(grid_range=grid_range)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model kan: hidden .*at least 1 \(got \[0\]\)"):
        build(hidden=(0,))
