"""Two processes that train together take the very steps that one process would take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sharded_worker
import torch
from sharded_worker import KINDS, SCOPES, WORLD, make_model, make_optimizer, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="torch was built without gloo",
    ),
]


if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
    pytest.skip("FSDP2 does not run on CPUs in this torch", allow_module_level=True)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> dict[str, Any]:
    """What rank 0 of the two processes saw."""
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(Path(sharded_worker.__file__)), str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("norm_scope", SCOPES)
@pytest.mark.parametrize("kind", [*KINDS, "foreach"])
def test_many_processes_are_as_one(together, kind, norm_scope):
    model = make_model()
    alone = train(model, make_optimizer(model, norm_scope=norm_scope))
    assert alone["regimes"][1] > 0
    torch.testing.assert_close(together[f"{kind} {norm_scope}"], alone, rtol=1e-5, atol=1e-6)


def test_parts_of_a_gradient_are_summed_first(together):
    """Each process holds 0.5, so that the gradient is 1 and its norm 2."""
    assert together["partial"]["norm"].item() == 2.0
    assert together["partial"]["weights"].tolist() == [-0.5] * 4


def test_distributed_checkpoints_restore_the_options_and_count_no_step(together):
    result = together["checkpointed"]
    assert result["rates"] == [(0.5, 0.4), (0.2, 0.2)]
    assert not result["moved"]
    assert result["regimes"] is None or result["regimes"].sum() == 0
