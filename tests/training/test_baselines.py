"""Baselines as people run them: groups of parameters, clipped gradients, several batches a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad_norm_
from training_cases import (
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    numbers,
    records,
    train,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import UsageError, derive_seed
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import stepping
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.stepping import members
from deltagclip_cli.training.trainer import Ending

CPU, NOWHERE = torch.device("cpu"), Path("nowhere")
NO_DECAY = {"no_decay": {"match": ["*.bias"], "weight_decay": 0}}
ADAMW: dict[str, Any] = {"name": "adamw", "lr": 1e-2, "weight_decay": 0.1}
BASELINE = {**ADAMW, "groups": NO_DECAY, "clip_grad_norm": 0.5}
LBFGS = {"name": "lbfgs", "lr": 0.1, "max_iter": 3}


def finished(trial: Trial, runs: Path) -> RunFolder:
    assert train(trial, runs) is Ending.FINISHED
    return RunFolder.of(runs, trial)


def weights(folder: RunFolder) -> torch.Tensor:
    return torch.cat([each.flatten() for each in checkpoint(folder)["model"].values()])


# -- groups --------------------------------------------------------------------------------------


def group_members(*patterns: str) -> dict[str, list[str]]:
    groups = {f"g{n}": {"match": [each]} for n, each in enumerate(patterns)}
    return members(groups, ["0.weight", "0.bias", "1.weight", "1.bias"])


def test_groups_follow_the_parameters_behind_those_of_none() -> None:
    assert group_members("1.*") == {"": ["0.weight", "0.bias"], "g0": ["1.weight", "1.bias"]}
    assert list(group_members("1.*", "0.weight")) == ["", "g1", "g0"]
    assert list(group_members("0.weight", "1.*")) == ["", "g0", "g1"]
    assert list(group_members("*")) == ["g0"]


def test_patterns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'\*.BIAS' of g0 matches no parameter .*\n.* 0.weight"):
        group_members("*.BIAS")
    with pytest.raises(UsageError, match=r"0.bias is in several groups: .* \*.bias of g0 and 0.\*"):
        group_members("*.bias", "0.*")


def test_groups_are_those_of_torch(tmp_path: Path) -> None:
    folder = finished(trial_of({**BASELINE, "clip_grad_norm": None}), tmp_path)
    plain = finished(trial_of(ADAMW), tmp_path)
    decayed, others = checkpoint(folder)["optimizer"]["param_groups"]
    assert (decayed["weight_decay"], decayed["params"]) == (0.1, [0, 1])
    assert (others["weight_decay"], others["params"]) == (0.0, [2, 3])
    assert not torch.equal(weights(folder), weights(plain))


def test_a_group_may_have_options_that_change_nothing(tmp_path: Path) -> None:
    """Where each group has what all have, the steps are those without groups."""
    same = {
        "a": {"match": ["1.*"], "lr": 1e-2},
        "b": {"match": ["*.bias"][:0] or ["3.*"], "lr": 1e-2},
    }
    grouped = finished(trial_of({**ADAMW, "groups": same}), tmp_path)
    assert torch.equal(weights(grouped), weights(finished(trial_of(ADAMW), tmp_path)))


def test_the_rate_that_is_told_is_that_of_the_parameters_in_no_group(tmp_path: Path) -> None:
    schedule = {"name": "multistep", "milestones": [1], "factor": 0.5}
    groups = {"first": {"match": "1.*", "lr": 1.0}}
    folder = finished(trial_of({**SGD, "groups": groups}, schedule=schedule), tmp_path)
    assert epochs(folder, "optim/lr") == [0.2, 0.1, 0.1]
    rates = [group["lr"] for group in checkpoint(folder)["optimizer"]["param_groups"]]
    assert rates == [0.1, 0.5]


@pytest.mark.parametrize("name", ["delta_gclip", "gclip", "muon_adamw", "lbfgs"])
def test_an_optimizer_takes_groups_or_says_why_not(name: str, tmp_path: Path) -> None:
    options = {"delta_gclip": {"gamma": 0.7, "delta": 0.8}, "gclip": {"gamma": 0.7}}.get(name, {})
    groups = {"slow": {"match": "*.bias", "lr": 1e-3}}
    trial = trial_of({"name": name, "lr": 0.01, **options, "groups": groups})
    if name == "lbfgs":
        with pytest.raises(UsageError, match="doesn't support per-parameter options"):
            train(trial, tmp_path)
    else:
        finished(trial, tmp_path)


def test_an_option_that_no_group_can_have_is_refused(tmp_path: Path) -> None:
    groups = {"slow": {"match": "*.bias", "momentum": 0.5}}
    with pytest.raises(UsageError, match="'muon_adamw' has one momentum for all parameters, so"):
        train(trial_of({"name": "muon_adamw", "groups": groups}), tmp_path)
    groups = {"slow": {"match": "*.bias", "norm_scope": "group"}}
    with pytest.raises(UsageError, match="norm_scope belongs to the whole optimizer"):
        train(trial_of({**DELTA_GCLIP, "groups": groups}), tmp_path)


def test_a_group_may_have_what_no_source_tells(tmp_path: Path) -> None:
    groups = {
        "matrices": {"match": "*.weight", "extra": {"kind": "matrix"}},
        "others": {"match": "*.bias", "extra": {"kind": "bias"}, "lr": 0.5},
    }
    optimizer = {"name": "own_optimizers.py:Labelled", "groups": groups}
    saved = checkpoint(finished(trial_of(optimizer, epochs=1), tmp_path))["optimizer"]
    assert [(each["kind"], each["lr"]) for each in saved["param_groups"]] == [
        ("matrix", 0.1),
        ("bias", 0.5),
    ]


# -- clipping ------------------------------------------------------------------------------------


def literal_loop(trial: Trial, most: float) -> tuple[torch.Tensor, list[float]]:
    """The weights after AdamW's steps along clipped gradients, and the norms before."""
    parts = assemble(trial, NOWHERE, CPU)
    norms = []
    for epoch in range(trial.epochs):
        generator = torch.Generator().manual_seed(derive_seed(trial.seed, "order", epoch))
        order = torch.randperm(parts.train.samples, generator=generator)
        for inputs, targets in parts.train.iterate(order, None):
            parts.optimizer.zero_grad()
            parts.task(parts.model, inputs, targets).objective.backward()
            norms.append(float(clip_grad_norm_(parts.model.parameters(), most)))
            parts.optimizer.step()
    return torch.cat([each.detach().flatten() for each in parts.model.parameters()]), norms


def test_gradients_are_clipped_as_torch_does_and_the_norm_is_that_from_before(
    tmp_path: Path,
) -> None:
    trial = trial_of({**ADAMW, "clip_grad_norm": 0.5}, log_every=1)
    folder = finished(trial, tmp_path)
    expected, norms = literal_loop(trial, 0.5)
    assert torch.equal(weights(folder), expected)
    assert max(norms) > 0.5
    told = [each for each in records(folder) if "step/optim/grad_norm" in each]
    assert [each["step/optim/grad_norm"] for each in told] == norms  # of every step
    assert "optim/plain_fraction" not in records(folder)[-1]


def test_gradient_descent_that_is_clipped_is_gclip(tmp_path: Path) -> None:
    """But for the 1e-6 that torch adds to the norm; its steps are not told of as plain."""
    clipped = finished(trial_of({**SGD, "clip_grad_norm": 0.7}, precision="fp64"), tmp_path)
    gclip = {"name": "gclip", "lr": 0.2, "gamma": 0.7}
    expected = weights(finished(trial_of(gclip, precision="fp64"), tmp_path))
    assert torch.allclose(weights(clipped), expected, rtol=1e-4, atol=1e-5)
    assert "optim/step_size" not in records(clipped)[-1]


def test_a_gradient_that_is_clipped_already_is_clipped_no_more(tmp_path: Path) -> None:
    trial = trial_of({**DELTA_GCLIP, "clip_grad_norm": 0.6}, log_every=1)
    told = records(finished(trial, tmp_path))
    assert {each["optim/plain_fraction"] for each in told if "optim/lr" in each} == {1.0}
    assert max(each["step/optim/grad_norm"] for each in told if "step/optim/lr" in each) > 0.7


@pytest.mark.parametrize(
    "optimizer", [{"name": "own_optimizers.py:SharpnessAware"}, LBFGS], ids=str
)
def test_gradients_inside_of_closures_are_clipped_too(
    optimizer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def watched(parameters: Any, most: float) -> torch.Tensor:
        calls.append(most)
        return clip_grad_norm_(parameters, most)

    monkeypatch.setattr("deltagclip_cli.training.stepping.clip_grad_norm_", watched)
    trial = trial_of({**optimizer, "clip_grad_norm": 0.1}, epochs=1)
    folder = finished(trial, tmp_path)
    assert len(calls) > checkpoint(folder)["step"]


# -- accumulation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count", "optimizer"),
    [
        (8, 4, DELTA_GCLIP),
        (12, 3, DELTA_GCLIP),  # which leaves 4 of 12 samples
        (7, 15, DELTA_GCLIP),  # all in one step
        (25, 4, MOMENTUM),
        (12, 3, BASELINE),
    ],
)
def test_several_batches_make_the_step_of_a_large_one(
    size: int, count: int, optimizer: dict[str, Any], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"precision": "fp64", "log_every": 1, "epochs": 2}
    small = trial_of(optimizer, data={"batch_size": size}, accumulate=count, **settings)
    large = trial_of(optimizer, data={"batch_size": min(100, size * count)}, **settings)
    folders = finished(small, tmp_path), finished(large, tmp_path)
    assert torch.allclose(weights(folders[0]), weights(folders[1]), rtol=1e-12, atol=1e-12)
    for one, other in zip(numbers(folders[0]), numbers(folders[1]), strict=True):
        assert one == pytest.approx(other, rel=1e-11)


def test_a_step_has_what_is_left_at_the_end_of_a_pass() -> None:
    steps = assemble(trial_of(data={"batch_size": 12}, accumulate=3), NOWHERE, CPU).steps
    found = [[len(targets) for _, targets in batches] for batches in steps.iterate(None, None)]
    assert found == [[12, 12, 12], [12, 12, 12], [12, 12, 4]]
    assert steps.sizes == [36, 36, 28]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_reduction_of_a_task_is_heeded(reduction: str, tmp_path: Path) -> None:
    task = {"name": "classify", "loss": "squared", "reduction": reduction}
    settings: dict[str, Any] = {"precision": "fp64", "task": task, "epochs": 1}
    optimizer = {"name": "sgd", "lr": 1e-3}
    small = trial_of(optimizer, data={"batch_size": 12}, accumulate=3, **settings)
    large = trial_of(optimizer, data={"batch_size": 36}, **settings)
    folders = finished(small, tmp_path), finished(large, tmp_path)
    assert torch.allclose(weights(folders[0]), weights(folders[1]), rtol=1e-12, atol=1e-12)


def test_a_closure_is_of_all_batches_of_a_step(tmp_path: Path) -> None:
    small = trial_of(LBFGS, data={"batch_size": 12}, accumulate=3, precision="fp64", epochs=1)
    large = trial_of(LBFGS, data={"batch_size": 36}, precision="fp64", epochs=1)
    folders = finished(small, tmp_path), finished(large, tmp_path)
    assert torch.allclose(weights(folders[0]), weights(folders[1]), rtol=1e-9, atol=1e-9)


def test_more_batches_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"accumulate is 5, but synthetic has 4 batches of 32"):
        train(trial_of(accumulate=5), tmp_path)
    finished(trial_of(accumulate=4, epochs=1), tmp_path)


@pytest.mark.parametrize(
    "length",
    [{"epochs": 2}, {"epochs": None, "steps": 11, "evaluate_every": 4, "ema": 0.9}],
    ids=["epochs", "steps"],
)
def test_all_three_go_on_with_the_same_bits(length: dict[str, Any], tmp_path: Path) -> None:
    data = {"batch_size": 8, "augment": "flip"}
    schedule = {"name": "cosine", "unit": "step", "warmup": 3}
    trial = trial_of(BASELINE, data=data, accumulate=3, schedule=schedule, log_every=2, **length)
    whole = finished(trial, tmp_path / "whole")
    assert checkpoint(whole)["step"] == length.get("steps", 10)  # of 13 batches an epoch
    assert train_in_pieces(trial, tmp_path / "pieces", 2) > 2
    assert_same_numbers(RunFolder.of(tmp_path / "pieces", trial), whole)


def test_checkpoints_are_written_between_steps_alone(tmp_path: Path) -> None:
    trial = trial_of(data={"batch_size": 8}, accumulate=3)
    assert train(trial, tmp_path, stop=StopAt(2)) is Ending.STOPPED
    state = checkpoint(RunFolder.of(tmp_path, trial))
    assert (state["step"], state["batch"]) == (2, 2)


class OnGPU:
    """A parameter as it is on a GPU."""

    is_cuda = True

    def is_floating_point(self) -> bool:
        return True


@pytest.mark.parametrize(
    "written, expected",
    [
        ({"name": "sgd", "lr": 0.1}, {"fused": True}),
        ({"name": "adam"}, {"fused": True}),
        ({"name": "adamw", "foreach": True}, {}),
        ({"name": "adam", "fused": False}, {}),
        ({"name": "rmsprop"}, {}),
        ({"name": "delta_gclip", "lr": 0.1, "gamma": 1.0, "delta": 0.1}, {}),
    ],
)
def test_optimizers_of_torch_step_in_one_kernel_on_a_gpu_unless_the_spec_says_otherwise(
    written: dict[str, Any], expected: dict[str, bool]
) -> None:
    part = trial_of(written).optimizer
    assert stepping._fused(part, [OnGPU(), OnGPU()]) == expected
    assert stepping._fused(part, [{"params": [OnGPU()], "foreach": True}]) == {}
    assert stepping._fused(part, [torch.ones(1)]) == {}
