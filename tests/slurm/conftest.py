"""A real Slurm, and places from which jobs are submitted to it; skipped where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from slurm_cases import SLURM_UP, SPEC, Cluster, SlurmPlace, is_up


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The Slurm of this machine, which ``slurm-up`` has started.

    The tests come before its jobs on a processor: what they wait for must not be over before they
    see it.
    """
    if not SLURM_UP.is_file():
        pytest.skip("there is no ../shared/slurm/slurm-up to start a Slurm with")
    if not is_up():
        pytest.skip("no Slurm answers: ../shared/slurm/slurm-up starts one, as root")
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    return Cluster()


@pytest.fixture
def make_place(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., SlurmPlace]]:
    """Makes the folder of a test, of which afterwards no job and no process may be left."""
    places: list[SlurmPlace] = []

    def make(spec: str = SPEC, name: str = "") -> SlurmPlace:
        path = tmp_path / (name or f"place-{len(places)}")
        path.mkdir(parents=True)
        places.append(SlurmPlace(path, spec))
        return places[-1]

    yield make
    for place in places:
        place.end_jobs()
    try:
        for place in places:
            place.wait_until_left(patience=120)
    finally:
        for place in places:
            place.clean_up()


@pytest.fixture
def place(make_place: Callable[..., SlurmPlace]) -> SlurmPlace:
    """A folder with the trials of ``SPEC``."""
    return make_place()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SlurmPlace:
    """All trials of ``SPEC``, from a local sweep that nothing befell."""
    place = SlurmPlace(tmp_path_factory.mktemp("undisturbed"))
    done = place.sweep()
    assert done.code == 0, done.out
    place.wait_until_left()
    return place
