"""The same bits each time: what is asked of torch, what is allowed, and how people hear of it."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    VAE,
    assert_same_numbers,
    never,
    records,
    same,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import UsageError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import exactness, worker
from deltagclip_cli.training.assembly import Parts, assemble
from deltagclip_cli.training.exactness import allowed, choose_kernels, inexact_operation
from deltagclip_cli.training.trainer import Ending
from deltagclip_cli.training.worker import run_trial

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PUTTING = {"name": "inexact_parts.py:putting"}
IN_EVALUATION = {"name": "inexact_parts.py:putting_in_evaluation"}
LATE = {"name": "inexact_parts.py:LateSGD", "lr": 0.1}
"""The end of ``train``'s first line about an operation."""
NAMED = "put_ has no deterministic kernel on a CPU."


def log(folder: RunFolder) -> str:
    return folder.log_file.read_text()


def starts(folder: RunFolder) -> list[list[str] | None]:
    """The operations that each start has recorded."""
    read = json.loads(folder.environment_file.read_text())
    return [each.get("inexact") for each in read]


def is_strict() -> bool:
    on, warns = (
        torch.are_deterministic_algorithms_enabled,
        torch.is_deterministic_algorithms_warn_only_enabled,
    )
    return on() and not warns()


@pytest.fixture(autouse=True)
def kernels_restored() -> Iterator[None]:
    cuda = torch.backends.cuda
    before = (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled())
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    yield
    for enable, value in zip(
        (cuda.enable_flash_sdp, cuda.enable_mem_efficient_sdp, cuda.enable_cudnn_sdp),
        before,
        strict=True,
    ):
        enable(value)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark


# ------------------------------------------------------------------- what is asked of torch


def asked() -> dict[str, bool]:
    cuda = torch.backends.cuda
    return {
        "strict": is_strict(),
        "any": not torch.are_deterministic_algorithms_enabled(),
        "flash": cuda.flash_sdp_enabled(),
        "memory-efficient": cuda.mem_efficient_sdp_enabled(),
        "cuDNN": cuda.cudnn_sdp_enabled(),
        "measured": torch.backends.cudnn.benchmark,
    }


def test_exact_trials_have_fused_attention_whose_gradients_are_deterministic() -> None:
    choose_kernels("exact", "fp32", CUDA)
    assert asked() == {
        "strict": True, "any": False, "flash": True, "memory-efficient": True, "cuDNN": False,
        "measured": False,
    }  # fmt: skip


def test_fast_trials_have_all_kernels_and_exact_ones_behind_them_have_not() -> None:
    choose_kernels("exact", "fp32", CUDA)
    with allowed(CUDA):
        pass
    choose_kernels("fast", "fp32", CUDA)
    assert asked() == {
        "strict": False, "any": True, "flash": True, "memory-efficient": True, "cuDNN": True,
        "measured": True,
    }  # fmt: skip
    choose_kernels("exact", "fp32", CUDA)
    assert asked()["strict"] and not asked()["cuDNN"] and not asked()["measured"]


def test_attention_is_plain_where_something_else_is_not_exact() -> None:
    choose_kernels("exact", "fp32", CUDA)
    with allowed(CUDA):
        pass
    assert asked() == dict.fromkeys(asked(), False)


def test_a_trial_is_as_strict_or_fast_as_its_spec_says(runs: Path) -> None:
    train(trial_of(epochs=1), runs)
    assert is_strict()
    train(trial_of(epochs=1, determinism="fast"), runs)
    assert asked()["any"]


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        ("put_ does not have a deterministic implementation, but you set 'torch.use_", "put_"),
        (
            "backend='inductor' raised:\nRuntimeError: upsample_bicubic2d_backward_out_cuda does "
            "not have a deterministic implementation, but you set",
            "upsample_bicubic2d_backward_out_cuda",
        ),
        (
            "flex_attention backward with block_mask and BACKEND='FLASH' does not have a "
            "deterministic implementation for this configuration",
            "flex_attention backward with block_mask and BACKEND='FLASH'",
        ),
        (
            "Deterministic backward for flex_attention with block_mask and BACKEND='FLASH' "
            "requires SM100+",
            "backward for flex_attention",
        ),
        ("this operation is not deterministic because it uses CuBLAS and you have", "CuBLAS"),
        ("mat1 and mat2 shapes cannot be multiplied", None),
    ],
)
def test_an_operation_is_known_by_the_error_that_it_raises(
    words: str, operation: str | None
) -> None:
    assert inexact_operation(RuntimeError(words)) == operation
    assert inexact_operation(UsageError(f"MLP cannot be applied: {words}")) == operation


# ----------------------------------------------------------------------------- what is allowed


@pytest.mark.parametrize("model", [PUTTING, IN_EVALUATION], ids=["training", "evaluation"])
def test_an_operation_without_a_kernel_is_named_once_and_allowed(
    model: dict[str, Any], runs: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trial = trial_of(model=model, data={"batch_size": 25})
    folder = RunFolder.of(runs, trial)
    starts_needed = train_in_pieces(trial, runs, steps=5)
    assert starts_needed > 1
    assert log(folder).count("no deterministic kernel") == 1
    assert f"{NAMED} It runs all the same" in log(folder)
    assert "inexact_parts.py:17: in half: return numbers.put_(" in log(folder)
    assert "determinism: fast" in log(folder)
    assert starts(folder) == [["put_"]] * starts_needed
    assert not is_strict() and torch.are_deterministic_algorithms_enabled()
    assert not [each for each in recwarn if "deterministic" in str(each.message)]


def test_all_operations_are_named_at_once(runs: Path) -> None:
    trial = trial_of(model="inexact_parts.py:unpooling", epochs=1)
    train(trial, runs)
    names = "max_unpooling2d_forward_out and put_ have no deterministic kernel on a CPU. They run"
    assert names in log(RunFolder.of(runs, trial))


def test_one_that_is_met_late_is_allowed_from_the_last_checkpoint_on(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(LATE)
    assert train(trial, runs) is Ending.FINISHED  # its sixth step is in the second epoch
    folder, expected = RunFolder.of(runs, trial), RunFolder.of(tmp_path / "other", trial)
    assert "goes back to its last checkpoint" in log(folder)
    assert log(folder).count("no deterministic kernel") == 1
    assert "in step: half(weight.data)" in log(folder)
    assert starts(folder) == [None, ["put_"]]
    known = worker.assemble
    monkeypatch.setattr(
        worker, "assemble", lambda *a, **o: known(*a, **{**o, "inexact": {"put_": ""}})
    )
    train(trial, tmp_path / "other")
    assert_same_numbers(folder, expected)


def test_one_that_is_met_before_a_checkpoint_begins_again(runs: Path) -> None:
    trial = trial_of(LATE, data={"batch_size": 10}, log_every=1)
    assert train(trial, runs) is Ending.FINISHED
    told = records(RunFolder.of(runs, trial))
    assert [each["step"] for each in told if "step/train/loss" in each] == list(range(1, 31))


def test_a_fast_trial_says_nothing(runs: Path) -> None:
    trial = trial_of(model=PUTTING, determinism="fast", epochs=1)
    train(trial, runs)
    assert "determin" not in log(RunFolder.of(runs, trial))


# --------------------------------------------------------------------- how the parts are tried


def streams() -> tuple[Any, ...]:
    return torch.get_rng_state(), random.getstate(), str(np.random.get_state())


def snapshot(parts: Parts) -> Any:
    kept = [parts.model.state_dict(), parts.optimizer.state_dict(), vars(parts.task)]
    return torch.utils._pytree.tree_map(
        lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, kept
    )


@pytest.mark.parametrize("optimizer", [DELTA_GCLIP, MOMENTUM, ADAM, {"name": "lbfgs"}])
def test_a_step_that_is_tried_leaves_all_as_it_was(
    optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(optimizer, model="inexact_parts.py:moody")
    seen: list[Any] = []

    def watched(trial: Any, parts: Parts, samples: Any) -> None:
        before = (snapshot(parts), streams(), torch.is_warn_always_enabled())
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            exactness.try_step(trial, parts, samples)
        after = (snapshot(parts), streams(), torch.is_warn_always_enabled())
        seen.append((before, after, given, parts))

    monkeypatch.setattr("deltagclip_cli.training.assembly.try_step", watched)
    assemble(trial, Path("nowhere"), CPU)
    ((before, after, given, parts),) = seen
    assert same(before, after) and not given
    assert parts.model.putting.calls == 0 and parts.model.training is False
    assert all(each.grad is None for each in parts.model.parameters())


def test_a_step_is_really_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, closure=None: steps.append(1))
    assemble(trial_of(MOMENTUM), Path("nowhere"), CPU)
    assert steps == [1]


@pytest.mark.filterwarnings("ignore:a mood")
def test_what_two_samples_do_not_allow_is_left_to_the_training(runs: Path) -> None:
    trial = trial_of(model={"name": "inexact_parts.py:moody", "least": 4}, epochs=1)
    assert train(trial, runs) is Ending.FINISHED


# ----------------------------------------------------------------------------------- on a GPU

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "convolutions": {"model": {"name": "resnet18"}},
    "attention": {"model": {"name": "vit_tiny"}, "data": {"image_size": 16, "batch_size": 50}},
    "kan": {"model": {"name": "kan", "hidden": [4]}},
    "vae": VAE,
    "augmented": {"data": {"augment": ["random_crop", "flip"]}},
    "resized": {"data": {"image_size": 12, "augment": ["random_resized_crop"]}},
}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def train_on_gpu(trial: Trial, runs: Path) -> RunFolder:
    folder = RunFolder.of(runs, trial)
    run_trial(folder, trial, data_dir=Path("nowhere"), device="cuda", should_stop=never)
    return folder


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_our_parts_are_strictly_exact_on_a_gpu(name: str, precision: str, runs: Path) -> None:
    trial = trial_of(ADAM, **MODELS[name], precision=precision, epochs=2)
    first, second = (train_on_gpu(trial, runs / each) for each in ("one", "other"))
    assert starts(first) == [None] and is_strict()
    assert_same_numbers(first, second)


@pytest.mark.gpu
@on_a_gpu
def test_the_gradient_of_flash_attention_is_exact_on_a_gpu() -> None:
    choose_kernels("exact", "bf16", CUDA)
    generator = torch.Generator(CUDA).manual_seed(0)
    shape = (4, 8, 1000, 64)
    inputs = [
        torch.randn(shape, dtype=torch.bfloat16, device=CUDA, generator=generator) for _ in range(3)
    ]

    def gradients() -> list[torch.Tensor]:
        leaves = [each.clone().requires_grad_() for each in inputs]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            scaled_dot_product_attention(*leaves).float().square().sum().backward()
        return [each.grad for each in leaves if each.grad is not None]

    first = gradients()
    assert len(first) == 3
    assert all(same(gradients(), first) for _ in range(5))


@pytest.mark.gpu
@on_a_gpu
def test_an_operation_without_a_kernel_is_named_and_allowed_on_a_gpu(runs: Path) -> None:
    folder = train_on_gpu(trial_of(model="inexact_parts.py:pooled", epochs=1), runs)
    assert starts(folder) == [["adaptive_avg_pool2d_backward_cuda"]]
    assert "no deterministic kernel on a GPU" in log(folder)
    assert "Attention takes its plain kernel" in log(folder)
    assert not torch.backends.cuda.flash_sdp_enabled()
