"""Tables that are trained on: stopped and continued bit for bit, refused when they change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from training_cases import DELTA_GCLIP, StopAt, assert_same_numbers, epochs, train, train_in_pieces

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.trainer import Ending

pytest.importorskip("pyarrow", reason="the extra 'csv' is not installed")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    rows = "".join(
        f"{n % 7},{n % 3},{'ab'[n % 2]},{100 * (n % 7) + 10 * (n % 3)}\n" for n in range(60)
    )
    (tmp_path / "t.csv").write_text(f"x,y,word,price\n{rows}")
    return tmp_path


def trial_of(**settings: Any) -> Trial:
    data = {"name": "csv", "path": "t.csv", "target": "price", "categories": ["word"]}
    written = {
        "model": {"name": "mlp", "hidden": [8]},
        "data": {**data, "splits": {"validation": 0.2, "test": 0.2}, "batch_size": 8},
        "task": "regress",
        "epochs": 3,
        **settings,
        "optimizers": {"tested": DELTA_GCLIP},
    }
    return make_trial("table", Experiment.model_validate(written), "tested", 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_regression_goes_on_with_the_same_bits(data_dir: Path, precision: str) -> None:
    trial = trial_of(precision=precision)
    train(trial, data_dir / "whole", data_dir=data_dir)
    train_in_pieces(trial, data_dir / "pieces", 2, data_dir=data_dir)
    whole, pieces = (RunFolder.of(data_dir / name, trial) for name in ("whole", "pieces"))
    assert_same_numbers(pieces, whole)
    for split in ("train", "test", "validation"):
        losses, errors = (epochs(whole, f"{split}/{name}") for name in ("loss", "rmse"))
        scale = errors[0] / math.sqrt(losses[0])
        assert 150 < scale < 250  # the standard deviation of the prices
        assert errors == pytest.approx([scale * math.sqrt(loss) for loss in losses])
        assert epochs(whole, f"{split}/r2")[-1] > epochs(whole, f"{split}/r2")[0]
        assert epochs(whole, f"{split}/mae")[-1] < errors[-1]


def test_a_table_that_changes_is_noticed(data_dir: Path) -> None:
    trial = trial_of()
    assert train(trial, data_dir / "runs", stop=StopAt(1), data_dir=data_dir) is Ending.STOPPED
    table = data_dir / "t.csv"
    table.write_text(table.read_text().replace("6,0,a,600", "6,0,a,601"))
    with pytest.raises(RunFolderError, match="the data have changed"):
        train(trial, data_dir / "runs", data_dir=data_dir)
