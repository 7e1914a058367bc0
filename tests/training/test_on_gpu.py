"""What a training does on a GPU: with a fake where that is honest, else where there is one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_spec import trial_of as trial_of_spec
from tiny_spec import write_spec
from training_cases import ADAM, DELTA_GCLIP, VAE, StopAt, trial_of
from training_cases import never as stop_never

from deltagclip_cli.core import DeviceError
from deltagclip_cli.optim import DeltaGClip
from deltagclip_cli.parts.datasets import dataset
from deltagclip_cli.runs.environment import describe
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training import worker
from deltagclip_cli.training.assembly import Parts, find_device, free_bytes, total_bytes
from deltagclip_cli.training.meter import AveragedWeights
from deltagclip_cli.training.trainer import Ending

ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
IMAGES = {"name": "synthetic", "size": 32, "channels": 3, "train": 64, "test": 32, "batch_size": 16}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "vae": VAE,
    "kan": {"model": {"name": "kan", "hidden": [8]}},
    "resnet18": {
        "model": "resnet18",
        "data": {**IMAGES, "augment": ["random_crop", "flip"]},
    },
    "vit": {
        "model": "vit_tiny",
        "data": {**IMAGES, "augment": {"name": "random_resized_crop"}, "image_size": 32},
    },
    "full batch": {"data": {"batch_size": "full"}},
    "mean of weights": {"ema": 0.9, "accumulate": 2, "log_every": 1},
}


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A machine with so many; those that became the current one."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_a_gpu_with_a_number_is_the_one_that_all_else_happens_on(
    four_gpus: list[torch.device],
) -> None:
    assert find_device("cuda:2") == torch.device("cuda", 2)
    assert four_gpus == [torch.device("cuda", 2)]
    assert find_device("cuda") == CUDA
    with pytest.raises(DeviceError, match="4 CUDA devices"):
        find_device("cuda:4")
    assert len(four_gpus) == 1


@pytest.fixture
def on_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[RunFolder, Parts]]:
    """Train on a GPU, and return the run folder and the parts."""
    made: list[Parts] = []
    assemble = worker.assemble

    def assembled(*arguments: Any, **options: Any) -> Parts:
        made.append(assemble(*arguments, **options))
        return made[-1]

    def train(trial: Any, data: Path = Path("nowhere"), runs: str = "runs") -> Any:
        monkeypatch.setattr(worker, "assemble", assembled)
        folder = RunFolder.of(tmp_path / runs, trial)
        ending = worker.run_trial(
            folder, trial, data_dir=data, device="cuda", should_stop=stop_never
        )
        assert ending is Ending.FINISHED
        return folder, made[-1]

    return train


def records(folder: RunFolder) -> list[dict[str, Any]]:
    """The metrics of each epoch but for times."""
    return [
        {k: v for k, v in each.items() if k != "time" and not k.startswith("perf/")}
        for each in folder.metrics()
    ]


@pytest.mark.gpu
@ON_A_GPU
@pytest.mark.parametrize(
    ("network", "precision"),
    [*product(NETWORKS, ("fp32", "bf16")), ("resnet18", "tf32"), ("mlp", "fp64")],
)
def test_networks_are_trained_there_and_twice_with_the_same_bits(
    network: str, precision: str, on_gpu: Callable[..., tuple[RunFolder, Parts]]
) -> None:
    trial = trial_of(
        {**DELTA_GCLIP, "lr": 1e-3}, **NETWORKS[network], epochs=2, precision=precision
    )
    first, parts = on_gpu(trial)
    second, _ = on_gpu(trial, runs="again")
    assert all(each.is_cuda for each in parts.model.state_dict().values())
    assert np.isfinite([each.get("train/loss", 0) for each in first.metrics()]).all()
    assert records(first) == records(second)
    saved = [torch.load(each.checkpoint_file, weights_only=True) for each in (first, second)]
    for name, value in saved[0]["model"].items():
        assert torch.equal(value, saved[1]["model"][name]), name


@pytest.mark.gpu
@ON_A_GPU
@pytest.mark.parametrize("optimizer", [DELTA_GCLIP, ADAM])
def test_losses_are_those_of_a_cpu(
    optimizer: dict[str, Any],
    on_gpu: Callable[..., tuple[RunFolder, Parts]],
    tmp_path: Path,
) -> None:
    trial = trial_of(optimizer, epochs=2, precision="fp64")
    there, _ = on_gpu(trial)
    here = RunFolder.of(tmp_path / "cpu", trial)
    worker.run_trial(here, trial, data_dir=Path("nowhere"), device="cpu", should_stop=stop_never)
    for one, other in zip(there.metrics(), here.metrics(), strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-9)
        assert one["test/loss"] == pytest.approx(other["test/loss"], rel=1e-9)


@pytest.mark.gpu
@ON_A_GPU
def test_data_that_do_not_fit_there_train_with_the_same_bits_from_pinned_memory(
    on_gpu: Callable[..., tuple[RunFolder, Parts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(data={"augment": ["flip"]}, epochs=2)
    first, _ = on_gpu(trial)
    monkeypatch.setattr(dataset.torch.cuda, "mem_get_info", lambda device: (0, 0))
    second, _ = on_gpu(trial, runs="pinned")
    assert records(first) == records(second)


@pytest.mark.gpu
@ON_A_GPU
def test_samples_are_fetched_by_processes_forked_from_one_that_uses_the_gpu(
    on_gpu: Callable[..., tuple[RunFolder, Parts]], tmp_path: Path
) -> None:
    torch.zeros(1, device="cuda")
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "class Points(torch.utils.data.Dataset):\n"
        "    def __init__(self, count): self.count = count\n"
        "    def __len__(self): return self.count\n"
        "    def __getitem__(self, n): return torch.full((3,), n / 20), n % 2\n"
        "def points(folder): return {'train': Points(20), 'test': Points(8), 'classes': 2}\n"
    )
    text = (
        "experiments:\n  tiny:\n    model: {name: mlp, hidden: [4]}\n"
        "    data: {name: own.py:points, batch_size: 4, workers: 1}\n    epochs: 2\n"
        "    optimizers: {sgd: {name: sgd, lr: 0.1}}\n"
    )
    folder, _ = on_gpu(trial_of_spec(tmp_path, text=text))
    assert len(list(folder.metrics())) == 2


@pytest.mark.gpu
@ON_A_GPU
@pytest.mark.parametrize("network", ["mlp", "vae"])
def test_captured_steps_have_the_same_bits_twice_and_after_a_stop(
    network: str, on_gpu: Callable[..., tuple[RunFolder, Parts]], tmp_path: Path
) -> None:
    trial = trial_of({**DELTA_GCLIP, "lr": 1e-3}, **NETWORKS[network], epochs=4, compile="on")
    whole, _ = on_gpu(trial)
    assert "captured" in whole.environment_file.read_text()
    cut = RunFolder.of(tmp_path / "cut", trial)
    for stop in (StopAt(6), stop_never):
        worker.run_trial(cut, trial, data_dir=Path("nowhere"), device="cuda", should_stop=stop)
    assert records(whole) == records(cut)


@pytest.mark.gpu
@ON_A_GPU
def test_a_step_that_cannot_be_captured_goes_on_as_usual_on_the_usual_stream(
    on_gpu: Callable[..., tuple[RunFolder, Parts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = DeltaGClip._observe

    def waits(self: DeltaGClip, norm: torch.Tensor, *more: torch.Tensor) -> None:
        if torch.cuda.is_current_stream_capturing():
            norm.item()
        observe(self, norm, *more)

    monkeypatch.setattr(DeltaGClip, "_observe", waits)
    folder, _ = on_gpu(trial_of(epochs=3, compile="on"))
    assert "not captured in a graph" in folder.log_file.read_text()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.gpu
@ON_A_GPU
def test_a_checkpoint_of_a_gpu_goes_on_there_only_within_an_epoch(
    on_gpu: Callable[..., tuple[RunFolder, Parts]],
) -> None:
    folder, _ = on_gpu(trial_of(epochs=1))
    state = torch.load(folder.checkpoint_file, weights_only=True)
    assert state["device"] == "cuda"
    assert state["random"]["cuda"].device.type == "cpu"


@pytest.mark.gpu
@ON_A_GPU
def test_the_environment_and_the_memory_are_those_of_the_gpu() -> None:
    told = describe(CUDA)
    assert torch.cuda.get_device_name() in told["device"]
    free, whole = free_bytes(CUDA), total_bytes(CUDA)
    assert free is not None and whole is not None and 0 < free <= whole


@pytest.mark.gpu
@ON_A_GPU
def test_a_mean_of_weights_is_kept_without_waiting() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).cuda()
    average = AveragedWeights(model, 0.9)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3):
            average.update(model, is_first=step == 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(average.module.state_dict(), model.state_dict())


@pytest.mark.gpu
@ON_A_GPU
def test_workers_of_a_sweep_are_forked_from_a_process_that_has_not_touched_the_gpu(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "deltagclip_cli", "sweep", "tiny", "--runs", "runs"]
    command += ["--spec", str(write_spec(tmp_path)), "--trials-per-gpu", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = list(tmp_path.glob("runs/tiny/*/*/environment.json"))
    assert results and all("cuda" in each.read_text() for each in results)
