"""The table of optimizers, and what importing it costs."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest
import torch

import deltagclip_cli.optim
from deltagclip_cli.core import load_target
from deltagclip_cli.optim import TABLE, DeltaGClip, GClip


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_listing_all_optimizers_does_not_import_torch():
    code = (
        "import sys, deltagclip_cli.optim as o; print(len(o.TABLE.all()), 'torch' in sys.modules)"
    )
    count, imported = in_a_new_process(code).split()
    assert int(count) > 12 and imported == "False"


def test_the_optimizer_loads_torch_alone_and_of_the_package_the_ground_floor():
    loaded = "import sys; print(*sys.modules)"
    with_torch = set(in_a_new_process(f"import torch; {loaded}").split())
    ours = set(
        in_a_new_process(f"from deltagclip_cli.optim import DeltaGClip, GClip; {loaded}").split()
    )
    package = {m for m in ours if m.startswith("deltagclip_cli.")}
    allowed = ("deltagclip_cli.core", "deltagclip_cli.optim")
    assert {m for m in package if not m.startswith(allowed)} == set()
    outside = {m.partition(".")[0] for m in ours - with_torch} - set(sys.stdlib_module_names)
    assert outside == {"deltagclip_cli"}


def test_torchs_optimizers_but_the_sparse_one_are_found_as_torch_lists_them():
    found = {load_target(target) for name, target in TABLE.installed().items()}
    expected = {
        value
        for value in vars(torch.optim).values()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value not in (torch.optim.Optimizer, torch.optim.SparseAdam)
    }
    assert found == expected


@pytest.mark.parametrize(
    "name, expected",
    [
        ("AdamW", torch.optim.AdamW),
        ("adamw", torch.optim.AdamW),
        ("r_adam", torch.optim.RAdam),
        ("SGD", torch.optim.SGD),
        ("delta_gclip", DeltaGClip),
        ("gclip", GClip),
    ],
)
def test_names_may_be_spelt_as_in_python_or_in_lower_case(name, expected):
    assert load_target(TABLE.find(name)) is expected


@pytest.mark.parametrize(
    "name", ["optimizer", "lr_scheduler", "SparseAdam", "sparse_adam", "adamm", ""]
)
def test_what_is_no_optimizer_is_not_found(name):
    assert TABLE.find(name) is None


@pytest.mark.parametrize("name", ["gamma", "delta", "weight_decay"])
def test_the_bounds_of_the_table_are_those_of_the_optimizer(name):
    zero = {"lr": 1.0, "gamma": 1.0, "delta": 0.1, name: 0.0}
    limits = TABLE.limits(TABLE.entries["delta_gclip"], name)
    if limits == {"gt": 0}:
        with pytest.raises(ValueError, match=f"{name} should be > 0"):
            DeltaGClip([torch.zeros(1)], **zero)
    else:
        assert limits["ge"] == 0
        DeltaGClip([torch.zeros(1)], **zero)


@pytest.mark.parametrize("optimizer", [DeltaGClip, GClip])
def test_the_signature_can_be_read(optimizer):
    hints = get_type_hints(optimizer.__init__)
    assert hints["lr"] == float | torch.Tensor
    assert get_args(hints["norm_scope"]) == ("global", "group", "parameter")


def test_the_examples_in_the_docstrings_run():
    module = sys.modules[DeltaGClip.__module__]
    failed, run = doctest.testmod(module)
    assert run >= 10 and failed == 0


def test_an_unknown_attribute_is_named():
    with pytest.raises(AttributeError, match="has no attribute 'DeltaClip'"):
        _ = deltagclip_cli.optim.DeltaClip
