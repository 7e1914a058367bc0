"""``deltagclip certify`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from certificate_cases import ADAM, DELTA_GCLIP, change, trained, trial_of
from run_cases import make_run
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold

pytestmark = pytest.mark.slow  # some seconds each on two cores


def certify(*words: object) -> Result:
    command = ["certify", *map(str, words)]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_a_run_of_which_every_line_holds_comes_to_0(folder: RunFolder) -> None:
    done = certify(folder.path)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "small · tested · seed 0: 60 steps"
    for formula in ("η ≤ 1/β", "λ_min > 0", "δ ≤ h/η ≤ 1", "L(w_t) ≤ (1 - ηδμ)^t L(w_0)"):
        assert formula in done.stdout
    assert done.stdout.count("  holds  ") == 8
    assert json.loads(folder.certificate_file.read_text())["holds"] is True


def test_an_experiment_is_named_like_for_compare(folder: RunFolder) -> None:
    assert certify("small", "--runs", folder.path.parents[2]).exit_code == 0


def test_a_violated_line_comes_to_1_and_says_at_which_step(folder: RunFolder) -> None:
    change(folder, 12, optim__step_size=1e-6)
    done = certify(folder.path)
    assert done.exit_code == 1
    assert "violated at step 12" in done.stdout
    assert json.loads(folder.certificate_file.read_text())["holds"] is False


def test_a_premise_that_is_not_met_comes_to_1_and_says_which(tmp_path: Path) -> None:
    folder = trained(trial_of({**DELTA_GCLIP, "lr": 3.0}, epochs=12), tmp_path)
    done = certify(folder.path)
    assert done.exit_code == 1
    assert "premise not met" in done.stdout
    assert "decay, path, ball: η > 1/β" in done.stdout


def test_the_answer_for_programs_is_what_the_files_say(folder: RunFolder) -> None:
    done = certify(folder.path, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == [json.loads(folder.certificate_file.read_text())]


def test_nothing_is_written_where_another_process_works(folder: RunFolder) -> None:
    with hold(folder):
        done = certify(folder.path)
    assert done.exit_code == 1
    assert done.stdout.count("  holds  ") == 8
    assert "another process is working in this run folder" in done.stderr
    assert not folder.certificate_file.exists()


def test_several_runs_are_put_side_by_side(folder: RunFolder) -> None:
    runs = folder.path.parents[2]
    for width in (16, 128):
        trained(trial_of(model={"width": width}), runs)
    done = certify("small", "--runs", runs)
    table = done.stdout.partition("All of these runs")[2].splitlines()
    names = [row.split("  ")[0] for row in table if row.startswith("tested")]
    assert [name.split("model.width=")[1] for name in names] == ["16", "64", "128"]


# -------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"data": {"batch_size": 4}}, "steps along the gradient of all points"),
        ({"task": {"loss": "cross_entropy"}}, "cross-entropy has no minimum"),
        ({"task": {"reduction": "mean"}}, "the sum over the points"),
        ({}, "certificate: {every: 10}"),
    ],
)
def test_a_run_that_has_no_certificate_says_why(
    settings: dict[str, object], why: str, tmp_path: Path
) -> None:
    folder = trained(trial_of(epochs=2, certificate=None, **settings), tmp_path)
    done = certify(folder.path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert why in done.stderr
    assert not folder.certificate_file.exists()


def test_among_others_it_is_told_of_beside_them(folder: RunFolder) -> None:
    runs = folder.path.parents[2]
    trained(trial_of(ADAM, epochs=2, certificate=None), runs)
    done = certify("small", "--runs", runs)
    assert done.exit_code == 2
    assert "violated at" not in done.stdout and "holds" in done.stdout
    assert "were not measured" in done.stderr


def test_before_its_first_epoch_a_run_has_no_certificate_yet(tmp_path: Path) -> None:
    folder = make_run(tmp_path, trial_of(), b"")
    done = certify(folder.path)
    assert done.exit_code == 1
    assert "has not come to the end of its first epoch yet" in done.stderr
    assert not folder.certificate_file.exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = certify("nothing", "--runs", tmp_path)
    assert done.exit_code == 2
    assert "neither an experiment" in done.stderr
