"""What a search may try, and by what it judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_spec import TINY, faults_of_text, write_spec

from deltagclip_cli.spec.axes import Choice, Uniform
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.search_settings import Search

SPACE = "space: {sgd: {lr: {log_uniform: [1e-2, 10]}, momentum: {choice: [0, 0.9]}}}"


def search(folder: Path, words: str) -> Search:
    text = f"{TINY}    search: {{{words}}}\n"
    found = load_spec(write_spec(folder, text)).experiments["tiny"].search
    assert found is not None
    return found


def test_the_smallest_search_has_these_defaults(tmp_path: Path) -> None:
    smallest = search(tmp_path, f"metric: test/accuracy, {SPACE}")
    assert (smallest.direction, smallest.seed) == ("maximize", 0)
    assert (smallest.sampler, smallest.pruner) == ("sobol", "none")
    space = {"lr": Uniform(0.01, 10.0, log=True), "momentum": Choice((0, 0.9))}
    assert smallest.space == {"sgd": space}


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("train/accuracy", "maximize"),
        ("test/accuracy", "maximize"),
        ("train/loss", "minimize"),
        ("test/loss", "minimize"),
    ],
)
def test_more_accuracy_is_better_and_less_loss_unless_the_other_is_written(
    tmp_path: Path, metric: str, direction: str
) -> None:
    assert search(tmp_path, f"metric: {metric}, {SPACE}").direction == direction
    written = search(tmp_path, f"metric: {metric}, direction: minimize, {SPACE}")
    assert written.direction == "minimize"


def test_null_is_no_search(tmp_path: Path) -> None:
    path = write_spec(tmp_path, f"{TINY}    search: {{metric: no}}\n")
    assert load_spec(path, sets=["search="]).experiments["tiny"].search is None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (SPACE, "tiny › search: 'metric' is missing."),
        ("metric: test/loss", "tiny › search: 'space' is missing."),
        ("metric: test/loss, space: {}", "tiny › search: 'space' must have at least 1 item"),
        (
            "metric: test/loss, space: {sgd: {}}",
            "› search › space: 'sgd' must have at least 1 item",
        ),
        (f"metric: loss, {SPACE}", "tiny › search: 'metric' must be 'train/loss', 'train/acc"),
        (f"metric: test/loss, direction: up, {SPACE}", "'direction' must be 'minimize' or 'max"),
        (f"metric: test/loss, pruner: best, {SPACE}", "'pruner' must be 'median', 'halving' or"),
        (f"metric: test/loss, sampler: grid, {SPACE}", "'sampler' must be 'sobol', 'random' or"),
        (
            f"metric: test/loss, pruner: median, {SPACE}",
            "pruner: median compares with what has ended before, as only sampler: tpe does.\n"
            "  write sampler: tpe, too, or pruner: halving or none",
        ),
        (f"metric: test/loss, seed: -1, {SPACE}", "'seed' must be greater than or equal to 0"),
        (f"metric: test/loss, trials: 9, {SPACE}", "tiny › search: unknown option 'trials'."),
    ],
)
def test_a_wrong_search_is_a_fault(tmp_path: Path, words: str, fault: str) -> None:
    (found,) = faults_of_text(tmp_path, f"{TINY}    search: {{{words}}}\n")
    assert fault in found


WRONG = """\
    search:
      metric: tst/loss
      space:
        sdg: {lr: {uniform: [0, 1]}}
        sgd:
          lr: {uniform: [0, 1]}
          lrr: {uniform: [0, 1]}
          name: {choice: [adam]}
          nesterov: {choice: [true, 3]}
          momentum: {unifrm: [0, 1]}
          weight_decay: {uniform: [-1, 1]}
"""
FAULTS = [
    "11:7: tiny › search: 'metric' must be 'train/loss', 'train/accuracy', 'test/loss' or "
    "'test/accuracy' (got the text 'tst/loss').",
    "13:9: tiny › search › space: there is no optimizer 'sdg' in this experiment.",
    "15:26: tiny › search › space › sgd › lr: value 1 of 'uniform' must be greater than 0 "
    "(got 0.0).",
    "16:11: tiny › search › space › sgd: unknown option 'lrr' for sgd.",
    "17:11: tiny › search › space › sgd: a name cannot be varied without its options.",
    "18:37: tiny › search › space › sgd › nesterov: value 2 of 'choice' must be a valid boolean "
    "(got 3).",
    "19:22: tiny › search › space › sgd › momentum: there is no distribution 'unifrm'.",
    "20:36: tiny › search › space › sgd › weight_decay: value 1 of 'uniform' must be greater than "
    "or equal to 0 (got -1.0).",
]


def test_every_fault_of_a_search_is_found_at_once_with_its_place(tmp_path: Path) -> None:
    found = [fault.partition("\n")[0] for fault in faults_of_text(tmp_path, TINY + WRONG)]
    assert sorted(found) == [f"spec.yaml:{fault}" for fault in FAULTS]


def test_a_whole_option_cannot_be_searched_among_fractions(tmp_path: Path) -> None:
    space = "space: {lbfgs: {max_iter: {uniform: [1, 4]}, history_size: {integer: [1, 4]}}}"
    text = f"{TINY}      lbfgs: {{name: lbfgs}}\n    search: {{metric: test/loss, {space}}}\n"
    faults = faults_of_text(tmp_path, text)
    assert len(faults) == 2
    assert all(
        "max_iter: value" in f and "of 'uniform' must be a valid integer" in f for f in faults
    )


@pytest.mark.parametrize("value", [3, [1], "words"])
def test_a_search_is_a_mapping(tmp_path: Path, value: Any) -> None:
    (fault,) = faults_of_text(tmp_path, f"{TINY}    search: {value}\n")
    assert fault.startswith("spec.yaml:10:5: tiny: 'search' must be")


def test_set_reaches_a_search(tmp_path: Path) -> None:
    path = write_spec(tmp_path, TINY)
    sets = ["search.metric=test/loss", "search.space.sgd.lr.log_uniform=[1, 2]"]
    found = load_spec(path, sets=sets).experiments["tiny"].search
    assert found is not None and found.space == {"sgd": {"lr": Uniform(1.0, 2.0, log=True)}}
    (fault,) = faults_of_text(tmp_path, TINY, sets[0], "search.space.sgd.lr.log_uniform=[0, 2]")
    assert fault.startswith("--set search.space.sgd.lr.log_uniform=[0, 2]: tiny › search › space")


OWN = """\
def data():
    ...

def fit(outputs, targets):
    return -(outputs - targets).abs()
"""
SUPERVISED = TINY.replace("{name: synthetic,", "{name: own.py:data,").replace(
    "size: 4, train: 8, test: 8", "evaluation_batch_size: 8"
) + (
    "    task: {name: supervised, loss: mse_loss, metrics: {mae: own.py:fit, fit: METRIC}}\n"
    "    search: {metric: NAME, space: {sgd: {lr: {uniform: [0.1, 1]}}}}\n"
)


@pytest.mark.parametrize(
    ("metric", "fit", "direction"),
    [
        ("validation/mae", "own.py:fit", "minimize"),
        ("test/loss", "own.py:fit", "minimize"),
        ("validation/fit", "{name: own.py:fit, better: higher}", "maximize"),
    ],
)
def test_metrics_of_ones_own_can_be_searched_by(
    tmp_path: Path, metric: str, fit: str, direction: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    text = SUPERVISED.replace("METRIC", fit).replace("NAME", metric)
    search = load_spec(write_spec(tmp_path, text)).experiments["tiny"].search
    assert search is not None and (search.metric, search.direction) == (metric, direction)


def test_a_metric_that_is_not_measured_or_of_which_nobody_knows_what_is_good_is_a_fault(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    text = SUPERVISED.replace("METRIC", "own.py:fit")
    (fault,) = faults_of_text(tmp_path, text.replace("NAME", "validation/fitt"))
    assert "'metric' must be 'train/loss', 'train/mae', 'train/fit', 'test/loss'" in fault
    (fault,) = faults_of_text(tmp_path, text.replace("NAME", "validation/fit"))
    assert "'direction' is missing." in fault


def test_a_task_of_ones_own_may_measure_anything(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def task(model, inputs, targets): ...\n")
    text = TINY + (
        "    task: own.py:task\n"
        "    search: {metric: test/error, space: {sgd: {lr: {uniform: [0.1, 1]}}}}\n"
    )
    search = load_spec(write_spec(tmp_path, text)).experiments["tiny"].search
    assert search is not None and search.direction == "minimize"
    (fault,) = faults_of_text(tmp_path, text.replace("test/error", "error"))
    assert "'metric' must be 'train/…', 'validation/…' or 'test/…' (got" in fault
