"""Kernel, curvature and Lanczos' method against dense matrices, made with torch and numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from certificate_cases import parts_of, trial_of
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks.classify import Classify
from deltagclip_cli.theory import landscape
from deltagclip_cli.theory.landscape import (
    Landscape,
    extreme_eigenvalues,
    tangent_kernel,
)

MODELS: dict[str, Any] = {
    "wide_mlp": {"name": "wide_mlp", "width": 24},
    "wide_mlp, deep": {"name": "wide_mlp", "width": 12, "depth": 4, "activation": "softplus"},
    "mlp, with biases": {"name": "mlp", "hidden": [10, 7], "activation": "tanh"},
}


class Convolution(nn.Module):
    """A network whose weights are not those of linear maps of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 3, 3)
        self.last = nn.Linear(12, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.last(torch.tanh(self.convolution(inputs[:, None])).flatten(1))
        return features


def network_and_inputs(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    if name == "convolution":
        return Convolution().double(), torch.randn(8, 6, dtype=torch.float64)
    parts = parts_of(trial_of(model=MODELS[name]))
    return parts.model, next(parts.train.iterate(None, None))[0]


def split(model: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    pieces = vector.split([each.numel() for each in named.values()])
    return {name: piece.view_as(named[name]) for name, piece in zip(named, pieces, strict=True)}


def dense_kernel(model: nn.Module, inputs: Tensor) -> NDArray[np.float64]:
    """J Jᵀ with J made row by row."""
    start = torch.cat([each.detach().flatten() for each in model.parameters()])

    def outputs(vector: Tensor) -> Tensor:
        return functional_call(model, split(model, vector), (inputs,)).flatten()

    jacobian = torch.autograd.functional.jacobian(outputs, start).numpy()
    return np.asarray(jacobian @ jacobian.T)


def dense_hessian(model: nn.Module, inputs: Tensor, targets: Tensor) -> NDArray[np.float64]:
    start = torch.cat([each.detach().flatten() for each in model.parameters()])
    wanted = functional.one_hot(targets, 2)

    def loss(vector: Tensor) -> Tensor:
        outputs = functional_call(model, split(model, vector), (inputs,))
        return 0.5 * ((outputs - wanted) ** 2).sum()

    return np.asarray(torch.autograd.functional.hessian(loss, start).numpy())


@pytest.mark.parametrize("name", [*MODELS, "convolution"])
def test_the_kernel_is_that_of_the_dense_jacobian(name: str) -> None:
    model, inputs = network_and_inputs(name)
    found = tangent_kernel(model, inputs).numpy()
    np.testing.assert_allclose(found, dense_kernel(model, inputs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["wide_mlp", "convolution"])
def test_in_chunks_of_a_few_points_it_is_the_same(name: str) -> None:
    model, inputs = network_and_inputs(name)
    whole = tangent_kernel(model, inputs)
    for size in (1, 30_000):
        chunked = tangent_kernel(model, inputs, chunk_bytes=size)
        torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-13)


def test_linear_maps_never_make_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = network_and_inputs("wide_mlp")
    with monkeypatch.context() as patch:
        patch.delattr(landscape, "jacrev")
        expected = tangent_kernel(model, inputs)
    monkeypatch.setattr(landscape, "_is_linear_maps", lambda network, inputs: False)
    generic = tangent_kernel(model, inputs)
    torch.testing.assert_close(generic, expected, rtol=1e-12, atol=1e-13)


def test_a_linear_map_that_is_used_twice_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.layer(inputs)))[:, :2]  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, inputs = Twice().double(), torch.randn(5, 6, dtype=torch.float64)
    found = tangent_kernel(model, inputs).numpy()
    np.testing.assert_allclose(found, dense_kernel(model, inputs), rtol=1e-10)


@pytest.mark.parametrize("most_exact", [4096, 4])
def test_its_extremes_agree_with_numpy_by_blocks_and_by_lanczos(
    most_exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landscape, "MOST_EXACT", most_exact)
    parts = parts_of(trial_of(model=MODELS["wide_mlp"]))
    inputs, targets = next(parts.train.iterate(None, None))
    low, high = Landscape(parts.model, parts.task, inputs, targets).kernel_extremes()
    expected = np.linalg.eigvalsh(dense_kernel(parts.model, inputs))
    assert low.value == pytest.approx(expected[0], rel=1e-6)
    assert high.value == pytest.approx(expected[-1], rel=1e-9)
    assert abs(low.value - expected[0]) <= low.error + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_beta_is_the_largest_eigenvalue_of_the_dense_hessian(name: str) -> None:
    parts = parts_of(trial_of(model=MODELS[name]))
    inputs, targets = next(parts.train.iterate(None, None))
    expected = np.linalg.eigvalsh(dense_hessian(parts.model, inputs, targets))[-1]
    found = Landscape(parts.model, parts.task, inputs, targets).smoothness()
    assert found == pytest.approx(expected, rel=1e-7)
    assert found >= expected * (1 - 1e-12)


def test_what_is_trained_in_float32_is_measured_in_float64() -> None:
    parts = parts_of(trial_of(precision="fp32"))
    inputs, targets = next(parts.train.iterate(None, None))
    low, _ = Landscape(parts.model, parts.task, inputs, targets).kernel_extremes()
    exact = np.linalg.eigvalsh(dense_kernel(parts.model.double(), inputs.double()))
    assert low.value == pytest.approx(exact[0], rel=1e-9)


def test_measuring_draws_no_random_numbers_and_moves_no_weight() -> None:
    parts = parts_of(trial_of())
    measured = Landscape(parts.model, parts.task, *next(parts.train.iterate(None, None)))
    before = [each.clone() for each in parts.model.parameters()]
    state = torch.get_rng_state()
    measured.kernel_extremes(), measured.smoothness()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, parts.model.parameters(), before))
    assert all(each.grad is None for each in parts.model.parameters())


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), nn.Dropout(0.5)])
def test_what_makes_samples_depend_on_others_or_on_chance_is_refused(layer: nn.Module) -> None:
    model = nn.Sequential(layer, nn.Linear(6, 2))
    with pytest.raises(UsageError, match=r"(?s)Sequential has (BatchNorm1d|Dropout): .*wide_mlp"):
        Landscape(model, Classify(), torch.zeros(3, 6), torch.zeros(3, dtype=torch.int64))


# -------------------------------------------------------------------- Lanczos


def symmetric(values: list[float]) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randn(len(values), len(values), dtype=torch.float64, generator=generator)
    basis = torch.linalg.qr(drawn).Q
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [1.0, 1.0, 1.0],
        [-5.0, -2.0, -1.0],
        [1e-6, *np.linspace(0.5, 2, 40)],
        [0.0, *np.geomspace(1e-3, 1e3, 60)],
    ],
)
def test_lanczos_finds_both_ends_of_a_spectrum(values: list[float]) -> None:
    matrix = symmetric(values)
    start = torch.ones(len(values), dtype=torch.float64)
    low, high = extreme_eigenvalues(matrix.mv, start)
    scale = max(map(abs, values))
    assert low.value == pytest.approx(min(values), rel=1e-6, abs=1e-12 * scale)
    assert high.value == pytest.approx(max(values), rel=1e-8)


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_lanczos_cut_short_says_how_near_to_an_eigenvalue_it_came(steps: int) -> None:
    values = np.linspace(0, 1, 200)
    start = torch.ones(200, dtype=torch.float64)
    _, found = extreme_eigenvalues(
        symmetric(values.tolist()).mv, start, steps=steps, largest_only=True
    )
    assert found.value < 1 - 1e-4
    assert np.abs(values - found.value).min() <= found.error


def test_lanczos_on_numbers_that_are_none_gives_none() -> None:
    _, found = extreme_eigenvalues(lambda vector: vector * torch.nan, torch.ones(3).double())
    assert np.isnan(found.value)
