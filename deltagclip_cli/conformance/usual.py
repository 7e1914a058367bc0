"""Options in the place of those that have no default, so that a bare name can be tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATE = 0.01
"""A learning rate for whoever has no default."""

USUAL: Mapping[str, Mapping[str, Any]] = {
    "delta_gclip": {"gamma": 1.0, "delta": 0.1},
    "gclip": {"gamma": 1.0},
}
"""Options of our own optimizers that have no default."""
