"""No step of an epoch waits for the device, and none handles samples one by one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from no_waiting import BetweenSteps, NoWaiting, PythonCalls, is_marked, mark, tensors
from torch import Tensor
from training_cases import ADAM, DELTA_GCLIP, MOMENTUM, SGD, VAE, train, trial_of

from deltagclip_cli.core import TrialError
from deltagclip_cli.optim import update
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.training import meter, worker
from deltagclip_cli.training.meter import HostCopies
from deltagclip_cli.training.sinks import Sink
from deltagclip_cli.training.worker import run_trial

NOWHERE = Path("nowhere")
GCLIP = {"name": "gclip", "lr": 0.2, "gamma": 0.7}
BLOCKS = {**DELTA_GCLIP, "per": "tensor"}
MUON = {"name": "muon_adamw", "lr": 0.02}
ADAMW = {"name": "adamw", "lr": 1e-2}
CLIPPED = {**MOMENTUM, "clip_grad_norm": 0.5}
GROUPS = {**ADAM, "groups": {"first": {"match": ["*.bias"], "lr": 1e-3}}}

QUICK = {"delta-gclip", "muon", "clipped", "ema", "accumulated", "augmented", "logged", "saved"}


def params(cases: dict[str, Any]) -> list[Any]:
    """Cases by name, of which some are enough for every day."""
    return [
        pytest.param(each, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for name, each in cases.items()
    ]


OPTIMIZERS = params(
    {
        "delta-gclip": DELTA_GCLIP,
        "gclip": GCLIP,
        "muon": MUON,
        "sgd": SGD,
        "momentum": MOMENTUM,
        "adam": ADAM,
        "adamw": ADAMW,
        "clipped": CLIPPED,
        "groups": GROUPS,
    }
)
SETTINGS = params(
    {
        "ema": {"ema": 0.9},
        "accumulated": {"accumulate": 2, "data": {"batch_size": 10}},
        "augmented": {"data": {"augment": ["random_crop", "flip"]}},
        "resized": {"data": {"image_size": 12, "augment": ["random_resized_crop"]}},
        "vae": VAE,
        "cosine": {"schedule": {"name": "cosine", "warmup": 1}},
        "by step": {
            "schedule": {
                "name": "onecyclelr",
                "max_lr": 0.1,
                "total_steps": 9,
                "cycle_momentum": False,
                "unit": "step",
            }
        },
        "bf16": {"precision": "bf16"},
        "logged": {"log_every": 1},
        "saved": {"checkpoint": {"minutes": 1e-9}},
        "kan": {"model": {"name": "kan", "hidden": [4]}},
        "convolutions": {"model": {"name": "resnet18"}},
        "attention": {"model": {"name": "vit_tiny"}, "data": {"image_size": 16, "batch_size": 50}},
    }
)


def watched(
    trial: Any, runs: Path, monkeypatch: pytest.MonkeyPatch, data: Path = NOWHERE, more: Any = ()
) -> int:
    """Train a trial, and return how many steps were watched."""
    assemble, stack, watch = worker.assemble, ExitStack(), NoWaiting()

    def on_device(*arguments: Any, **options: Any) -> Any:
        parts = assemble(*arguments, **options)
        data = {name: value for name, value in vars(parts.train).items() if name != "_lengths"}
        for each in tensors([*parts.model.parameters(), *parts.model.buffers(), data]):
            mark(each)
        stack.enter_context(watch)
        return parts

    monkeypatch.setattr(worker, "assemble", on_device)
    for module in (update, meter):  # which read at once what nobody waits for
        monkeypatch.setattr(module, "on_host", lambda tensor: not is_marked(tensor))

    class LateCopies(HostCopies):
        """Those of a device that is behind the host in every step."""

        def are_there(self) -> bool:
            return not watch.is_on

        def wait(self) -> Any:
            assert not watch.is_on, "a step waits for copies"
            return super().wait()

    monkeypatch.setattr(meter, "HostCopies", LateCopies)
    between = BetweenSteps(lambda: watch.switch(True), lambda: watch.switch(False))
    with stack:
        train(trial, runs, sinks=[between, *more], data_dir=data)
    return between.watched


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_waits(
    optimizer: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched(trial_of(optimizer, epochs=2), runs, monkeypatch) == 6


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_setting_waits(
    settings: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched(trial_of(**settings, epochs=2), runs, monkeypatch)


def test_no_stack_waits(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of(ADAM, stack=3, accumulate=2, data={"batch_size": 10}, epochs=2)
    assert watched(trial, runs, monkeypatch)


KINDS = {
    "language": {
        "model": {"name": "gpt", "layers": 1, "heads": 2, "width": 8, "dropout": 0.1},
        "data": {"name": "tokens", "path": "sums.txt", "window": 16, "tokenizer": "characters"},
        "task": "language_model",
    },
    "table": {
        "model": {"name": "mlp", "hidden": [8]},
        "data": {"name": "csv", "path": "t.csv", "target": "price"},
        "task": "regress",
    },
    "points": {"model": {"name": "mlp", "hidden": [8]}, "data": {"name": "sphere"}},
}


@pytest.mark.parametrize(
    "kind", ["language", "points", pytest.param("table", marks=pytest.mark.slow)]
)
def test_no_kind_of_data_waits(
    kind: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sums.txt").write_text("".join(f"{n} and {n} make {2 * n}\n" for n in range(99)))
    (tmp_path / "t.csv").write_text("x,y,price\n" + "".join(f"{n},1,{n % 3}\n" for n in range(60)))
    written = {**KINDS[kind], "epochs": 2, "optimizers": {"tested": DELTA_GCLIP}}
    written["data"] = {**written["data"], "batch_size": 8}
    if kind != "points":
        written["data"]["splits"] = {"test": 0.2}
    trial = make_trial("kinds", Experiment.model_validate(written), "tested", 0)
    assert watched(trial, runs, monkeypatch, tmp_path)


class Reads(Sink):
    """Reads a loss in a step."""

    def __init__(self, read: Any) -> None:
        self.read = read

    def batch(self, step: int, samples: int) -> None:
        if step == 2:
            self.read(self.losses[-1])


SLOW = (bool, Tensor.item, Tensor.numpy, Tensor.tolist)
READING: list[Any] = [float, Tensor.cpu, Tensor.nonzero]
READING += [pytest.param(each, marks=pytest.mark.slow) for each in SLOW]


@pytest.mark.parametrize("read", READING)
def test_a_value_that_is_read_in_a_step_is_found(
    read: Any, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, add = Reads(read), meter.Meter.add

    def adding(self: Any, sums: Any, observed: Any) -> None:
        reading.losses = [sums["loss"]]
        add(self, sums, observed)

    monkeypatch.setattr(meter.Meter, "add", adding)
    with pytest.raises(TrialError, match="WaitedError"):
        watched(trial_of(), runs, monkeypatch, more=[reading])


@pytest.mark.parametrize("settings", [{}, {"data": {"augment": ["random_crop", "flip"]}}, VAE])
def test_a_step_calls_as_much_of_python_whatever_the_size_of_the_batch(
    settings: dict[str, Any], runs: Path
) -> None:
    def calls(batch: int) -> int:
        counted = PythonCalls()
        data = {**settings.get("data", {}), "train": 3 * batch, "batch_size": batch}
        trial = trial_of(**{**settings, "data": data}, epochs=2)
        train(trial, runs, sinks=[BetweenSteps(counted.begin, counted.end)])
        return counted.count

    assert calls(64) == calls(256) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", SETTINGS)
def test_no_setting_waits_for_a_gpu(settings: dict[str, Any], runs: Path) -> None:
    _train_on_gpu(trial_of(**settings, epochs=3), runs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_waits_for_a_gpu(optimizer: dict[str, Any], runs: Path) -> None:
    _train_on_gpu(trial_of(optimizer, epochs=3), runs)


def _train_on_gpu(trial: Any, runs: Path) -> None:
    """Train a trial, in the steps of which torch raises where it would wait."""
    folder = RunFolder.of(runs, trial)
    between = BetweenSteps(
        lambda: torch.cuda.set_sync_debug_mode("error"),
        lambda: torch.cuda.set_sync_debug_mode("default"),
    )
    run_trial(
        folder, trial, data_dir=NOWHERE, device="cuda", sinks=[between], should_stop=lambda: False
    )
    assert between.watched
