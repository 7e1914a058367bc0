"""Run folders of this project: groups, outcomes, and curves from ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
import random
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from run_cases import Record, finish, lines, make_run, record
from tiny_spec import trial_of, trials_of

from deltagclip_cli.core import RunFolderError
from deltagclip_cli.results.read.run import Group, Outcome, Reading, Run
from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.folder import RunFolder, lines_of
from deltagclip_cli.runs.hold import HeldFolder, create, hold
from deltagclip_cli.spec.trial import Trial

LABELS = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 2
    optimizers:
      one: {name: sgd, lr: 0.1}
      two: {name: sgd, lr: 0.1}
"""


def groups_of(folder: Path, trials: Sequence[Trial]) -> list[Group]:
    """The groups of trials that have just begun, in their order."""
    folders = [RunFolder.of(folder / "runs", trial) for trial in trials]
    for run, trial in zip(folders, trials, strict=True):
        create(run, trial)
    reading = read_trials(run.path for run in folders)
    assert list(reading.problems) == []
    return list(dict.fromkeys(run.group for run in reading.runs))


def told(groups: Sequence[Group]) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    return [(each.optimizer, dict(each.settings), dict(each.conditions)) for each in groups]


def read_one(tmp_path: Path, content: bytes, status: str | None = None) -> tuple[Run, list[str]]:
    """The run of such a ``metrics.jsonl``, and the problems without the path of the file."""
    folder = make_run(tmp_path, trial_of(tmp_path), content, status)
    reading = read_trials([folder.path])
    (run,) = reading.runs
    return run, [each.replace(f"{folder.metrics_file}: ", "") for each in reading.problems]


def losses(run: Run) -> list[float]:
    return run.curves["test/loss"].values.tolist()


# -------------------------------------------------------------------- groups


def test_runs_that_differ_in_nothing_but_the_seed_are_a_group(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[3, 5]", "grid={sgd: {lr: [0.1, 0.2]}}")
    folders = [make_run(tmp_path, trial).path for trial in trials]
    runs = read_trials(folders).runs
    assert [run.folder for run in runs] == folders
    assert [(run.group.name, run.seed) for run in runs] == [
        ("sgd lr=0.1", 3),
        ("sgd lr=0.1", 5),
        ("sgd lr=0.2", 3),
        ("sgd lr=0.2", 5),
        ("delta-gclip", 3),
        ("delta-gclip", 5),
    ]
    assert {run.group.experiment for run in runs} == {"tiny"}
    assert runs[0].group == runs[1].group != runs[2].group
    options = {"name": "sgd", "lr": 0.2, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0}
    assert runs[2].group.options == options


def test_what_is_measured_under_other_conditions_is_no_setting(tmp_path: Path) -> None:
    grid = "grid={data.batch_size: [2, 4], sgd: {lr: [0.1, 0.2]}}"
    first, *_, last = groups_of(tmp_path, trials_of(tmp_path, grid))
    two, four = {"data.batch_size": "2"}, {"data.batch_size": "4"}
    assert told([first, last]) == [
        ("sgd", {"lr": "0.1"}, two),
        ("delta-gclip", {}, four),
    ]


def test_settings_are_told_apart_within_their_conditions(tmp_path: Path) -> None:
    few = trials_of(tmp_path, "epochs=1", "grid={sgd: {lr: [0.1, 0.2]}}")
    many = trials_of(tmp_path, "epochs=3", "optimizers.sgd.lr=0.5")
    assert told(groups_of(tmp_path, [*few, *many])) == [
        ("sgd", {"lr": "0.1"}, {"epochs": "1"}),
        ("sgd", {"lr": "0.2"}, {"epochs": "1"}),
        ("delta-gclip", {}, {"epochs": "1"}),
        ("sgd", {}, {"epochs": "3"}),  # there is no other rate under these conditions
        ("delta-gclip", {}, {"epochs": "3"}),
    ]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("epochs=1", "epochs=2", {"epochs": ("1", "2")}),
        ("precision=bf16", "precision=fp32", {"precision": ("bf16", "fp32")}),
        ("seeds=[0]", "determinism=fast", {"determinism": ("exact", "fast")}),
        ("seeds=[0]", "accumulate=2", {"accumulate": ("off", "2")}),
        ("model.hidden=[8]", "model.hidden=[8, 8]", {"model.hidden": ("[8]", "[8,8]")}),
        (
            "task={name: classify}",
            "task={name: classify, reduction: sum}",
            {"task.reduction": ("mean", "sum")},
        ),
        ("data.noise=0.5", "data.noise=0.25", {"data.noise": ("0.5", "0.25")}),
    ],
)
def test_labels_that_were_run_under_one_condition_each_are_not_comparable(
    tmp_path: Path, one: str, other: str, words: dict[str, tuple[str, str]]
) -> None:
    first, _ = trials_of(tmp_path, one)
    _, second = trials_of(tmp_path, other)
    assert told(groups_of(tmp_path, [first, second])) == [
        ("sgd", {}, {key: pair[0] for key, pair in words.items()}),
        ("delta-gclip", {}, {key: pair[1] for key, pair in words.items()}),
    ]


def test_a_schedule_is_a_setting_and_no_condition(tmp_path: Path) -> None:
    plain, *_ = trials_of(tmp_path)
    cosine, *_ = trials_of(tmp_path, "schedule=cosine")
    found = told(groups_of(tmp_path, [plain, cosine]))
    assert [conditions for _, _, conditions in found] == [{}, {}]
    assert [settings["schedule"] for _, settings, _ in found] == ["off", "cosine"]


def test_the_rhythm_of_writing_files_is_neither(tmp_path: Path) -> None:
    quiet, *_ = trials_of(tmp_path, "seeds=[0]")
    busy, *_ = trials_of(tmp_path, "seeds=[1]", "log_every=1", "checkpoint.epochs=2")
    assert told(groups_of(tmp_path, [quiet, busy])) == [("sgd", {}, {})]


def test_experiments_are_not_measured_by_each_other(tmp_path: Path) -> None:
    trial = trial_of(tmp_path)
    other = trial.model_copy(update={"experiment": "other", "epochs": 7})
    found = groups_of(tmp_path, [trial, other])
    assert told(found) == [("sgd", {}, {})] * 2
    assert [each.experiment for each in found] == ["tiny", "other"]


def test_two_labels_of_one_setting_are_two_groups(tmp_path: Path) -> None:
    one, two = trials_of(tmp_path, text=LABELS)
    assert one.setting_hash == two.setting_hash
    assert told(groups_of(tmp_path, [one, two])) == [("one", {}, {}), ("two", {}, {})]


# -------------------------------------------------------------------- trials


@pytest.mark.parametrize(
    "content",
    [b"", b"seed: 0\n", b"\xff\xfe", b"lr: 0.1\nseed: 3\noptimizer: adam\n", b"[", b"a: !!x {}"],
)
def test_a_trial_that_cannot_be_read_is_a_problem_and_the_others_are_read(
    tmp_path: Path, content: bytes
) -> None:
    trial = trial_of(tmp_path)
    good = make_run(tmp_path / "good", trial)
    bad = make_run(tmp_path / "line\nend", trial)
    bad.trial_file.write_bytes(content)
    reading = read_trials([bad.path, good.path])
    assert [run.folder for run in reading.runs] == [good.path]
    (problem,) = reading.problems
    assert problem.startswith(f"{bad.trial_file}: not a trial that this version reads: ")
    assert "Delete" not in problem


FOREIGN = {
    "model": ("name: mlp", "name: transformer_of_tomorrow", "transformer_of_tomorrow"),
    "data": ("name: synthetic", "name: 'mine.py:pictures'", "there is no file mine.py"),
    "task": ("name: classify", "name: segment", "segment"),
    "loss": ("loss: cross_entropy", "loss: focal", "focal"),
    "optimizer": ("name: sgd", "name: sgd_of_tomorrow", "sgd_of_tomorrow"),
    "option": ("lr: 0.1", "lr: 0.1\n  lookahead: 5", "lookahead"),
    "value": ("lr: 0.1", "lr: slow", "slow"),
    "schedule": ("schedule: null", "schedule: {name: wsd, decay: 3}", "wsd"),
    "augmentation": ("augment: []", "augment: [{name: mixup, alpha: 1}]", "mixup"),
}


def make_foreign(tmp_path: Path, name: str) -> RunFolder:
    """A finished run whose trial names what this version lacks."""
    folder = make_run(tmp_path, trial_of(tmp_path), status="finished")
    before, after, _ = FOREIGN[name]
    text = folder.trial_file.read_text()
    assert before in text
    folder.trial_file.write_text(text.replace(before, after, 1))
    return folder


@pytest.mark.parametrize("name", FOREIGN)
def test_a_run_is_read_though_it_names_what_this_version_lacks(tmp_path: Path, name: str) -> None:
    folder = make_foreign(tmp_path, name)
    reading = read_trials([folder.path])
    assert list(reading.problems) == []
    (run,) = reading.runs
    assert losses(run) == [0.5, 0.5]
    assert run.outcome is Outcome.FINISHED


@pytest.mark.parametrize("name", FOREIGN)
def test_such_a_run_is_not_run_again_and_the_fault_is_named(tmp_path: Path, name: str) -> None:
    folder = make_foreign(tmp_path, name)
    with pytest.raises(RunFolderError) as refused:
        folder.trial_to_run()
    message = str(refused.value)
    assert FOREIGN[name][2] in message
    for raw in ("pydantic", "validation error", "input_value", "type="):
        assert raw not in message


def test_a_folder_whose_trial_has_gone_is_a_problem(tmp_path: Path) -> None:
    reading = read_trials([tmp_path])
    assert list(reading.runs) == []
    assert list(reading.problems) == [f"{tmp_path}: not a run folder, for it has no trial.yaml."]


def test_of_no_folders_nothing_is_read() -> None:
    assert read_trials([]) == Reading([], [])


# ------------------------------------------------------------------ outcomes


def test_a_run_with_its_result_has_ended_as_that_says(tmp_path: Path) -> None:
    first, second = trials_of(tmp_path)
    done = make_run(tmp_path, first, status="finished")
    gone = make_run(tmp_path, second, lines(record(1)), "diverged")
    reading = read_trials([done.path, gone.path])
    assert [(run.outcome, run.reason) for run in reading.runs] == [
        (Outcome.FINISHED, ""),
        (Outcome.DIVERGED, "the loss in training was not finite at step 3 (epoch 2)"),
    ]
    assert [losses(run) for run in reading.runs] == [[0.5, 0.5], [0.5]]
    assert list(reading.problems) == []


def test_a_run_that_failed_says_why(tmp_path: Path) -> None:
    folder = make_run(tmp_path, trial_of(tmp_path), lines(record(1)))
    HeldFolder(folder).record_failure(ValueError("x"), "out of\x1b[31m memory\nand more")
    (run,) = read_trials([folder.path]).runs
    assert (run.outcome, run.reason) == (Outcome.FAILED, r"out of\x1b[31m memory")
    assert losses(run) == [0.5]


def test_a_run_that_was_stopped_pruned_or_goes_on_is_unfinished(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, "seeds=[0, 1, 2, 3, 4]")[:5]
    new, begun, stopped, pruned, torn = (make_run(tmp_path, t, lines(record(1))) for t in trials)
    new.metrics_file.unlink()
    HeldFolder(stopped).record_stop("Ctrl-C")
    HeldFolder(pruned).record_pruning("worse than others")
    torn.result_file.write_text('{"status": "fini')
    folders = (new, begun, stopped, pruned, torn)
    with hold(begun):
        reading = read_trials(folder.path for folder in folders)
    assert {run.outcome for run in reading.runs} == {Outcome.UNFINISHED}
    damage = "result.json is damaged: Invalid JSON: EOF while parsing a string at line 1 column 16"
    assert [run.reason for run in reading.runs] == ["", "", "Ctrl-C", "worse than others", damage]
    assert [len(run.curves) for run in reading.runs] == [0, 2, 2, 2, 2]
    assert list(reading.problems) == []


def test_a_run_that_ends_while_it_is_read_is_not_taken_for_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path, trial_of(tmp_path), lines(record(1)))

    def read_and_go_on(path: Path) -> Iterator[bytes]:
        content = list(lines_of(path))
        folder.metrics_file.write_bytes(lines(record(1), record(2)))
        finish(folder)
        return iter(content)

    monkeypatch.setattr("deltagclip_cli.results.read.tree.lines_of", read_and_go_on)
    reading = read_trials([folder.path])
    assert [run.outcome for run in reading.runs] == [Outcome.UNFINISHED]
    assert list(reading.problems) == []


# -------------------------------------------------------------------- curves


def test_a_curve_has_epochs_steps_and_seconds_of_training(tmp_path: Path) -> None:
    """Not the time of the clock, which goes on while a run waits to be continued."""
    late = {**record(2, 0.25), "time": 2e9, "perf/epoch_seconds": 0.5}
    run, problems = read_one(tmp_path, lines(record(1), late), "finished")
    assert (list(run.curves), problems) == (["test/loss", "perf/epoch_seconds"], [])
    curve = run.curves["test/loss"]
    assert curve.epochs.tolist() == [1, 2]
    assert curve.steps.tolist() == [2, 4]
    assert curve.seconds.tolist() == [0.25, 0.75]
    assert curve.values.tolist() == [0.5, 0.25]
    assert curve.values.dtype == np.float64


def test_records_of_steps_are_passed_over(tmp_path: Path) -> None:
    step = {"epoch": 1, "step": 1, "time": 1e9, "step/train/loss": 9.0}
    run, problems = read_one(tmp_path, lines(step, record(1), step, record(2)), "finished")
    assert (list(run.curves), problems) == (["test/loss", "perf/epoch_seconds"], [])
    assert losses(run) == [0.5, 0.5]


def test_a_run_that_has_only_records_of_steps_has_no_curves(tmp_path: Path) -> None:
    step = {"epoch": 0, "step": 1, "time": 1e9, "step/train/loss": 9.0}
    run, problems = read_one(tmp_path, lines(step))
    assert (dict(run.curves), problems) == ({}, [])


def test_null_is_not_a_number_and_neither_is_what_was_not_recorded(tmp_path: Path) -> None:
    """A metric may appear late, and names may come in another order."""
    late = {"test/accuracy": 0.75, **record(2)}
    run, _ = read_one(tmp_path, lines(record(1, None), late, record(3)))
    np.testing.assert_array_equal(losses(run), [math.nan, 0.5, 0.5])
    values = run.curves["test/accuracy"].values
    np.testing.assert_array_equal(values, [math.nan, 0.75, math.nan])
    assert run.curves["test/accuracy"].epochs.tolist() == [1, 2, 3]


def test_names_may_come_in_another_order(tmp_path: Path) -> None:
    turned = dict(reversed(record(2, 0.25).items()))
    run, _ = read_one(tmp_path, lines(record(1), turned))
    assert losses(run) == [0.5, 0.25]
    assert run.curves["test/loss"].steps.tolist() == [2, 4]


def test_values_are_those_that_the_standard_library_reads(tmp_path: Path) -> None:
    """Bit for bit: random doubles, in as many digits as they need and in more."""
    rng = random.Random(0)
    doubles = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(2000)]
    finite = [x for x in doubles if math.isfinite(x)] + [rng.random() for _ in range(2000)]
    finite += [5e-324, 2.2250738585072011e-308, 1.7976931348623157e308, -0.0, 0.1, 1e23]
    shown = [form(x) for x in finite for form in (repr, "{:.25e}".format)]
    marked = lines(*(record(epoch, f"NUMBER {each}") for epoch, each in enumerate(shown, 1)))
    content = re.sub(r'"NUMBER ([^"]+)"', r"\1", marked.decode())
    run, _ = read_one(tmp_path, content.encode())
    expected = np.array([json.loads(each) for each in shown])
    assert run.curves["test/loss"].values.tobytes() == expected.tobytes()


def test_infinite_values_of_other_writers_are_kept(tmp_path: Path) -> None:
    run, _ = read_one(tmp_path, lines(record(1, math.inf), record(2, -math.inf)))
    assert losses(run) == [math.inf, -math.inf]


# -------------------------------------------------------------------- damage


def test_a_run_without_metrics_has_no_curves(tmp_path: Path) -> None:
    folder = make_run(tmp_path, trial_of(tmp_path))
    folder.metrics_file.unlink()
    reading = read_trials([folder.path])
    assert [dict(run.curves) for run in reading.runs] == [{}]
    assert list(reading.problems) == []


@pytest.mark.parametrize("end", [b'{"epoch": 2, "st', b"\0\0\0", lines(record(2))[:-1]])
def test_a_last_line_that_is_being_written_does_not_count(tmp_path: Path, end: bytes) -> None:
    run, problems = read_one(tmp_path, lines(record(1)) + end)
    assert (losses(run), problems) == ([0.5], [])


@pytest.mark.parametrize(
    "line",
    [b'{"epoch": 2, "st', b"", b"\0\0", b"\xff", b"7", b"null", b"[]", b'"perf/epoch_seconds"'],
)
def test_of_a_damaged_file_the_part_before_is_read_and_that_is_said(
    tmp_path: Path, line: bytes
) -> None:
    content = lines(record(1)) + line + b"\n" + lines(record(3))
    run, problems = read_one(tmp_path, content, "finished")
    assert losses(run) == [0.5]
    assert problems == ["damaged after line 1; what follows was not read."]


def test_lines_are_not_mistaken_for_one_another(tmp_path: Path) -> None:
    """Halves that would be whole if they were put together."""
    whole = lines(record(2))
    run, problems = read_one(tmp_path, lines(record(1)) + whole.replace(b", ", b"\n", 1))
    assert losses(run) == [0.5]
    assert problems == ["damaged after line 1; what follows was not read."]


@pytest.mark.parametrize(
    "bad",
    [
        record(2, "much"),
        record(2, [1.0]),
        record(2, {}),
        record(2, 10**400),
        record(2, "0.25"),
        record(2, True),
        {"perf/epoch_seconds": 0.25},
        {**record(2), "step": None},
        {**record(2), "epoch": math.nan},
    ],
    ids=["text", "list", "object", "huge", "digits", "truth", "bare", "no step", "no epoch"],
)
@pytest.mark.parametrize("before", [[], [record(1)]], ids=["alone", "second"])
def test_records_of_something_else_are_a_problem_and_the_run_is_still_listed(
    tmp_path: Path, bad: Record, before: list[Record]
) -> None:
    run, problems = read_one(tmp_path, lines(*before, bad), "finished")
    assert (run.outcome, dict(run.curves)) == (Outcome.UNFINISHED, {})
    (problem,) = problems
    assert problem.startswith("not records of a training: ")


@pytest.mark.parametrize(
    "epochs", [[1, 1, 2], [1, 3], [2, 1], [1, 1.5, 2], [0, 1, 2], [1, 2, 1, 2]]
)
@pytest.mark.parametrize("status", [None, "finished", "diverged"])
def test_records_that_do_not_follow_one_another_are_a_problem_and_the_run_is_left_out(
    tmp_path: Path, epochs: list[float], status: str | None
) -> None:
    content = lines(*({**record(1), "epoch": epoch} for epoch in epochs))
    run, problems = read_one(tmp_path, content, status)
    assert problems == [BACKWARDS] and dict(run.curves) == {}
    assert run.outcome is (Outcome.DIVERGED if status == "diverged" else Outcome.UNFINISHED)


BACKWARDS = "not records of a training: epochs or steps do not follow one another."


def test_steps_that_go_backwards_are_named(tmp_path: Path) -> None:
    _, problems = read_one(tmp_path, lines(record(1), {**record(2), "step": 1}), "finished")
    assert problems == [BACKWARDS]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (lines(record(1), record(2, 0.4)), "ends with test/loss 0.4, but result.json has 0.5"),
        (lines(record(1), record(2, None)), "ends with test/loss nan, but result.json has 0.5"),
        (lines(record(1), record(2), record(3)), "ends at epoch 3 of 2"),
        (lines(record(1)), "ends at epoch 1 of 2"),
        (b"", "ends at epoch 0 of 2"),
    ],
)
def test_metrics_that_disagree_with_the_result_are_named_and_the_run_is_left_out(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    folder = make_run(tmp_path, trial_of(tmp_path), status="finished")
    folder.metrics_file.write_bytes(content)
    reading = read_trials([folder.path])
    assert list(reading.problems) == [f"{folder.metrics_file}: {fault}."]
    assert [run.outcome for run in reading.runs] == [Outcome.UNFINISHED]


def test_metrics_that_cannot_be_read_are_a_problem(tmp_path: Path) -> None:
    folder = make_run(tmp_path, trial_of(tmp_path))
    folder.metrics_file.unlink()
    folder.metrics_file.mkdir()
    reading = read_trials([folder.path])
    assert [dict(run.curves) for run in reading.runs] == [{}]
    why = "it is a folder, not a file"
    assert list(reading.problems) == [f"{folder.metrics_file}: cannot be read: {why}."]


@pytest.mark.parametrize(
    ("content", "last"), [(b"", 0), (lines(record(1)), 1), (lines(record(1), record(2))[:-1], 1)]
)
def test_a_finished_run_whose_metrics_end_too_early_is_a_problem(
    tmp_path: Path, content: bytes, last: int
) -> None:
    _, problems = read_one(tmp_path, content, "finished")
    assert problems == [f"ends at epoch {last} of 2."]
