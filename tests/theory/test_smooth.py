"""Which networks are known to be smooth, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from certificate_cases import DESCENT, certified, lines, parts_of, records, trained, trial_of
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.theory.landscape import has_smooth_operations_only
from deltagclip_cli.theory.verdict import Verdict

NEEDS_SMOOTHNESS = ("rate", "descent", "decay", "path", "ball")


class Doubled(torch.autograd.Function):
    """What nobody but its author knows."""

    @staticmethod
    def forward(ctx: object, given: Tensor) -> Tensor:
        return 2 * given

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


class Between(nn.Module):
    """A function between two linear maps."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.function(self.first(inputs)).reshape(len(inputs), 4))


def attention_by_its_formula(tokens: Tensor) -> Tensor:
    """As every device, precision and version of torch has it for which there is nothing faster."""
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)


def is_smooth(model: nn.Module, *shape: int) -> bool:
    return has_smooth_operations_only(model(torch.randn(2, *(shape or (4,)))))


SMOOTH = {
    "tanh": torch.tanh,
    "gelu": nn.GELU(),
    "gelu by tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "mish": nn.Mish(),
    "elu": nn.ELU(),
    "celu": nn.CELU(2.0),
    "sine": torch.sin,
    "square": torch.square,
    "layer norm": nn.LayerNorm(4),
    "softmax": nn.Softmax(1),
    "attention": lambda x: functional.scaled_dot_product_attention(*[x[:, None]] * 3),
    "attention by its formula": lambda x: attention_by_its_formula(x[:, None]),
    "product": lambda x: torch.einsum("bi,bj->bij", x, x).sum(1),
}
NOT_SMOOTH = {
    "relu": functional.relu,
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky relu": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(),
    "hardtanh": nn.Hardtanh(),
    "hardswish": nn.Hardswish(),
    "elu with a kink": nn.ELU(0.5),
    "selu": nn.SELU(),
    "abs": torch.abs,
    "clamp": lambda x: x.clamp(min=0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "power of a tensor": lambda x: x ** torch.full((4,), 2.0),
    "power that is a tensor": lambda x: 2.0**x,
    "max-pooling": lambda x: functional.max_pool1d(x[:, None], 3, stride=1, padding=1),
    "sort": lambda x: x.sort(1).values,
    "a function of somebody's own": Doubled.apply,
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_are_known_to_be_so(name: str) -> None:
    assert is_smooth(Between(SMOOTH[name]))


@pytest.mark.parametrize("name", NOT_SMOOTH)
def test_kinks_and_what_nobody_knows_are_found_however_they_are_written(name: str) -> None:
    assert not is_smooth(Between(NOT_SMOOTH[name]))


def test_what_happens_to_the_inputs_before_any_weight_does_not_matter() -> None:
    assert is_smooth(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)))
    assert not is_smooth(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))


def test_convolutions_are_smooth_and_their_max_pools_are_not() -> None:
    body = [nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 2)]
    assert is_smooth(nn.Sequential(*body), 1, 8, 8)
    body[2] = nn.MaxPool2d(2)
    assert not is_smooth(nn.Sequential(*body), 1, 8, 8)


@pytest.mark.parametrize("model", ["vit_tiny", "resnet18", "kan"])
def test_our_own_networks_are_told_apart(model: str) -> None:
    data = {"name": "synthetic", "channels": 3, "image_size": 32, "batch_size": 2}
    task = {"name": "classify", "loss": "cross_entropy"}
    trial = trial_of(
        model={"name": model}, data=data, task=task, precision="fp32", certificate=None
    )
    assert is_smooth(parts_of(trial).model, 3, 32, 32) == (model == "vit_tiny")


# ---------------------------------------------------------------- in a certificate


@pytest.mark.parametrize("name", ["wide_mlp", "mlp"])
def test_a_network_with_relu_lacks_a_premise_of_all_lines_that_need_smoothness(
    name: str, tmp_path: Path
) -> None:
    sizes = {"width": 64} if name == "wide_mlp" else {"hidden": [64]}
    model = {"name": name, "activation": "relu", **sizes}
    folder = trained(trial_of({**DESCENT, "lr": 0.05}, model=model, epochs=12), tmp_path)
    judged = lines(folder)
    unmet = [name for name, line in judged.items() if line.verdict is Verdict.NOT_MET]
    assert set(NEEDS_SMOOTHNESS) <= set(unmet)
    assert judged["step size"].verdict is judged["PL*"].verdict is Verdict.HOLDS
    reason = judged["decay"].reason
    assert reason.startswith("L need not be β-smooth") and "(activation: relu)" in reason
    assert not certified(folder).holds


def test_where_nobody_looked_nothing_is_promised(folder: RunFolder) -> None:
    old = folder.metrics_file.read_text().replace('"theory/smooth"', '"theory/other"')
    folder.metrics_file.write_text(old)
    judged = lines(folder)
    assert all(judged[name].verdict is Verdict.NOT_MET for name in NEEDS_SMOOTHNESS)
    assert "nobody looked" in judged["rate"].reason


def test_a_smooth_network_is_recorded_as_one(finished: RunFolder) -> None:
    assert {each.get("theory/smooth", 1.0) for each in records(finished)} == {1.0}
