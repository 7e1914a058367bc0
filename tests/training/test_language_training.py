"""Language models: stopped and continued bit for bit, and their perplexity in every record."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from training_cases import DELTA_GCLIP, assert_same_numbers, epochs, train, train_in_pieces

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial

TEXT = "".join(f"{number} and {number + 1} make {2 * number + 1}\n" for number in range(60))
MODEL = {"name": "gpt", "layers": 1, "heads": 2, "width": 8}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "sums.txt").write_text(TEXT)
    return tmp_path


def trial_of(model: dict[str, Any] = MODEL, **settings: Any) -> Trial:
    data = {"name": "tokens", "path": "sums.txt", "window": 16, "batch_size": 16}
    written = {
        "model": model,
        "data": {**data, "tokenizer": "characters", "splits": {"validation": 0.1, "test": 0.1}},
        "task": "language_model",
        "epochs": 2,
        **settings,
        "optimizers": {"tested": DELTA_GCLIP},
    }
    folder = CodeFolder(Path(__file__).parent)
    return make_trial("language", Experiment.model_validate(written, context=folder), "tested", 0)


@pytest.mark.parametrize(
    "settings",
    [{"precision": "bf16"}, {"epochs": None, "steps": 7, "evaluate_every": 3, "accumulate": 2}],
)
def test_a_language_model_goes_on_with_the_same_bits(
    data_dir: Path, settings: dict[str, Any]
) -> None:
    trial = trial_of({**MODEL, "dropout": 0.1}, **settings)
    train(trial, data_dir / "whole", data_dir=data_dir)
    train_in_pieces(trial, data_dir / "pieces", 2, data_dir=data_dir)
    folders = (RunFolder.of(data_dir / name, trial) for name in ("whole", "pieces"))
    whole, pieces = folders
    assert_same_numbers(pieces, whole)
    for split in ("train", "test", "validation"):
        losses = epochs(whole, f"{split}/loss")
        assert epochs(whole, f"{split}/perplexity") == [*map(math.exp, losses)]
        assert losses[-1] < losses[0]


def test_a_model_of_ones_own_is_told_of_the_vocabulary_and_the_window(data_dir: Path) -> None:
    trial = trial_of({"name": "own_language_models.py:Bigram", "scale": "$window"})
    train(trial, data_dir / "runs", data_dir=data_dir)
    assert epochs(RunFolder.of(data_dir / "runs", trial), "test/loss")[1] < math.log(20)


def test_a_default_of_ones_own_stays_its_own(data_dir: Path) -> None:
    options = trial_of({"name": "own_language_models.py:Bigram"}).model.options
    assert options == {"scale": 1, "padding": 3}
