"""What fails at the start or the end of trials is found before the first of them begins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny_spec import TINY, write_spec

from deltagclip_cli.core import SpecError, UsageError
from deltagclip_cli.launch.rehearsal import Stage, check_parts, words_of
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import expand

CPU = Stage("cpu")
ADAM = "optimizers.adam={name: adam, "


def faults(folder: Path, *sets: str, text: str = TINY, stage: Stage = CPU) -> list[str]:
    """What is wrong with the parts of the trials of a spec, without the name of its folder."""
    spec = load_spec(write_spec(folder, text), sets=sets, runs=folder / "runs")
    trials = [t for name, each in spec.experiments.items() for t in expand(name, each)]
    try:
        check_parts(spec, trials, lambda trial: stage, folder)
    except SpecError as error:
        return str(error).replace(f"{folder}/", "").split("\n\n")
    return []


def test_a_folder_of_compiled_code_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="where torch cannot keep compiled code: File exists"):
        faults(tmp_path)


ONE_CYCLE = "schedule={name: onecyclelr, max_lr: 0.01, unit: step, cycle_momentum: false"

GROUPS = f"{ADAM}clip_grad_norm: 1, groups: {{a: {{match: "

MUON = "optimizers.m={name: muon_adamw, schedule: {name: onecyclelr, total_steps: 9, max_lr: "


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        (
            f"{ONE_CYCLE}}}",
            "schedule 'onecyclelr' refuses its options: You must define either total_steps OR",
        ),
        (f"{ONE_CYCLE}, total_steps: 3}}", "fails after step 4 of 4: Tried to step 4 times."),
        ("schedule={name: cosine, warmup: 5}", "warmup is 5 epochs, but the training has 2"),
        ("schedule={name: reducelronplateau, unit: step}", "neither a warm-up nor 'unit: step'"),
        ("schedule={name: steplr, step_size: 0}", "fails after epoch 1 of 2: ZeroDivisionError"),
        ("schedule={name: CosineAnnealingLR, T_max: 0}", "of 2: ZeroDivisionError"),
        ("schedule={name: multistep, milestones: [1], factor: -1}", "of epoch 2 would be -0.1"),
        ("schedule={name: multistep, milestones: [-3, 2]}", "milestones must not be negative"),
        ("schedule={name: exponentiallr, gamma: -0.5}", "rate of epoch 2 would be -0.05"),
        (f"{ADAM}betas: [0.9, 1.5]}}", "refuses its options: Invalid beta parameter at index 1"),
        ("optimizers.sgd.nesterov=true", "Nesterov momentum requires a momentum"),
        (f"{ADAM}fused: true, foreach: true}}", "`fused` and `foreach` cannot be `True` together"),
        (f"{ADAM}capturable: true}}", "optimizer 'adam' fails when it steps: AssertionError"),
        (f"{ADAM}differentiable: true}}", "fails when it steps: a leaf Variable"),
        ("optimizers.m=muon", "Muon only supports 2D parameters"),
        ("optimizers.delta-gclip.fused=true", ""),
        ("optimizers.l=lbfgs", ""),
        ("optimizers.m=muon_adamw", ""),
        (f"{MUON}[1, 2], cycle_momentum: false}}}}", ""),
        (f"{MUON}[1], cycle_momentum: false}}}}", "param_groups has 2"),
        (f"{MUON}1}}}}", "optimizer must support momentum or beta1"),
        (
            f"{GROUPS}'*.bais', lr: 1}}}}}}",
            "groups: the pattern '*.bais' of a matches no parameter",
        ),
        (
            f"{GROUPS}'*.bias', lr: 1}}, b: {{match: '1.*', lr: 1}}}}}}",
            "1.bias is in several groups",
        ),
        (f"{GROUPS}'1.bias', lr: 1}}, b: {{match: '3.bias', lr: 1}}}}}}", ""),
        ("accumulate=3", "accumulate is 3, but synthetic has 2 batches of 4"),
        ("accumulate=2", ""),
        ("precision=tf32", "precision tf32 is a mode of CUDA devices"),
        ("task=autoencode", "task autoencode needs a model that returns (reconstruction"),
        ("model=vae", "task classify needs a model that returns logits"),
        ("model=vit_tiny", "multiples of 16 pixels, got 4 x 4"),
        ("model.hidden=[0]", "hidden must list widths of at least 1"),
        (
            "model={name: 'torchvision:resnet18', replace_stride_with_dilation: [true]}",
            "replace_stride_with_dilation should be None or a 3-element tuple",
        ),
        ("model={name: 'torchvision:resnet18', norm_layer: 1}", "'int' object is not callable"),
        ("model={name: 'torchvision:regnet_x_400mf'}", ""),
        ("model={name: bert, pretrained: nowhere}", "the model reads texts, but data synthetic"),
        ("data={name: emotion, batch_size: 4}", "data emotion holds texts, which the model does"),
        ("data.batch_size=9", "data.batch_size is 9, but synthetic has 8 samples"),
        ("data.train_samples=9", "train_samples is 9, but this split has 8 samples"),
        ("data.validation=8", "leaves nothing for training: there are 8 training samples"),
        ("data.validation=official", "these data have no such split of their own"),
        ("data.validation=0.5", ""),
        ("data.normalize={mean: [0.5], std: [1]}", "one number for each of the 3 channels"),
        ("data.augment={name: random_resized_crop, scale: [1, 0]}", "the smaller first"),
        ("data={name: sphere, batch_size: 4, augment: flip}", "are for images, but the inputs are"),
        ("data.train=1000000000000", "its samples take at least"),
        ("data.size=1000000", "its samples take at least"),
        ("data.channels=100000000000", "its samples take at least"),
        ("data.classes=1000000000", "its samples take at least"),
        ("data.image_size=1000000000", "a batch takes at least"),
        ("data={name: sphere, batch_size: 4, points: 1000000000000}", "its samples take at least"),
        ("data={name: sphere, batch_size: 4, dimension: 1000000000000}", "its samples take at"),
        ("model.hidden=[1000000000000]", "parameters and their gradients take at least"),
        ("model.hidden=[1000000000000, 1000000000000]", "size calculation overflowed"),
        ("model={name: wide_mlp, width: 1000000000}", "parameters and their gradients take"),
    ],
)
def test_what_refuses_a_trial_is_told_with_its_place(
    tmp_path: Path, setting: str, fault: str
) -> None:
    found = faults(tmp_path, setting)
    assert len(found) == bool(fault)
    for each in found:
        assert re.match(r"(--set .*|spec.yaml:5:5): tiny › ", each) and fault in each


def test_every_setting_is_tried_and_the_line_of_the_option_is_named(tmp_path: Path) -> None:
    text = """\
defaults:
  model: {name: mlp, hidden: [8]}
  data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
  epochs: 2
experiments:
  one:
    optimizers:
      good: {name: sgd, lr: 0.1}
      betas:
        name: adam
        betas: [0.9, 1.5]
      both:
        name: adam
        fused: true
        foreach: true
      own: {name: sgd, schedule: {name: steplr, step_size: 0}}
  two:
    optimizers:
      sgd: {name: sgd, lr: 0.1}
    schedule:
      name: multistep
      milestones: [1]
      factor: -1
  three:
    optimizers: {a: {name: adadelta}}
    grid:
      a: {rho: [0.5, 1.5, 2.5]}
      model.hidden: [[8], [0], [4, 4]]
  four:
    optimizers: {sgd: {name: sgd}}
    grid: {zip: {momentum: [0, 0.9], nesterov: [true, true]}}
"""
    found = [each.split(": ")[:3] for each in faults(tmp_path, text=text)]
    assert sorted((place, trail) for place, trail, _ in found) == [
        ("spec.yaml:11:9", "one › optimizers › betas"),
        ("spec.yaml:15:9", "one › optimizers › both"),
        ("spec.yaml:16:24", "one › optimizers › own › schedule"),
        ("spec.yaml:23:7", "two › schedule"),
        ("spec.yaml:27:22", "three › grid › a › rho"),
        ("spec.yaml:27:27", "three › grid › a › rho"),
        ("spec.yaml:28:27", "three › grid › model.hidden"),
        ("spec.yaml:31:49", "four › grid › zip › nesterov"),
    ]


def test_what_only_a_cpu_refuses_is_no_fault_on_a_gpu_elsewhere(tmp_path: Path) -> None:
    capturable, tf32 = f"{ADAM}capturable: true}}", "precision=tf32"
    assert len(faults(tmp_path, capturable)) == 1
    assert faults(tmp_path, capturable, tf32, stage=Stage("cuda", here=False)) == []
    assert len(faults(tmp_path, tf32, stage=Stage("cpu", here=False))) == 1


def test_elsewhere_only_what_no_machine_has_is_too_much(tmp_path: Path) -> None:
    there = Stage("cuda", here=False)
    assert faults(tmp_path, "model.hidden=[2000000000]", stage=there) == []
    assert len(faults(tmp_path, "model.hidden=[2000000000]")) == 1
    (fault,) = faults(tmp_path, "model.hidden=[200000000000]", stage=there)
    assert "at least 94,400.0 GB, and no machine has so much" in fault


def test_data_that_are_not_there_yet_keep_no_optimizer_from_being_tried(tmp_path: Path) -> None:
    data = "data={name: image_folder, path: nowhere, batch_size: 4, image_size: 8}"
    assert faults(tmp_path, data) == []
    assert len(faults(tmp_path, data, "optimizers.sgd.nesterov=true")) == 1
    bert = "model={name: bert, pretrained: nowhere}"
    assert faults(tmp_path, bert, "data={name: emotion, batch_size: 4}") == []


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (["data.train=9"], True),
        (["data.train=8", "data.batch_size=1"], True),
        (["data.train=1", "data.batch_size=full"], True),
        (["data.train=10"], False),
        (["data.train=9", "data.batch_size=full"], False),
        (["data.train=9", "model=mlp"], False),
        (["data.train=9", "data.size=64"], False),  # a network that ends in more than one pixel
    ],
)
def test_networks_that_normalize_batches_want_two_samples_in_each(
    tmp_path: Path, settings: list[str], refused: bool
) -> None:
    found = faults(tmp_path, "model='torchvision:mnasnet0_5'", "data.size=32", *settings)
    assert len(found) == refused
    for fault in found:
        assert "tiny › data: batch_size" in fault
        assert "leaves a batch of one sample, on which model" in fault


def test_an_own_optimizer_is_tried_with_all_the_steps_that_the_data_have(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch.optim import SGD\n\nclass Own(SGD): ...\n")
    own = ["optimizers.sgd={name: own.py:Own, lr: 0.1}", "data.train=640", "data.batch_size=8"]
    warm_up = "schedule={name: cosine, unit: step, warmup: %d}"
    assert faults(tmp_path, *own, warm_up % 100) == []
    assert len(faults(tmp_path, *own, warm_up % 1000)) == 1


def test_an_error_without_words_is_told_with_what_raised_it() -> None:
    def step() -> None:
        raise NotImplementedError

    with pytest.raises(NotImplementedError) as caught:
        step()
    assert words_of(caught.value).startswith("NotImplementedError in ")
    assert words_of(caught.value).endswith("step")
