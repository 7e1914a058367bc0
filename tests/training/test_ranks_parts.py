"""Several processes train whatever one does: own data and networks, texts, averages, certificates.

Everything that is recorded is that of one process, but for the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_cases import assert_alike, ending, ranks_of_starts, train_alone, train_together
from training_cases import ADAM, SGD, VAE, StopAt, trial_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.trained_network import trained_network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="torch was built without gloo",
    ),
]

ULTIMATE = 1e-11
TEXT = "".join(f"{number} and {number + 1} make {2 * number + 1}\n" for number in range(60))
OWN = {"name": "own_ranked_parts.py:Drawing"}
SPHERE = {"name": "sphere", "points": 21, "dimension": 4, "radius": 2.0, "batch_size": "full"}
TOKENS = {"name": "tokens", "path": "sums.txt", "window": 16, "batch_size": 13}
PICTURES = {"channels": 3, "size": 16, "train": 28, "test": 7, "batch_size": 12}

PARTS: dict[str, dict[str, Any]] = {
    "own network": {
        "model": OWN,
        "data": {"batch_size": 7, "train": 50},
        "optimizer": {**ADAM, "clip_grad_norm": 0.2},
        "ema": 0.9,
    },
    "pictures": {
        "model": "resnet18",
        "data": {**PICTURES, "augment": ["random_crop", "flip"]},
        "optimizer": {"name": "sgd", "lr": 1e-3},
        "epochs": 1,
    },
    "accumulated": {
        "data": {"train": 97, "test": 33},
        "accumulate": 3,
        "epochs": 9,
        "early_stopping": {"patience": 1, "metric": "test/loss"},
    },
    "averaged": {
        "model": {"name": "own_ranked_parts.py:Drawing", "unused": False},
        "optimizer": {"name": "own_optimizers.py:ScheduleFree", "lr": 0.1},
        "log_every": 3,
    },
    "autoencoder": {**VAE, "optimizer": ADAM},
    "certificate": {
        "model": {"name": "wide_mlp", "width": 32, "depth": 2, "activation": "tanh"},
        "only": SPHERE,
        "task": {"name": "classify", "loss": "squared", "reduction": "sum"},
        "certificate": {"every": 2},
        "optimizer": {"name": "delta_gclip", "lr": "auto", "gamma": 0.3, "delta": 0.05},
        "epochs": 8,
    },
    "fetched": {"model": "mlp", "only": {"name": "own_ranked_parts.py:points", "batch_size": 32}},
    "drawn": {
        "model": "mlp",
        "only": {"name": "own_ranked_parts.py:points", "noise": 0.1, "batch_size": 32},
    },
    "language": {
        "model": {"name": "gpt", "layers": 1, "heads": 2, "width": 8, "dropout": 0.1},
        "only": {**TOKENS, "tokenizer": "characters", "splits": {"validation": 0.1, "test": 0.1}},
        "task": "language_model",
        "optimizer": ADAM,
    },
    "noisy weights": {"model": {"name": "own_ranked_parts.py:Looking", "kind": "noise"}},
    "layer left out": {"model": {"name": "own_ranked_parts.py:Looking", "kind": "layer"}},
    "fast": {"determinism": "fast"},
}


def made(name: str, **more: Any) -> Trial:
    settings = {"precision": "fp64", "epochs": 2, "log_every": 1, **PARTS[name], **more}
    optimizer, data = settings.pop("optimizer", SGD), settings.pop("only", None)
    label = name.replace(" ", "-")
    if data is None:
        return trial_of(optimizer, label=label, **settings)
    written = {"model": "mlp", **settings, "data": data, "optimizers": {label: optimizer}}
    folder = CodeFolder(Path(__file__).parent)
    return make_trial("tiny", Experiment.model_validate(written, context=folder), label, 0)


@pytest.fixture(scope="module")
def trials() -> Sequence[Trial]:
    return [made(name) for name in PARTS]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "sums.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, trials: Sequence[Trial], data_dir: Path
) -> Path:
    """The runs of one process."""
    runs = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_alone(trials, runs, data_dir)
    torch.set_num_threads(threads)
    return runs


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def together(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    trials: Sequence[Trial],
    data_dir: Path,
) -> Path:
    """The runs of three processes."""
    runs = tmp_path_factory.mktemp(str(request.param))
    train_together(trials, runs, kind=request.param, count=3, data_dir=data_dir)
    return runs


@pytest.mark.parametrize("name", PARTS)
def test_three_processes_record_what_one_does(name: str, together: Path, alone: Path) -> None:
    trial = made(name)
    assert_alike(trial, together, alone, ULTIMATE)
    assert ending(trial, together)["status"] == "finished"


def test_the_network_that_three_processes_have_trained_is_that_of_one(
    together: Path, alone: Path, data_dir: Path
) -> None:
    trial = made("language")
    found, expected = (
        dict(trained_network(RunFolder.of(runs, trial), data_dir).state_dict())
        for runs in (together, alone)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["own network", "averaged", "language"])
@pytest.mark.parametrize(
    ("before", "after"), [(("ddp", 2), ("fsdp", 3)), (("fsdp", 3), ("ddp", 2))]
)
def test_another_number_of_processes_goes_on_with_the_same_samples_and_losses(
    name: str,
    before: tuple[str, int],
    after: tuple[str, int],
    tmp_path: Path,
    alone: Path,
    data_dir: Path,
) -> None:
    """In the middle of a pass, and in the end by one process that has never heard of the others."""
    trial = made(name)
    for (kind, count), steps in ((before, 2), (after, 3)):
        train_together(
            [trial], tmp_path, kind=kind, count=count, data_dir=data_dir,
            stop=partial(StopAt, steps),
        )  # fmt: skip
    assert [each["count"] for each in ranks_of_starts(trial, tmp_path)] == [before[1], after[1]]
    train_alone([trial], tmp_path, data_dir)
    assert ranks_of_starts(trial, tmp_path)[2] is None
    assert_alike(trial, tmp_path, alone, ULTIMATE)


@pytest.mark.parametrize("name", ["own network", "language"])  # not all weights are used, and all
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_same_number_of_processes_goes_on_with_the_same_bits(
    kind: str, name: str, tmp_path: Path, data_dir: Path
) -> None:
    """Three, for the sum of two numbers has no order."""
    trial = made(name, precision="fp32")
    train_together([trial], tmp_path / "whole", kind=kind, count=3, data_dir=data_dir)
    for steps in (2, 5, 99):
        train_together(
            [trial], tmp_path / "pieces", kind=kind, count=3, data_dir=data_dir,
            stop=partial(StopAt, steps),
        )  # fmt: skip
    assert_alike(trial, tmp_path / "pieces", tmp_path / "whole", 0.0)
