"""How exact the measured numbers of the theorem are."""

from __future__ import annotations

import math
from typing import Any

EIGENVALUES = 1e-6
"""How well β and the kernel's eigenvalues are known, relatively, with digits to spare."""

ROUNDING = {"fp64": 2.0**-52, "fp32": 2.0**-23}
"""Relative, of one number of a training, by its precision."""


def slack(first_loss: float, rounding: float) -> float:
    """What rounding may add to ‖F(w) - y‖/√2, the root of a loss.

    The outputs are as large as the first residuals, about, and each is a sum of some thousand
    products, which cancel; a hundred roundings of the largest were never exceeded.
    """
    return 100 * rounding * math.sqrt(first_loss)


def falls_short(ratio: Any, mu: float, doubt: Any) -> Any:
    """Whether a PL* ratio ‖∇L‖²/(2L), or each of an array, is less than μ by more than rounding.

    Args:
        ratio: as measured.
        mu: what it is to be.
        doubt: what rounding may have done to the root of the loss, relatively. It counts twice in
            L, and as often in the gradient.
    """
    return ratio < mu * (1 - EIGENVALUES - 4 * doubt)
