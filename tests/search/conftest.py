"""Fixtures for the tests of searches."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def disks_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna brings every line of its journal to the disk, which is no matter here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
