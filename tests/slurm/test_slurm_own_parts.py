"""Parts of one's own in jobs of a real Slurm, whose files are edited while the jobs wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_cases import SlurmPlace, run
from sweep_cases import assert_same_numbers

pytestmark = pytest.mark.slurm

SPEC = """\
experiments:
  own:
    model: {name: net.py:Net, width: 8}
    data: {name: net.py:waves, batch_size: 8}
    task: {name: supervised, loss: mse_loss, metrics: {miss: net.py:miss}}
    epochs: 20
    seeds: [0, 1]
    optimizers:
      mine: {name: soft.py:Soft, lr: 0.05}
    slurm: {cpus: 1, time: 10, sbatch: ["--hold"]}
"""
NET = """\
import torch

class Net(torch.nn.Sequential):
    def __init__(self, shape, width: int = 4):
        super().__init__(torch.nn.Linear(*shape, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))

def waves(samples: int = 40):
    inputs = torch.linspace(-3, 3, samples).unsqueeze(1)
    return (inputs, inputs.sin()), (inputs[::4], inputs[::4].sin())

def miss(outputs, targets):
    return (outputs - targets).abs().mean(dim=1)
"""
SOFT = """\
import torch

class Soft(torch.optim.SGD):
    def step(self):
        from helpers.scale import scaled  # while it trains, long after it was imported
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = scaled(param.grad)
        return super().step()
"""
SCALE = """\
def scaled(gradient):
    return gradient / (gradient.abs() + 0.1)
"""


@pytest.fixture
def make_own(make_place: Callable[..., SlurmPlace]) -> Callable[[], SlurmPlace]:
    """Makes a place with the files that ``SPEC`` names."""

    def make() -> SlurmPlace:
        place = make_place(SPEC)
        (place.path / "helpers").mkdir()
        for name, text in {"net": NET, "soft": SOFT, "helpers/scale": SCALE}.items():
            (place.path / f"{name}.py").write_text(text)
        return place

    return make


def scale(place: SlurmPlace) -> Path:
    return place.path / "helpers" / "scale.py"


def release(place: SlurmPlace) -> None:
    """Let jobs start that were submitted on hold, and wait for their ends."""
    run("scontrol", "release", *sorted({task.job for task in place.tasks() if task.is_alive}))
    place.wait_until_quiet()


def test_a_job_runs_the_code_as_it_was_when_it_was_submitted(
    make_own: Callable[[], SlurmPlace],
) -> None:
    place, undisturbed = make_own(), make_own()
    place.submit()
    assert {task.state for task in place.tasks()} == {"PENDING"}
    scale(place).write_text(SCALE.replace("0.1", "0.9"))
    (place.path / "net.py").write_text("raise SystemExit('somebody is editing this')\n")
    status = place.call("status")
    assert "2 queued" in status.out and "editing" not in status.out
    release(place)
    done = undisturbed.sweep()
    assert done.code == 0, done.out
    assert_same_numbers(place, undisturbed, 2)

    (place.path / "net.py").write_text(f"# as it was, but for this line\n{NET}")
    again = place.submit()
    assert "scale.py" in again.out and "changed since 2 finished trials" in again.out
    assert len(place.folders()) == 2  # a job makes the others when it begins
    release(place)
    assert len(place.folders()) == 4
    assert place.submit().code == 0


def test_an_edit_of_a_comment_is_none(make_own: Callable[[], SlurmPlace]) -> None:
    place = make_own()
    place.submit()
    scale(place).write_text(f'"""How gradients are scaled."""\n\n{SCALE}\n# That is all.\n')
    release(place)
    before = place.results()
    again = place.submit()
    assert "changed since" not in again.out
    assert place.results() == before and len(before) == 2
