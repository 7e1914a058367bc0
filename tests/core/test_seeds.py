"""Seeds from named parts."""

from __future__ import annotations

import itertools

from deltagclip_cli.core import derive_seed


def test_seeds_do_not_change_between_versions() -> None:
    """Numbers of earlier versions are reproduced only if these stay as they are."""
    assert derive_seed(0, "init") == 1519069808562059438
    assert derive_seed(7, "order", 3) == 929583480629082613


def test_a_seed_fits_every_generator() -> None:
    seeds = [derive_seed(seed, "init") for seed in (*range(1000), 2**31 - 1)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_every_name_has_a_stream_of_its_own() -> None:
    names = [(), ("init",), ("order",), ("order", 1), ("order", 2), ("order", "1", "2")]
    seeds = [derive_seed(seed, *name) for seed, name in itertools.product((0, 1), names)]
    assert len(set(seeds)) == len(seeds)
    assert derive_seed(1, "order", 1) == derive_seed(1, "order", "1")
