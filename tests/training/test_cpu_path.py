"""What makes steps on a CPU fast, seen by what they do, not by the time that they take."""

from __future__ import annotations

import platform
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_cases import StopAt, never, train, trial_of

from deltagclip_cli.optim import DeltaGClip
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.training.meter import Meter

NARROW = trial_of(precision="bf16")


@pytest.mark.slow
@pytest.mark.parametrize("is_native", [False, True], ids=["emulated", "native"])
def test_bf16_without_instructions_for_it_is_said_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_native: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: is_native)
    train(NARROW, tmp_path, stop=StopAt(1))
    train(NARROW, tmp_path, stop=never)
    folder = RunFolder.of(tmp_path, NARROW)
    said = folder.log_file.read_text().count("The processor has no instructions for bf16")
    assert said == (not is_native)
    assert folder.result() is not None


def test_a_meter_keeps_no_tensor_of_the_host() -> None:
    """One that stays moves those of the next step to memory that no cache has."""
    meter = Meter([2, 2])
    kept = []
    for loss, step_size in ((0.1, 0.3), (0.2, 0.7)):
        given = {"loss": torch.tensor(loss), "right": torch.tensor(3)}
        told = {"step_size": torch.tensor(step_size, dtype=torch.float64)}
        meter.add(given, told)
        kept += [weakref.ref(each) for each in (*given.values(), *told.values())]
    del given, told
    assert [each() for each in kept] == [None] * 6
    state = meter.state_dict()
    assert torch.equal(state["sums"]["loss"], torch.tensor([0.1, 0.2]))
    assert state["sums"]["right"].dtype == torch.int64
    assert state["observed"]["step_size"]["values"].tolist() == [0.3, 0.7]
    again = Meter([2, 2])
    again.load_state_dict(state)
    assert again.means().of_samples() == meter.means().of_samples()
    assert again.means().of_steps() == meter.means().of_steps()


class Operations(TorchDispatchMode):
    """Counts the operations of torch that touch a tensor's numbers, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not function.is_view:
            self.names.append(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("tensors", "pieces"), [(1, 1), (50, 1), (10, 2)])
def test_a_step_makes_one_product_a_piece_and_one_sum_a_tensor(tensors: int, pieces: int) -> None:
    """Whatever else it does has the same number of operations for any number of tensors."""
    size = (pieces - 1) * 2**20 + 2**15 + 1
    weights: list[Tensor] = [torch.nn.Parameter(torch.ones(size)) for _ in range(tensors)]
    for weight in weights:
        weight.grad = torch.ones(size)
    small = torch.nn.Parameter(torch.ones(3))
    small.grad = torch.ones(3)
    optimizer = DeltaGClip([*weights, small], lr=0.1, gamma=1.0, delta=0.1)
    optimizer.step()  # makes its counters
    with Operations() as seen:
        optimizer.step()
    names = seen.names
    assert names.count("dot") == tensors * pieces
    assert names.count("add_") == tensors + 2  # one of them counts the regime
    assert names.count("_foreach_norm") == names.count("_foreach_sqrt") == 1
    joined = 3 * tensors * (pieces > 1)  # each is cut, and the pieces are stacked and summed
    assert len(names) <= tensors * pieces + tensors + 1 + joined + 25
