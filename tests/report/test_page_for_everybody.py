"""Whether everybody can read the page of a report: checked by axe-core, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from browser_pages import TARGET, grid_runs, many_runs, rising, save, save_nothing, usual_runs
from made_runs import group

pytestmark = pytest.mark.slow  # some seconds each on two cores

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"

PAGES: dict[str, Callable[[Path], Path]] = {
    "usual": lambda path: save(path, usual_runs(), target=[TARGET]),
    "grid": lambda path: save(path, grid_runs()),
    "sixty-optimizers": lambda path: save(path, many_runs(60, metrics=1)),
    "several-experiments": lambda path: save(
        path,
        [
            rising(group(name, experiment), seed, 0.9)
            for experiment in ("first", "second")
            for name in ("adam", "sgd")
            for seed in range(3)
        ],
    ),
    "nothing": save_nothing,
}


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core@4")
    return AXE.read_text(encoding="utf-8")


def violations(browser: Browser, axe: str) -> list[tuple[str, str]]:
    """What is wrong with the page that is open, all of it shown, and where."""
    browser.show_all()
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.run(axe)
    found: dict[str, Any] = browser.run("return axe.run()")
    return [
        (violation["id"], node["html"][:200])
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_violation(name: str, browser: Browser, axe: str, tmp_path: Path) -> None:
    page = PAGES[name](tmp_path / "report.html")
    browser.open(page)
    assert violations(browser, axe) == []
    with browser.prefers_dark(), browser.wide(400):
        browser.open(page)
        assert violations(browser, axe) == []


def test_a_violation_would_be_found(browser: Browser, axe: str, tmp_path: Path) -> None:
    browser.open(save(tmp_path / "report.html", usual_runs()))
    browser.run("document.querySelector('.filter').parentElement.replaceWith(arguments[0])", "x")
    browser.run("document.querySelector('figure.sheet').append(document.createElement('select'))")
    assert "select-name" in [rule for rule, _ in violations(browser, axe)]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(name: str, browser: Browser, tmp_path: Path) -> None:
    with browser.wide(400):
        browser.open(PAGES[name](tmp_path / "report.html"))
        browser.show_all()
        assert browser.run("return document.documentElement.scrollWidth") <= 400
