"""A trial that a Python program trains: as the command does, and without a trace in the process."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_spec import TINY, write_spec
from typer.testing import CliRunner

from deltagclip_cli import train
from deltagclip_cli.api.trained import Trained
from deltagclip_cli.commands.app import app
from deltagclip_cli.core import ClaimedError, SpecError, UsageError, claimed
from deltagclip_cli.runs.folder import RunFolder

SPEC: dict[str, Any] = yaml.safe_load(TINY.replace("1e-3", "0.001"))


class After:
    """Says yes once some steps are made, or does something then; a trial asks it after each."""

    def __init__(self, steps: int, action: Any = lambda: True) -> None:
        self.steps, self.action = steps, action

    def __call__(self) -> bool:
        self.steps -= 1
        return self.steps == 0 and bool(self.action())


def losses(trained: Trained) -> list[Any]:
    return [row["train/loss"] for row in trained.runs.metric_rows()]


@pytest.fixture
def whole(tmp_path: Path) -> Trained:
    return train(SPEC, runs=tmp_path / "whole", settings={"epochs": 4}, quiet=True)


def test_a_file_and_a_dictionary_train_what_the_command_trains(tmp_path: Path) -> None:
    file = write_spec(tmp_path)
    words = ["train", "tiny", "--spec", str(file), "--runs", str(tmp_path / "commanded")]
    done = CliRunner().invoke(app, [*words, "--optimizer", "delta-gclip", "--seed", "3"])
    assert done.exit_code == 0, done.output
    of = {"optimizer": "delta-gclip", "seed": 3, "quiet": True}
    from_file = train(file, runs=tmp_path / "file", **of)
    from_data = train(SPEC, "tiny", runs=tmp_path / "data", **of)
    ((folder),) = (tmp_path / "commanded").glob("*/*/seed-*")
    assert folder.name == from_file.folder.name == from_data.folder.name
    ours = [row["train/loss"] for row in RunFolder(folder).metrics()]
    assert ours == losses(from_file) == losses(from_data)
    assert from_file.state == "finished" and from_file.result is not None
    assert from_file.last == from_file.result["last"]


def test_the_result_shows_its_metrics_and_has_them_as_a_frame(whole: Trained) -> None:
    pytest.importorskip("pandas")
    assert repr(whole).startswith(f"<Trained {whole.folder}: finished>")
    assert "train/loss" in repr(whole) and "<th>test/accuracy</th>" in whole._repr_html_()
    assert whole.metrics()["train/loss"].tolist() == losses(whole)


def test_progress_is_shown_unless_it_is_to_be_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(SPEC, runs=tmp_path)
    assert "epoch 2/2" in capsys.readouterr().out
    train(SPEC, runs=tmp_path)
    assert "has ended already; force=True" in capsys.readouterr().out
    train(SPEC, runs=tmp_path, quiet=True, force=True)
    assert capsys.readouterr().out == ""


def test_a_training_leaves_torch_and_all_streams_as_they_were(tmp_path: Path) -> None:
    threads, is_exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    expected = torch.rand(2).tolist(), random.random(), np.random.rand()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    try:
        train(SPEC, runs=tmp_path, quiet=True)
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
        assert (torch.rand(2).tolist(), random.random(), np.random.rand()) == expected
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_exact)


def test_an_interrupt_leaves_a_checkpoint_and_the_next_call_goes_on(
    tmp_path: Path, whole: Trained
) -> None:
    interrupt = After(3, lambda: signal.raise_signal(signal.SIGINT))
    again: dict[str, Any] = {"runs": tmp_path, "settings": {"epochs": 4}, "quiet": True}
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="is interrupted"):
        train(SPEC, **again, should_stop=interrupt)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    (folder,) = (tmp_path / "tiny").glob("*/seed-*")
    assert RunFolder(folder).state == "interrupted" and RunFolder(folder).checkpoint_file.exists()
    assert losses(train(SPEC, **again)) == losses(whole)


def test_a_signal_of_a_batch_system_ends_the_process_with_75(tmp_path: Path) -> None:
    terminate = After(3, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ending:
        train(SPEC, runs=tmp_path, quiet=True, should_stop=terminate)
    assert ending.value.code == 75


def test_two_trainings_at_once_are_refused_as_both_would_draw_the_same_random_numbers(
    tmp_path: Path,
) -> None:
    said: list[str] = []

    def beside() -> bool:
        with pytest.raises(UsageError) as refused:
            train(SPEC, runs=tmp_path / "other", quiet=True)
        said.append(str(refused.value))
        return True

    assert train(SPEC, runs=tmp_path, quiet=True, should_stop=beside).state == "interrupted"
    assert said[0].startswith("This process trains already")
    assert train(SPEC, runs=tmp_path, quiet=True).state == "finished"


FORK = f"""
import multiprocessing
from deltagclip_cli import train

def tell():
    try:
        print(train({SPEC!r}, device="cpu", force=True, quiet=True).last["train/loss"])
    except Exception as error:
        print(type(error).__name__, error)

tell()
process = multiprocessing.get_context("fork").Process(target=tell)
process.start()
process.join()
"""


@pytest.mark.slow
def test_a_fork_of_a_process_that_has_trained_trains_as_well_or_is_told_to_be_started_otherwise(
    tmp_path: Path,
) -> None:
    """The latter where there are GPUs, for which torch has threads that no fork has."""
    script = [sys.executable, "-c", FORK]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    first, again = done.stdout.splitlines()[:2]
    told = "UsageError torch can compute no gradients in this process: "
    assert float(first) > 0
    assert again.startswith(told) if torch.cuda.is_available() else again == first


def test_a_process_that_can_compute_no_gradients_is_told_to_be_started_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*tensors: Any) -> None:
        raise RuntimeError("Unable to handle autograd's threading with fork.")

    monkeypatch.setattr(torch.autograd, "backward", fail)
    with pytest.raises(UsageError, match=r"with fork\.\n  Start it with multiprocessing\.get_con"):
        train(SPEC, runs=tmp_path, quiet=True)


def test_in_a_thread_no_signal_is_caught_and_should_stop_stops_it(
    tmp_path: Path, whole: Trained
) -> None:
    found: list[Any] = []
    again: dict[str, Any] = {"runs": tmp_path, "settings": {"epochs": 4}, "quiet": True}

    def work() -> None:
        try:
            found.append(train(SPEC, **again, should_stop=After(3)))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(found[0], Trained), found
    assert found[0].state == "interrupted" and found[0].result is None
    assert losses(train(SPEC, **again)) == losses(whole)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": -1}, "seed=-1: expected a whole number from 0 to"),
        ({"seed": "1"}, r"seed='1': expected int \| None"),
        ({"threads": 0}, "threads=0: expected a whole number from 1 to 1024"),
        ({"device": "tpu"}, "expected auto, cpu, cuda or cuda:N"),
        ({"settings": ["epochs=3"]}, r"settings=\['epochs=3'\]: expected Mapping"),
        ({"data": 3}, r"data=3: expected str \| Path \| None"),
        ({"quiet": "no"}, "quiet='no': expected bool"),
        ({"should_stop": 3}, "should_stop=3: expected Callable"),
        ({"settings": {"optimizers.sgd.lr": print}}, "settings: optimizers.sgd.lr=.* is nothing"),
    ],
)
def test_a_wrong_argument_is_refused_before_a_folder_is_made(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        train(SPEC, runs=tmp_path, **wrong)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="spec=3: expected str"):
        train(3, runs=tmp_path)  # type: ignore[arg-type]


def test_a_folder_in_which_another_process_works_is_refused(tmp_path: Path) -> None:
    stopped = train(SPEC, runs=tmp_path, quiet=True, should_stop=lambda: True)
    with (
        claimed(stopped.run_folder.lock_file, ""),
        pytest.raises(ClaimedError, match="another process is working"),
    ):
        train(SPEC, runs=tmp_path, quiet=True)


def test_code_that_was_edited_is_trained_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = (
        "import torch\n\nclass Own(torch.optim.SGD):\n    def __init__(self, params, lr: float):\n"
    )
    own += "        super().__init__(params, lr=lr * 1.0)\n"
    (tmp_path / "own.py").write_text(own)
    experiment = {**SPEC["experiments"]["tiny"], "optimizers": {"own": {"name": "own.py:Own"}}}
    experiment["optimizers"]["own"]["lr"] = 0.1
    spec = {"experiments": {"tiny": experiment}}
    first = train(spec, quiet=True)
    (tmp_path / "own.py").write_text(own.replace("1.0", "0.25"))
    second = train(spec, quiet=True)
    assert first.folder != second.folder and losses(first)[-1] != losses(second)[-1]


@pytest.mark.parametrize(
    ("spec", "more", "words"),  # of two experiments, one has to be chosen
    [
        (SPEC, {"optimizer": "sgdd"}, "no such optimizer.*did you mean 'sgd'"),
        (SPEC, {"experiment": "tny"}, "spec: there is no experiment 'tny'.*did you mean 'tiny'"),
        (SPEC, {"settings": {"epocs": 1}}, "unknown option 'epocs'.*did you mean 'epochs'"),
        ({"experiments": {"a": {}, "b": {}}}, {}, "spec: a"),
        (
            {"experiments": {**SPEC["experiments"], "b": SPEC["experiments"]["tiny"]}},
            {},
            "say which",
        ),
        ({"experiments": {"a": {1, 2}}}, {}, "spec: has a value that no file could hold"),
        ({"experiments": {"a": float("nan")}}, {}, "spec: has a value that no file could hold"),
        ("nowhere.yaml", {}, "nowhere.yaml: there is no such file"),
        ({}, {}, "spec: there is no 'experiments:'"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_there_is(
    spec: Any, more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=f"(?s){words}"):
        train(spec, runs=tmp_path, **more)
    assert not list(tmp_path.iterdir())
