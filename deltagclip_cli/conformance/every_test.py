"""All conformance tests, in the order of the table."""

from __future__ import annotations

from deltagclip_cli.conformance import (
    costs,
    gradients_given,
    learning_rates,
    numerics,
    parameter_groups,
    ranks,
    saving,
    usage,
)

TESTS = (
    *usage.TESTS,
    *ranks.TESTS,
    *saving.TESTS,
    *learning_rates.TESTS,
    *parameter_groups.TESTS,
    *gradients_given.TESTS,
    *numerics.TESTS,
    *costs.TESTS,
)
