"""Sweeps in this process: the same numbers, the same records, and a way to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import chdir
from typing import Any

import pytest
from sweep_cases import SHORT, Place, numbers, result
from typer.testing import CliRunner, Result

from deltagclip_cli.commands.app import app
from deltagclip_cli.spec.trial import Trial

Sweep = Callable[..., Result]


@pytest.fixture
def inline(place: Place) -> Iterator[Sweep]:
    """Sweeps in this process."""
    import torch

    threads = torch.get_num_threads()
    with chdir(place.path):  # left before the place looks for processes that stayed there
        yield lambda *words: CliRunner().invoke(app, ["sweep", "--launcher", "inline", *words])
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_trials_in_one_process_have_the_numbers_of_those_in_workers(
    inline: Sweep, place: Place, undisturbed: Place
) -> None:
    done = inline("short")
    assert done.exit_code == 0, done.output
    assert "short: 2 of 2 trials finished" in done.output
    for name in SHORT:
        assert numbers(place.folder(name)) == numbers(undisturbed.folder(name))
        assert result(place.folder(name)) == result(undisturbed.folder(name))
    assert "started" not in inline("short").output


@pytest.mark.parametrize("words", [(), ("--set", "stack=3")], ids=["alone", "stacked"])
def test_a_trial_that_fails_is_recorded_and_the_others_go_on(
    inline: Sweep, place: Place, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    from deltagclip_cli.training.program import Eager

    step = Eager.step

    def failing(self: Eager, *args: Any) -> Any:
        if self.trial.label == "sgd":
            raise RuntimeError("this step fails")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Eager, "step", failing)
        done = inline("short", *words)
    assert done.exit_code == 1
    assert "this step fails" in place.folder("short/sgd").reason
    assert place.states(*SHORT) == ["failed", "finished"]


def test_an_error_before_a_training_that_nobody_foresaw_stops_no_other_trial(
    inline: Sweep, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltagclip_cli.training import worker

    assemble = worker.assemble

    def unforeseen(trial: Trial, *words: Any, **options: Any) -> Any:
        if trial.label == "sgd":
            raise RuntimeError("out of luck")
        return assemble(trial, *words, **options)

    monkeypatch.setattr(worker, "assemble", unforeseen)
    assert inline("short").exit_code == 1
    assert place.folder("short/sgd").reason.endswith("RuntimeError: out of luck")
    assert place.states(*SHORT) == ["failed", "finished"]


def test_an_interrupt_stops_the_trial_and_the_sweep(
    inline: Sweep, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltagclip_cli.training.program import Eager

    step, made = Eager.step, []

    def interrupted(self: Eager, *args: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Eager, "step", interrupted)
        done = inline("short")
    assert done.exit_code == 130
    assert [str(folder.state) for folder in place.folders().values()] == ["interrupted"]
    assert "sgd · seed 0: interrupted: stopped with a checkpoint" in done.output
    assert inline("short").exit_code == 0
    assert place.states(*SHORT) == ["finished"] * 2
