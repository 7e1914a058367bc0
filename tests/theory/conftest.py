"""Fixtures for the tests of certificates: torch as it was, and one run to look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificate_cases import trained, trial_of

from deltagclip_cli.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def settings_of_torch_restored() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of δ-GClip that nobody may change."""
    return trained(trial_of(), tmp_path_factory.mktemp("finished"))


@pytest.fixture
def folder(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it, to be changed."""
    copied = tmp_path / "runs" / finished.path.relative_to(finished.path.parents[2])
    shutil.copytree(finished.path, copied)
    return RunFolder(copied)
