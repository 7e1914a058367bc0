"""Runs that are told of in steps: read, compared and shown by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_cases import lines, result_text
from tiny_spec import TINY, trial_of

from deltagclip_cli.plan.estimates import Estimates
from deltagclip_cli.report.charts.lines import band
from deltagclip_cli.results.compare.analysis import analyse
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.compare.tables import cost_columns, value_table
from deltagclip_cli.results.read.run import Outcome, Reading, Run, split_metric, usual_clock
from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create
from deltagclip_cli.spec.trial import Trial

IN_STEPS = TINY.replace("epochs: 2", "steps: 5")  # of two in a pass
Record = dict[str, Any]


def record(step: int, **others: Any) -> Record:
    return {
        "epoch": step / 2 if step % 2 else step // 2,
        "step": step,
        "time": 1e9 + step,
        "test/loss": 1 / step,
        "perf/epoch_seconds": 0.5,
        **others,
    }


def made(tmp_path: Path, trial: Trial, *records: Record) -> Reading:
    """What is read of a run that ended with these records."""
    folder = RunFolder.of(tmp_path / "runs", trial)
    create(folder, trial)
    folder.metrics_file.write_bytes(lines(*records))
    last = {name: value for name, value in records[-1].items() if "/" in name}
    ends = {"epochs": records[-1]["epoch"], "steps": records[-1]["step"]}
    folder.result_file.write_text(result_text(identity=trial.identity, last=last, **ends))
    return read_trials([folder.path])


def the_run(tmp_path: Path) -> Run:
    reading = made(tmp_path, trial_of(tmp_path, text=IN_STEPS), record(2), record(4), record(5))
    (run,) = reading.runs
    assert reading.problems == []
    return run


def test_a_pass_may_be_cut_short(tmp_path: Path) -> None:
    run = the_run(tmp_path)
    assert run.outcome is Outcome.FINISHED
    curve = run.curves["test/loss"]
    assert curve.epochs.tolist() == [1, 2, 2.5]
    assert curve.steps.tolist() == [2, 4, 5]
    assert curve.seconds.tolist() == [0.5, 1, 1.5]


@pytest.mark.parametrize(
    ("sets", "steps", "is_sound"),
    [
        (["steps=5"], [2, 4, 5], True),
        (["steps=5"], [2, 5], False),
        (["steps=5"], [2, 3, 5], False),
        (["steps=5"], [2, 4], False),
        (["steps=5"], [1, 3, 5], False),
        (["steps=5", "evaluate_every=3"], [3, 5], True),
        (["steps=5", "evaluate_every=3"], [2, 4, 5], False),
        (["steps=5", "evaluate_every=9"], [5], True),
        (["epochs=2", "evaluate_every=3"], [3, 4], True),
        (["epochs=2", "evaluate_every=3"], [4], False),
        (["epochs=2"], [2, 4], True),
        (["epochs=2"], [2, 3], False),
    ],
)
def test_records_that_are_missing_are_noticed(
    sets: list[str], steps: list[int], is_sound: bool, tmp_path: Path
) -> None:
    reading = made(tmp_path, trial_of(tmp_path, *sets), *map(record, steps))
    (run,) = reading.runs
    assert (run.outcome is Outcome.FINISHED) == is_sound == (not reading.problems)


def test_a_run_that_ends_early_says_so_in_steps(tmp_path: Path) -> None:
    reading = made(tmp_path, trial_of(tmp_path, text=IN_STEPS), record(2), record(4))
    assert "ends at step 4 of 5" in reading.problems[0]


def test_a_comparison_tells_of_steps(tmp_path: Path) -> None:
    run = the_run(tmp_path)
    assert usual_clock([run]) == "step"
    (comparison,) = analyse(Reading([run], []), Request()).comparisons
    assert comparison.clock == "step"
    assert "at the last step" in value_table(comparison, comparison.rows).title
    titles = [each.heading for each in cost_columns(comparison)]
    assert "s/step" in titles and "s/epoch" not in titles
    assert comparison.rows[0].epoch_seconds == pytest.approx(1.5 / 5)


def test_curves_on_paper_are_drawn_over_steps(tmp_path: Path) -> None:
    found = band([the_run(tmp_path)], "test/loss")
    assert found is not None
    assert found.x.tolist() == [2, 4, 5]


def test_what_averaged_weights_have_is_a_quantity_of_the_same_data() -> None:
    assert split_metric("test_ema/loss") == ("test", "loss, averaged")
    assert split_metric("validation_ema/loss") == ("val", "loss, averaged")
    assert split_metric("optim_ema/loss") == ("", "optim_ema/loss")


def test_the_time_of_a_trial_follows_from_its_steps(tmp_path: Path) -> None:
    known, longer = (trial_of(tmp_path, each, text=IN_STEPS) for each in ("steps=5", "steps=50"))
    estimates = Estimates()
    estimates.learn(known, {"epochs": 2.5, "steps": 5, "seconds": {"epochs": 1.0}})
    assert estimates.seconds(longer) == pytest.approx(10)
    assert estimates.seconds(trial_of(tmp_path, "epochs=10")) == pytest.approx(4)
    assert estimates.seconds(trial_of(tmp_path, "steps=50", "evaluate_every=1")) is None
