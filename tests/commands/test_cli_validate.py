"""``deltagclip validate``: every fault, and what programs get."""

from __future__ import annotations

import json
from pathlib import Path

from invocation import Invoke
from tiny_spec import TINY

TWO_FAULTS = TINY.replace("epochs: 2", "epochs: 0").replace("lr: 0.1}", "lrr: 0.1}")


def test_a_valid_file_is_counted(deltagclip: Invoke) -> None:
    shown = deltagclip("validate", "spec.yaml")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "tiny: 2 trials",
        "spec.yaml: 1 experiment, 2 trials, no errors.",
    ]
    assert shown.stderr == ""


def test_every_fault_goes_to_stderr_without_a_traceback(deltagclip: Invoke) -> None:
    Path("spec.yaml").write_text(TWO_FAULTS)
    refused = deltagclip("validate", "spec.yaml")
    assert refused.exit_code == 2
    assert refused.stdout == ""
    first, second = refused.stderr.split("\n\n")
    assert first.startswith("error: spec.yaml:6:5: tiny: 'epochs' must be greater than 0")
    assert second.startswith("spec.yaml:8:24: tiny › optimizers › sgd: unknown option 'lrr'")
    assert "Traceback" not in refused.stderr


def test_debug_shows_the_traceback(deltagclip: Invoke) -> None:
    Path("spec.yaml").write_text(TWO_FAULTS)
    refused = deltagclip("validate", "spec.yaml", "--debug", catch=True)
    assert refused.exit_code != 0
    assert type(refused.exception).__name__ == "SpecError"


def test_json_says_whether_the_file_is_valid(deltagclip: Invoke) -> None:
    shown = deltagclip("validate", "spec.yaml", "--json", "--set", "seeds=[0, 1, 2]")
    assert json.loads(shown.stdout) == {"valid": True, "trials": {"tiny": 6}}


def test_json_holds_one_entry_for_each_fault(deltagclip: Invoke) -> None:
    Path("spec.yaml").write_text(TWO_FAULTS)
    refused = deltagclip("validate", "spec.yaml", "--json")
    assert refused.exit_code == 2
    answer = json.loads(refused.stdout)
    assert answer["valid"] is False
    assert [error.partition(": ")[0] for error in answer["errors"]] == [
        "spec.yaml:6:5",
        "spec.yaml:8:24",
    ]


def test_set_is_checked_like_the_file(deltagclip: Invoke) -> None:
    assert deltagclip("validate", "spec.yaml", "--set", "epochs=3").exit_code == 0
    refused = deltagclip("validate", "spec.yaml", "--set", "epochs=0", "--set", "title=3")
    assert refused.exit_code == 2
    assert "--set epochs=0: tiny: 'epochs' must be greater than 0 (got 0)." in refused.stderr
    assert "--set title=3: tiny: 'title' must be a valid string (got 3)." in refused.stderr


def test_a_grid_is_counted(deltagclip: Invoke) -> None:
    shown = deltagclip("validate", "spec.yaml", "--set", "grid={sgd: {lr: [1, 2, 3]}}")
    assert shown.stdout.startswith("tiny: 4 trials\n")


def test_the_trials_of_a_protocol_are_counted_beside_those_that_are_written(
    deltagclip: Invoke,
) -> None:
    planned = {
        "data.validation": "0.25",
        "protocol": "{draws: 5, seeds: [0], fresh_seeds: 3, metric: validation/loss}",
        "search.space": "{sgd: {lr: {log_uniform: [0.1, 1]}}, delta-gclip: {lr: {choice: [1]}}}",
    }
    words = [word for key, value in planned.items() for word in ("--set", f"{key}={value}")]
    shown = deltagclip("validate", "spec.yaml", *words)
    assert shown.stdout.startswith(
        "tiny: 2 trials as written; tune has 10 trials to choose by, 6 on fresh seeds: 16 in all\n"
    )


def test_a_file_that_cannot_be_read_is_a_wrong_input(deltagclip: Invoke) -> None:
    Path("torn.yaml").write_text("experiments: {a: [")
    Path("latin.yaml").write_bytes(b"\xff\xfe")
    for file, words in (
        ("absent.yaml", "absent.yaml: there is no such file"),
        (".", "cannot be read"),
        ("torn.yaml", "torn.yaml:1:19: while parsing"),
        ("latin.yaml", "latin.yaml: cannot be read"),
    ):
        refused = deltagclip("validate", file)
        assert refused.exit_code == 2
        assert words in refused.stderr
        assert "this should not have happened" not in refused.stderr


def test_without_a_name_it_is_experiments_yaml_here(deltagclip: Invoke) -> None:
    refused = deltagclip("validate")
    assert refused.exit_code == 2
    assert "experiments.yaml: there is no such file" in refused.stderr
    Path("experiments.yaml").write_text(TINY)
    assert deltagclip("validate").exit_code == 0


def test_nothing_is_made(deltagclip: Invoke, tmp_path: Path) -> None:
    deltagclip("validate", "spec.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_parts_that_refuse_their_options_are_faults_like_any_other(deltagclip: Invoke) -> None:
    Path("spec.yaml").write_text(TINY.replace("lr: 0.1}", "lr: 0.1, nesterov: true}", 1))
    refused = deltagclip("validate", "spec.yaml")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(
        "error: spec.yaml:8:33: tiny › optimizers › sgd: optimizer 'sgd' refuses its options: "
        "Nesterov momentum requires a momentum and zero dampening.\n"
        "  It is accepted without 'nesterov'."
    )
    answer = json.loads(deltagclip("validate", "spec.yaml", "--json").stdout)
    assert answer["valid"] is False
    assert len(answer["errors"]) == 1


def test_parts_are_built_for_where_they_are_trained(deltagclip: Invoke) -> None:
    words = ("validate", "spec.yaml", "--set", "optimizers.adam={name: adam, capturable: true}")
    assert deltagclip(*words, "--device", "cpu").exit_code == 2
    assert deltagclip(*words, "--set", "slurm.gpus=1").exit_code == 0
    assert deltagclip(*words, "--set", "slurm.gpus=0").exit_code == 2
    assert deltagclip(*words, "--set", "slurm.gpus=1", "--device", "cpu").exit_code == 2


def test_the_ends_of_a_search_are_built_too(deltagclip: Invoke) -> None:
    search = "search={metric: test/loss, space: {a: {rho: {uniform: [0.5, 1.5]}}}}"
    refused = deltagclip("validate", "spec.yaml", "--set", "optimizers.a=adadelta", "--set", search)
    assert refused.exit_code == 2
    assert "tiny › search › space › a › rho: optimizer 'adadelta' refuses" in refused.stderr
