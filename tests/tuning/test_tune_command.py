"""``deltagclip tune``: what it refuses, what it says, and a whole protocol in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from tuning_cases import fail
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.tuning.lock import FILE
from deltagclip_cli.tuning.studies import Tuning

SPEC: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [4]},
    "data": {
        "name": "synthetic",
        "batch_size": 16,
        "validation": 0.25,
        "size": 4,
        "train": 48,
        "test": 16,
    },
    "epochs": 1,
    "optimizers": {"sgd": {"name": "sgd", "lr": 0.1}, "adam": {"name": "adam"}},
    "protocol": {"draws": 2, "seeds": [0], "fresh_seeds": 2, "metric": "validation/loss"},
    "search": {
        "space": {
            "sgd": {"lr": {"log_uniform": [0.01, 1]}},
            "adam": {"lr": {"log_uniform": [1e-4, 1e-1]}},
        }
    },
}
TRIALS = 2 * (2 + 2)

Tune = Callable[..., Result]


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_spec(**changes: Any) -> None:
    spec = {"experiments": {"tiny": {**SPEC, **changes}}}
    Path("experiments.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


def tune(*words: str) -> Result:
    """Run the command in this process."""
    more = [] if "--launcher" in words else ["--launcher", "inline"]
    done = CliRunner().invoke(app, ["tune", "tiny", *more, *words], env={"COLUMNS": "140"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def folders() -> list[RunFolder]:
    return list(map(RunFolder, sorted(Path("runs").glob("*/*/seed-*"))))


def starts() -> int:
    return sum(len(json.loads(each.environment_file.read_text())) for each in folders())


def tuning() -> Tuning:
    return Tuning.of(
        "tiny", load_spec(Path("experiments.yaml"), runs=Path("runs")).experiments["tiny"]
    )


def test_without_a_protocol_the_error_shows_one_that_can_be_copied() -> None:
    data = {key: value for key, value in SPEC["data"].items() if key != "validation"}
    write_spec(protocol=None, search=None, data=data)
    done = tune()
    assert done.exit_code == 2
    assert "tiny has no 'protocol:'" in done.stderr
    example = yaml.safe_load(done.stderr[done.stderr.index("    tiny:") :])["tiny"]
    assert "validation: 0.1 into its data" in done.stderr
    write_spec(**example, data={**SPEC["data"], "validation": 0.25})
    assert tune("--dry-run").exit_code == 0


def test_a_metric_of_the_test_set_needs_a_word() -> None:
    write_spec(protocol={**SPEC["protocol"], "metric": "test/accuracy"})
    done = tune("--dry-run")
    assert done.exit_code == 2
    assert "protocol.metric: test/accuracy would choose on the test set" in done.stderr
    allowed = tune("--dry-run", "--select-on-test")
    assert allowed.exit_code == 0
    assert "Settings were chosen on the test set" in allowed.stdout
    answer = json.loads(tune("--dry-run", "--select-on-test", "--json").stdout)
    assert answer["chosen_on"] == "test"


def test_a_dry_run_says_what_is_planned_and_makes_nothing() -> None:
    write_spec(protocol={**SPEC["protocol"], "studies": 3})
    done = tune("--dry-run")
    assert done.exit_code == 0, done.output
    for words in (
        "lr: log_uniform [0.0001, 0.1]",
        "that of the lowest validation/loss is chosen",
        "12 trials to choose by, 12 on fresh seeds: 24 in all",
        "12 trials: 12 new. 12 to run",
    ):
        assert words in done.stdout, words
    assert not Path("runs").exists()


def test_a_protocol_is_gone_through_to_its_end_and_only_once() -> None:
    write_spec()
    done = tune("--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    (study,) = answer["studies"]
    assert (study["seeds"], study["fresh_seeds"]) == ([0], [1, 2])
    for each in study["optimizers"]:
        assert each["draws"]["finished"] == 2
        best = min(each["tried"], key=lambda draw: draw["value"])
        chosen = each["chosen"]
        assert (chosen["number"], chosen["value"]) == (best["number"], best["value"])
        for metric in ("validation/loss", "test/loss"):
            losses = [_last(folder)[metric] for folder in each["fresh"]["folders"]]
            assert each["fresh"]["metrics"][metric]["mean"] == pytest.approx(fmean(losses))
        for folder in each["fresh"]["folders"]:
            assert RunFolder(Path(folder)).trial().optimizer.options["lr"] == best["options"]["lr"]
    assert len(folders()) == starts() == TRIALS

    lock = Path("runs", "tiny", FILE).read_bytes()
    again = tune("--json")
    assert json.loads(again.stdout) == answer
    assert starts() == TRIALS
    assert Path("runs", "tiny", FILE).read_bytes() == lock
    words = tune().stdout
    assert "chosen by the lowest validation/loss" in words
    assert "the chosen settings on fresh seeds 1, 2" in words
    assert "deltagclip compare tiny" in words
    compared = json.loads(CliRunner().invoke(app, ["compare", "tiny", "--json"]).stdout)
    settings = compared["experiments"][0]["settings"]
    assert [each["summary"]["n"] for each in settings] == [2, 2, 1, 1]  # of the chosen, fresh ones
    assert [each["left_out"] for each in settings[:2]] == [{"chose the setting": 1}] * 2
    status = CliRunner().invoke(app, ["status", "tiny"]).stdout
    assert "tiny/adam, draws of the protocol: 2 finished" in status
    assert "tiny/adam, fresh seeds of the protocol: 2 finished" in status
    assert "new" not in status, "the settings of the spec itself are none of the plan"

    write_spec(protocol={**SPEC["protocol"], "draws": 4})
    refused = tune()
    assert refused.exit_code == 2
    assert "protocol.draws (2 then, 4 now)" in refused.stderr
    assert tune("--dry-run").stderr == refused.stderr
    assert tune("--quiet", "--set", "protocol.draws=2").stdout == ""


def _last(folder: str) -> dict[str, Any]:
    result = RunFolder(Path(folder)).result()
    assert result is not None
    last: dict[str, Any] = result["last"]
    return last


def test_a_study_of_which_half_the_trials_of_an_optimizer_failed_is_refused() -> None:
    write_spec()
    of_adam = [each for each in tuning().drawn_trials if each.label == "adam"]
    fail(Path("runs"), of_adam[:1])
    done = tune()
    assert done.exit_code == 1
    assert "1 of 2 trials of adam failed" in done.stdout
    assert "--retry-failed runs them again" in done.stdout
    assert len(folders()) == 2 * 2
    assert "1 of 2 trials of adam failed" in tune("--quiet").stdout
    assert tune("--retry-failed").exit_code == 0
    assert len(folders()) == TRIALS


@pytest.mark.slow
def test_an_optimizer_of_which_every_draw_diverged_has_nothing_to_be_chosen() -> None:
    write_spec(
        search={"space": {**SPEC["search"]["space"], "sgd": {"lr": {"log_uniform": [1e35, 1e37]}}}}
    )
    done = tune()
    assert done.exit_code == 1
    assert re.search(r"sgd +2 +2 +–", done.stdout), done.stdout
    assert "no draw of sgd has a value (2 diverged)" in done.stdout
    assert re.search(r"fresh seeds 1, 2\s.*sgd +– +0 .*adam +lr=\S+ +2 ", done.stdout, re.DOTALL)


TASK = """
from torch.nn.functional import cross_entropy

def entropy(model, inputs, targets):
    return cross_entropy(model(inputs), targets)
"""


def test_a_metric_that_is_never_recorded_is_told_after_the_first_trial() -> None:
    Path("task.py").write_text(TASK)
    write_spec(
        task="task.py:entropy", protocol={**SPEC["protocol"], "metric": "validation/accuracy"}
    )
    for _ in range(2):
        done = tune()
        assert done.exit_code == 2
        assert "protocol.metric: validation/accuracy is not measured by these trials" in done.stderr
        assert "metrics: train/loss, test/loss, validation/loss" in done.stderr
    assert starts() == 1
    Path("runs", "tiny", FILE).unlink()
    write_spec(task="task.py:entropy")
    assert "1 finished, 3 new" in tune("--dry-run").stdout


def test_a_plan_whose_parts_cannot_be_built_may_be_changed() -> None:
    lacking = {"name": "sgd", "lr": 0.1, "nesterov": True}  # momentum, as torch will say
    write_spec(optimizers={**SPEC["optimizers"], "sgd": lacking})
    done = tune()
    assert done.exit_code == 2
    assert "esterov" in done.stderr
    assert folders() == []
    write_spec()
    assert tune("--dry-run").exit_code == 0
