"""Successive halving: where its rungs lie, and whom it promotes."""

from __future__ import annotations

import pytest

from deltagclip_cli.tuning.halving import AtRung, best, part_of, rungs_of


@pytest.mark.parametrize(
    ("settings", "rounds", "expected"),
    [
        (27, 27, [(27, 27), (9, 9), (3, 3), (1, 1)]),
        (20, 10, [(20, 9), (6, 3), (2, 1)]),
        (1000, 1000, [(1000, 27), (333, 9), (111, 3), (37, 1)]),  # none before 1/27
        (2, 100, [(2, 27), (1, 9), (1, 3), (1, 1)]),  # the best goes on in any case
        (4, 2, [(4, 3), (1, 1)]),
        (4, 1, [(4, 1)]),  # before its only evaluation, nothing is known of a training
    ],
)
def test_each_rung_has_a_third_of_the_settings_of_the_one_before_three_times_as_far(
    settings: int, rounds: int, expected: list[tuple[int, int]]
) -> None:
    rungs = rungs_of(settings, rounds)
    assert [(rung.slots, rung.part) for rung in rungs] == expected
    assert [rung.number for rung in rungs] == list(range(len(rungs)))
    ends = [part_of(rounds, rung.part) for rung in rungs]
    assert ends == sorted({*ends})
    assert ends[-1] == rounds


def test_where_nothing_is_halved_the_end_is_the_only_rung() -> None:
    (rung,) = rungs_of(20, 100, halves=False)
    assert (rung.slots, rung.part, rung.is_last) == (20, 1, True)


def at(*values: float | None) -> dict[int, AtRung]:
    return {number: AtRung(value, lives=True) for number, value in enumerate(values)}


def test_the_best_are_named_in_the_order_of_their_numbers() -> None:
    assert best(at(3.0, 1.0, 2.0, 0.5), 3, minimizes=True) == [1, 2, 3]
    assert best(at(3.0, 1.0, 2.0, 0.5), 3, minimizes=False) == [0, 1, 2]


def test_of_equal_values_the_first_drawn_is_better() -> None:
    assert best(at(1.0, 2.0, 1.0, 1.0), 2, minimizes=True) == [0, 2]


@pytest.mark.parametrize("minimizes", [True, False])
def test_what_is_not_finite_is_worse_than_any_value_and_better_than_an_empty_slot(
    minimizes: bool,
) -> None:
    assert best(at(None, 5.0, None, -5.0), 2, minimizes) == [1, 3]
    assert best(at(None, 5.0, None, -5.0), 3, minimizes) == [0, 1, 3]


def test_what_has_diverged_or_failed_cannot_go_on_even_into_an_empty_slot() -> None:
    there = at(1.0, 2.0) | {2: AtRung(None, lives=False)}
    assert best(there, 3, minimizes=True) == [0, 1]
