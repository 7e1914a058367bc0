"""Trials that several processes cannot train together: each of them says why, and none begins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from ranks_cases import meet
from training_cases import SGD, trial_of

from deltagclip_cli.core import DeviceError
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.ranks import process_group
from deltagclip_cli.training.ranks.replicas import Replicas
from deltagclip_cli.training.ranks.shards import Shards
from deltagclip_cli.training.worker import explained

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)


def assert_all_refuse(
    job: Callable[[int], None], folder: Path, *words: str, count: int = 2
) -> None:
    codes, told = meet(job, folder, count)
    assert codes == [1] * count, told
    for each in told:
        assert "UsageError" in each
        for word in words:
            assert word in each


def meets_elsewhere(name: str, value: Any, number: int) -> None:
    """Meet the others, where the second rank finds another value of what has this name."""
    with pytest.MonkeyPatch.context() as patch:
        if number == 1:
            patch.setattr(name, value)
        watch: Any = SimpleNamespace(arrive=lambda: None)
        process_group._made(trial_of(devices=2), torch.device("cpu"), watch)


@needs_gloo
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "deltagclip_cli.runs.environment.own_code",
            partial(str, "elsewhere"),
            "rank 1 has another version of the code than rank 0: elsewhere",
        ),
        ("torch.__version__", "elsewhere", "rank 1 has another torch than rank 0: elsewhere"),
    ],
)
def test_ranks_of_other_code_are_refused(name: str, value: Any, said: str, tmp_path: Path) -> None:
    assert_all_refuse(partial(meets_elsewhere, name, value), tmp_path, said, "use one environment")


def spreads(trial: Trial, data_dir: Path, number: int) -> None:
    """Make the parts of one process, and share them with the others."""
    parts = assemble(trial, data_dir / str(number), torch.device("cpu"))
    Replicas().spread(trial, parts)


def uses_all(trial: Trial, data_dir: Path, number: int) -> None:
    ranks = Replicas()
    ranks.spread(trial, assemble(trial, data_dir, torch.device("cpu")))
    assert ranks.uses_all


@needs_gloo
def test_ddp_looks_for_no_unused_weights_in_a_network_that_uses_all(tmp_path: Path) -> None:
    """It would take time at each step, and torch warns of it."""
    assert meet(partial(uses_all, trial_of(), tmp_path), tmp_path) == ([0, 0], [])


@needs_gloo
def test_ranks_of_other_data_are_refused(tmp_path: Path) -> None:
    """Each node may have a folder of its own."""
    for number, text in enumerate(["to be or not to be\n" * 20, "to be or not to bo\n" * 20]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "text.txt").write_text(text)
    tokens = {"name": "tokens", "path": "text.txt", "tokenizer": "bytes", "window": 8}
    splits = {"batch_size": 4, "splits": {"validation": 0.1, "test": 0.1}}
    model = {"name": "gpt", "layers": 1, "heads": 1, "width": 4}
    written = {"model": model, "data": {**tokens, **splits}, "task": "language_model", "epochs": 1}
    experiment = Experiment.model_validate({**written, "optimizers": {"sgd": SGD}})
    trial = make_trial("told", experiment, "sgd", 0)
    said = "rank 1 has another copy of the data than rank 0"
    assert_all_refuse(partial(spreads, trial, tmp_path), tmp_path, said, "one folder of data")


@needs_gloo
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"task": "own_ranked_parts.py:weighed"}, "the network or the loss looks at the samples"),
        ({"model": "network"}, "the network or the loss looks at the samples of a batch together"),
        ({"model": "buffer"}, "the buffer 'centre' of the network comes from the samples"),
    ],
)
def test_what_hangs_on_samples_that_other_ranks_have_is_refused(
    part: dict[str, str], said: str, tmp_path: Path
) -> None:
    kind = part.pop("model", "")
    trial = trial_of(model={"name": "own_ranked_parts.py:Looking", "kind": kind}, **part)
    assert_all_refuse(partial(spreads, trial, tmp_path), tmp_path, said, "Train it on one device")


def steps_as_a_whole(trial: Trial, data_dir: Path, number: int) -> None:
    """Step as an optimizer does that makes one vector of all weights."""
    parts = Shards(torch.device("cpu")).spread(
        trial, assemble(trial, data_dir, torch.device("cpu"))
    )
    for each in parts.model.parameters():
        each.grad = torch.ones_like(each)
    with pytest.raises(RuntimeError) as caught:
        parts.optimizer.step(lambda: 1.0)
    said = explained(caught.value)
    assert "torch lacks an operation on tensors that parallel: fsdp has divided: " in said
    assert "Write parallel: ddp" in said


@needs_gloo
def test_an_optimizer_that_takes_no_divided_weights_is_told_of_in_words(tmp_path: Path) -> None:
    trial = trial_of({"name": "lbfgs", "lr": 0.1}, model={"name": "mlp", "hidden": [16]})
    assert meet(partial(steps_as_a_whole, trial, tmp_path), tmp_path, 3) == ([0] * 3, [])


@needs_gloo
def test_a_full_batch_of_fewer_samples_than_ranks_is_refused(tmp_path: Path) -> None:
    """How many samples that is, is known once they are there."""
    trial = trial_of(data={"batch_size": "full", "train": 2})
    said = "a batch of 2 samples is smaller than the 3 devices that share it"
    assert_all_refuse(partial(spreads, trial, tmp_path), tmp_path, said, count=3)


def test_a_written_batch_of_fewer_samples_than_ranks_is_refused_in_the_spec() -> None:
    said = "a batch of 7 samples is smaller than the 8 devices that share it"
    with pytest.raises(ValidationError, match=said):
        trial_of(devices=4, nodes=2, data={"batch_size": 7})
    trial_of(devices=4, nodes=2, data={"batch_size": 8})


@pytest.mark.parametrize("ways", [{"devices": 2}, {"nodes": 2}, {"parallel": "fsdp"}])
@pytest.mark.parametrize("other", [{"compile": "on"}, {"stack": 2}])
def test_steps_that_no_group_of_processes_makes_are_refused_in_the_spec(
    ways: dict[str, Any], other: dict[str, Any]
) -> None:
    """FSDP2 holds the network of one process as it does those of several."""
    (way,), (name,) = ways, other
    with pytest.raises(ValidationError, match=f"{way} and {name}.* exclude each other"):
        trial_of(**ways, **other)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", "devices is 3, but torch sees 2 CUDA devices here"),
        ("cuda:1", "--device cuda:1 is one device, and devices is 3"),
    ],
)
def test_more_devices_than_there_are_are_refused_before_a_process_is_started(
    device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    nobody: Any = None  # neither folder nor options are looked at
    with (
        pytest.raises(DeviceError, match=said),
        process_group.process_group(
            nobody, trial_of(devices=3), torch.device(device), None, nobody
        ),
    ):
        raise AssertionError("three processes have met on two devices")
