"""The table of launchers: which options each takes, and what is said of others."""

from __future__ import annotations

import pytest

from deltagclip_cli.core import UsageError, load_target
from deltagclip_cli.launch import TABLE, find_launcher

OPTIONS = {"every", "fail_fast", "jobs", "gpus", "trials_per_gpu", "slurm", "pack"}
LAUNCHERS = {name: load_target(target) for name, target in TABLE.entries.items()}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_takes_an_option_or_says_which_others_do(name: str) -> None:
    launcher = LAUNCHERS[name]
    assert launcher.takes <= OPTIONS
    assert find_launcher(name, launcher.takes) is launcher
    for option in OPTIONS - launcher.takes:
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: only with") as caught:
            find_launcher(name, [option])
        assert launcher.instead in str(caught.value)


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_every_option_is_taken_by_a_launcher(option: str) -> None:
    assert any(option in launcher.takes for launcher in LAUNCHERS.values())


def test_a_launcher_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="launchers: local, inline, slurm - did you mean 'local'"):
        find_launcher("locall", [])
