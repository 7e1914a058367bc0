"""Fixtures for the tests of reports."""

from __future__ import annotations

from browser import browser, chromium

__all__ = ["browser", "chromium"]
