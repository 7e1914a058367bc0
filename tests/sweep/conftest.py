"""Places for sweeps, which must be left without a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweep_cases import SPEC, Place


@pytest.fixture(autouse=True, scope="session")
def processes_can_be_looked_at() -> None:
    if not Path("/proc/self/cwd").exists():
        pytest.skip("needs /proc to find processes")


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes the folder of a test, in which afterwards no process may be left."""
    places: list[Place] = []

    def make(spec: str = SPEC) -> Place:
        path = tmp_path / f"place-{len(places)}"
        path.mkdir()
        places.append(Place(path, spec))
        return places[-1]

    yield make
    try:
        for place in places:
            place.wait_until_left(patience=120)
    finally:
        for place in places:
            place.clean_up()


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    """A folder with the trials of ``SPEC``."""
    return make_place()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All trials of ``SPEC``, from a sweep that nothing befell."""
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    done = place.sweep()
    assert done.code == 0, done.out
    place.wait_until_left()
    return place
