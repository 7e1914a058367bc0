"""What ``train`` prints: on a terminal, into a file, as JSON, and when it is to be quiet."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from training_cases import ADAM, DELTA_GCLIP, SGD, TINY, StopAt, records, train, trial_of
from typer.testing import CliRunner

from deltagclip_cli.commands.app import app
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.sinks import is_among

Deltagclip = Callable[..., Any]
SHOW_ALL = "deltagclip_cli.terminal.console.SECONDS_BETWEEN_UPDATES"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of a given width that remembers everything that was written to it."""

    def __init__(self, width: int = 80, *, is_terminal: bool = True) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file, width=width, force_terminal=is_terminal, highlight=False
        )

    @property
    def lines(self) -> list[str]:
        """Every state of every line, without colours and the like."""
        return [
            line.rstrip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", self.file.getvalue()))
        ]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def train(self, trial: Trial, runs: Path, *options: str) -> int:
        """Run ``deltagclip train`` on a spec with this trial alone, with its output here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("deltagclip_cli.api.one_trial._named", lambda *_: trial)
            patch.setattr("deltagclip_cli.terminal.console.make_console", lambda **_: self.console)
            words = ["train", "tiny", "--runs", str(runs), "--device", "cpu", *options]
            spec = runs.parent / "any.yaml"
            experiments = {"tiny": {**TINY, "optimizers": {"sgd": SGD}}}
            spec.write_text(yaml.safe_dump({"experiments": experiments}))
            return CliRunner().invoke(app, [*words, "--spec", str(spec)]).exit_code


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_how_far_a_training_is(
    width: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SHOW_ALL, 0.0)
    terminal = Terminal(width)
    trial = trial_of(epochs=40, data={"train": 400})
    assert terminal.train(trial, runs) == 0
    shown = [line for line in terminal.lines if line.startswith("epoch ")]
    assert any(re.match(r"epoch \d+/40 ", line) for line in shown)
    last = shown[-1] if "epochs" not in shown[-1] else shown[-2]
    assert last.startswith("epoch 40/40")
    record = records(RunFolder.of(runs, trial))[-1]
    assert f"loss {record['train/loss']:.4g}" in last
    assert f"acc {record['test/accuracy']:.4g}" in last
    assert re.search(r"[\d,]+/s", last)
    assert "…" not in last, "everything has its room"
    assert not any("train/loss 0." in line and "  test" in line for line in terminal.lines)


@pytest.mark.parametrize("width", [80, 160])
def test_nothing_is_wider_than_the_terminal_but_paths(
    width: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SHOW_ALL, 0.0)
    terminal = Terminal(width)
    terminal.train(trial_of(epochs=30, log_every=1, label="a-label-of-a-usual-length"), runs)
    too_wide = [line for line in terminal.lines if len(line) > width]
    assert all(str(runs) in line for line in too_wide)


def test_a_continued_training_is_shown_from_where_it_continues(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SHOW_ALL, 0.0)
    trial = trial_of(epochs=20)
    train(trial, runs, stop=StopAt(50))
    terminal = Terminal()
    terminal.train(trial, runs)
    shown = [re.match(r"epoch (\d+)/20", line) for line in terminal.lines]
    assert min(int(found[1]) for found in shown if found) == 13


def test_elsewhere_every_epoch_is_a_line(runs: Path) -> None:
    terminal = Terminal(is_terminal=False)
    trial = trial_of()
    assert terminal.train(trial, runs) == 0
    assert "\x1b" not in terminal.file.getvalue()
    shown = [line for line in terminal.lines if re.match(r"epoch \d+/", line)]
    assert [line.split()[1] for line in shown] == ["1/3", "2/3", "3/3"]
    record = records(RunFolder.of(runs, trial))[-1]
    assert f"train/loss {record['train/loss']:.4g}" in shown[-1]
    assert f"test/accuracy {record['test/accuracy']:.4g}" in shown[-1]


def numbers_of(terminal: Terminal) -> list[str]:
    found = (re.match(r"epoch (\d+)/\d+  train/loss", line) for line in terminal.lines)
    return [each[1] for each in found if each]


def test_elsewhere_many_epochs_are_few_lines_and_the_log_has_all(runs: Path) -> None:
    terminal = Terminal(is_terminal=False)
    trial = trial_of(epochs=52)
    assert terminal.train(trial, runs) == 0
    assert numbers_of(terminal) == ["1", *map(str, range(2, 53, 2))]
    log = RunFolder.of(runs, trial).log_file.read_text()
    assert log.count(" epoch ") == 52


@pytest.mark.parametrize("of", [1, 2, 49, 50, 51, 99, 1000, 1001, 123_456])
def test_of_any_number_of_lines_about_fifty_are_shown_with_the_first_and_the_last(of: int) -> None:
    shown = [number for number in range(1, of + 1) if is_among(number, of)]
    assert shown[0] == 1 and shown[-1] == of
    assert min(of, 20) <= len(shown) <= 52


@pytest.mark.parametrize("is_terminal", [True, False])
def test_every_so_manieth_epoch_is_a_line_where_that_is_asked_for(
    is_terminal: bool, runs: Path
) -> None:
    terminal = Terminal(is_terminal=is_terminal)
    assert terminal.train(trial_of(epochs=8), runs, "--every", "3") == 0
    assert numbers_of(terminal) == ["1", "3", "6", "8"]


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_draws_the_losses_of_all_epochs_whatever_starts_made_them(
    width: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SHOW_ALL, 0.0)
    trial = trial_of(epochs=20)
    train(trial, runs, stop=StopAt(50))
    terminal = Terminal(width)
    assert terminal.train(trial, runs) == 0
    drawn = [re.match(r"train/loss ([\d.]+) ([▁-█]+) ([\d.]+)", line) for line in terminal.lines]
    last = [found for found in drawn if found][-1]
    losses = [each["train/loss"] for each in records(RunFolder.of(runs, trial))]
    assert (last[1], last[3]) == (f"{losses[0]:.4g}", f"{losses[-1]:.4g}")
    assert len(last[2]) == 20


def test_a_terminal_shows_something_before_torch_and_data_are_loaded(runs: Path) -> None:
    terminal = Terminal()
    terminal.train(trial_of(), runs)
    shown = [number for number, line in enumerate(terminal.lines) if "loading torch" in line]
    first = next(n for n, line in enumerate(terminal.lines) if line.startswith("epoch 1/"))
    assert shown and shown[0] < first


def test_a_terminal_shows_something_while_the_parts_are_tried_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, shown = Terminal(), []

    def look(*_: Any) -> None:
        end = time.monotonic() + 60
        while "trying" not in terminal.text and time.monotonic() < end:
            time.sleep(0.02)
        shown.append(terminal.text)

    monkeypatch.setattr("deltagclip_cli.launch.rehearsal.check_parts", look)
    terminal.train(trial_of(), runs)
    assert "loading torch and trying the parts out" in shown[0]


def test_the_log_holds_the_same_lines_with_their_time(runs: Path) -> None:
    trial = trial_of()
    Terminal().train(trial, runs)
    log = RunFolder.of(runs, trial).log_file.read_text().splitlines()
    said = ["Trains on the CPU with 1 thread", *(f"epoch {n}/3  train/loss " for n in (1, 2, 3))]
    for line, words in zip(log, said, strict=True):
        assert re.match(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {words}", line)


def test_the_summary_names_results_folder_and_the_next_command(runs: Path) -> None:
    terminal = Terminal()
    trial = trial_of(DELTA_GCLIP, seed=3)
    terminal.train(trial, runs)
    folder = RunFolder.of(runs, trial)
    result = json.loads(folder.result_file.read_text())
    assert "tiny · tested · seed 3" in terminal.text
    assert f"run folder   {folder.path}" in terminal.lines
    assert f"TensorBoard  tensorboard --logdir {runs / 'tiny'}" in terminal.lines
    assert re.search(r"epochs       3 \(12 steps, \d+\.\d s\)", terminal.text)
    regimes = result["regimes"]
    counts = ", ".join(f"{regimes[name]} {name}" for name in ("plain", "clipped", "floored"))
    assert f"steps        {counts}" in terminal.lines
    row = next(line for line in terminal.lines if line.strip().startswith("test/accuracy")).split()
    best = result["best"]["test/accuracy"]
    last = result["last"]["test/accuracy"]
    assert row == ["test/accuracy", f"{last:.4g}", f"{best['value']:.4g}", str(best["epoch"])]


def test_an_optimizer_without_regimes_has_no_line_of_them(runs: Path) -> None:
    terminal = Terminal()
    terminal.train(trial_of(ADAM), runs)
    assert not any(line.startswith("steps ") for line in terminal.lines)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_quiet_prints_nothing_when_all_is_well(is_terminal: bool, runs: Path) -> None:
    terminal = Terminal(is_terminal=is_terminal)
    trial = trial_of()
    assert terminal.train(trial, runs, "--quiet") == 0
    assert terminal.train(trial, runs, "--quiet") == 0
    assert terminal.file.getvalue() == ""


def test_quiet_still_shows_warnings(runs: Path) -> None:
    trial = trial_of()
    train(trial, runs, stop=StopAt(10))
    folder = RunFolder.of(runs, trial)
    folder.checkpoint_file.write_bytes(b"")
    terminal = Terminal(is_terminal=False)
    assert terminal.train(trial, runs, "--quiet") == 0
    (warning,) = filter(None, terminal.lines)
    assert "checkpoint.pt cannot be used" in warning
    assert "checkpoint.pt cannot be used" in folder.log_file.read_text()


def test_a_finished_trial_is_not_run_again_and_shows_its_result(runs: Path) -> None:
    trial = trial_of()
    Terminal().train(trial, runs)
    folder = RunFolder.of(runs, trial)
    before = folder.metrics_file.read_text(), folder.environment_file.read_text()
    terminal = Terminal()
    assert terminal.train(trial, runs) == 0
    assert f"{folder.path} is finished already; --force runs it again." in terminal.lines
    assert "test/accuracy" in terminal.text
    assert before == (folder.metrics_file.read_text(), folder.environment_file.read_text())


def test_force_runs_it_again(deltagclip: Deltagclip, only_folder: Any) -> None:
    deltagclip("train", "tiny")
    folder = only_folder()
    (folder.path / "old").touch()
    done = deltagclip("train", "tiny", "--force")
    assert done.code == 0
    assert "epoch 1/3" in done.out
    assert not (folder.path / "old").exists()
    assert len(json.loads(folder.environment_file.read_text())) == 1


def test_json_is_all_there_is_on_stdout(deltagclip: Deltagclip, only_folder: Any) -> None:
    for words in ("epoch 3/3", "finished already"):
        done = deltagclip("train", "tiny", "--optimizer", "adam", "--seed", 5, "--json")
        assert done.code == 0
        answer = json.loads(done.out)
        assert answer.pop("folder") == str(only_folder().path)
        assert answer == json.loads(only_folder().result_file.read_text())
        assert words in done.err
    quiet = deltagclip("train", "tiny", "--optimizer", "adam", "--seed", 5, "--json", "--quiet")
    assert json.loads(quiet.out)["status"] == "finished"
    assert quiet.err == ""


def test_json_of_a_diverged_trial_has_the_code_of_one(deltagclip: Deltagclip) -> None:
    done = deltagclip("train", "wild", "--json")
    assert done.code == 1
    assert json.loads(done.out)["status"] == "diverged"


def test_a_diverged_trial_is_summed_up_at_80_columns(runs: Path) -> None:
    terminal = Terminal()
    assert terminal.train(trial_of({"name": "sgd", "lr": 1e30}), runs) == 1
    assert re.search(
        r"diverged     the loss in training was not finite at step \d \(epoch 1\)", terminal.text
    )


def test_a_dry_run_shows_the_trial_and_makes_nothing(deltagclip: Deltagclip, runs: Path) -> None:
    done = deltagclip("train", "tiny", "--optimizer", "sgd", "--dry-run")
    first, _, rest = done.out.partition("\n")
    shown = yaml.safe_load(rest)
    assert done.code == 0
    assert re.fullmatch(rf"# {runs}/tiny/sgd/seed-0-[0-9a-f]{{8}} \(new\)", first)
    assert shown["optimizer"]["lr"] == SGD["lr"]
    assert not runs.exists()
    answer = json.loads(
        deltagclip("train", "tiny", "--optimizer", "sgd", "--dry-run", "--json").out
    )
    assert answer["state"] == "new"
    assert answer["trial"] == shown


def test_an_unknown_optimizer_is_refused_with_those_there_are(deltagclip: Deltagclip) -> None:
    done = deltagclip("train", "tiny", "--optimizer", "adan")
    assert done.code == 2
    assert "optimizers: delta-gclip, adam, sgd - did you mean 'adam'?" in done.err


def test_the_worker_trains_what_a_folder_was_made_for(
    deltagclip: Deltagclip, runs: Path, tmp_path: Path
) -> None:
    trial = trial_of()
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    for _ in range(2):
        done = deltagclip("worker", folder.path, "--device", "cpu")
        assert done.code == 0, done
    assert folder.state == "finished"

    done = deltagclip("worker", tmp_path)
    assert done.code == 2
    assert "not a run folder, for it has no trial.yaml" in done.err


def test_the_worker_notes_why_a_trial_could_not_begin(deltagclip: Deltagclip, runs: Path) -> None:
    trial = trial_of(data={"batch_size": 101})
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    done = deltagclip("worker", folder.path)
    assert done.code == 2
    assert "batch_size is 101" in done.err
    assert "batch_size is 101" in folder.error_file.read_text()
    assert folder.state == "failed"
