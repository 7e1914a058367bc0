"""The meter and the counter of regimes, against sums written down literally."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deltagclip_cli.training.meter import Meter, RegimeCounter, fractions


def filled() -> Meter:
    """Batches of 3, 3 and 1 samples."""
    meter = Meter([3, 3, 1])
    for loss, right, norm in ((6.0, 1, 2.0), (3.0, 2, 4.0), (5.0, 1, 9.0)):
        meter.add(
            {"loss": torch.tensor(loss), "accuracy": torch.tensor(right)},
            {"grad_norm": torch.tensor(norm)},
        )
    return meter


def test_means_over_samples_weigh_a_small_batch_less() -> None:
    assert filled().means().of_samples() == {"loss": 14 / 7, "accuracy": 4 / 7}


def test_means_over_steps_weigh_every_step_the_same() -> None:
    assert filled().means().of_steps() == {"grad_norm": 5.0}


def test_means_may_begin_at_a_step() -> None:
    assert filled().means(1).of_samples() == {"loss": 8 / 4, "accuracy": 3 / 4}
    assert filled().means(1).of_steps() == {"grad_norm": 6.5}


def test_means_of_an_epoch_that_is_not_over_count_the_samples_so_far() -> None:
    meter = Meter([3, 3, 1])
    meter.add({"loss": torch.tensor(6.0)}, {})
    assert meter.means().of_samples() == {"loss": 2.0}
    assert meter.means().of_steps() == {}


def test_many_small_losses_are_summed_in_double_precision() -> None:
    meter, losses = Meter([1] * 20_000), torch.full((20_000,), 0.1)
    for loss in losses:
        meter.add({"loss": loss}, {})
    assert meter.means().of_samples()["loss"] == pytest.approx(float(losses[0]), rel=1e-12)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_first_loss_that_is_not_finite_is_found(bad: float) -> None:
    meter = Meter([1] * 4)
    for loss in (1.0, 2.0, bad, math.nan):
        meter.add({"loss": torch.tensor(loss)}, {})
        assert (meter.first_not_finite() is None) == (loss in (1.0, 2.0))
    assert meter.first_not_finite() == 2


def test_a_meter_continues_from_its_state() -> None:
    whole, first = filled(), Meter([3, 3, 1])
    first.add(
        {"loss": torch.tensor(6.0), "accuracy": torch.tensor(1)}, {"grad_norm": torch.tensor(2.0)}
    )
    second = Meter([3, 3, 1])
    second.load_state_dict(first.state_dict())
    for loss, right, norm in ((3.0, 2, 4.0), (5.0, 1, 9.0)):
        sums = {"loss": torch.tensor(loss), "accuracy": torch.tensor(right)}
        second.add(sums, {"grad_norm": torch.tensor(norm)})
    assert second.means().of_samples() == whole.means().of_samples()
    assert second.means().of_steps() == whole.means().of_steps()


def test_what_is_told_of_some_steps_only_keeps_its_place() -> None:
    """Told of the first and the fourth step; asked for all, for the last two and for the last."""
    meter = Meter([1] * 5)
    for step in range(5):
        observed = {"grad_norm": torch.tensor(float(step))} if step % 3 == 0 else {}
        meter.add({"loss": torch.tensor(1.0)}, observed)
    restored = Meter([1] * 5)
    restored.load_state_dict(meter.state_dict())
    for each in (meter, restored):
        assert each.means().of_steps() == {"grad_norm": 1.5}
        assert each.means(3).of_steps() == {"grad_norm": 3.0}
        assert each.means(4).of_steps() == {}


def test_a_new_meter_has_an_empty_state() -> None:
    fresh = Meter([3])
    fresh.load_state_dict(Meter([3]).state_dict())
    fresh.add({"loss": torch.tensor(3.0)}, {})
    assert fresh.means().of_samples() == {"loss": 1.0}


class Counts:
    """An observer whose counts are set by hand."""

    def __init__(self, counts: list[int] | None) -> None:
        self.counts = counts

    def before(self, batch: int) -> dict[str, Tensor]:
        return {}

    def after(self) -> dict[str, Tensor]:
        return {}

    def regimes(self) -> Tensor | None:
        return None if self.counts is None else torch.tensor(self.counts)


def test_regimes_are_counted_from_where_the_counter_was_made() -> None:
    observer = Counts([5, 1, 0])
    counter = RegimeCounter(observer)
    observer.counts = [6, 3, 1]
    counts = counter.counts()
    assert counts is not None
    assert counts.tolist() == [1, 2, 1]


def test_counts_from_before_a_restart_are_added() -> None:
    observer = Counts(None)  # δ-GClip has no counts before its first step
    counter = RegimeCounter(observer, torch.tensor([10, 0, 0]))
    observer.counts = [1, 0, 2]
    counts = counter.counts()
    assert counts is not None
    assert counts.tolist() == [11, 0, 2]


def test_an_optimizer_without_regimes_has_no_counts_and_no_fractions() -> None:
    assert RegimeCounter(Counts(None)).counts() is None
    assert fractions(None) == {}
    assert fractions(torch.zeros(3, dtype=torch.int64)) == {}


def test_fractions_are_shares_of_the_steps() -> None:
    assert fractions(torch.tensor([1, 2, 1])) == {
        "plain_fraction": 0.25,
        "clipped_fraction": 0.5,
        "floored_fraction": 0.25,
    }
