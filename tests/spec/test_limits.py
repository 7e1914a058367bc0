"""Values that YAML can write and no machine can hold are refused, each at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import TINY, faults_of_text

HUGE = str(10**40)
NUMBER = "must be a whole number of at most 64 bits"
TEXT = r"must be a text without \0 or half a surrogate pair"


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        (f"epochs={HUGE}", f"tiny: 'epochs' {NUMBER}"),
        (f"epochs=-{HUGE}", f"tiny: 'epochs' {NUMBER}"),
        (f"seeds=[0, {HUGE}]", f"tiny: value 2 of 'seeds' {NUMBER}"),
        (f"data.data_seed={HUGE}", f"tiny › data: 'data_seed' {NUMBER}"),
        (f"data.batch_size={HUGE}", f"tiny › data: 'batch_size' {NUMBER}"),
        (f"model.hidden=[{HUGE}]", f"tiny › model: value 1 of 'hidden' {NUMBER}"),
        (f"optimizers.sgd.foreach={HUGE}", f"tiny › optimizers › sgd: 'foreach' {NUMBER}"),
        (f"schedule={{name: steplr, step_size: {HUGE}}}", f"schedule: 'step_size' {NUMBER}"),
        (f"checkpoint.epochs={HUGE}", f"tiny › checkpoint: 'epochs' {NUMBER}"),
        (f"log_every={HUGE}", f"tiny: 'log_every' {NUMBER}"),
        (f"slurm.nodes={HUGE}", f"tiny › slurm: 'nodes' {NUMBER}"),
        (f"grid.epochs=[1, {HUGE}]", f"tiny › grid: value 2 of 'epochs' {NUMBER}"),
        (f"grid.lr={{range: [1, 2], count: {HUGE}}}", f"tiny › grid › lr: 'count' {NUMBER}"),
        (f"model={{name: 'torchvision:resnet18', x: {HUGE}}}", f"tiny › model: 'x' {NUMBER}"),
        (r'title="a\0b"', f"tiny: 'title' {TEXT} (got the text 'a\\x00b')."),
        (r'figure="\ud800"', f"tiny: 'figure' {TEXT} (got the text '\\ud800')."),
        (r'data={name: image_folder, batch_size: 1, path: "a\0b"}', f"tiny › data: 'path' {TEXT}"),
        (r'model={name: bert, pretrained: "\0"}', f"tiny › model: 'pretrained' {TEXT}"),
        (r'model={name: "torchvision:resnet18", x: "\0"}', f"tiny › model: 'x' {TEXT}"),
        ("model={name: wide_mlp, depth: 1000000}", "'depth' must be less than or equal to 10000"),
        ("model={name: kan, grid: 1000000000}", "'grid' must be less than or equal to 1000"),
        ("data.augment={name: random_crop, padding: 100000}", "'padding' must be less than"),
    ],
)
def test_a_value_that_cannot_be_held_is_named_with_its_place(
    tmp_path: Path, setting: str, fault: str
) -> None:
    faults = faults_of_text(tmp_path, TINY, setting)
    assert any(fault in each for each in faults)
    assert all(each.startswith("--set ") for each in faults)


def test_all_such_values_are_found_at_once_and_beside_other_faults(tmp_path: Path) -> None:
    text = TINY.replace("epochs: 2", f"epochs: {HUGE}").replace("lr: 0.1}", "lrr: 0.1}")
    text = text.replace("title: A", r'title: "\0"  #')
    places = [fault.partition(" ")[0] for fault in faults_of_text(tmp_path, text)]
    assert places == ["spec.yaml:3:5:", "spec.yaml:6:5:", "spec.yaml:8:24:"]


def test_a_value_that_many_aliases_share_is_looked_at_once(tmp_path: Path) -> None:
    levels = [f"a0: &a0 [{HUGE}]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6)]
    text = TINY.replace("epochs: 2", "epochs: 2\n    nested: {" + ", ".join(levels) + "}")
    (fault,) = [each for each in faults_of_text(tmp_path, text) if NUMBER in each]
    assert "value 1 of 'a0'" in fault


@pytest.mark.parametrize("length", [201, 5000])
def test_a_name_that_no_folder_can_have_is_refused_in_few_words(
    tmp_path: Path, length: int
) -> None:
    name = "a" * length
    renamed = TINY.replace("      sgd:", f"      ? {name}\n      :")
    (fault,) = faults_of_text(tmp_path, renamed)
    assert "cannot be a name.\n  names begin with a letter or digit and hold up to 200" in fault
    assert len(fault) < 400
    (fault,) = faults_of_text(tmp_path, TINY.replace("  tiny:", f"  ? {name}\n  :"))
    assert "cannot be the name of an experiment" in fault
    assert len(fault) < 400
