"""``deltagclip compare``: what is wrong is said, what is odd is shown, all formats say the same."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from invocation import Invoke
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console
from run_cases import finish
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tiny_spec import TINY, trials_of
from typer.testing import Result

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal import console as terminal_console

EVENTS = "events.out.tfevents.1700000000.host"
NASTY = ["[red]x", "$x_1$ 100% a&b", "a\x1b[31mb\nc", r"#~^\{}<i>|*`", "&lt;b&gt; **b** δ実験"]
SHOWN = {"a\x1b[31mb\nc": r"a\x1b[31mb\nc"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was read before, and no words of the environment on colours and widths."""
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def write_events(
    folder: Path, values: Iterable[float], tag: str = "test/accuracy", seed: int = 0
) -> Path:
    """A run of somebody else; the file of its events."""
    file = folder / f"seed{seed}" / EVENTS
    file.parent.mkdir(parents=True)
    with file.open("wb") as opened:
        records = RecordWriter(opened)
        records.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for step, value in enumerate(values, start=1):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            event = Event(step=step, wall_time=float(step), summary=summary)
            records.write(event.SerializeToString())
    return file


def write_run(
    runs: Path, trial: Trial, values: Sequence[float], *, ended: bool = True
) -> RunFolder:
    """A run of ours with these test accuracies."""
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    if ended:
        values = [*values[:1] * (trial.epochs - len(values)), *values]
    records = [
        {
            "epoch": epoch,
            "step": 2 * epoch,
            "time": 0.0,
            "test/loss": 1 - value,
            "test/accuracy": value,
            "perf/epoch_seconds": 0.5,
        }
        for epoch, value in enumerate(values, start=1)
    ]
    folder.metrics_file.write_text("".join(json.dumps(record) + "\n" for record in records))
    if ended:
        finish(folder)
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of two optimizers of the experiment ``tiny``."""
    folder = tmp_path_factory.mktemp("template")
    for trial in trials_of(folder, "seeds=[0, 1, 2]"):
        better = 0.125 if trial.label == "sgd" else 0.0
        last = 0.5 + trial.seed / 3e3 + better + trial.seed**2 * better / 7
        write_run(folder / "runs", trial, [0.25, last])
    return folder / "runs"


@pytest.fixture
def runs(template: Path, tmp_path: Path) -> Path:
    """Those in ``runs``."""
    return Path(shutil.copytree(template, tmp_path / "runs"))


def settings(done: Result) -> dict[str, dict[str, Any]]:
    """The settings in an answer in JSON, by their optimizers."""
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["experiments"]
    return {row["optimizer"]: row for each in found for row in each["settings"]}


# ---------------------------------------------------------------------------- wrong words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tinny", "tinny: neither an experiment in runs nor a folder.\n  experiments: tiny"),
        ("spec.yaml", "spec.yaml: neither an experiment in runs nor a folder."),
        ("--metric tset/los", "no run has that metric.\n  metrics: test/loss, test/accuracy"),
        ("--metric optim/zeal", "metrics: test/"),
        ("--at noon", "--at noon: say last, best, epoch=N or step=N."),
        ("--at epoch=", "--at epoch=: say"),
        ("--at epoch=-1", "--at epoch=-1: say"),
        ("--at step=1.5", "--at step=1.5: say"),
        ("--at last=3", "--at last=3: say"),
        ("--target test/loss", "--target test/loss: say METRIC=VALUE"),
        ("--target =3", "--target =3: say METRIC=VALUE"),
        ("--target test/loss=nan", "--target test/loss=nan: say METRIC=VALUE"),
        ("--target zeal=3", "--target zeal=3: "),
        ("--target tset/loss=3", "--target tset/loss=3: "),
        ("--within far", "--within far: say a distance such as 0.01, or a part such as 1%."),
        ("--within=-1%", "--within -1%: say"),
        ("--within nan", "--within nan: say"),
        ("--heatmap lr", "--heatmap lr: say two settings, such as lr,gamma."),
        ("--heatmap lr,lr", "--heatmap lr,lr: say two settings"),
        ("--heatmap lr,", "--heatmap lr,: say two settings"),
        ("--heatmap lr,gamma", "--heatmap lr,gamma: no optimizer has several values of both."),
        ("--group (", "--group (: not a regular expression: missing )"),
        ("--group seed", "--group seed: it names no groups."),
        (
            "--baseline dgclip",
            "that has values.\n  optimizers: sgd, delta-gclip - did you mean 'delta-gclip'?\n",
        ),
        ("--ddof 2", "Invalid value for '--ddof'"),
        ("--mode up", "Invalid value for '--mode'"),
        ("--format xml", "Invalid value for '--format'"),
        ("--json --format csv", "--json and --format csv: say one of them."),
        ("--output no/such.csv", "--output no/such.csv: cannot be written: No such file"),
        ("--output runs", "--output runs: cannot be written: Is a directory."),
        ("--output spec.yaml/a.csv", "cannot be written: Not a directory."),
    ],
)
def test_what_is_wrong_is_said(deltagclip: Invoke, runs: Path, words: str, message: str) -> None:
    done = deltagclip("compare", *words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_runs_is_refused(deltagclip: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    for words in (["empty"], ["--runs", "empty"]):
        done = deltagclip("compare", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "empty: there are no runs.\n  A run is a folder with trial.yaml" in done.stderr


def test_where_there_is_no_runs_folder_it_is_said(deltagclip: Invoke) -> None:
    done = deltagclip("compare")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "runs: there is no such folder.\n  Name a folder with runs" in done.stderr
    done = deltagclip("compare", "tiny")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "tiny: neither an experiment in runs nor a folder.\n  experiments: none" in done.stderr


def test_a_metric_of_which_nobody_knows_the_good_side_needs_a_mode(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    for seed in (0, 1):
        write_events(tmp_path / "logs" / "one", [1.0, 2.0 + seed], "zeal", seed)
    done = deltagclip("compare", "logs")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--metric is needed.\n  metrics: zeal" in done.stderr
    done = deltagclip("compare", "logs", "--metric", "zeal")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Say --mode max or --mode min." in done.stderr
    for mode, best in (("max", 3.0), ("min", 2.0)):
        row = settings(deltagclip("compare", "logs", "--metric", "zeal", "--mode", mode, "--json"))
        assert row["one"]["summary"]["best"] == best


def test_the_mode_of_a_metric_does_not_turn_a_loss_that_is_the_target(
    deltagclip: Invoke, runs: Path
) -> None:
    words = ("--metric", "test/accuracy", "--mode", "max", "--target", "test/loss=0.45", "--json")
    row = settings(deltagclip("compare", *words))["delta-gclip"]
    assert row["reached"]["count"] == 0, "all losses are above the target"


def test_a_target_of_an_experiment_that_is_not_there_is_said(
    deltagclip: Invoke, runs: Path
) -> None:
    done = deltagclip("compare", "--target", "tinny:test/loss=0.3")
    assert done.exit_code == 0
    assert "--target: there is no experiment tinny among tiny." in done.stderr


def test_a_pattern_for_names_that_nothing_needs_is_said(deltagclip: Invoke, runs: Path) -> None:
    done = deltagclip("compare", "--group", "(?P<lr>.*)")
    assert done.exit_code == 0
    assert "--group names the runs of other programs; here are run folders only." in done.stderr


def test_before_the_first_epoch_there_is_nothing_to_compare(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    for trial in trials_of(tmp_path):
        write_run(tmp_path / "runs", trial, [], ended=False)
    done = deltagclip("compare")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nothing to compare yet: no run has come to the end of its first epoch" in done.stderr
    assert "deltagclip status shows how far they are." in done.stderr


@pytest.mark.parametrize("command", ["compare", "report", "certify", "tensorboard"])
@pytest.mark.parametrize("begun", ["nothing", "the runs folder", "an empty run folder"])
def test_before_a_trial_has_begun_that_is_said(
    deltagclip: Invoke, tmp_path: Path, command: str, begun: str
) -> None:
    Path("experiments.yaml").write_text(TINY)
    trial = trials_of(tmp_path)[0]
    made = {"nothing": tmp_path, "the runs folder": tmp_path / "runs"}
    made.get(begun, tmp_path / "runs" / trial.folder).mkdir(parents=True, exist_ok=True)
    done = deltagclip(command, "tiny")
    assert done.exit_code == 1
    assert "tiny: no trial has begun yet.\n  deltagclip status tiny shows how far" in done.stderr
    assert deltagclip(command, "tinny").exit_code == 2, "that is no experiment"


def test_of_a_run_that_cannot_be_read_it_is_not_said_that_it_has_not_begun(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / trials_of(tmp_path)[0].folder
    folder.mkdir(parents=True)
    (folder / "trial.yaml").write_text("model: [")
    done = deltagclip("compare")
    assert done.exit_code == 2
    assert "trial.yaml: not a trial that this version reads" in done.stderr


def test_before_a_run_has_ended_the_table_says_so(deltagclip: Invoke, tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "epochs=5")
    for trial in trials:
        write_run(tmp_path / "runs", trial, [0.25, 0.5], ended=False)
    done = deltagclip("compare")
    assert done.exit_code == 1
    assert "1 unfinished" in done.stdout
    assert "No run has come to its end yet (the longest is at epoch 2)" in done.stderr
    write_run(tmp_path / "runs", trials[0], [0.25, 0.5])
    assert deltagclip("compare").exit_code == 0


def test_a_path_is_a_folder_and_not_an_experiment(
    deltagclip: Invoke, runs: Path, tmp_path: Path
) -> None:
    write_events(tmp_path / "logs" / "one", [0.5])
    assert {"one", "sgd"} <= settings(deltagclip("compare", ".", "--json")).keys()
    assert "logs/one" not in settings(deltagclip("compare", "tiny", "--json"))


# ------------------------------------------------------------------------- odd runs


def test_of_one_run_nothing_is_said_of_spreads(deltagclip: Invoke, tmp_path: Path) -> None:
    write_run(tmp_path / "runs", trials_of(tmp_path)[0], [0.25, 0.5])
    row = settings(deltagclip("compare", "--json"))["sgd"]
    assert (row["summary"]["n"], row["summary"]["mean"]) == (1, 0.5)
    assert row["summary"]["standard_error"] is row["summary"]["interval"] is None
    for more in ([], ["--interval"], ["--baseline", "sgd"]):
        shown = deltagclip("compare", *more).stdout
        assert re.search(r"sgd +1 +0.5 +0.5 +0.5 +0.5 \(0\) +0.5 \(0\)", shown)
        assert "nan" not in shown
        assert re.search("one seed|single seed|too few seeds", shown)


def test_a_baseline_without_others_makes_no_empty_table(deltagclip: Invoke, tmp_path: Path) -> None:
    for trial in trials_of(tmp_path, "seeds=[0, 1]"):
        if trial.label == "sgd":
            write_run(tmp_path / "runs", trial, [0.25, 0.5 + trial.seed / 8])
    done = deltagclip("compare", "--baseline", "sgd")
    assert done.exit_code == 0
    assert "difference to sgd" not in done.stdout


def test_one_seed_each_is_too_few_to_tell(deltagclip: Invoke, tmp_path: Path) -> None:
    for number, trial in enumerate(t for t in trials_of(tmp_path) if t.seed == 0):
        write_run(tmp_path / "runs", trial, [0.5 + number / 8])
    done = deltagclip("compare", "--baseline", "sgd")
    assert done.exit_code == 0
    assert "too few seeds to tell it from the best" in done.stdout
    assert "One seed: no test." in done.stdout


def test_seeds_that_differ_are_compared_unpaired(deltagclip: Invoke, tmp_path: Path) -> None:
    for trial in trials_of(tmp_path, "seeds=[0, 1, 2, 3]"):
        if (trial.label == "sgd") == (trial.seed < 2):
            write_run(tmp_path / "runs", trial, [0.5 + trial.seed / 8])
    done = deltagclip("compare", "--baseline", "sgd")
    assert "2 and 2" in done.stdout
    row = settings(deltagclip("compare", "--baseline", "sgd", "--json"))["delta-gclip"]
    assert row["versus_baseline"]["design"] == "unpaired"


def test_curves_of_different_lengths_are_said_and_can_be_compared_at_one_epoch(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    for seed in range(2):
        write_events(tmp_path / "logs" / "short", [0.1, 0.2 + seed / 8], seed=seed)
        write_events(tmp_path / "logs" / "long", [0.1, 0.3 + seed / 8, 0.9], seed=seed)
    done = deltagclip("compare", "logs")
    assert "The curves end at different steps (2 to 3); --at step=2 compares all" in done.stdout
    rows = settings(deltagclip("compare", "logs", "--at", "step=2", "--json"))
    assert rows["long"]["summary"]["mean"] == pytest.approx(0.3625)
    assert "different" not in deltagclip("compare", "logs", "--at", "step=2").stdout
    rows = settings(deltagclip("compare", "logs", "--at", "step=3", "--json"))
    assert rows["short"]["left_out"] == {"shorter": 2} and rows["short"]["summary"] is None
    done = deltagclip("compare", "logs", "--at", "step=3")
    assert "2 runs left out, without a value at step 3; --at step=2 compares all." in done.stdout


def test_early_stopping_leaves_no_run_out(deltagclip: Invoke, tmp_path: Path) -> None:
    """Each seed ends where it ends, and one logged another metric for longer."""
    for seed, accuracies in enumerate(([0.1, 0.5, 0.4], [0.1, 0.75], [0.1, 0.2, 0.3, 1.0])):
        write_events(tmp_path / "logs" / "adam", accuracies, seed=seed)
    longer = write_events(tmp_path / "longer", [1.0] * 9, "train/loss")
    longer.rename(tmp_path / "logs" / "adam" / "seed0" / f"{EVENTS}.2")
    for at, mean in (("last", (0.4 + 0.75 + 1) / 3), ("best", (0.5 + 0.75 + 1) / 3)):
        words = ("--at", at, "--json", "--select-on-test")
        row = settings(deltagclip("compare", "logs", *words))["adam"]
        assert row["summary"]["mean"] == pytest.approx(mean)
        assert (row["summary"]["n"], row["left_out"]) == (3, {})
    words = ("--target", "test/accuracy=0.7", "--json")
    assert settings(deltagclip("compare", "logs", *words))["adam"]["reached"]["count"] == 2


def test_a_run_that_is_still_growing_is_brought_in_by_the_option_that_is_named(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    write_events(tmp_path / "logs" / "adam", [0.1, 0.5, 0.75], seed=0)
    growing = write_events(tmp_path / "logs" / "adam", [0.1, 0.25], seed=1)
    growing.write_bytes(growing.read_bytes()[:-1])  # as it looks while it is being written
    done = deltagclip("compare", "logs")
    assert re.search(r"adam +1 .* 1 unfinished", done.stdout)
    advice = "1 run left out, without a value at the last step; --at step=1 compares all."
    assert advice in done.stdout
    row = settings(deltagclip("compare", "logs", "--at", "step=1", "--json"))["adam"]
    assert (row["summary"]["n"], row["left_out"]) == (2, {})


def test_values_that_are_not_finite_are_diverged_runs(deltagclip: Invoke, tmp_path: Path) -> None:
    for seed, value in enumerate([0.5, 0.25, math.nan, math.inf, -math.inf, 0.75, 1.0]):
        write_events(tmp_path / "logs" / "one", [0.1, value], "test/loss", seed)
    done = deltagclip("compare", "logs")
    assert re.search(r"one +4 +0.6[23] ± 0.16 +1.00 +.*diverged +3 diverged", done.stdout)
    summary = settings(deltagclip("compare", "logs", "--json"))["one"]["summary"]
    assert (summary["n"], summary["diverged"], summary["mean"]) == (4, 3, 0.625)
    assert (summary["median"], summary["best"], summary["worst"]) == (1.0, 0.25, None)
    assert "NaN" not in done.stdout and "nan" not in done.stdout


def test_no_p_value_is_below_what_is_said_to_be_the_least(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    for seed, value in enumerate([0.5, math.nan, math.nan]):
        write_events(tmp_path / "logs" / "one", [0.1, value], seed=seed)
    for seed in (3, 4):
        write_events(tmp_path / "logs" / "two", [0.1, 0.75], seed=seed)
    words = ("compare", "logs", "--baseline", "two")
    found = settings(deltagclip(*words, "--json"))["one"]["versus_baseline"]
    for least in re.findall(r"p cannot be below ([\d.]*\d)", deltagclip(*words).stdout):
        assert found["rank_test_p"] >= float(least)


def test_damaged_event_files_are_named_and_the_rest_is_compared(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    logs = tmp_path / "logs" / "one"
    write_events(logs, [0.25, 0.5], seed=0)
    cut, flipped, junk = (write_events(logs, [0.25, 0.5], seed=seed) for seed in (1, 2, 3))
    cut.write_bytes(cut.read_bytes()[:-20])
    content = bytearray(flipped.read_bytes())
    content[-10] ^= 255
    flipped.write_bytes(content)
    junk.write_bytes(b"\0" * 100)
    done = deltagclip("compare", "logs")
    assert done.exit_code == 0
    assert re.search(r"one +1 +0.5 .* 2 unfinished", done.stdout)
    for file in (cut, flipped, junk):
        assert f"{file.relative_to(tmp_path)}: " in done.stderr
    assert deltagclip("compare", "logs", "--quiet").stderr == done.stderr
    told = json.loads(deltagclip("compare", "logs", "--quiet", "--json").stdout)["problems"]
    assert len(told) == len(done.stderr.splitlines()) == 3


def test_a_run_that_is_being_written_counts_as_unfinished(
    deltagclip: Invoke, runs: Path, tmp_path: Path
) -> None:
    (trial,) = [t for t in trials_of(tmp_path, "seeds=[7]") if t.label == "sgd"]
    folder = write_run(runs, trial, [0.99], ended=False)
    with folder.metrics_file.open("a") as file:
        file.write('{"epoch": 2, "step": 4, "test/acc')
    with folder.lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = settings(deltagclip("compare", "--json"))
        early = settings(deltagclip("compare", "--at", "epoch=1", "--json"))
    assert rows["sgd"]["left_out"] == {"unfinished": 1} and rows["sgd"]["summary"]["n"] == 3
    assert early["sgd"]["summary"]["best"] == 0.99, "that epoch is whole"


def test_a_broken_metrics_file_is_named_and_the_rest_is_compared(
    deltagclip: Invoke, runs: Path
) -> None:
    first, second, *_ = sorted((runs / "tiny" / "sgd").iterdir())
    (first / "metrics.jsonl").write_text('{"perf/epoch_seconds": [], "epoch": 1, "step": 1}\n')
    (second / "trial.yaml").write_text("seed: [")
    done = deltagclip("compare")
    assert done.exit_code == 0
    assert f"{first.relative_to(runs.parent)}/metrics.jsonl: " in done.stderr
    assert f"{second.relative_to(runs.parent)}/trial.yaml: " in done.stderr


def test_experiments_of_one_name_and_different_specs_are_not_mixed(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    for name, text in (("a", TINY), ("b", TINY.replace("train: 8", "train: 16"))):
        for trial in trials_of(tmp_path, "seeds=[0, 1]", text=text):
            write_run(tmp_path / name, trial, [0.5 + trial.seed / 8])
    found = json.loads(deltagclip("compare", "a/tiny", "b/tiny", "--json").stdout)["experiments"]
    assert [each["experiment"] for each in found] == ["tiny", "tiny"]
    assert [each["conditions"] for each in found] == [{"data.train": "8"}, {"data.train": "16"}]
    assert "tiny · data.train=16: test/accuracy" in deltagclip("compare", "a", "b").stdout


def test_a_run_that_is_there_twice_counts_once(
    deltagclip: Invoke, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs, tmp_path / "copies")
    done = deltagclip("compare", "runs", "copies", "runs")
    assert done.exit_code == 0
    assert done.stderr.count("is there twice") == 6
    rows = settings(deltagclip("compare", "runs", "copies", "--json"))
    assert all(row["summary"]["n"] == 3 for row in rows.values())


# ------------------------------------------------------------------------------- formats


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """Runs whose names are not harmless."""
    for number, name in enumerate(NASTY):
        for seed in range(3):
            value = 0.5 + 0.05 * number + (3 * seed + number * seed) % 5 / 500
            write_events(tmp_path / "logs" / name, [0.1, value], seed=seed)
    return tmp_path / "logs"


def test_nasty_names_are_shown_as_they_are(deltagclip: Invoke, nasty: Path) -> None:
    expected = {SHOWN.get(name, name) for name in NASTY}
    shown = deltagclip("compare", "logs").stdout
    assert "\x1b" not in shown
    for name in expected:
        assert re.search(rf"^[•≈ ]  {re.escape(name)} +3 ", shown, re.MULTILINE), name
    assert set(settings(deltagclip("compare", "logs", "--json"))) == expected
    rows = csv.DictReader(io.StringIO(deltagclip("compare", "logs", "--format", "csv").stdout))
    assert {row["optimizer"] for row in rows} == expected


def test_nasty_names_are_themselves_once_markdown_was_read(deltagclip: Invoke, nasty: Path) -> None:
    shown = deltagclip("compare", "logs", "--format", "markdown").stdout
    names = {row[0].lstrip("•≈? ") for row in markdown_rows(shown)}
    assert names - {"optimizer"} == {SHOWN.get(name, name) for name in NASTY}
    assert not re.search(r"(?<!\\)\$", shown), "GitHub reads formulas between dollars"


def markdown_rows(text: str) -> list[list[str]]:
    """The cells of all tables, as a reader sees them."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and token.level > 3:
            children = token.children or []
            assert {each.type for each in children} <= {"text", "strong_open", "strong_close"} | {
                "text_special"
            }
            rows[-1].append("".join(each.content for each in children))
    return rows


@pytest.mark.slow
def test_nasty_names_are_latex(deltagclip: Invoke, nasty: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex on this machine")
    table = deltagclip("compare", "logs", "--format", "latex", "--baseline", "[red]x").stdout
    head = r"\documentclass{article}" + "".join(
        re.findall(r"\\usepackage[^ \n]+", table.splitlines()[0])  # as it says itself
    )
    document = f"{head}\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-2000:]


def test_csv_and_json_have_the_same_numbers_in_full(deltagclip: Invoke, runs: Path) -> None:
    words = ("compare", "--baseline", "sgd", "--target", "test/accuracy=0.6")
    rows = settings(deltagclip(*words, "--json"))
    found = list(csv.DictReader(io.StringIO(deltagclip(*words, "--format", "csv").stdout)))
    assert [row["optimizer"] for row in found] == list(rows)
    for row in found:
        expected = rows[row["optimizer"]]
        for prefix, record in (
            ("", expected["summary"]),
            ("reached_", expected["reached"]),
            ("versus_", expected["versus_baseline"] or {}),
        ):
            for name, value in flat(prefix, record):
                text = row[name]
                number = float(text) if text and name != "versus_design" else text
                assert (number if number != math.inf else "") == ("" if value is None else value)
        assert float(row["epoch_seconds"]) == expected["epoch_seconds"]


def flat(prefix: str, record: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """What is nested in a record, by longer names."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flat(f"{prefix}{name}_", value)
        elif not (value is None and name.endswith("interval")):
            yield prefix + name, value


def test_tables_show_the_numbers_of_json_rounded(deltagclip: Invoke, runs: Path) -> None:
    rows = settings(deltagclip("compare", "--json"))
    table = deltagclip("compare").stdout
    marked = {row[0].lstrip("•≈? "): row for row in markdown_rows(markdown(deltagclip))[:3]}
    latex = deltagclip("compare", "--format", "latex").stdout
    for name, row in rows.items():
        mean, error = (row["summary"][key] for key in ("mean", "standard_error"))
        decimals = 1 - math.floor(math.log10(error))
        text, spread = f"{mean:.{decimals}f}", f"{error:.{decimals}f}"
        worst = f"{row['summary']['worst']:.{decimals}f}"
        assert re.search(rf"{name} +3 +{text} ± {spread} .* {worst} \(\d\)", table)
        assert marked[name][2] == f"{text} ± {spread}"
        assert re.sub(r" \(\d\)", "", marked[name][6]) == worst
        assert re.search(rf"{name}}}? & 3 & .*{text} .*pm}}}} {spread}}}? & ", latex)


def markdown(deltagclip: Invoke) -> str:
    return deltagclip("compare", "--format", "markdown").stdout


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.csv", "experiment,"),
        ("a.json", "{\n"),
        ("a.md", "### tiny"),
        ("a.TEX", r"% needs \usepackage{booktabs,graphicx,longtable}"),
        ("a.txt", "tiny: "),
        ("a", "tiny: "),
    ],
)
def test_the_ending_of_a_file_tells_its_format(
    deltagclip: Invoke, runs: Path, tmp_path: Path, name: str, start: str
) -> None:
    done = deltagclip("compare", "--output", name)
    assert (done.exit_code, done.output) == (0, "")
    written = (tmp_path / name).read_text("utf-8")
    assert written.startswith(start)
    words = ("--output", "other.xyz", "--format", "json")
    assert deltagclip("compare", *words).exit_code == 0
    assert json.loads((tmp_path / "other.xyz").read_text("utf-8"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(
    deltagclip: Invoke, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = deltagclip("compare", "--output", "locked/a.csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--output locked/a.csv: cannot be written: Permission denied." in done.stderr


@pytest.mark.parametrize("width", [80, 160])
def test_tables_fit_the_terminal(
    deltagclip: Invoke, runs: Path, nasty: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    for seed in range(3):
        write_events(nasty / ("long-name-" * 9) / "実験の名前実験の名前" / "x", [0.7], seed=seed)

    def console(*, stderr: bool = False) -> Console:
        return Console(stderr=stderr, width=width, highlight=False, force_terminal=True)

    monkeypatch.setattr(terminal_console, "make_console", console)
    for words in (["runs", "--baseline", "sgd"], ["logs", "--baseline", "[red]x", "--interval"]):
        words = ["compare", *words, "--target", "test/accuracy=0.6", "--quiet"]
        shown = deltagclip(*words).stdout
        whole = deltagclip(*words, "--format", "markdown").stdout.replace("\\", "")
        assert intervals(shown) == intervals(whole) != []
        assert "\x1b[1m" in shown
        lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
        assert max(cell_len(line) for line in lines) <= width
        assert "…" not in shown, "what does not fit continues below"
        assert "t Holm" in shown and "rank Holm" in shown and "worst" in shown


def intervals(text: str) -> list[str]:
    """Those that are not torn apart."""
    return sorted(re.findall(r"\[-?\d+\.\d+, -?\d+\.\d+\]", text))


def test_what_goes_into_a_pipe_has_no_colours(deltagclip: Invoke, runs: Path) -> None:
    shown = deltagclip("compare", "--baseline", "sgd").stdout
    assert "tiny: test/accuracy" in shown and "\x1b" not in shown


def test_what_goes_into_a_file_has_no_colours_even_if_the_terminal_must_have_them(
    deltagclip: Invoke, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    deltagclip("compare", "--baseline", "sgd", "--output", "table.txt")
    written = (tmp_path / "table.txt").read_text("utf-8")
    assert "tiny: test/accuracy" in written and "\x1b" not in written


# ------------------------------------------------------------------------ several experiments


def test_every_experiment_is_judged_by_its_own_metric(
    deltagclip: Invoke, runs: Path, tmp_path: Path
) -> None:
    for seed in (0, 1):
        write_events(runs / "auto", [0.5, 0.25], "test_loss", seed)
    for trial in trials_of(tmp_path, "seeds=[0, 1]"):
        other = trial.model_copy(update={"experiment": "another"})
        write_run(runs, other, [0.25 if trial.label == "sgd" else 0.75])
    answer = json.loads(deltagclip("compare", "another", "tiny", "runs/auto", "--json").stdout)
    metrics = {each["experiment"]: each["metric"] for each in answer["experiments"]}
    expected = {"another": "test/accuracy", "tiny": "test/accuracy", "auto": "test/loss"}
    assert metrics == expected
    shutil.rmtree(runs / "auto")
    done = deltagclip("compare")
    assert "another: test/accuracy" in done.stdout and "tiny: test/accuracy" in done.stdout
    assert "2 experiments together" in done.stdout
    answer = json.loads(deltagclip("compare", "--json").stdout)
    assert answer["across"]["ranking"]["mean_rank"] == {"delta-gclip": 1.5, "sgd": 1.5}


def test_torch_is_not_loaded_and_tensorboard_for_logs_of_others_only(
    runs: Path, tmp_path: Path
) -> None:
    write_events(tmp_path / "logs" / "one", [0.5])
    code = """
import json, sys
from deltagclip_cli.commands.main import main
for folder in ("runs", "logs"):
    sys.argv[1:] = ["compare", folder, "--output", "a.json"]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ours, others = (set(json.loads(line)) for line in done.stdout.splitlines())
    assert {"scipy", "deltagclip_cli"} <= ours and "tensorboard" not in ours
    assert "tensorboard" in others
    assert not {"torch", "torchvision", "torchgen"} & others
