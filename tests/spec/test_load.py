"""From a file to experiments, or to every fault of the file with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_spec import TINY, faults_of_text, write_spec
from yaml.nodes import Node

from deltagclip_cli.core import SpecError
from deltagclip_cli.spec import document
from deltagclip_cli.spec.document import children, construct
from deltagclip_cli.spec.load import load_spec

WRONG = """\
defaults: {precision: fp16, sees: [1]}
experimets: {}
experiments:
  one:
    model: {name: mlpp, hidden: [8]}
    data: {name: synthetic, batch_size: "4", augment: [flip, {name: flip, probability: 2}]}
    epochs: 0
    optimizers:
      a: {name: delta_gclip, lr: 0.1, gama: 1, delta: -1}
      b: {name: adm}
      ../c: adam
    schedule: {name: multistep, milestones: [1, x]}
    grid:
      a: {lr: [0.1]}
  two:
    model: mlp
    data: {name: synthetic, batch_size: 4}
    epochs: 1
    optimizers: {a: {name: sgd, lr: .nan}}
    grid:
      d: {lr: [1]}
"""


def test_every_fault_of_a_file_is_found_at_once_with_its_place(tmp_path: Path) -> None:
    without_top = WRONG.replace("experimets: {}\n", "# nothing\n")
    faults = faults_of_text(tmp_path, without_top)
    starts = [fault.partition("\n")[0] for fault in faults]
    expected = [
        "spec.yaml:1:12: defaults: 'precision' must be 'fp32', 'tf32', 'bf16' or 'fp64' "
        "(got the text 'fp16').",
        "spec.yaml:1:29: defaults: unknown option 'sees'.",
        "spec.yaml:5:13: one › model: there is no model 'mlpp'.",
        "spec.yaml:6:29: one › data: 'batch_size' must be a valid integer, or must be 'full' "
        "(got the text '4').",
        "spec.yaml:6:75: one › data › augment › 1: 'probability' must be less than or equal to 1 "
        "(got 2).",
        "spec.yaml:7:5: one: 'epochs' must be greater than 0 (got 0).",
        "spec.yaml:9:39: one › optimizers › a: unknown option 'gama' for delta_gclip.",
        "spec.yaml:9:7: one › optimizers › a: 'gamma' is missing.",
        "spec.yaml:9:48: one › optimizers › a: 'delta' must be greater than or equal to 0 "
        "(got -1).",
        "spec.yaml:10:11: one › optimizers › b: there is no optimizer 'adm'.",
        "spec.yaml:11:7: one › optimizers: '../c' cannot be a name.",
        "spec.yaml:12:49: one › schedule: value 2 of 'milestones' must be a valid integer "
        "(got the text 'x').",
        "spec.yaml:19:33: two › optimizers › a: 'lr' must be a finite number (got nan).",
    ]
    assert sorted(starts) == sorted(expected)


def test_an_unknown_option_is_shown_with_the_legal_ones_and_the_nearest(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, TINY.replace("gamma: 1.0", "gama: 1.0, gamma: 1"))
    first, hint = fault.split("\n")
    assert first == (
        "spec.yaml:9:49: tiny › optimizers › delta-gclip: unknown option 'gama' for delta_gclip."
    )
    assert hint.startswith("  options: lr, gamma, delta, weight_decay, ")
    assert hint.endswith(" - did you mean 'gamma'?")


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "words", "- experiments:\n", "defaults: {}\n", "experimens: {}\n"]
)
def test_a_file_without_experiments_says_what_is_expected(tmp_path: Path, text: str) -> None:
    (fault,) = faults_of_text(tmp_path, text)
    assert fault.startswith("spec.yaml: there is no 'experiments:' in this file.\n  expected: ")


@pytest.mark.parametrize("value", ["", " []", " {}", " 3", " words"])
def test_experiments_must_be_a_mapping(tmp_path: Path, value: str) -> None:
    assert faults_of_text(tmp_path, f"# first\nexperiments:{value}\n") == [
        "spec.yaml:2:1: 'experiments' must be a mapping, NAME: ..."
    ]


def test_defaults_must_be_a_mapping_and_may_be_empty(tmp_path: Path) -> None:
    assert faults_of_text(tmp_path, f"defaults: [1]\n{TINY}") == [
        "spec.yaml:1:1: 'defaults' must be a mapping, NAME: ..."
    ]
    assert load_spec(write_spec(tmp_path, f"defaults:\n{TINY}")).experiments


def test_an_unknown_key_at_the_top_gets_the_nearest(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, f"{TINY}default: {{}}\n")
    assert fault == (
        "spec.yaml:10:1: unknown key 'default'.\n"
        "  keys: defaults, experiments - did you mean 'defaults'?"
    )


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", "''", "/tmp", "a b"])
def test_an_experiment_that_could_lead_out_of_its_folder_is_refused(
    tmp_path: Path, name: str
) -> None:
    (fault,) = faults_of_text(tmp_path, TINY.replace("tiny:", f"{name}:"))
    assert fault.startswith("spec.yaml:")
    assert "cannot be the name of an experiment.\n  names begin with" in fault


@pytest.mark.parametrize("value", ["", " 3", " mlp", " [1]"])
def test_an_experiment_must_be_a_mapping(tmp_path: Path, value: str) -> None:
    assert faults_of_text(tmp_path, f"experiments:\n  tiny:{value}\n") == [
        "spec.yaml:2:3: 'tiny' must be a mapping of settings."
    ]


def test_an_empty_experiment_lacks_four_settings(tmp_path: Path) -> None:
    faults = faults_of_text(tmp_path, "experiments: {tiny: {}}\n")
    assert [each.partition("\n")[0] for each in faults] == [
        f"spec.yaml:1:15: tiny: '{name}' is missing."
        for name in ("model", "data", "epochs", "optimizers")
    ]


def test_defaults_hold_for_all_that_do_not_set_their_own(tmp_path: Path) -> None:
    text = f"defaults: {{seeds: [7], precision: fp64, epochs: 9}}\n{TINY}"
    tiny = load_spec(write_spec(tmp_path, text)).experiments["tiny"]
    assert (tiny.seeds, tiny.precision, tiny.epochs) == ([7], "fp64", 2)


def test_a_fault_inherited_from_defaults_is_shown_there_and_once(tmp_path: Path) -> None:
    second = TINY.replace("experiments:\n", "").replace("tiny:", "other:")
    text = f"defaults:\n  checkpoint: {{epochs: 0}}\n{TINY}{second}"
    assert faults_of_text(tmp_path, text) == [
        "spec.yaml:2:16: defaults › checkpoint: 'epochs' must be greater than 0 (got 0)."
    ]


def test_a_fault_inside_a_merged_anchor_is_shown_where_it_was_written(tmp_path: Path) -> None:
    text = TINY.replace("delta-gclip: {", "delta-gclip: &dg {")
    text += "      other: {<<: *dg, lr: 2}\n"
    assert load_spec(write_spec(tmp_path, text)).experiments["tiny"].optimizers["other"]
    faults = faults_of_text(tmp_path, text.replace("delta: 1e-3", "delta: -1"))
    assert {fault.partition(": ")[0] for fault in faults} == {"spec.yaml:9:65"}
    assert [fault.split(": ")[1] for fault in faults] == [
        "tiny › optimizers › delta-gclip",
        "tiny › optimizers › other",
    ]


def test_only_the_experiments_asked_for_are_checked(tmp_path: Path) -> None:
    path = write_spec(tmp_path, f"{TINY}  broken: {{}}\n")
    assert list(load_spec(path, ["tiny"]).experiments) == ["tiny"]
    with pytest.raises(SpecError, match="broken: 'model' is missing"):
        load_spec(path)


def test_an_unknown_experiment_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write_spec(tmp_path), ["tinny"])
    assert str(caught.value).endswith(
        "spec.yaml: there is no experiment 'tinny'.\n  experiments: tiny - did you mean 'tiny'?"
    )


def test_the_order_of_the_file_is_kept(tmp_path: Path) -> None:
    body = TINY.partition("tiny:\n")[2]
    text = "experiments:\n" + "".join(f"  {name}:\n{body}" for name in ("z", "a", "m"))
    assert list(load_spec(write_spec(tmp_path, text)).experiments) == ["z", "a", "m"]


def test_set_changes_what_is_there_and_adds_what_is_not(tmp_path: Path) -> None:
    sets = ["epochs=7", "optimizers.sgd.lr=1e-2", "optimizers.new={name: adam}", "model=mlp"]
    sets += ["schedule.name=cosine", "data.augment=flip"]
    tiny = load_spec(write_spec(tmp_path), sets=sets).experiments["tiny"]
    assert tiny.epochs == 7
    assert tiny.optimizers["sgd"].options["lr"] == 0.01
    assert list(tiny.optimizers) == ["sgd", "delta-gclip", "new"]
    assert tiny.schedule is not None and tiny.schedule.name == "cosine"
    assert [each.name for each in tiny.data.augment] == ["flip"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("epochs=0", "tiny: 'epochs' must be greater than 0 (got 0)."),
        ("epochs='3'", "tiny: 'epochs' must be a valid integer (got the text '3')."),
        ("optimizers.sgd.lr=x", "tiny › optimizers › sgd: 'lr' must be a valid number (got the"),
        ("optimizers.sgd.lrr=1", "tiny › optimizers › sgd: unknown option 'lrr' for sgd."),
        ("optimizers.sgd.name=adm", "tiny › optimizers › sgd: there is no optimizer 'adm'."),
        ("data.batch_size=0", "tiny › data: 'batch_size' must be greater than 0, or must be"),
        ("epoch=3", "tiny: unknown option 'epoch'."),
        ("epochs.x=3", "'experiments.tiny.epochs' is a single value without keys of its own."),
        ("epochs", "expected KEY=VALUE"),
        ("epochs=[", "the value is not readable YAML"),
    ],
)
def test_a_fault_of_set_is_shown_with_the_words_of_the_command_line(
    tmp_path: Path, words: str, message: str
) -> None:
    (fault,) = faults_of_text(tmp_path, TINY, words)
    assert fault.startswith(f"--set {words}: {message}")


@pytest.mark.parametrize(
    "words", ["optimizer.sgd.lr=1", "optimizers.new.lr=1", "experiments.tiny.epochs=3"]
)
def test_a_fault_in_the_middle_of_a_key_is_shown_with_the_words(tmp_path: Path, words: str) -> None:
    assert all(f.startswith(f"--set {words}: ") for f in faults_of_text(tmp_path, TINY, words))


def test_set_changes_one_key_of_what_defaults_say(tmp_path: Path) -> None:
    text = f"defaults: {{checkpoint: {{epochs: 7, minutes: 3}}}}\n{TINY}"
    tiny = load_spec(write_spec(tmp_path, text), sets=["checkpoint.epochs=2"]).experiments["tiny"]
    assert (tiny.checkpoint.epochs, tiny.checkpoint.minutes) == (2, 3)


def test_of_two_sets_of_one_key_the_later_wins(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path), sets=["epochs=5", "epochs=6"])
    assert spec.experiments["tiny"].epochs == 6
    assert spec.place("tiny", "epochs") == "--set epochs=6"


def test_set_changes_one_optimizer_even_if_two_share_an_anchor(tmp_path: Path) -> None:
    text = TINY.replace("sgd: {", "sgd: &sgd {") + "      twin: *sgd\n"
    path = write_spec(tmp_path, text)
    tiny = load_spec(path, sets=["optimizers.sgd.lr=9"]).experiments["tiny"]
    assert tiny.optimizers["sgd"].options["lr"] == 9
    assert tiny.optimizers["twin"].options["lr"] == 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("optimizers.sgd={name: adam, betas: [0.9]}", "'betas'"),
        ("optimizers.sgd={name: adam, betas: [1, 1, 1]}", "'betas'"),
    ],
)
def test_a_pair_of_the_wrong_length_is_a_fault(tmp_path: Path, words: str, message: str) -> None:
    (fault,) = faults_of_text(tmp_path, TINY, words)
    assert message in fault


def test_a_pair_that_is_too_short_is_not_called_missing(tmp_path: Path) -> None:
    (fault,) = faults_of_text(tmp_path, TINY, "optimizers.sgd={name: adam, betas: [0.9]}")
    assert "'betas' is missing" not in fault


def test_an_augmentation_without_a_name_lacks_its_name(tmp_path: Path) -> None:
    faults = faults_of_text(tmp_path, TINY, "data.augment={padding: 2}")
    assert any("'name' is missing" in fault for fault in faults)


def test_half_a_normalization_lacks_the_other_half(tmp_path: Path) -> None:
    faults = faults_of_text(tmp_path, TINY, "data.normalize={mean: [0.1]}")
    assert any("'std' is missing" in fault for fault in faults)
    assert not any("function-wrap" in fault or "literal" in fault for fault in faults)


@pytest.mark.parametrize(
    "text",
    [
        "experiments: &a {e: *a}\n",
        "experiments: {e: &a {<<: *a}}\n",
        f"{TINY}    slurm: &s {{a: *s}}\n    log_every: 0\n",
        TINY.replace("hidden: [8]", "hidden: &h [*h]"),
    ],
)
def test_an_alias_of_itself_is_a_fault_and_does_not_hang(tmp_path: Path, text: str) -> None:
    assert faults_of_text(tmp_path, text)


def test_of_very_many_faults_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    keys = "".join(f"    key_{number}: 1\n" for number in range(1000))
    faults = faults_of_text(tmp_path, TINY + keys)
    assert len(faults) == 101
    assert faults[99].startswith("spec.yaml:109:5: tiny: unknown option 'key_99'.")
    assert faults[-1] == "and 900 more faults"


def test_a_place_is_looked_up_once_however_many_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []

    def watched(node: Node | None) -> Iterator[tuple[str | int, Node, Node]]:
        looked.append(node)
        return children(node)

    def construct_then_watch(root: Node | None) -> Any:
        monkeypatch.setattr(document, "children", watched)
        return construct(root)

    path = write_spec(tmp_path, TINY + "".join(f"    key_{number}: 1\n" for number in range(1000)))
    monkeypatch.setattr(document, "construct", construct_then_watch)
    with pytest.raises(SpecError):
        load_spec(path)
    assert len(looked) == len(set(map(id, looked))) < 20
