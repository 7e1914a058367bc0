"""The plan of a protocol: written once, read without the spec, and kept."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuning_cases import SPACE, diverge, experiment_of, tuning_of

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.tuning.lock import FILE, fixed_plan, hash_of, lock_file, read_lock
from deltagclip_cli.tuning.studies import Tuning

# A switch that is on may be drawn to be off, a schedule may be drawn, and so may lists.
ODD = {
    **SPACE,
    "sgd": {"nesterov": {"choice": [True, False]}, "lr": {"integer": [1, 3]}},
    "adam": {
        "schedule": {"choice": [{"name": "cosine"}, None]},
        "betas": {"choice": [[0.9, 0.99], [0.8, 0.9]]},
    },
}


def begin(runs: Path) -> None:
    """Fix a plan, and begin the first of its trials."""
    _, tuning = fixed_plan(tuning_of(), runs)
    diverge(runs, tuning.drawn_trials[:1])


def test_there_is_no_plan_before_one_is_made(tmp_path: Path) -> None:
    assert read_lock(tmp_path, "tiny") is None


@pytest.mark.parametrize("space", [SPACE, ODD], ids=["numbers", "switches, schedules, lists"])
def test_the_trials_of_the_lock_are_those_of_the_spec(tmp_path: Path, space: Any) -> None:
    planned = tuning_of(space, studies=2, draws=8, unequal="one has no space")
    lock, tuning = fixed_plan(planned, tmp_path)
    read = lock.tuning
    assert [each.words for each in read.draws] == [each.words for each in planned.draws]
    assert len(read.draws) == 2 * (8 + 8 + 1)
    for study in (0, 1):
        assert read.search_seeds(study) == planned.search_seeds(study)
        assert read.fresh_seeds(study) == planned.fresh_seeds(study)
    for draw in read.draws:
        here, there, spec = (
            [trial.folder for trial in each.trials(draw, [0, 7])]
            for each in (tuning, read, planned)
        )
        assert here == there == spec
    assert (read.labels, read.fixed) == (["sgd", "adam", "plain"], {"plain"})


def test_the_lock_of_a_plan_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    first, _ = fixed_plan(tuning_of(), tmp_path / "one")
    other, _ = fixed_plan(tuning_of(), tmp_path / "other")
    changed, _ = fixed_plan(tuning_of(draws=5), tmp_path / "changed")
    assert first.hash == other.hash != changed.hash


def test_a_plan_is_written_once(tmp_path: Path) -> None:
    fixed_plan(tuning_of(), tmp_path)
    before = lock_file(tmp_path, "tiny").read_bytes()
    fixed_plan(tuning_of(), tmp_path)
    assert lock_file(tmp_path, "tiny").read_bytes() == before
    assert [each.name for each in (tmp_path / "tiny").iterdir() if each.name[0] != "."] == [FILE]


def test_what_is_compared_is_planned(tmp_path: Path) -> None:
    each, _ = fixed_plan(tuning_of(), tmp_path / "one")
    assert each.comparisons == [("sgd", "adam"), ("sgd", "plain"), ("adam", "plain")]
    based, _ = fixed_plan(tuning_of(baseline="adam"), tmp_path / "other")
    assert based.comparisons == [("adam", "sgd"), ("adam", "plain")]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"protocol": {"draws": 5}}, "protocol.draws (4 then, 5 now)"),
        ({"protocol": {"seeds": [4]}}, "protocol.seeds ([0, 1] then, [4] now)"),
        ({"epochs": 3}, "experiment.epochs (2 then, 3 now)"),
        ({"model": {"hidden": [9]}}, "experiment.model.hidden ([8] then, [9] now)"),
    ],
    ids=["draws", "seeds", "epochs", "model"],
)
def test_a_spec_that_fits_no_more_is_refused_with_what_changed(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    begin(tmp_path)
    experiment = experiment_of(**change.pop("protocol", {}))
    for section, value in change.items():
        other = value
        if isinstance(value, dict):
            other = getattr(experiment, section).varied(value)
        experiment = experiment.model_copy(update={section: other})
    with pytest.raises(RunFolderError) as caught:
        fixed_plan(Tuning.of("tiny", experiment), tmp_path)
    assert said in str(caught.value)
    assert "undo the change" in str(caught.value)


def test_a_space_that_changed_is_told_by_its_ends(tmp_path: Path) -> None:
    begin(tmp_path)
    space = {**SPACE, "adam": {"lr": {"log_uniform": [1e-4, 1]}}}
    with pytest.raises(RunFolderError, match=re.escape("search.space.adam.lr.log_uniform")):
        fixed_plan(tuning_of(space, unequal="one has nothing to tune"), tmp_path)


def test_how_trials_are_run_may_change(tmp_path: Path) -> None:
    begin(tmp_path)
    experiment = experiment_of().model_copy(update={"title": "Another", "log_every": 5})
    _, tuning = fixed_plan(Tuning.of("tiny", experiment), tmp_path)
    assert tuning.trials(tuning.draws[0], [0])[0].log_every == 5


def test_the_draws_of_the_lock_count_whatever_is_drawn_now(tmp_path: Path) -> None:
    begin(tmp_path)
    spec = tuning_of()
    first, *rest = spec.draws
    other = spec.with_draws([replace(first, options={"lr": 0.5}), *rest])
    lock, tuning = fixed_plan(other, tmp_path)
    assert tuning.draws == lock.tuning.draws
    assert [each.words for each in tuning.draws] == [each.words for each in spec.draws]


def test_a_plan_of_which_nothing_was_begun_gives_way_to_another(tmp_path: Path) -> None:
    fixed_plan(tuning_of(), tmp_path)
    lock, _ = fixed_plan(tuning_of(draws=5), tmp_path)
    assert lock.plain["protocol"]["draws"] == 5
    with pytest.raises(RunFolderError, match=r"protocol.draws \(5 then, 4 now\)"):
        fixed_plan(tuning_of(), tmp_path, is_begun=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"draws": 4', '"draws": 5'),
        lambda text: text.replace('"lr": 0.', '"lr": 1.', 1),
        lambda text: text[:-20],
        lambda text: "[1, 2]",
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"version": 1', '"version": 2'),
    ],
    ids=[
        "a number",
        "a digit of a draw",
        "cut off",
        "a list",
        "empty",
        "too deep",
        "a later version",
    ],
)
def test_a_lock_that_was_changed_is_refused(tmp_path: Path, damage: Any) -> None:
    fixed_plan(tuning_of(), tmp_path)
    path = lock_file(tmp_path, "tiny")
    path.write_text(damage(path.read_text()))
    with pytest.raises(RunFolderError, match="not the plan of a protocol"):
        read_lock(tmp_path, "tiny")


def test_a_lock_with_a_right_hash_and_wrong_content_is_refused(tmp_path: Path) -> None:
    fixed_plan(tuning_of(), tmp_path)
    path = lock_file(tmp_path, "tiny")
    plain = json.loads(path.read_text())
    del plain["protocol"]["metric"]
    path.write_text(json.dumps({**plain, "hash": hash_of(plain)}))
    with pytest.raises(RunFolderError, match="it is damaged"):
        read_lock(tmp_path, "tiny")
