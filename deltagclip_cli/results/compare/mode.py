"""Whether more or less of a metric is better."""

from enum import StrEnum


class Mode(StrEnum):
    """Which values of a metric are good ones."""

    MAX = "max"
    MIN = "min"
