"""What batch jobs may ask Slurm for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_spec import TINY, faults_of_text, write_spec

from deltagclip_cli.core import SpecError
from deltagclip_cli.spec.load import Spec, load_spec
from deltagclip_cli.spec.slurm_settings import Resources, Slurm, parse_overrides


def resources(**settings: Any) -> Resources:
    return Resources.model_validate(settings)


def the_fault(**settings: Any) -> tuple[tuple[Any, ...], str]:
    """The place of the only fault and its whole message."""
    with pytest.raises(ValidationError) as caught:
        resources(**settings)
    (fault,) = caught.value.errors()
    hint = fault.get("ctx", {}).get("hint", "")
    return fault["loc"], f"{fault['msg']} {hint}"


def test_nothing_is_asked_for_unless_it_is_written(tmp_path: Path) -> None:
    slurm = load_spec(write_spec(tmp_path)).experiments["tiny"].slurm
    assert slurm == Slurm()
    values = slurm.model_dump()
    assert {key: value for key, value in values.items() if value is not None} == {
        "sbatch": [],
        "setup": [],
        "optimizers": {},
    }


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (90, 5400),
        ("90", 5400),
        ("90:30", 5430),
        ("04:00:00", 14400),
        ("1:2:3", 3723),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("0-00:00:01", 1),
        ("UNLIMITED", None),
        ("infinite", None),
        (None, None),
    ],
)
def test_every_form_of_a_time_of_slurm_is_read(time: Any, seconds: int | None) -> None:
    assert resources(time=time).time_seconds == seconds


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 120),
        ({"time": "UNLIMITED"}, 120),
        ({"time": 60}, 120),
        ({"time": 4}, 60),
        ({"time": "0:02"}, 1),
        ({"time": 60, "notice": 300}, 300),
    ],
)
def test_notice_is_given_two_minutes_or_a_quarter_of_the_time_before_the_end(
    settings: dict[str, Any], seconds: int
) -> None:
    assert resources(**settings).notice_seconds == seconds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("gpus", value) for value in (0, 2, "a100", "a100:2", "nvidia_a100-sxm.1", "1g.5gb:1")),
        *(("mem", value) for value in (0, 4000, "4000", "16G", "16GB", "500m", "2T", "0")),
        ("nodes", 2),
        ("constraint", "[rack1|rack2]&intel"),
        ("local_data", "$SLURM_TMPDIR/my data"),
        *(
            ("sbatch", [value])
            for value in (
                *("--mem-per-cpu=4G", "--mem-per-gpu=4G", "--gpus-per-task=1", "--exclusive"),
                *("--nodelist=n1", "--exclude=n2", "--mail-type=END", "--reservation=x"),
                *("--dependency=afterok:1", "--licenses=x", "--ntasks=1", "--gres=nvme:1"),
                *("--gres-flags=enforce-binding", "--wait-all-nodes=1", "--time-min=5", "-x n1"),
                *("-H", "--comment='two words'", '-x "n1 n2"'),
            )
        ),
    ],
)
def test_what_slurm_takes_is_kept_as_it_is(key: str, value: Any) -> None:
    assert getattr(resources(**{key: value}), key) == value


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        *(
            ("time", value, "'time' must be a time limit of Slurm (got ")
            for value in (0, -1, 1.5, True, "", "0", "0:00", "0-0:00:00", "1h", "1:2:3:4", "1-",
                          "-1", "04:00:00\n", "1-2:3:4:5", "\u0663", [])
        ),
        *(
            ("mem", value, "'mem' must be a size of memory (got ")
            for value in (-1, 1.5, True, "", "G", "16X", "16 G", "1.5G", "16GBB", "16G\n")
        ),
        *(
            ("gpus", value, "'gpus' must be a number of GPUs, their type, or TYPE:NUMBER (got ")
            for value in (-1, 1.5, True, "", "2", "gpu:2", "gpu", "a100:", "a100:0", "a100:x",
                          "a 100", "a:b:1", "a100\n")
        ),
        *(
            (key, value, "should be greater than 0" if value == 0 else "valid integer")
            for key in ("nodes", "cpus", "notice", "throttle", "pack")
            for value in (0, "1")
        ),
        *(
            (key, value, words)
            for key in ("partition", "account", "qos", "constraint", "local_data")
            for value, words in (
                ("", "a text must not be empty here."),
                (" ", "a text must not be empty here."),
                ("a\nb", r"must be one line without control characters here (got the text 'a\nb')"),
                ("a\x1b[0m", "must be one line without control characters here"),
                ("a\u2028b", "must be one line without control characters here"),
                (3, "valid string"),
            )
        ),
        ("tme", 3, "unknown option 'tme'"),
        ("tme", 3, "- did you mean 'time'?"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_reason(key: str, value: Any, words: str) -> None:
    place, message = the_fault(**{key: value})
    assert place == (key,)
    assert words in message


OWN = ["array=1", "output=x", "error=x", "open-mode=append", "requeue", "no-requeue", "signal=USR1"]
OWN += ["job-name=x", "parsable", "quiet", "wrap=ls", "test-only", "wait", "chdir=/"]
WITH_KEY = {"partition": "partition", "account": "account", "qos": "qos", "nodes": "nodes"}
WITH_KEY |= {"constraint": "constraint", "mem": "mem", "time": "time", "cpus-per-task": "cpus"}
WITH_KEY |= {"gpus": "gpus", "gpus-per-node": "gpus", "gres=craynetwork:1,gpu:2": "gpus"}
SHORT = {"p": "partition", "A": "account", "q": "qos", "C": "constraint", "N": "nodes"}
SHORT |= {"G": "gpus", "c": "cpus", "t": "time"}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        *((f"--{each}", "deltagclip itself sets '--") for each in OWN),
        *((f"-{each} 1", f"deltagclip itself sets '-{each}'.") for each in "aoeJWD"),
        ("--arr=1", "deltagclip itself sets '--arr'."),
        *(
            (each if "=" in each else f"{each}=1", f"has a key of its own. write `{key}: ...` inst")
            for each, key in ((f"--{option}", key) for option, key in WITH_KEY.items())
        ),
        *((f"-{each} 1", f"write `{key}: ...` instead") for each, key in SHORT.items()),
        ("--part=x", "write `partition: ...` instead"),
        ("--signal=USR1", "'notice' says how long before the time limit"),
        *(
            (each, "one option of sbatch is expected (got the text ")
            for each in ("exclusive", "-", "--", "--=x", "--exclusive --array=1", "--nice 5", "- x")
        ),
        *(
            (each, "one option of sbatch is expected (got the text ")
            for each in ("-Ha 1", "-pgpu", "-H --array=1", "-x a b", "--comment='x", ":")
        ),
        ("", "a text must not be empty here."),
        ("--exclusive\n--array=1", "must be one line"),
        (3, "valid string"),
    ],
)
def test_of_sbatch_only_what_has_no_other_place_may_be_written(option: Any, words: str) -> None:
    place, message = the_fault(sbatch=["--nice=1", option])
    assert place == ("sbatch", 1)
    assert words in message


def test_lines_of_shell_are_taken_as_they_are_and_one_by_one() -> None:
    block = "if true; then\n\tmodule load cuda\n\nfi\n"
    lines = ["source 'x y'/bin/activate", "if true; then", "\tmodule load cuda", "fi"]
    assert resources(setup=[lines[0], block]).setup == lines
    assert the_fault(setup=["ls", "ls\x00"])[0] == ("setup", 1)
    assert the_fault(setup=["a\nb", " \n"])[0] == ("setup", 1)
    assert the_fault(setup=["ls\r"])[0] == ("setup", 0)


def test_a_single_line_needs_no_list_and_null_is_none() -> None:
    assert resources(sbatch="--nice", setup="ls") == resources(sbatch=["--nice"], setup=["ls"])
    assert resources(sbatch=None, setup=None) == resources(sbatch=[], setup=[])


def test_of_experiment_optimizer_and_command_line_the_nearer_one_wins() -> None:
    big: dict[str, Any] = {"mem": None, "time": 90, "gpus": 0, "setup": []}
    shared: dict[str, Any] = {"partition": "gpu", "mem": "16G", "time": 60}
    shared |= {"sbatch": ["--nice"], "setup": "ls"}
    slurm = Slurm.model_validate({**shared, "optimizers": {"big": big}})
    assert slurm.of("small") == resources(
        partition="gpu", mem="16G", time=60, sbatch=["--nice"], setup=["ls"]
    )
    merged = slurm.of("big", resources(partition="cpu", gpus=None, sbatch="--hold"))
    assert (merged.partition, merged.mem, merged.time, merged.gpus) == ("cpu", None, 90, None)
    assert (merged.sbatch, merged.setup) == (["--hold"], [])
    assert type(merged) is Resources


def test_trials_are_not_asked_to_save_before_they_start(tmp_path: Path) -> None:
    words = "'notice' must be less than 'time' (got 60 s, and 60 s)."
    assert the_fault(notice=60, time=1) == (("notice",), f"{words} ")
    text = f"{TINY}    slurm: {{notice: 60, optimizers: {{sgd: {{time: 1}}}}}}\n"
    (fault,) = faults_of_text(tmp_path, text)
    assert fault == f"spec.yaml:10:44: tiny › slurm › optimizers › sgd: {words}"
    with pytest.raises(SpecError) as caught:
        Slurm(notice=60).of("sgd", resources(time=1))
    assert str(caught.value) == f"slurm for sgd: {words}"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("tme: 3", "10:13: tiny › slurm: unknown option 'tme'.\n  options: partition, account, "),
        ("time: 0", "10:13: tiny › slurm: 'time' must be a time limit of Slurm (got 0).\n  minute"),
        ("sbatch: [-H, -a 1]", "10:26: tiny › slurm › sbatch: deltagclip itself sets '-a'.\n  the"),
        (
            "optimizers: {sgdd: {mem: 1}}",
            "10:26: tiny › slurm › optimizers: there is no optimizer 'sgdd' in this experiment.\n"
            "  optimizers: sgd, delta-gclip - did you mean 'sgd'?",
        ),
        (
            "optimizers: {sgd: {men: 1}}",
            "10:32: tiny › slurm › optimizers › sgd: unknown option 'men'.\n  options: partition, ",
        ),
        ("optimizers: [sgd]", "10:13: tiny › slurm: 'optimizers' must be a mapping (got"),
    ],
)
def test_a_fault_is_shown_where_it_was_written(tmp_path: Path, words: str, fault: str) -> None:
    (found,) = faults_of_text(tmp_path, f"{TINY}    slurm: {{{words}}}\n")
    assert found.startswith(f"spec.yaml:{fault}")


def test_words_of_the_command_line_are_read_in_their_order() -> None:
    words = ["time=04:00:00", "mem=", "time=5", "sbatch=--nice", "sbatch=[--hold]", "setup=ls"]
    read = parse_overrides(words)
    assert (read.time, read.sbatch, read.setup) == (5, ["--nice", "--hold"], ["ls"])
    assert read.model_fields_set == {"time", "mem", "sbatch", "setup"}
    assert parse_overrides([]) == Resources()


@pytest.mark.parametrize(
    ("word", "start", "end"),
    [
        ("tme=3", "unknown option 'tme'.\n  options: partition, ", " - did you mean 'time'?"),
        ("optimizers.sgd.mem=3", "unknown option 'optimizers.sgd.mem'.\n  options: ", ""),
        ("nodes=0", "'nodes' must be greater than 0 (got 0).", ""),
        ("sbatch=[3]", "value 1 of 'sbatch' must be a valid string (got 3).", ""),
        ("sbatch=-a 3", "deltagclip itself sets '-a'.\n", ""),
        ("time", "expected KEY=VALUE, such as --slurm time=04:00:00.", ""),
        ("time=[", "the value is not readable YAML: ", ""),
    ],
)
def test_a_fault_of_the_command_line_is_shown_with_its_words(
    word: str, start: str, end: str
) -> None:
    with pytest.raises(SpecError) as caught:
        parse_overrides(["pack=2", word])
    assert str(caught.value).startswith(f"--slurm {word}: {start}")
    assert str(caught.value).endswith(end)


def test_all_faults_of_the_command_line_are_shown() -> None:
    with pytest.raises(SpecError, match=r"(?s)--slurm mem=x: .*\n\n--slurm pack=0: "):
        parse_overrides(["mem=x", "time=3", "pack=0"])


IN_DEFAULTS = f"defaults:\n  slurm:\n    partition: gpu\n    time: 5\n{TINY}"
IN_EXPERIMENT = f"{IN_DEFAULTS}    slurm:\n      mem: 1\n      sbatch: [-H]\n"


@pytest.mark.parametrize(
    ("text", "sets", "keys", "place"),
    [
        (IN_EXPERIMENT, [], ("slurm", "mem"), "spec.yaml:15:7"),
        (IN_EXPERIMENT, [], ("slurm", "sbatch", 0), "spec.yaml:16:16"),
        (IN_EXPERIMENT, [], ("slurm", "partition"), "spec.yaml:14:5"),
        (IN_EXPERIMENT, ["slurm.qos=x"], ("slurm", "partition"), "spec.yaml:14:5"),
        (IN_DEFAULTS, [], ("slurm", "partition"), "spec.yaml:3:5"),
        (IN_DEFAULTS, [], ("slurm", "mem"), "spec.yaml:2:3"),
        (IN_DEFAULTS, ["slurm.time=7"], ("slurm", "time"), "--set slurm.time=7"),
        (IN_DEFAULTS, ["slurm.time=7"], ("slurm", "partition"), "spec.yaml:3:5"),
        (IN_DEFAULTS, ["slurm={time: 7}"], ("slurm", "partition"), "--set slurm={time: 7}"),
        (TINY, [], ("slurm", "partition"), "spec.yaml:2:3"),
        (TINY, ["slurm.mem=1"], ("slurm", "mem"), "--set slurm.mem=1"),
    ],
)
def test_a_setting_has_the_place_where_it_was_written(
    tmp_path: Path, text: str, sets: list[str], keys: tuple[str | int, ...], place: str
) -> None:
    spec = load_spec(write_spec(tmp_path, text), sets=sets)
    assert spec.place("tiny", *keys) == place.replace("spec.yaml", f"{tmp_path}/spec.yaml")


def test_a_spec_without_a_file_has_its_name_for_a_place() -> None:
    assert Spec("x.yaml", {}).place("tiny", "slurm") == "x.yaml"


def test_a_fault_of_the_defaults_stays_there_when_set_changes_another_part(tmp_path: Path) -> None:
    text = IN_DEFAULTS.replace("time: 5", "time: 0")
    (fault,) = faults_of_text(tmp_path, text, "slurm.partition=x")
    assert fault.startswith("spec.yaml:4:5: defaults › slurm: 'time' must be")


def test_an_own_slurm_replaces_the_whole_of_that_in_defaults(tmp_path: Path) -> None:
    path = write_spec(tmp_path, IN_EXPERIMENT)
    assert load_spec(path).experiments["tiny"].slurm.partition is None
    path = write_spec(tmp_path, IN_DEFAULTS)
    slurm = load_spec(path, sets=["slurm.time=7"]).experiments["tiny"].slurm
    assert (slurm.partition, slurm.time) == ("gpu", 7)
