"""The option that writes the stored answers anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write what is answered today into tests/stored instead of comparing it",
    )
