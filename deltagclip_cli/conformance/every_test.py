"""All conformance tests, in the order of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltagclip_cli.core import load_target

if TYPE_CHECKING:
    from deltagclip_cli.conformance.conformance_test import ConformanceTest

_FILES = (
    "usage",
    "two_processes",
    "saving",
    "learning_rates",
    "parameter_groups",
    "gradients_given",
    "numerics",
    "costs",
)

TESTS: tuple[ConformanceTest, ...] = tuple(
    test for name in _FILES for test in load_target(f"{__package__}.{name}:TESTS")
)
