"""CSV files as logs: of Lightning, of Keras, and of anybody else; whole, cut and damaged."""

from __future__ import annotations

import gzip
import math
import os
import time
from pathlib import Path

import pytest
from run_cases import make_events

from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.run import Outcome, Reading, Run
from deltagclip_cli.results.read.tree import Place, read_tree

# As Lightning 2.6 wrote it, with two loggings of a step, an evaluation and a learning rate.
LIGHTNING = """\
epoch,lr-Adam,step,train_acc_epoch,train_loss,val_acc,val_loss
,0.1,4,,,,
0,,4,,0.5649767518043518,,
0,,15,,,0.9609375,0.22123977541923523
0,,15,0.7421875,,,
,0.0993844170297569,19,,,,
1,,19,,0.19857724010944366,,
1,,31,,,0.984375,0.14409179985523224
"""
# As Keras 3.15 wrote it.
KERAS = "epoch,accuracy,loss,val_accuracy,val_loss\r\n" + "".join(
    f"{n},0.6{n},0.7{n},0.6875,0.65\r\n" for n in range(4)
)
RUNS = [("adam", 0), ("adam", 1), ("sgd", 0), ("sgd", 1)]


def put(path: Path, text: str | bytes, age: float = 1000.0) -> Path:
    """Write a file, some seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (time.time() - age,) * 2)
    return path


def read(root: Path) -> Reading:
    return read_tree([root], Naming())


def only(root: Path) -> Run:
    reading = read(root)
    assert list(reading.problems) == []
    (run,) = reading.runs
    return run


def values(run: Run, name: str) -> list[float]:
    return run.curves[name].values.tolist()


def test_lightnings_rows_are_points_of_the_metrics_that_each_has(tmp_path: Path) -> None:
    put(tmp_path / "logs" / "lightning_logs" / "version_0" / "metrics.csv", LIGHTNING)
    run = only(tmp_path / "logs")
    assert list(run.curves) == [
        "lr-Adam", "train/loss", "val/accuracy", "val/loss", "train_acc_epoch",
    ]  # fmt: skip
    assert run.curves["train/loss"].steps.tolist() == [4, 19]
    assert run.curves["val/accuracy"].steps.tolist() == [15, 31]
    assert values(run, "val/accuracy") == [0.9609375, 0.984375]
    assert (run.clock, run.outcome) == ("step", Outcome.FINISHED)
    assert run.folder == tmp_path / "logs" / "lightning_logs" / "version_0"


def test_hyperparameters_beside_them_tell_lightnings_versions_apart(tmp_path: Path) -> None:
    for number, (optimizer, seed) in enumerate(RUNS):
        version = tmp_path / "lightning_logs" / f"version_{number}"
        put(version / "metrics.csv", LIGHTNING)
        put(version / "hparams.yaml", f"lr: 0.1\noptimizer: {optimizer}\nseed: {seed}\n")
    reading = read(tmp_path)
    groups = [(run.group.name, run.seed) for run in reading.runs]
    assert groups == [(optimizer, str(seed)) for optimizer, seed in RUNS]
    assert list(reading.problems) == []


def test_each_of_several_files_in_a_folder_is_a_run_of_its_name(tmp_path: Path) -> None:
    for name in ("adam_seed0", "adam_seed1", "sgd_seed0"):
        put(tmp_path / f"{name}.csv", KERAS)
    put(tmp_path / "people.csv", "name,age\nAda,36\n")
    runs = read(tmp_path).runs
    assert [(run.group.name, run.seed) for run in runs] == [
        ("adam", "0"), ("adam", "1"), ("sgd", "0"),
    ]  # fmt: skip
    assert values(runs[0], "val/accuracy") == [0.6875] * 4
    assert runs[0].curves["loss"].epochs.tolist() == [0, 1, 2, 3]
    assert runs[0].clock == "epoch"


@pytest.mark.parametrize(
    "text",
    [
        "step;test acc\n1;0,25\n2;0,5\n",
        "step\ttest acc\n1\t0.25\n2\t0.5\n",
        "\ufeffStep, Test Acc \n1, 0.25\n\n2, 0.5\n",
        "global_step,test_acc,note\n1,0.25,begun\n2,0.5,\n",
        "step,epoch,test_acc\n1,0,0.25\nstep,epoch,test_acc\n2,0,0.5\n",
        "step,test_acc\n1,0.25\n2,0.75\n3,0.75\n2,0.5\n",  # a restart that ended earlier
    ],
)
def test_other_programs_write_other_forms(tmp_path: Path, text: str) -> None:
    put(tmp_path / "adam" / "log.csv", text)
    (run,) = read(tmp_path).runs
    assert list(run.curves) == ["test/accuracy"]
    assert run.curves["test/accuracy"].steps.tolist() == [1, 2]
    assert values(run, "test/accuracy") == [0.25, 0.5]
    assert run.group.optimizer == "adam"


def counts(metric: str, *values: float, begin: int = 0) -> str:
    """A table with a column ``epoch``."""
    rows = (f"{epoch},{value}\n" for epoch, value in enumerate(values, begin))
    return f"epoch,{metric}\n{''.join(rows)}"


@pytest.mark.parametrize(
    ("files", "label", "curves"),
    [
        (
            {"a/train_log": counts("loss", 1, 2), "a/test_log": counts("loss", 3, 4)},
            "a",
            {"train/loss": [1, 2], "test/loss": [3, 4]},
        ),
        (
            {"a/metrics": counts("train_loss,val_loss", "1,2"), "a/val": counts("acc", 3)},
            "a",
            {"train/loss": [1], "val/loss": [2], "val/accuracy": [3]},
        ),
        (
            {"a_train": counts("loss,lr", "1,9"), "a_valid": counts("loss,lr", "2,8")},
            "a",
            {"train/loss": [1], "optim/lr": [9], "val/loss": [2]},
        ),
        ({"a/loss": counts("x", 1), "a/acc": counts("y", 2)}, "a", {"y": [2], "x": [1]}),
        (
            {"a/metrics": counts("x", 1, 2, 3), "a/metrics_1": counts("x", 4, 5, begin=2)},
            "a",
            {"x": [1, 2, 4, 5]},
        ),
        (  # the earlier one was given another name
            {"a/metrics": counts("x", 4, 5, begin=2), "a/metrics_20240101": counts("x", 1, 2, 3)},
            "a",
            {"x": [1, 2, 4, 5]},
        ),
        (
            {
                "a/train": counts("x", 1),
                "a/test": counts("x", 2),
                "a/train2": counts("x", 3, begin=1),
                "a/test2": counts("x", 4, begin=1),
            },
            "a",
            {"train/x": [1, 3], "test/x": [2, 4]},
        ),
    ],
)
def test_files_of_one_run_are_put_together(
    tmp_path: Path, files: dict[str, str], label: str, curves: dict[str, list[float]]
) -> None:
    for name, text in files.items():
        put(tmp_path / f"{name}.csv", text)
        put(tmp_path / f"{name.replace('a', 'b', 1)}.csv", text)
    reading = read(tmp_path)
    assert [run.group.optimizer for run in reading.runs] == [label, "b"]
    assert list(reading.problems) == []
    for run in reading.runs:
        assert {name: values(run, name) for name in run.curves} == curves


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (counts("train_loss", 1), counts("train_loss,val_loss", "1,2"), "train/loss is in several"),
        ("step,x\n1,2\n", counts("y", 1), "some count steps, and some epochs"),
    ],
)
def test_files_that_cannot_be_put_together_are_told_of(
    tmp_path: Path, one: str, other: str, why: str
) -> None:
    put(tmp_path / "a_step.csv", one)
    put(tmp_path / "a_epoch.csv", other)
    reading = read(tmp_path)
    assert [run.group.optimizer for run in reading.runs] == ["a_epoch", "a_step"]
    (problem,) = reading.problems
    assert problem.startswith(f"{tmp_path}: a_epoch.csv and a_step.csv count as 2 runs: {why}.")


def test_numbers_tell_runs_apart_that_begin_alike(tmp_path: Path) -> None:
    put(tmp_path / "adam" / "log_0.csv", counts("x", 1))
    put(tmp_path / "adam" / "log_1.csv", counts("x", 2, 3))
    reading = read(tmp_path)
    assert [run.group.optimizer for run in reading.runs] == ["adam/log_0", "adam/log_1"]
    united = read_tree([tmp_path], Naming("(?P<optimizer>adam)"))
    assert len({run.group for run in united.runs}) == 1
    (problem,) = united.problems
    assert problem.startswith("2 files count as repetitions, without a seed, of 1 folder")
    by_seed = read_tree([tmp_path], Naming(r"(?P<optimizer>adam)/log_(?P<seed>\d)"))
    assert list(by_seed.problems) == []


def test_a_run_that_begins_where_another_was_is_told_of(tmp_path: Path) -> None:
    put(tmp_path / "version_0" / "metrics.csv", counts("x", 1, 2, 3, 4))
    put(tmp_path / "version_1" / "metrics.csv", counts("x", 5, 6, begin=3))
    (problem,) = read_tree([tmp_path], Naming(r"version_(?P<seed>\d)")).problems
    assert problem.startswith(f"{tmp_path / 'version_1'}: begins at step 3, and ")


@pytest.mark.parametrize(
    ("text", "there", "problem"),
    [
        ('step,reward\n1,900\n2,"1,100"\n', [900], "1 cell of 'reward' left out, written as no"),
        ("step;reward\n1;0,5\n2;1.234,5\n", [0.5], "number is: '1.234,5'."),
        ("step,reward,acc\n1,2,91%\n2,3,92%\n", [2, 3], "2 cells of 'acc' left out, written as"),
        (
            "step,reward\n1,2\n2,3\n1,4\n2,5\n3,6\n",
            [4, 5, 6],
            "begins 2 times, at step 1; the last",
        ),
    ],
)
def test_what_may_not_be_meant_is_told(
    text: str, there: list[float], problem: str, tmp_path: Path
) -> None:
    path = put(tmp_path / "adam" / "log.csv", text)
    reading = read(tmp_path)
    assert values(reading.runs[0], "reward") == there
    (said,) = reading.problems
    assert said.startswith(f"{path}: ") and problem in said


def test_steps_that_are_counted_anew_in_each_epoch_are_no_restarts(tmp_path: Path) -> None:
    put(tmp_path / "adam" / "log.csv", "epoch,step,loss\n0,0,4\n0,1,3\n1,0,1\n1,1,2\n")
    curve = only(tmp_path).curves["loss"]
    assert curve.values.tolist() == [4, 3, 1, 2]
    assert curve.epochs.tolist() == [0, 0, 1, 1] and curve.has_epochs


def test_what_is_not_finite_is_kept_and_tells_of_divergence(tmp_path: Path) -> None:
    put(tmp_path / "adam" / "log.csv", "step,loss,acc\n1,0.5,inf\n2,NaN,0.5\n")
    run = only(tmp_path)
    assert values(run, "acc") == [math.inf, 0.5]
    assert run.outcome is Outcome.DIVERGED
    assert run.reason == "loss is nan at its last step, 2"


@pytest.mark.parametrize(
    ("column", "cells", "seconds"),
    [
        ("timestamp", ("1700000000.5", "1700000010.5"), [0, 10]),
        ("Wall time", ("2024-01-01T12:00:00", "2024-01-01T12:00:10"), [0, 10]),
        ("time", ("5", "15"), [5, 15]),  # since the beginning
    ],
)
def test_times_are_read_where_there_are_any(
    tmp_path: Path, column: str, cells: tuple[str, str], seconds: list[float]
) -> None:
    put(tmp_path / "a" / "log.csv", f"step,loss,{column}\n1,0.5,{cells[0]}\n2,0.25,{cells[1]}\n")
    run = only(tmp_path)
    assert list(run.curves) == ["loss"]
    assert run.curves["loss"].seconds.tolist() == pytest.approx(seconds)


def test_the_time_that_each_epoch_took_is_a_metric(tmp_path: Path) -> None:
    put(tmp_path / "a" / "log.csv", "epoch,loss,time\n1,0.5,9.5\n2,0.25,9.25\n")
    run = only(tmp_path)
    assert values(run, "time") == [9.5, 9.25]
    assert all(math.isnan(each) for each in run.curves["loss"].seconds)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1,0.5\n2,0.2", "its last line has no end; it is cut off, or still being written"),
        ("1,0.5\n2\n3,0.1\n", "damaged in line 3; what follows was not read"),
        ("1,0.5\n" + "\0" * 50 + "\n3,0.1\n", "damaged in line 3; what follows was not read"),
        ("1,0.5\nabc,0.25\n", "damaged in line 3; what follows was not read"),
        ("1,0.5\n\xff\xfe,0.25\n", "damaged in line 3; what follows was not read"),
        ('1,0.5\n"2,0.25\n' + "x" * 200_000 + "\n", "damaged in line 4; what follows was not read"),
    ],
)
def test_of_a_file_that_is_not_whole_what_comes_before_is_read(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = put(tmp_path / "adam" / "log.csv", b"step,loss\n" + text.encode("latin-1"))
    reading = read(tmp_path)
    (run,) = reading.runs
    assert values(run, "loss") == [0.5]
    assert list(reading.problems) == [f"{path}: {problem}."]
    assert run.outcome is Outcome.UNFINISHED
    assert run.reason == "its log cannot be read to its end, from step 1 on"


def test_a_log_without_a_row_is_told_of(tmp_path: Path) -> None:
    put(tmp_path / "adam" / "log.csv", "step,loss\n")
    put(tmp_path / "sgd" / "log.csv", "step,loss\n1,0.5\n")
    assert list(read(tmp_path).problems) == [
        f"{tmp_path / 'adam'}: there are no scalars in its log."
    ]


def test_a_log_that_is_behind_others_and_was_just_written_still_grows(tmp_path: Path) -> None:
    put(tmp_path / "a_seed0.csv", KERAS)
    put(tmp_path / "a_seed1.csv", KERAS.rpartition("3,0.63")[0], age=5.0)
    reading = read(tmp_path)
    assert [run.outcome for run in reading.runs] == [Outcome.FINISHED, Outcome.UNFINISHED]
    words = "still growing: at step 2 of 3 that others have come to"
    assert list(reading.problems) == [f"{tmp_path / 'a_seed1.csv'}: {words}."]


def test_of_one_that_is_not_behind_nobody_knows_and_it_is_said(tmp_path: Path) -> None:
    put(tmp_path / "a_seed0.csv", KERAS, age=5.0)
    put(tmp_path / "a_seed1.csv", KERAS)
    reading = read(tmp_path)
    assert {run.outcome for run in reading.runs} == {Outcome.FINISHED}
    (problem,) = reading.problems
    assert problem.startswith(f"1 run wrote less than a minute ago ({tmp_path / 'a_seed0.csv'})")


def test_they_stand_beside_event_files_and_yield_to_those_in_their_folder(tmp_path: Path) -> None:
    make_events(tmp_path / "adam_seed0", {"test_acc": [0.5]})
    put(tmp_path / "adam_seed0" / "metrics.csv", "step,test_acc\n1,0.75\n")
    put(tmp_path / "adam_seed1" / "metrics.csv", "step,test_acc\n1,0.25\n")
    runs = read(tmp_path).runs
    assert [(run.group.name, run.seed) for run in runs] == [("adam", "0"), ("adam", "1")]
    assert [values(run, "test/accuracy") for run in runs] == [[0.5], [0.25]]


@pytest.mark.parametrize("header", ["a,b", "epoch", "experiment,optimizer,identity,step,loss"])
def test_other_tables_are_no_logs(tmp_path: Path, header: str) -> None:
    put(tmp_path / "runs" / "table.csv", f"{header}\n1,2\n")
    assert read(tmp_path).runs == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.csv")
    put(tmp_path / "adam" / "log.csv", KERAS)
    assert only(tmp_path).group.optimizer == "adam"


def test_of_one_that_is_compressed_it_is_said_that_it_is_not_read(tmp_path: Path) -> None:
    packed = put(tmp_path / "sgd" / "metrics.csv.gz", gzip.compress(KERAS.encode()))
    put(tmp_path / "adam" / "metrics.csv", KERAS)
    reading = read(tmp_path)
    assert [run.group.optimizer for run in reading.runs] == ["adam"]
    told = f"{packed}: is compressed, and so not read; unpack it: gunzip."
    assert list(reading.problems) == [told]


def test_where_nothing_is_found_it_is_said_what_a_run_is(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="or CSV with a column 'step' or 'epoch'"):
        Place([str(tmp_path)], tmp_path).read()
