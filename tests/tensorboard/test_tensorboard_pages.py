"""A finished sweep in the real TensorBoard: what its server answers, and what its pages show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from tensorboard_cases import EPOCHS, METRICS, Shown, eventually, values_of
from tiny_spec import trials_of

pytestmark = pytest.mark.slow

SEARCH_IN_SHADOWS = """
const [selector] = arguments;
const found = [];
function look(root) {
    for (const each of root.querySelectorAll('*')) {
        if (each.matches(selector)) found.push(each);
        if (each.shadowRoot) look(each.shadowRoot);
    }
}
look(document);
return found;
"""


def in_page(browser: webdriver.Chrome, selector: str) -> list[Any]:
    """The elements of a page, also those in the shadow trees that it is made of."""
    found: list[Any] = browser.execute_script(SEARCH_IN_SHADOWS, selector)
    return found


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    script = "return [...arguments[0]].map(each => each.textContent.trim())"
    found: list[str] = browser.execute_script(script, in_page(browser, selector))
    return found


def lines_drawn(card: Any) -> int:
    """How many curves a chart shows."""
    script = """
        const loader = arguments[0].shadowRoot.querySelector('tf-line-chart-data-loader');
        const chart = loader.shadowRoot.querySelector('vz-line-chart2');
        return [...chart.shadowRoot.querySelectorAll('path.line')]
            .filter(each => each.getAttribute('d').split('L').length == arguments[1]).length;
    """
    count: int = card.parent.execute_script(script, card, EPOCHS)
    return count


def runs_of(shown: Shown) -> dict[str, Any]:
    """The tags of all runs, as soon as they are loaded."""
    assert eventually(lambda: len(shown.get("plugin/scalars/tags")) >= 2 * (1 + 1 + 3))
    found: dict[str, Any] = shown.get("plugin/scalars/tags")
    return found


def mean(shown: Shown, label: str, metric: str) -> np.ndarray:
    trials = trials_of(shown.folder, "seeds=[0, 1, 2]", f"epochs={EPOCHS}")
    return np.mean([values_of(t, EPOCHS)[metric] for t in trials if t.label == label], axis=0)


# ------------------------------------------------------------------------------ the server


def test_the_server_gives_means_and_every_point_of_every_run(shown: Shown) -> None:
    tags = runs_of(shown)
    for label in ("sgd", "delta-gclip"):
        for metric in METRICS:
            got = shown.get("plugin/scalars/scalars", run=f"tiny/{label}/mean", tag=metric)
            assert [step for _, step, _ in got] == list(range(1, EPOCHS + 1))
            expected = mean(shown, label, metric)
            assert [value for *_, value in got] == pytest.approx(expected, rel=1e-6)
        assert set(METRICS) <= set(tags[f"tiny/{label}/seed-2"])


def test_the_server_gives_the_curves_of_every_chart(shown: Shown) -> None:
    runs_of(shown)
    categories = shown.get("plugin/custom_scalars/layout")["category"]
    assert [category["title"] for category in categories] == ["tiny", "tiny · all else"]
    lines = categories[0]["chart"][1]["multiline"]["tag"]
    for run in ("tiny/sgd", "tiny/delta-gclip"):
        regex = "|".join(f"({each})" for each in lines)
        found = shown.get("plugin/custom_scalars/scalars", run=run, tag=regex)
        curves = found[next(key for key in found if key.lower().replace("_", "") != "regexvalid")]
        assert {tag: len(points) for tag, points in curves.items()} == {
            "tiny/train/loss": EPOCHS,
            "tiny/test/loss": EPOCHS,
        }


# ------------------------------------------------------------------------------- its pages


def test_the_page_opens_on_charts_with_train_and_test_of_all_optimizers(
    shown: Shown, browser: webdriver.Chrome
) -> None:
    runs_of(shown)
    browser.get(shown.page)
    names = ".match-list-entry"
    assert eventually(lambda: len(in_page(browser, names)) == 2 * 2 + 2 + 3 * 2)
    cards = in_page(browser, "tf-custom-scalar-multi-line-chart-card")
    titles = [card.get_property("title") for card in cards]
    assert titles == ["accuracy: test, mean over seeds", "loss: train and test, mean over seeds"]
    series = " ".join(texts(browser, names))
    for optimizer in ("sgd", "delta-gclip"):
        for metric in ("train/loss", "test/loss", "test/accuracy"):
            assert f"tiny/{metric} (tiny/{optimizer})" in series
    assert "seed" not in series and "/mean" not in series
    assert eventually(lambda: lines_drawn(cards[1]) == 2 * 2)
    assert not in_page(browser, ".error-content")
    assert in_page(browser, "tf-custom-scalar-dashboard")[0].get_property("_smoothingWeight") == 0


def test_the_page_of_time_series_opens_with_means(shown: Shown, browser: webdriver.Chrome) -> None:
    runs_of(shown)
    browser.get("about:blank")
    browser.get(shown.page.partition("#")[0] + "#timeseries")
    runs = "tb-data-table-content-row"
    assert eventually(lambda: "tiny/sgd/mean" in " ".join(texts(browser, runs)))
    assert "seed" not in " ".join(texts(browser, runs))
