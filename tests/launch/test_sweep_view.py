"""What a sweep shows while it runs: live on a terminal, lines elsewhere, little when quiet."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_cases import beating, result_text
from tiny_spec import trials_of

from deltagclip_cli.launch.slots import Slot
from deltagclip_cli.launch.supervisor import End
from deltagclip_cli.launch.sweep_view import LiveView, PlainView, QuietView
from deltagclip_cli.plan.estimates import Estimates, Outlook
from deltagclip_cli.plan.planned import Planned, look_up
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.hold import create, hold
from deltagclip_cli.terminal import console as console_module
from deltagclip_cli.training.sinks import HeartbeatWriter

SLOTS = [Slot("cpu 0", "cpu"), Slot("cpu 1", "cpu")]
FINISHED = End(State.FINISHED)


class Screen:
    """A terminal, or a file, that remembers what was written to it."""

    def __init__(self, width: int = 80, *, is_terminal: bool = True) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file, width=width, force_terminal=is_terminal, highlight=False
        )

    @property
    def lines(self) -> list[str]:
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue())
        return [line.rstrip() for line in re.split(r"[\r\n]+", plain)]


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    """Two trials of two optimizers, whose folders exist."""
    planned = look_up(trials_of(tmp_path, "epochs=30"), tmp_path / "runs")
    for each in planned:
        create(each.folder, each.trial)
    return planned


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def finish(planned: Planned) -> None:
    result = result_text(
        epochs=30,
        last={"test/loss": 0.25, "test/accuracy": 0.875},
        seconds={"epochs": 12.3, "last_start": 12.3},
    )
    planned.folder.result_file.write_text(result)


def beat(stack: ExitStack, planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a trial be half through its fourth epoch of thirty."""
    monkeypatch.setattr(f"{HeartbeatWriter.__module__}.SECONDS_BETWEEN_BEATS", 1e-9)
    held = stack.enter_context(hold(planned.folder))
    heartbeat = beating(held, epochs=30, steps=10)
    heartbeat.epoch({"epoch": 3, "train/loss": 0.5, "test/accuracy": 0.75})
    heartbeat.batch(35, 100)


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_the_whole_and_a_line_for_each_running_trial(
    planned: list[Planned], stack: ExitStack, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    screen = Screen(width)
    beat(stack, planned[0], monkeypatch)
    with live(screen, planned, 4) as view:
        for each, slot in zip(planned, SLOTS, strict=True):
            view.started((each,), slot)
        view.looked([((each,), slot) for each, slot in zip(planned, SLOTS, strict=True)])
        screen.console.print(view.render())
    (first,) = [line for line in screen.lines if line.startswith("cpu 0")][-1:]
    assert first.startswith("cpu 0 tiny · sgd · seed 0 ")
    assert "4/30 loss 0.5 acc 0.75 " in first
    assert re.search(r"[\d,]+/s [\d.]+ (s|min)", first)
    (second,) = [line for line in screen.lines if line.startswith("cpu 1")][-1:]
    assert second.split() == ["cpu", "1", "tiny", "·", "delta-gclip", "·", "seed", "0", "starting"]
    assert any(line.startswith("0/4 trials ") and " 3%" in line for line in screen.lines)
    assert max(map(len, screen.lines)) <= width


def test_a_trial_that_says_nothing_for_long_is_marked(
    planned: list[Planned], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    beat(stack, planned[0], monkeypatch)
    monkeypatch.setattr(console_module, "STALE_SECONDS", 0.0)
    with live(screen, planned, 1) as view:
        view.looked([((planned[0],), SLOTS[0])])
        screen.console.print(view.render())
    assert any("silent for" in line for line in screen.lines)


def test_failures_are_shown_for_good(planned: list[Planned]) -> None:
    screen = Screen(100)
    finish(planned[0])
    with live(screen, planned, 3) as view:
        view.started((planned[0],), SLOTS[0])
        view.ended(planned[0], FINISHED)
        view.ended(planned[1], End(State.FAILED, "the GPU's memory is full."))
        screen.console.print(view.render())
        shown = list(screen.lines)
    failed = "[2/3] tiny · delta-gclip · seed 0: failed: the GPU's memory is full."
    assert failed in shown
    assert any(line.startswith("2/3 trials") for line in shown)


def test_the_time_that_is_left_is_shown_once_it_is_known(planned: list[Planned]) -> None:
    screen = Screen()
    with live(screen, planned, 2) as view:
        screen.console.print(view.render())
        before = len(screen.lines)
        finish(planned[0])
        view.ended(planned[0], FINISHED)
        screen.console.print(view.render())
    assert not any(" left" in line for line in screen.lines[:before])
    assert any(re.match("1/2 trials .* 50% 6.2 s left", line) for line in screen.lines)


def test_elsewhere_every_start_and_every_end_is_a_line(planned: list[Planned]) -> None:
    screen = Screen(is_terminal=False)
    finish(planned[0])
    with PlainView(screen.console, total=10) as view:
        view.started((planned[0],), SLOTS[1])
        view.looked([((planned[0],), SLOTS[1])])
        view.ended(planned[0], FINISHED)
        view.ended(planned[1], End(State.INTERRUPTED, "killed by SIGKILL"))
    assert screen.lines == [
        "        started tiny · sgd · seed 0 on cpu 1",
        "[ 1/10] tiny · sgd · seed 0: finished in 12 s, test/loss 0.25, test/accuracy 0.875",
        "[ 1/10] tiny · delta-gclip · seed 0: interrupted: killed by SIGKILL",
        "",
    ]
    assert "\x1b" not in screen.file.getvalue()


def record(planned: Planned, *epochs: int, time: float = 2e9) -> None:
    """Let a trial have made some epochs."""
    with planned.folder.metrics_file.open("a") as file:
        for epoch in epochs:
            values = {"train/loss": 2.0**-epoch, "test/accuracy": 0.75}
            file.write(json.dumps({"epoch": epoch, "step": epoch, "time": time, **values}) + "\n")


def test_every_so_manieth_epoch_is_a_line_if_asked_for_and_the_last(
    planned: list[Planned],
) -> None:
    screen = Screen(is_terminal=False)
    finish(planned[0])
    record(planned[0], 1, 2, time=0.0)  # of an earlier start
    with PlainView(screen.console, total=2, every=2) as view:
        view.started((planned[0],), SLOTS[0])
        record(planned[0], 3, 4, 5)
        view.looked([((planned[0],), SLOTS[0])])
        record(planned[0], 6, 7)
        view.ended(planned[0], FINISHED)
    name = "tiny · sgd · seed 0"
    assert screen.lines == [
        f"      started {name} on cpu 0",
        f"      {name}: epoch 4/30  train/loss 0.0625  test/accuracy 0.75",
        f"      {name}: epoch 6/30  train/loss 0.01562  test/accuracy 0.75",
        f"      {name}: epoch 7/30  train/loss 0.007812  test/accuracy 0.75",
        f"[1/2] {name}: finished in 12 s, test/loss 0.25, test/accuracy 0.875",
        "",
    ]


@pytest.mark.parametrize(("width", "curve"), [(80, "█▇▆▅▄▃▂▁"), (160, "██▇▇▆▆▅▅▄▄▃▃▂▂▁▁")])
def test_a_terminal_draws_the_losses_of_running_trials(
    planned: list[Planned],
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    curve: str,
) -> None:
    screen = Screen(width)
    beat(stack, planned[0], monkeypatch)
    record(planned[0], *range(1, 17))
    with live(screen, planned, 2) as view:
        for each, slot in zip(planned, SLOTS, strict=True):
            view.started((each,), slot)
        view.looked([((each,), slot) for each, slot in zip(planned, SLOTS, strict=True)])
        screen.console.print(view.render())
    (first,) = [line for line in screen.lines if line.startswith("cpu 0")][-1:]
    assert f" 4/30 {curve}" in first and " loss 0.5 acc 0.75 " in first
    assert first.startswith("cpu 0 tiny · sgd · seed 0 ")
    assert max(map(len, screen.lines)) <= width


def test_a_stack_is_one_row_and_its_members_have_a_line_each(
    planned: list[Planned], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row shows the one that is furthest behind."""
    plain, screen = Screen(is_terminal=False), Screen(100)
    unit = tuple(planned)
    PlainView(plain.console, total=2).started(unit, SLOTS[0])
    assert plain.lines == [
        "      started tiny · sgd · seed 0 on cpu 0, one of 2 in a stack",
        "      started tiny · delta-gclip · seed 0 on cpu 0, one of 2 in a stack",
        "",
    ]
    beat(stack, planned[0], monkeypatch)
    with live(screen, planned, 2) as view:
        view.looked([(unit, SLOTS[0]), ((), SLOTS[1])])
        screen.console.print(view.render())
    rows = {" ".join(line.split()) for line in screen.lines if line.startswith("cpu")}
    assert any(row.startswith("cpu 0 tiny · sgd · seed 0 + 1 stacked 4/30") for row in rows)
    assert not any(row.startswith("cpu 1") for row in rows)


def live(screen: Screen, planned: list[Planned], total: int) -> LiveView:
    trials = [each.trial for each in planned]
    return LiveView(screen.console, total, Outlook(trials, Estimates(), len(SLOTS)))


@pytest.mark.parametrize("kind", [QuietView, PlainView, live])
def test_a_trial_that_another_process_works_on_is_not_counted(
    planned: list[Planned], kind: Any
) -> None:
    screen = Screen(is_terminal=kind is live)
    with live(screen, planned, 2) if kind is live else kind(screen.console, 2) as view:
        view.ended(planned[0], End(State.NEW, elsewhere=True))
        view.ended(planned[1], End(State.FAILED, "why"))
    text = "\n".join(screen.lines)
    assert "[1/2] tiny · delta-gclip · seed 0: failed: why" in text
    assert "sgd" not in text


def test_quiet_means_failures_only(planned: list[Planned]) -> None:
    screen = Screen(is_terminal=False)
    finish(planned[0])
    with QuietView(screen.console, total=2) as view:
        view.started((planned[0],), SLOTS[0])
        view.ended(planned[0], FINISHED)
        view.ended(planned[1], End(State.DIVERGED, "the loss in training was not finite"))
    assert screen.lines == [
        "[2/2] tiny · delta-gclip · seed 0: diverged: the loss in training was not finite",
        "",
    ]
