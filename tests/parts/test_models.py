"""Our models: sizes, outputs, twins, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts import models
from deltagclip_cli.parts.datasets.batches import Batches
from deltagclip_cli.parts.datasets.dataset import Split
from deltagclip_cli.parts.tasks.classify import Classify
from deltagclip_cli.spec.schema import Model
from deltagclip_cli.training.assembly import first_samples
from deltagclip_cli.training.exactness import try_out

SHAPES = {
    "kan": (1, 28, 28),
    "mlp": (1, 28, 28),
    "resnet18": (3, 32, 32),
    "vae": (1, 28, 28),
    "vit_small": (3, 32, 32),
    "vit_tiny": (3, 32, 32),
    "wide_mlp": (16,),
}


def build(
    name: str, shape: tuple[int, ...] | None = None, classes: int = 10, **options: Any
) -> Any:
    torch.manual_seed(0)
    model = Model.model_validate({"name": name, **options})
    return models.build(model, shape or SHAPES[name], classes)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_model_of_the_table_is_tested() -> None:
    elsewhere = {"bert", "gpt"}  # which read tokens: test_bert.py, test_gpt.py
    assert set(SHAPES) | elsewhere == set(models.TABLE.entries)


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_maps_a_batch_and_sends_a_gradient_to_every_parameter(name: str) -> None:
    model = build(name, classes=7)
    output = model(torch.rand(2, *SHAPES[name]))
    if name != "vae":
        assert output.shape == (2, 7)
        output = (output,)
    sum(part.square().sum() for part in output).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_seed_builds_the_same_model(name: str) -> None:
    first, second = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("resnet18", (3, 32, 32), 11_173_962),
        ("vit_tiny", (3, 64, 64), 5_526_346),
        ("vit_small", (3, 64, 64), 21_669_514),
        ("vae", (1, 28, 28), 2 * 784 * 50 + 784 + 5 * 50 * 50 + 6 * 50),
        ("kan", (1, 28, 28), 508_160),
        ("mlp", (1, 28, 28), 784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10),
        ("wide_mlp", (16,), 16 * 2048 + 2048 * 2048 + 2048 * 10),
    ],
)
def test_the_number_of_parameters(name: str, shape: tuple[int, ...], count: int) -> None:
    assert parameters(build(name, shape)) == count


def test_resnet18_takes_grey_images_and_keeps_the_resolution_in_its_stem() -> None:
    model = build("resnet18", (1, 28, 28))
    stem = model.maxpool(model.conv1(torch.rand(1, 1, 28, 28)))
    assert stem.shape == (1, 64, 28, 28)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_an_image_model_refuses_vectors(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} needs images .*\(16,\)"):
        build(name, (16,))


def test_a_vit_refuses_an_image_that_patches_do_not_tile() -> None:
    with pytest.raises(UsageError, match=r"28 x 28.\n  Set image_size .* 32"):
        build("vit_tiny", (1, 28, 28))


def test_a_width_below_one_is_refused_in_a_list_that_no_bound_of_the_table_reaches() -> None:
    with pytest.raises(UsageError, match=r"model mlp.*at least 1 \(got \[3, 0\]\)"):
        build("mlp", hidden=[3, 0])


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    assert parameters(build("mlp", hidden=[])) == 784 * 10 + 10


def test_the_vae_reconstructs_in_the_unit_interval_and_draws_noise_in_evaluation_too() -> None:
    model = build("vae").eval()
    inputs = torch.rand(3, 1, 28, 28)
    first, mean, log_variance = model(inputs)
    second, same_mean, _ = model(inputs)
    assert first.shape == inputs.shape
    assert mean.shape == log_variance.shape == (3, 50)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(mean, same_mean)
    assert not torch.equal(first, second)


def test_the_vae_repeats_itself_from_one_state_of_the_global_generator() -> None:
    model, inputs = build("vae"), torch.rand(3, 1, 28, 28)
    torch.manual_seed(5)
    first = model(inputs)[0]
    torch.manual_seed(5)
    assert torch.equal(first, model(inputs)[0])


@pytest.mark.parametrize("depth", [1, 3])
def test_wide_mlp_is_the_ntk_parametrisation(depth: int) -> None:
    model = build("wide_mlp", (16,), 2, width=256, depth=depth).double()
    features = inputs = torch.rand(5, 16, dtype=torch.float64)
    *hidden, last = (layer.weight for layer in model.layers)
    for weight in hidden:
        features = torch.tanh(features @ weight.T / weight.shape[1] ** 0.5)
    expected = features @ last.T / 256**0.5
    torch.testing.assert_close(model(inputs), expected)
    assert len(model.layers) == depth + 1


def test_wide_mlp_draws_its_weights_from_the_standard_normal_law() -> None:
    weights = build("wide_mlp", width=512).layers[1].weight
    assert abs(weights.mean().item()) < 0.01
    assert abs(weights.std().item() - 1) < 0.01


# Vision transformers


def timm_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state of timm's model under the names of ours."""
    renamed = {
        "cls_token": "class_token",
        "pos_embed": "positions",
        "patch_embed.proj": "patches",
        "attn.qkv": "qkv",
        "attn.proj": "projection",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.2",
    }
    ours = {}
    for key, value in state.items():
        for old, new in renamed.items():
            key = key.replace(old, new)
        ours[key] = value[0] if key == "positions" else value
    return ours


def timm_model(name: str) -> Any:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    return timm.create_model(f"{name}_patch16_224", num_classes=10, dynamic_img_size=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny", "vit_small"])
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (224, 224)])
def test_a_vit_computes_what_timm_computes(name: str, size: tuple[int, int]) -> None:
    theirs, ours = timm_model(name), build(name, (3, *size))
    with torch.no_grad():
        theirs.pos_embed.mul_(50)  # positions large enough to matter
    ours.load_state_dict(timm_weights(theirs.state_dict()))
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_a_vit_starts_from_timms_law() -> None:
    theirs, ours = timm_weights(timm_model("vit_tiny").state_dict()), build("vit_tiny").state_dict()
    assert theirs.keys() == ours.keys()
    for key, value in ours.items():
        expected = theirs[key].std().item() if value.numel() > 1 else 0
        assert value.shape == theirs[key].shape
        assert value.std().item() == pytest.approx(expected, rel=0.25), key
        assert value.mean().item() == pytest.approx(theirs[key].mean().item(), abs=0.01), key


def test_a_vit_computes_the_same_in_training_and_in_evaluation() -> None:
    model, images = build("vit_small"), torch.rand(2, 3, 32, 32)
    trained = model.train()(images)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), trained)


def test_a_vit_keeps_full_precision_positions_under_autocast() -> None:
    model, images = build("vit_tiny"), torch.rand(2, 3, 32, 32)
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(images)
        assert model._grid_positions().dtype == torch.float32
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), exact, rtol=0.05, atol=0.05)
    mixed.float().square().sum().backward()


# Torchvision's models


def test_the_names_found_are_those_torchvision_registers() -> None:
    import torchvision

    registered = torchvision.models.list_models(module=torchvision.models)
    found = models.TABLE.installed()
    assert len(found) >= 70
    assert set(found) == {f"torchvision:{name}" for name in registered}
    assert found["torchvision:convnext_tiny"] == "torchvision.models.convnext:convnext_tiny"


def test_finding_names_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from deltagclip_cli.parts import datasets, models, tasks; models.TABLE.all();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["shufflenet_v2_x0_5", pytest.param("googlenet", marks=pytest.mark.slow)]
)
def test_a_torchvision_model_returns_logits_while_it_trains(name: str) -> None:
    model = build(f"torchvision:{name}", (3, 64, 64), 7)
    assert model.training
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("shufflenet_v2_x0_5", (1, 28, 28)),
        ("squeezenet1_0", (3, 8, 8)),
        pytest.param("vit_b_16", (3, 32, 32), marks=pytest.mark.slow),
    ],
)
def test_images_that_do_not_fit_are_refused_before_training(
    name: str, shape: tuple[int, ...]
) -> None:
    split = Split(torch.zeros((2, *shape), dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    batches = Batches(split, batch_size=2, device=torch.device("cpu"))
    model = build(f"torchvision:{name}", shape)
    with pytest.raises(UsageError, match=r" cannot be applied to inputs of shape "):
        try_out(Classify(), model, *first_samples(batches, 2))


@pytest.mark.parametrize("targets", [torch.tensor([[0], [1]]), torch.tensor([3, 4])])
def test_targets_that_fit_no_outputs_are_not_laid_to_the_model(targets: Tensor) -> None:
    with pytest.raises(UsageError) as caught:
        try_out(Classify(), nn.Linear(3, 4), torch.zeros(2, 3), targets)
    assert "the outputs of Linear are float32 (2, 4), the targets int64 (2," in str(caught.value)
    assert "Classes are numbers from 0" in str(caught.value)


def test_a_value_that_torchvision_refuses_is_told() -> None:
    with pytest.raises(UsageError, match=r"'torchvision:squeezenet1_0' refuses its options: drop"):
        build("torchvision:squeezenet1_0", (3, 64, 64), dropout=7.0)


def test_an_option_reaches_torchvision() -> None:
    model = build("torchvision:squeezenet1_0", (3, 64, 64), dropout=0.1)
    assert {part.p for part in model.modules() if isinstance(part, nn.Dropout)} == {0.1}
