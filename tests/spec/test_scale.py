"""Scales: the sizes of one setting, at each of which all optimizers are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_spec import TINY, faults_of_text, trials_of

from deltagclip_cli.spec.trial import Trial, read_trial

SCALED = f"{TINY}    scale: {{data.train: [8, 16, 32]}}\n"


def fault(tmp_path: Path, scale: str, more: str = "") -> str:
    (found,) = faults_of_text(tmp_path, f"{TINY}    scale: {scale}\n{more}")
    return found


def test_every_optimizer_is_trained_at_every_scale(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, text=SCALED)
    sizes = [(each.label, each.data.options["train"]) for each in trials]
    assert sizes == [(label, n) for label in ("sgd", "delta-gclip") for n in (8, 16, 32)]
    assert {each.scale for each in trials} == {"data.train"}


def test_a_scale_is_combined_with_a_grid(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, text=f"{SCALED}    grid: {{sgd: {{lr: [0.1, 0.2]}}}}\n")
    assert len(trials) == 3 * 2 + 3


def test_a_trial_says_that_it_is_one_of_several_scales_and_is_no_other_for_it(
    tmp_path: Path,
) -> None:
    scaled = trials_of(tmp_path, text=SCALED)[0]
    plain = trials_of(tmp_path)[0]
    assert scaled.identity == plain.identity
    written: dict[str, Any] = scaled.model_dump(mode="json")
    assert written["scale"] == "data.train" and "scale" not in plain.model_dump()
    file = tmp_path / "trial.yaml"
    file.write_text(str(written).replace("None", "null").replace("True", "true"))
    assert isinstance(found := read_trial(file), Trial) and found.scale == "data.train"


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ("[8, 16]", "'scale' must have the sizes of one setting."),
        ("{epochs: [1, 2], data.train: [8, 16]}", "'scale' must have the sizes of one setting."),
        ("{lr: [0.1, 1]}", "'lr' is no setting of the experiment, which grows for all optimizers."),
        ("{epochs: 3}", "'epochs' must be a list of numbers, the smallest first."),
        ("{epochs: [3]}", "'epochs' must be a list of numbers, the smallest first."),
        ("{epochs: [3, 2]}", "'epochs' must be a list of numbers, the smallest first."),
        ("{epochs: [yes, no]}", "'epochs' must be a list of numbers, the smallest first."),
        ("{seeds: [1, 2]}", "a grid cannot vary 'seeds'."),
        ("{data.tarin: [8, 16]}", "unknown option 'tarin'"),
        ("{epochs: [0, 2]}", "must be"),
    ],
)
def test_what_is_no_scale_is_refused_at_its_place(tmp_path: Path, scale: str, said: str) -> None:
    told = fault(tmp_path, scale)
    assert said in told and "tiny" in told


def test_what_a_grid_varies_is_no_scale_as_well(tmp_path: Path) -> None:
    told = fault(tmp_path, "{epochs: [1, 2]}", "    grid: {epochs: [3, 4]}\n")
    assert "'epochs' is varied twice." in told


def test_a_search_is_at_one_scale(tmp_path: Path) -> None:
    search = "    search: {metric: test/loss, space: {sgd: {lr: {uniform: [0.1, 1]}}}}\n"
    told = fault(tmp_path, "{epochs: [1, 2]}", search)
    assert "a search finds settings at one scale, and there are several." in told
