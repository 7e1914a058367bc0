"""Members of a stack: each as if it were alone there, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    VAE,
    assert_same_numbers,
    train_in_pieces,
    trial_of,
)

from deltagclip_cli.core import ExitCode
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.process import StopRequest
from deltagclip_cli.training.stack import run_stack

Give = Callable[[RunFolder], bool]


def never(folder: RunFolder) -> bool:
    return False


def stack_of(places: int, *optimizers: dict[str, Any], **settings: Any) -> list[Trial]:
    """A trial of each optimizer, with seeds from 0."""
    return [
        trial_of(
            optimizer, seed=seed, label=f"{optimizer['name']}-{seed}", stack=places, **settings
        )
        for seed, optimizer in enumerate(optimizers)
    ]


def together(
    trials: Sequence[Trial], runs: Path, give_up: Give = never
) -> dict[RunFolder, ExitCode]:
    """Run trials as members of one stack, in folders that are made for them."""
    folders = [RunFolder.of(runs, trial) for trial in trials]
    for folder, trial in zip(folders, trials, strict=True):
        if not folder.trial_file.exists():
            with hold(folder, make=True) as held:
                held.keep(trial)
    return run_stack(
        folders, data_dir=Path("nowhere"), device="cpu", stop=StopRequest(), give_up=give_up
    )


CASES: dict[str, tuple[Sequence[dict[str, Any]], dict[str, Any]]] = {
    "optimizers": ((DELTA_GCLIP, ADAM, {**DELTA_GCLIP, "gamma": 0.3}), {}),
    "odd sizes": (
        (DELTA_GCLIP, MOMENTUM, SGD),
        {"model": {"name": "mlp", "hidden": [13], "activation": "gelu"}, "data": {"size": 7}},
    ),
    "kan": ((DELTA_GCLIP, ADAM), {"model": {"name": "kan", "hidden": [8]}}),
    "vae": (({**DELTA_GCLIP, "lr": 1e-3}, ADAM), VAE),
    "averages": (
        (
            {**ADAM, "clip_grad_norm": 0.5, "schedule": {"name": "cosine", "unit": "step"}},
            {**DELTA_GCLIP, "groups": {"last": {"match": ["3.*"], "lr": 0.1}}},
        ),
        {"ema": 0.9, "accumulate": 2, "evaluate_every": 3, "log_every": 1},
    ),
    "half precision": ((DELTA_GCLIP, SGD), {"precision": "bf16"}),
    "closures": (({"name": "lbfgs", "lr": 0.1}, SGD), {"epochs": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_member_has_the_same_bits_alone_and_in_pieces(tmp_path: Path, case: str) -> None:
    optimizers, settings = CASES[case]
    trials = stack_of(4, *optimizers, **settings)
    assert set(together(trials, tmp_path / "whole").values()) == {ExitCode.OK}
    for trial in trials:
        assert train_in_pieces(trial, tmp_path / "pieces", 3) > 1
        here, whole = (RunFolder.of(tmp_path / each, trial) for each in ("pieces", "whole"))
        assert_same_numbers(here, whole)
