"""``deltagclip sweep --search``: what it refuses, what it says, and a search in this process."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.core import claimed
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.launch.supervisor import Queue
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import make_trial

SPEC = """\
experiments:
  tiny: &tiny
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 16, size: 4, train: 32, test: 16}
    epochs: 2
    seeds: [0, 1]
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      dgc: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
      adam: {name: adam}
    search:
      metric: test/loss
      space:
        dgc:
          lr: {log_uniform: [1e-5, 1e-3]}
          delta: {choice: [1e-3, 0.1]}
        adam: {betas: {choice: [[0.9, 0.99], [0.8, 0.9]]}}
  plain: {<<: *tiny, search: null}
"""

TPE = ("--set", "search.sampler=tpe")

Search = Callable[..., Result]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """``deltagclip sweep`` in a folder that holds the spec and nothing else."""
    (tmp_path / "experiments.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> Result:
        more = ["--select-on-test"] if "--search" in words else []
        done = CliRunner().invoke(app, ["sweep", *words, *more], env={"COLUMNS": "100"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return invoke


def test_without_a_search_in_the_spec_the_error_shows_one_that_is_valid(
    sweep: Search, tmp_path: Path
) -> None:
    done = sweep("plain", "--search", "3")
    assert done.exit_code == 2
    assert "plain has no 'search:'" in done.stderr
    example = yaml.safe_load(done.stderr[done.stderr.index("    plain:") :])
    document = yaml.safe_load(SPEC)
    document["experiments"]["plain"]["search"] = example["plain"]["search"]
    document["experiments"]["plain"]["data"]["validation"] = 0.1
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(document))
    assert sweep("plain", "--search", "3", "--dry-run").exit_code == 0


def test_experiments_that_were_not_named_are_searched_if_they_say_how(sweep: Search) -> None:
    done = sweep("--search", "3", "--dry-run", "--json")
    searches = json.loads(done.stdout)["searches"]
    assert [(each["experiment"], each["optimizer"]) for each in searches] == [
        ("tiny", "dgc"),
        ("tiny", "adam"),
    ]


def test_an_optimizer_without_a_space_is_an_error_that_names_those_with_one(sweep: Search) -> None:
    done = sweep("tiny", "--search", "3", "--optimizer", "sgd")
    assert done.exit_code == 2
    assert "--optimizer sgd: no search here has a space for it" in done.stderr
    assert "optimizers with a space: dgc, adam" in done.stderr


def test_a_search_by_the_test_set_is_refused_unless_it_is_asked_for(sweep: Search) -> None:
    done = CliRunner().invoke(app, ["sweep", "tiny", "--search", "3", "--dry-run"])
    assert done.exit_code == 2
    assert "--search: tiny: test/loss would choose on the test set" in done.stderr
    assert "--select-on-test" in done.stderr
    assert sweep("tiny", "--search", "3", "--dry-run").exit_code == 0
    alone = CliRunner().invoke(app, ["sweep", "tiny", "--select-on-test"])
    assert "--select-on-test: without --search nothing is chosen" in alone.stderr


@pytest.mark.parametrize("option", ["--force", "--retry-failed"])
@pytest.mark.parametrize("key", ["sampler=tpe", "pruner=halving"])
def test_a_search_in_which_others_hang_on_a_trial_runs_none_again(
    sweep: Search, option: str, key: str
) -> None:
    done = sweep("tiny", "--search", "3", option, "--set", f"search.{key}")
    assert done.exit_code == 2
    assert f"{option}: such a search runs no trial twice" in done.stderr


def test_nobody_can_vouch_for_an_edit_in_a_search_with_optuna(sweep: Search) -> None:
    done = sweep("tiny", "--search", "3", "--same-code", *TPE)
    assert done.exit_code == 2
    assert "--same-code: a search with sampler: tpe goes on with the code" in done.stderr


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_without_optuna_the_error_says_how_to_install_it_and_what_does_without(
    sweep: Search, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = sweep("tiny", "--search", "3", *more, *TPE)
    assert done.exit_code == 2
    assert "pip install 'deltagclip_cli[search]', or leave sampler out" in done.stderr
    assert not (tmp_path / "runs").exists()
    assert sweep("tiny", "--search", "3", "--dry-run").exit_code == 0


def test_a_second_search_with_optuna_is_refused_at_once(sweep: Search, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    with claimed(tmp_path / "runs" / "tiny" / ".search.lock", "held"):
        done = sweep("tiny", "--search", "3", *TPE)
        assert done.exit_code == 2
        assert "another process searches this experiment" in done.stderr
        assert sweep("tiny", "--search", "3", "--dry-run", *TPE).exit_code == 0


def test_experiments_that_are_searched_in_different_ways_need_a_command_each(
    sweep: Search, tmp_path: Path
) -> None:
    document = yaml.safe_load(SPEC)
    document["experiments"]["other"] = document["experiments"]["tiny"] | {
        "search": document["experiments"]["tiny"]["search"] | {"sampler": "tpe"}
    }
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(document))
    done = sweep("tiny", "other", "--search", "3")
    assert done.exit_code == 2
    assert "sampler: tpe, as other says" in done.stderr
    assert "Search these experiments with a command each" in done.stderr


def test_a_journal_of_an_earlier_search_asks_whether_it_is_to_go_on(
    sweep: Search, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "search.journal").touch()
    for more in ((), ("--dry-run",)):
        done = sweep("tiny", "--search", "3", *more)
        assert done.exit_code == 2
        assert "write in tiny: search: {sampler: tpe, pruner: median}" in done.stderr
        assert "begin anew beside it, search: {sampler: sobol}" in done.stderr
    anew = sweep("tiny", "--search", "3", "--dry-run", "--set", "search.sampler=sobol")
    assert anew.exit_code == 0


def test_a_search_stacks_its_trials_but_with_optuna_each_has_a_stack_to_itself(
    sweep: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    launched: list[Queue] = []
    monkeypatch.setattr(
        StayingLauncher, "launch", lambda self, queue, *words, **more: launched.append(queue)
    )
    stack = "--optimizer", "dgc", "--set", "stack=4"
    plain, tpe = (sweep("tiny", "--search", "2", *stack, *more).output for more in ((), TPE))
    assert "4 to run (4 in 1 stack)" in plain
    assert "each trial is alone in its stack" in tpe
    assert [len(queue.take()) for queue in launched] == [4, 1]


def test_a_dry_run_shows_the_spaces_and_makes_nothing(sweep: Search, tmp_path: Path) -> None:
    done = sweep("tiny", "--search", "3", "--dry-run")
    assert done.exit_code == 0
    for words in ("lowest test/loss", "lr: log_uniform [1e-05, 0.001]", "delta: choice [0.001"):
        assert words in done.stdout
    assert "10 trials: 10 new." in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_search_in_this_process_ends_with_the_best_and_how_to_train_it(
    sweep: Search, tmp_path: Path
) -> None:
    words = ("tiny", "--search", "2", "--optimizer", "dgc", "--launcher", "inline")
    done = sweep(*words)
    assert done.exit_code == 0, done.output
    assert "tiny: search for the lowest test/loss" in done.stdout
    assert "Values that chose a setting flatter it" in done.stdout
    assert "dgc: the best 2 of 2" in done.stdout

    (searched,) = json.loads(sweep(*words, "--json").stdout)["searches"]
    best = searched["best"]
    losses = [trial["last"]["test/loss"] for trial in best["trials"]]
    assert best["mean"] == pytest.approx(sum(losses) / 2, rel=1e-12)
    assert best["standard_error"] == pytest.approx(abs(losses[0] - losses[1]) / 2, rel=1e-9)
    assert best["n"] == 2
    assert searched["counts"]["finished"] == 2
    assert len(searched["tried"]) == 2
    for trial in best["trials"]:
        assert json.loads((tmp_path / trial["folder"] / "result.json").read_text())

    (line,) = re.findall(r"deltagclip (train .*)", done.stdout)
    assert _trained_by(shlex.split(line), tmp_path) == RunFolder(Path(best["trials"][0]["folder"]))

    again = sweep(*words, "--dry-run", "--json")
    assert len(json.loads(again.stdout)["searches"][0]["tried"]) == 2


def _trained_by(words: list[str], folder: Path) -> RunFolder:
    sets = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    name, label = words[1], words[3]
    experiment = load_spec(folder / "experiments.yaml", [name], sets).experiments[name]
    return RunFolder.of(Path("runs"), make_trial(name, experiment, label, experiment.seeds[0]))


def test_the_command_that_trains_the_best_can_name_a_list(sweep: Search, tmp_path: Path) -> None:
    words = ("tiny", "--search", "1", "--optimizer", "adam", "--seed", "0")
    done = sweep(*words, "--launcher", "inline", "--set", "epochs=1")
    assert done.exit_code == 0, done.output
    (line,) = re.findall(r"deltagclip (train .*)", done.stdout)
    folder = _trained_by([*shlex.split(line), "--set", "epochs=1"], tmp_path)
    assert folder.state == "finished"


@pytest.mark.parametrize("more", [(), TPE], ids=["draws", "tpe"])
def test_pruning_works_where_nothing_but_this_process_runs(
    sweep: Search, tmp_path: Path, more: tuple[str, ...]
) -> None:
    if more:
        pytest.importorskip("optuna")
    document: dict[str, Any] = yaml.safe_load(SPEC)
    tiny = document["experiments"]["tiny"]
    tiny["search"] |= {"pruner": "halving", "space": {"dgc": {"lr": {"log_uniform": [1e-9, 1]}}}}
    tiny["epochs"] = 6
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(document))
    done = sweep("tiny", "--search", "6", "--launcher", "inline", "--json", *more)
    (searched,) = json.loads(done.stdout)["searches"]
    pruned = [each for each in searched["tried"] if each["outcome"] == "pruned"]
    assert pruned
    for each in pruned:
        states = [trial["state"] for trial in each["trials"]]
        assert "pruned" in states
        assert states[-1] in ("new", "pruned")
        folder = RunFolder(tmp_path / each["trials"][states.index("pruned")]["folder"])
        assert "not among the best" in folder.reason
        assert len(list(folder.metrics())) < 6
    if not more:
        assert searched["counts"] == {"finished": 2, "pruned": 4} | dict.fromkeys(
            ("diverged", "failed", "not finished"), 0
        )


TASK = """
from torch.nn.functional import cross_entropy

def entropy(model, inputs, targets):
    return cross_entropy(model(inputs), targets)
"""


@pytest.mark.parametrize("pruner", ["none", "halving", "median"])
def test_a_metric_that_is_not_measured_ends_the_search_and_is_no_fault_of_the_trial(
    sweep: Search, tmp_path: Path, pruner: str
) -> None:
    document: dict[str, Any] = yaml.safe_load(SPEC)
    tiny = document["experiments"]["tiny"]
    tiny["task"] = "task.py:entropy"  # of a task of one's own nobody knows the metrics beforehand
    (tmp_path / "task.py").write_text(TASK)
    tiny["search"] |= {"metric": "test/accuracy", "pruner": pruner}
    if pruner == "median":
        pytest.importorskip("optuna")
        tiny["search"] |= {"sampler": "tpe"}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(document))
    done = sweep("tiny", "--search", "3", "--optimizer", "dgc", "--launcher", "inline")
    assert done.exit_code == 2, done.output
    assert "search.metric: test/accuracy is not measured by these trials" in done.stderr
    assert re.search("metrics: train/loss.*test/loss", done.stderr)
    (path,) = tmp_path.glob("runs/tiny/dgc/*")
    assert RunFolder(path).state != "failed"
