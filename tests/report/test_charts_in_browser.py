"""The charts of a report as a user of a browser meets them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from browser_pages import EPOCHS, TARGET, grid_runs, many_runs, rising, save, usual_runs
from made_runs import METRIC, group, run
from planned_cases import answer_of as planned_answer
from planned_cases import finish_all, planned_tuning
from selenium.webdriver import ActionChains
from selenium.webdriver.support.ui import Select

from deltagclip_cli.core import MARK
from deltagclip_cli.report.page import page
from deltagclip_cli.results.read.tree import Place

pytestmark = pytest.mark.slow  # some seconds each on two cores

NAMES = ["adam", "sgd", "clip", "lost", "late"]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("usual")
    return save(folder / "report.html", usual_runs(), target=[TARGET])


@pytest.fixture
def opened(browser: Browser, usual: Path) -> Iterator[Browser]:
    browser.open(usual)
    browser.show_all()
    yield browser


def chart(browser: Browser, title: str, what: str) -> Any:
    """What plotly knows of a chart."""
    css = f'.chart[data-title="{title}"] > div'
    return browser.run(f"return document.querySelector(arguments[0]).{what}", css)


def drawn(browser: Browser, title: str = METRIC) -> dict[str, dict[str, Any]]:
    """The lines that have a name, which bands have not."""
    return {line["name"]: line for line in chart(browser, title, "data") if line.get("name")}


def titles(browser: Browser, part: str = "") -> list[str]:
    """The titles of all charts, or of those below a heading."""
    found: list[str] = browser.run(
        "return [...document.querySelectorAll('.chart')]"
        ".filter((each) => each.parentElement.previousElementSibling?.textContent"
        ".includes(arguments[0])).map((each) => each.dataset.title)",
        part,
    )
    return found


def legend(browser: Browser, text: str) -> None:
    browser.click(".legend label, .legend button", text)


def choose(browser: Browser, name: str, word: str) -> None:
    Select(browser.one(f"select.{name}")).select_by_visible_text(word)


# ---------------------------------------------------------------------- lines


def test_every_setting_is_a_line_with_the_mean_over_its_seeds(opened: Browser) -> None:
    lines = drawn(opened)
    assert set(lines) == set(NAMES)
    means = np.mean([each.curves[METRIC].values for each in usual_runs()[:3]], axis=0)
    np.testing.assert_allclose(lines["adam"]["y"], means, rtol=1e-5)


def test_a_band_is_a_standard_error_around_the_mean(opened: Browser) -> None:
    values = np.stack([each.curves[METRIC].values for each in usual_runs()[:3]])
    error = values.std(axis=0, ddof=1) / np.sqrt(3)
    data = chart(opened, METRIC, "data")
    place = next(i for i, line in enumerate(data) if line.get("name") == "adam")
    low, high = (np.array(line["y"]) for line in data[place - 2 : place])
    np.testing.assert_allclose((high - low) / 2, error, rtol=1e-4, atol=1e-6)


def test_a_line_that_is_switched_off_is_in_no_chart_until_it_is_switched_on(
    opened: Browser,
) -> None:
    legend(opened, "adam")
    assert set(drawn(opened)) == set(NAMES) - {"adam"}
    assert "adam" not in drawn(opened, "train/loss")
    legend(opened, "adam")
    assert set(drawn(opened)) == set(NAMES)


def test_all_lines_are_switched_off_and_on_at_once(opened: Browser) -> None:
    legend(opened, "None")
    assert drawn(opened) == {}
    legend(opened, "All")
    assert set(drawn(opened)) == set(NAMES)


def test_of_many_settings_the_best_are_shown_and_the_others_can_be(
    browser: Browser, tmp_path: Path
) -> None:
    browser.open(save(tmp_path / "report.html", many_runs(60, metrics=1)))
    browser.show_all()
    assert list(drawn(browser)) == [f"optimizer-{number:02}" for number in range(10)]
    legend(browser, "All")
    assert len(drawn(browser)) == 60
    legend(browser, "Best 10")
    assert len(drawn(browser)) == 10


def test_each_seed_has_a_line_on_demand(opened: Browser) -> None:
    count = len(chart(opened, METRIC, "data"))
    opened.one("input.seeds").click()
    assert len(chart(opened, METRIC, "data")) == count + 9
    opened.one("input.seeds").click()
    assert len(chart(opened, METRIC, "data")) == count


# ----------------------------------------------------------------------- axes


def test_lines_are_drawn_against_epochs_steps_or_seconds(opened: Browser) -> None:
    epochs = list(range(1, EPOCHS + 1))
    assert drawn(opened)["adam"]["x"] == epochs
    choose(opened, "clock", "steps")
    assert drawn(opened)["adam"]["x"] == [10 * epoch for epoch in epochs]
    assert chart(opened, METRIC, "layout.xaxis.title.text") == "step"
    choose(opened, "clock", "seconds")
    assert drawn(opened)["adam"]["x"] == [2 * epoch for epoch in epochs]


def test_the_horizontal_axis_can_be_logarithmic(opened: Browser) -> None:
    assert chart(opened, METRIC, "layout.xaxis.type") == "linear"
    opened.one("input.logX").click()
    assert chart(opened, METRIC, "layout.xaxis.type") == "log"


def test_a_loss_can_be_logarithmic_and_an_accuracy_never_is(opened: Browser) -> None:
    choose(opened, "scale", "logarithmic")
    assert chart(opened, "train/loss", "layout.yaxis.type") == "log"
    assert chart(opened, METRIC, "layout.yaxis.type") == "linear"
    choose(opened, "scale", "linear")
    assert chart(opened, "train/loss", "layout.yaxis.type") == "linear"


def test_a_loss_over_decades_is_logarithmic_by_itself(browser: Browser, tmp_path: Path) -> None:
    losses = {"train__loss": [1.0, 1e-3, 1e-6], "test__loss": [1.0, 0.9, 0.8]}
    browser.open(save(tmp_path / "report.html", [run("adam", 0, [0.1, 0.2, 0.3], **losses)]))
    browser.show_all()
    assert chart(browser, "train/loss", "layout.yaxis.type") == "log"
    assert chart(browser, "test/loss", "layout.yaxis.type") == "linear"


# -------------------------------------------------------------- looking closer


def test_the_mouse_over_a_chart_shows_values_with_n(opened: Browser) -> None:
    place = opened.one(f'.chart[data-title="{METRIC}"] > div')
    opened.run("arguments[0].scrollIntoView({block: 'center'})", place)
    shifts = cycle([5, 6])

    def is_told() -> bool:
        moves = ActionChains(opened.driver).move_to_element(place)
        moves.move_by_offset(next(shifts), 5).perform()
        return "adam : 0.91 ± 0.0058 (n = 3)" in "".join(opened.texts(".hoverlayer"))

    opened.wait(is_told)


def test_charts_are_drawn_in_the_ink_of_the_theme(opened: Browser) -> None:
    light = chart(opened, METRIC, "layout.font.color")
    opened.click("#theme")
    assert chart(opened, METRIC, "layout.font.color") != light


def test_who_cannot_see_a_chart_is_told_what_it_comes_to(opened: Browser) -> None:
    label = opened.one(f'.chart[data-title="{METRIC}"] > div').get_attribute("aria-label")
    assert (
        label == f"Chart: {METRIC}, at the end adam 0.91, sgd 0.76, clip 0.51, lost 0.1, late 0.1"
    )


def test_a_page_is_printed_light_and_as_wide_as_paper(browser: Browser, usual: Path) -> None:
    with browser.prefers_dark():
        browser.open(usual)
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert chart(browser, METRIC, "layout.font.color") == "#000"
        assert 2 * chart(browser, METRIC, "layout.width") < 720
        browser.run("dispatchEvent(new Event('afterprint'))")
        assert chart(browser, METRIC, "layout.font.color") != "#000"
        assert chart(browser, METRIC, "querySelector('.main-svg').clientWidth") > 400


# ------------------------------------------------------------------ other charts


def test_shares_of_steps_are_areas_that_go_with_their_setting(opened: Browser) -> None:
    title = "clip: shares of steps"
    assert {name: set(line["y"]) for name, line in drawn(opened, title).items()} == {
        "plain": {0.2},
        "clipped": {0.5},
        "floored": {0.3},
    }
    figures = f"figure[data-title='{title}']"
    assert len(opened.all(f"{figures}:not([hidden])")) == 1
    legend(opened, "clip")
    assert drawn(opened, title) == {}
    assert opened.all(f"{figures}:not([hidden])") == []


def test_charts_are_grouped_by_what_they_are_about(browser: Browser, tmp_path: Path) -> None:
    steps = {"optim__step_size": [0.1] * EPOCHS, "optim__lr": [0.2] * EPOCHS}
    runs = [rising("clip", 0, 0.5, **steps, theory__something=[0.1] * EPOCHS)]
    browser.open(save(tmp_path / "report.html", runs))
    browser.show_all()
    assert titles(browser, "Curves") == ["train/loss", METRIC, "theory/something"]
    assert titles(browser, "What the step size did") == ["Step size, h/η"]
    assert drawn(browser, "Step size, h/η")["clip"]["y"] == [0.5] * EPOCHS


def test_a_grid_has_a_heat_map_and_a_chart_of_each_setting(
    browser: Browser, tmp_path: Path
) -> None:
    browser.open(save(tmp_path / "report.html", grid_runs()))
    browser.show_all()
    assert len(browser.all("#across figure[data-kind=heat-map] td.shaded")) == 60
    assert titles(browser, "How much") == [f"{METRIC} by {key}, {MARK}" for key in ("lr", "gamma")]
    assert drawn(browser, f"{METRIC} by lr, {MARK}")["adam"]["x"] == [
        10.0**-n for n in range(5, -1, -1)
    ]


def test_profiles_rise_to_the_share_of_targets_that_are_reached(
    browser: Browser, tmp_path: Path
) -> None:
    ends = {"adam": 3, "sgd": 6}  # the epochs at which they reach it, in both experiments
    runs = [
        rising(group(name, experiment), seed, 0.8, at=end)
        for experiment in ("first", "second")
        for name, end in ends.items()
        for seed in range(2)
    ]
    browser.open(save(tmp_path / "report.html", runs, target=[f"{METRIC}=0.8"]))
    browser.show_all()
    profile = drawn(browser, "Performance profile, epochs")
    assert set(profile["adam"]["y"]) == {1.0}
    assert profile["sgd"]["x"] == [1.0, 2.0, 4.0]
    assert profile["sgd"]["y"] == [0.0, 1.0, 1.0]


def test_the_methods_section_shows_what_k_draws_find(browser: Browser, tmp_path: Path) -> None:
    tuning = planned_tuning(tmp_path)
    finish_all(tmp_path, tuning)
    reading, answer = Place((), tmp_path).read(), planned_answer(tmp_path)
    file = tmp_path / "report.html"
    file.write_text(page("Tuned", reading.runs, answer, []), encoding="utf-8")
    browser.open(file)
    browser.show_all()
    title = f"{METRIC}, median of the best of k draws, {MARK}"
    assert drawn(browser, title)["adam"]["x"] == list(range(1, 9))
    assert len(browser.all(f'.methods .chart[data-title="{title}"]')) == 2
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


NASTY = ["<script>alert(1)</script>", "<b>bold</b>", "a&b $x_1$ 100%", '"><img src=x onerror=f()>']


def test_a_target_is_shown_by_the_clock_that_is_chosen(opened: Browser) -> None:
    title = "Until test/accuracy ≥ 0.7"
    assert drawn(opened, title)["adam (a seed)"]["x"] == [3, 3, 3]
    choose(opened, "clock", "steps")
    assert drawn(opened, title)["adam (a seed)"]["x"] == [30, 30, 30]
    legend(opened, "adam")
    assert not any(name.startswith("adam") for name in drawn(opened, title))


def test_nasty_names_are_text_everywhere(browser: Browser, tmp_path: Path) -> None:
    runs = [rising(name, seed, 0.9) for name in NASTY for seed in range(2)]
    browser.open(save(tmp_path / "report.html", runs, title=NASTY[0]))
    browser.show_all()
    assert browser.texts("h1") == [NASTY[0]]
    assert set(browser.texts(".legend label")) == set(NASTY)
    assert not browser.all("main b, main img, main script")
    assert set(drawn(browser)) == {name.replace("<", "&lt;") for name in NASTY}  # for plotly
