"""Optimizers, models and data sets of packages that know nothing of this one, named in a spec."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from deltagclip_cli.runs.folder import RunFolder

pytestmark = pytest.mark.slow

# What each takes of lr is near enough to train a small network in a few steps.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "schedule-free-adamw": {"name": "schedulefree:AdamWScheduleFree", "lr": 0.01},
    "schedule-free-sgd": {"name": "schedulefree:SGDScheduleFree", "lr": 0.5},
    "heavyball-adamw": {"name": "heavyball:AdamW", "lr": 0.01},
    "heavyball-soap": {"name": "uncompiled.py:soap", "lr": 0.01},
    "timm-lamb": {"name": "timm.optim:Lamb", "lr": 0.01},
    "timm-lion": {"name": "timm.optim:Lion", "lr": 3e-3},
    "prodigy": {"name": "prodigyopt:Prodigy"},
    "adafactor": {
        "name": "transformers:Adafactor",
        "lr": 0.01,
        "scale_parameter": False,
        "relative_step": False,
    },
    "adopt": {"name": "pytorch_optimizer:ADOPT", "lr": 0.01},
    "sam": {"name": "sharp.py:sam", "rho": 0.05},
}
PACKAGES = {"uncompiled": "heavyball", "sharp": "pytorch_optimizer"}  # of files of one's own

# The way that pytorch_optimizer's SAM is made: from the class of another optimizer.
SHARP = """
import torch
from pytorch_optimizer import SAM

def sam(params, lr: float = 0.1, rho: float = 0.05):
    return SAM(params, torch.optim.SGD, lr=lr, rho=rho)
"""

# Compiling its steps takes a minute.
UNCOMPILED = """
import heavyball

heavyball.utils.compile_mode = None

def soap(params, lr: float):
    return heavyball.SOAP(params, lr=lr)
"""
DATA = {"name": "synthetic", "batch_size": 16, "size": 8, "train": 96, "test": 32}


def package(optimizer: dict[str, Any]) -> str:
    """The top-level package that an optimizer is in."""
    first = str(optimizer["name"]).partition(":")[0].partition(".")[0]
    return PACKAGES.get(first, first)


def train(folder: Path, experiment: dict[str, Any], *words: str, **files: str) -> None:
    """Sweep an experiment called ``real`` in a folder with some files."""
    spec = {"experiments": {"real": {"model": "mlp", "epochs": 2, **experiment}}}
    (folder / "experiments.yaml").write_text(yaml.safe_dump(spec))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "deltagclip_cli", "sweep", "real", "--jobs", "1", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def records(folder: Path, label: str) -> list[dict[str, Any]]:
    """The metrics of each epoch of the only trial of an optimizer."""
    (run,) = (folder / "runs" / "real" / label).iterdir()
    assert RunFolder(run).result() is not None
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the optimizers of all packages that are installed have trained."""
    folder = tmp_path_factory.mktemp("optimized")
    there = {label: each for label, each in OPTIMIZERS.items() if find_spec(package(each))}
    train(
        folder, {"data": DATA, "optimizers": there, "epochs": 4}, sharp=SHARP, uncompiled=UNCOMPILED
    )
    return folder


@pytest.mark.parametrize("label", OPTIMIZERS)
def test_an_optimizer_of_a_package_is_named_and_trains(label: str, optimized: Path) -> None:
    pytest.importorskip(package(OPTIMIZERS[label]))
    first, *_, last = records(optimized, label)
    assert last["train/loss"] < first["train/loss"]
    assert math.isfinite(last["test/loss"])


@pytest.mark.parametrize(
    "model",
    [
        "timm:test_resnet",
        {
            "name": "timm:create_model",
            "model_name": "test_vit",
            "num_classes": "$classes",
            "in_chans": "$channels",
            "extra": {"img_size": 32},
        },
    ],
    ids=["by its short name", "by the package's own function"],
)
def test_a_model_of_timm_is_trained(model: Any, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    data = {**DATA, "size": 32, "classes": 7}
    train(tmp_path, {"model": model, "data": data, "optimizers": {"adam": "adam"}})
    assert math.isfinite(records(tmp_path, "adam")[-1]["test/accuracy"])


GPT = """
import torch
from torch.nn import functional

def gpt2(width: int = 16, vocabulary: int = 11):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_positions=12, n_embd=width, n_layer=1, n_head=2,
            bos_token_id=0, eos_token_id=0,
        )
    )

def counting(samples: int = 64, vocabulary: int = 11):
    start = torch.arange(samples).unsqueeze(1) * 7
    tokens = (start + torch.arange(12)) % vocabulary
    cut = samples * 3 // 4
    return (tokens[:cut], tokens[:cut, 1:]), (tokens[cut:], tokens[cut:, 1:])

def next_token(model, tokens, following):
    logits = model(input_ids=tokens).logits[:, :-1]
    losses = functional.cross_entropy(logits.transpose(1, 2), following, reduction="none")
    right = (logits.argmax(dim=2) == following).float()
    return losses.mean(dim=1), {"accuracy": right.mean(dim=1)}
"""


def test_a_gpt_of_transformers_is_trained_with_a_task_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    experiment = {
        "model": {"name": "gpt.py:gpt2", "width": 32},
        "data": {"name": "gpt.py:counting", "samples": 128, "batch_size": 16},
        "task": "gpt.py:next_token",
        "epochs": 6,
        "optimizers": {"adamw": {"name": "adamw", "lr": 0.01}},
    }
    train(tmp_path, experiment, gpt=GPT)
    first, *_, last = records(tmp_path, "adamw")
    assert last["train/loss"] < first["train/loss"]
    assert last["test/accuracy"] > first["test/accuracy"]


SENTENCES = """
import torch

def sentences(samples: int = 80):
    import datasets

    words = [[(3 * number + place) % 9 for place in range(1 + number % 5)]
             for number in range(samples)]
    labels = [len(each) % 2 for each in words]
    whole = datasets.Dataset.from_dict({"words": words, "label": labels})
    halves = whole.train_test_split(test_size=0.25, seed=0)
    return {"train": halves["train"], "test": halves["test"], "collate": batch, "classes": 2}

def batch(rows):
    counts = torch.zeros(len(rows), 9)
    for row, each in zip(counts, rows):
        row.index_add_(0, torch.as_tensor(each["words"]), torch.ones(len(each["words"])))
    return counts, torch.tensor([each["label"] for each in rows])
"""


def test_a_data_set_of_hugging_face_is_trained_on_with_the_same_bits_for_any_workers(
    tmp_path: Path,
) -> None:
    pytest.importorskip("datasets")
    numbers = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        experiment = {
            "model": {"name": "mlp", "hidden": [16]},
            "data": {"name": "texts.py:sentences", "batch_size": 12, "workers": workers},
            "epochs": 4,
            "optimizers": {"adam": {"name": "adam", "lr": 0.03}},
        }
        train(folder, experiment, texts=SENTENCES)
        numbers.append(
            [
                {key: value for key, value in record.items() if key.startswith(("train/", "test/"))}
                for record in records(folder, "adam")
            ]
        )
    first, *_, last = numbers[0]
    assert last["train/loss"] < first["train/loss"]
    assert numbers[0] == numbers[1]
