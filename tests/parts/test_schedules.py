"""Schedules: the learning rate of every period, and a state that can be stored."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch.optim import SGD

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.schedules import TABLE, build_schedule
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Schedule
from deltagclip_cli.training.stepping import ScheduleDriver

PERIODS = 12
LR = 2.0

# A row for each schedule that is offered: what it must be told.
OPTIONS: dict[str, dict[str, Any]] = {
    "multistep": {"milestones": [4, 9]},
    "cosine": {},
    "steplr": {"step_size": 3},
    "multisteplr": {"milestones": [4, 9]},
    "constantlr": {},
    "linearlr": {},
    "exponentiallr": {"gamma": 0.9},
    "polynomiallr": {"power": 2.0},
    "cosineannealinglr": {"T_max": 6},
    "reducelronplateau": {"patience": 1},
    "cycliclr": {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 3},
    "cosineannealingwarmrestarts": {"T_0": 4},
    "onecyclelr": {"max_lr": 1.0, "total_steps": 20},
}


class Training:
    """An optimizer and a schedule, told of steps and epochs as the trainer tells them."""

    steps = 2

    def __init__(
        self, name: str, unit: Literal["epoch", "step"] = "epoch", warmup: int = 0, **options: Any
    ) -> None:
        self.optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=LR, momentum=0.9)
        self.unit = unit
        written = {"name": name, "warmup": warmup, "unit": unit, **options}
        schedule = build_schedule(
            Schedule.model_validate(written, context=CodeFolder(Path(__file__).parent)),
            self.optimizer,
            epochs=PERIODS if unit == "epoch" else PERIODS // self.steps,
            steps=PERIODS if unit == "step" else PERIODS * self.steps,
        )
        self.driver = ScheduleDriver(schedule, unit)

    def rates(self, periods: int = PERIODS, loss: float = 1.0) -> list[float]:
        """The learning rate of each of the next periods."""
        rates = []
        epochs = periods if self.unit == "epoch" else periods // self.steps
        for _ in range(epochs):
            for step in range(self.steps):
                if self.unit == "step" or step == 0:
                    rates.append(float(self.optimizer.param_groups[0]["lr"]))
                self.optimizer.step()
                self.driver.after_step()
            self.driver.after_epoch()
            self.driver.after_evaluation(loss)
        return rates


def warmed_up(warmup: int, after: list[float]) -> list[float]:
    return [LR * (k + 1) / (warmup + 1) for k in range(warmup)] + after[: PERIODS - warmup]


def test_there_is_a_row_for_each_schedule_that_is_offered() -> None:
    assert set(TABLE.all()) <= set(OPTIONS)
    assert len(TABLE.all()) > 10


@pytest.mark.parametrize("unit", ["epoch", "step"])
@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize(
    ("milestones", "factor"),
    [([4, 9], 0.1), ([3], 0.5), ([5, 5], 0.1), ([], 0.1), ([40], 0.1), ([1, 2], 0.5)],
)
def test_multistep_counts_its_milestones_from_the_start(
    unit: Literal["epoch", "step"], warmup: int, milestones: list[int], factor: float
) -> None:
    training = Training("multistep", unit, warmup, milestones=milestones, factor=factor)
    full = [
        LR * factor ** sum(milestone <= period for milestone in milestones)
        for period in range(PERIODS)
    ]
    assert training.rates() == pytest.approx(warmed_up(warmup, [])[:warmup] + full[warmup:])


@pytest.mark.parametrize("unit", ["epoch", "step"])
@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_cosine_takes_all_that_follows_the_warm_up(
    unit: Literal["epoch", "step"], warmup: int, floor: float
) -> None:
    rest = PERIODS - warmup
    half = [
        floor + (LR - floor) * (1 + math.cos(math.pi * period / rest)) / 2 for period in range(rest)
    ]
    training = Training("cosine", unit, warmup, floor=floor)
    assert training.rates() == pytest.approx(warmed_up(warmup, half))


def test_cosine_ends_at_its_floor() -> None:
    training = Training("cosine", floor=0.5)
    training.rates()
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["cosine", "multistep", "steplr"])
def test_the_longest_warm_up_leaves_one_period_at_the_full_rate(name: str) -> None:
    milestones: dict[str, Any] = {"milestones": []} if name == "multistep" else {}
    rates = Training(name, warmup=PERIODS - 1, **{**OPTIONS[name], **milestones}).rates()
    assert rates == pytest.approx(warmed_up(PERIODS - 1, [LR]))


@pytest.mark.parametrize("name", ["cosine", "multistep", "steplr"])
@pytest.mark.parametrize("unit", ["epoch", "step"])
@pytest.mark.parametrize("warmup", [PERIODS, PERIODS + 5])
def test_a_warm_up_that_never_ends_is_refused_with_both_numbers(
    name: str, unit: Literal["epoch", "step"], warmup: int
) -> None:
    words = rf"'{name}': warmup is {warmup} {unit}s, .* has {PERIODS}, .*\n.* at most {PERIODS - 1}"
    with pytest.raises(UsageError, match=words):
        Training(name, unit, warmup, **OPTIONS[name])


def test_without_a_schedule_nothing_happens() -> None:
    driver = ScheduleDriver(None)
    driver.after_step()
    driver.after_epoch()
    assert driver.state_dict() == {}
    driver.load_state_dict({})


CASES = [
    (name, unit, warmup)
    for name in OPTIONS
    if TABLE.find(name)  # which of torch's there are depends on its version
    for unit in ("epoch", "step")
    for warmup in (0, 3)
    if name != "reducelronplateau" or (unit, warmup) == ("epoch", 0)
]


@pytest.mark.parametrize(("name", "unit", "warmup"), CASES)
def test_a_schedule_continues_from_a_stored_state(
    name: str, unit: Literal["epoch", "step"], warmup: int
) -> None:
    whole = Training(name, unit, warmup, **OPTIONS[name]).rates()
    for half in (2, 6):
        first = Training(name, unit, warmup, **OPTIONS[name])
        before = first.rates(half)
        file = io.BytesIO()
        torch.save((first.driver.state_dict(), first.optimizer.state_dict()), file)
        file.seek(0)
        schedule_state, optimizer_state = torch.load(file, weights_only=True)
        second = Training(name, unit, warmup, **OPTIONS[name])
        second.optimizer.load_state_dict(optimizer_state)
        second.driver.load_state_dict(schedule_state)
        assert before + second.rates(PERIODS - half) == whole


@pytest.mark.parametrize(("name", "unit", "warmup"), CASES)
def test_a_warm_up_rises_to_what_the_schedule_begins_with(
    name: str, unit: Literal["epoch", "step"], warmup: int
) -> None:
    rates = Training(name, unit, warmup, **OPTIONS[name]).rates()
    plain = Training(name, unit, **OPTIONS[name]).rates()
    if name not in ("multistep", "cosine"):  # these count from the start of the training
        assert rates[warmup:] == pytest.approx(plain[: PERIODS - warmup])
    base = plain[0] if name == "onecyclelr" else LR  # it sets the optimizer's rate, as torch says
    assert rates[:warmup] == pytest.approx([base * (k + 1) / (warmup + 1) for k in range(warmup)])


def test_a_schedule_of_steps_ignores_epochs_and_the_other_way_round() -> None:
    by_steps = Training("exponentiallr", "step", gamma=0.5)
    by_steps.driver.after_epoch()
    assert by_steps.optimizer.param_groups[0]["lr"] == LR
    by_epochs = Training("exponentiallr", "epoch", gamma=0.5)
    by_epochs.driver.after_step()
    assert by_epochs.optimizer.param_groups[0]["lr"] == LR


def test_a_plateau_is_one_of_the_training_loss() -> None:
    training = Training("reducelronplateau", patience=1)
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    rates = [training.rates(1, loss)[0] for loss in losses]
    expected = [LR, LR, LR, LR, LR / 10, LR / 10, LR / 10]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("unit", "warmup"), [("epoch", 2), ("step", 0), ("step", 2)])
def test_a_plateau_has_neither_steps_nor_a_warm_up(
    unit: Literal["epoch", "step"], warmup: int
) -> None:
    with pytest.raises(UsageError, match=r"schedule 'reducelronplateau': .* neither a warm-up nor"):
        Training("reducelronplateau", unit, warmup)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("onecyclelr", {"max_lr": 1.0}),
        ("reducelronplateau", {"factor": 2.0}),
        ("cosineannealingwarmrestarts", {"T_0": 0}),
    ],
)
def test_what_torch_refuses_is_named_with_the_schedule(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"schedule '{name}' refuses its options: "):
        Training(name, **options)


# Schedules of one's own


def test_a_schedule_of_ones_own_may_name_the_steps_of_the_training() -> None:
    training = Training("own_schedules.py:straight", "step", to=0.5)
    falling = [LR * (1 - 0.5 * step / PERIODS) for step in range(PERIODS)]
    assert training.rates() == pytest.approx(falling)


def test_a_schedule_of_ones_own_may_name_the_epochs_of_the_training() -> None:
    quarters = [LR, LR / 2, LR / 4, LR / 8]
    assert Training("own_schedules.py:Halving").rates() == pytest.approx(
        [rate for rate in quarters for _ in range(PERIODS // 4)]
    )


def test_a_schedule_of_ones_own_may_have_a_warm_up() -> None:
    rates = Training("own_schedules.py:straight", "step", 2).rates()
    assert rates[:3] == pytest.approx([LR / 3, LR * 2 / 3, LR])
    assert rates[3] < LR


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nothing",
            r"made nothing, where a torch.optim.lr_scheduler.LRScheduler is needed.\n  torch",
        ),
        ("Mine", "made an object of type Mine, where a torch.optim.lr_scheduler.LRScheduler is"),
        ("mistaken", r"cannot be made: ZeroDivisionError: .*\n  \S*own_schedules.py:\d+: in "),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"schedule 'own_schedules.py:{name}' {words}"):
        Training(f"own_schedules.py:{name}")
