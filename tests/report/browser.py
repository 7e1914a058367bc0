"""A real browser for pages that lie in a file: headless Chromium, without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_HERE = ("file:", "data:", "blob:", "about:")
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--proxy-server=127.0.0.1:9",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--hide-scrollbars",
)


class Browser:
    """A browser that opens one page after another.

    Args:
        driver: of Chromium, with the logs of the console and of all requests.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._tell("Browser.grantPermissions", permissions=["clipboardReadWrite"])

    def open(self, page: Path) -> None:
        """Load a page."""
        self.driver.get(page.resolve().as_uri())

    def all(self, css: str) -> list[WebElement]:
        """The elements that a selector names."""
        return self.driver.find_elements("css selector", css)

    def one(self, css: str) -> WebElement:
        """The first of them."""
        return self.driver.find_element("css selector", css)

    def click(self, css: str, text: str = "") -> None:
        """Click the first of them that says a text."""
        next(each for each in self.all(css) if text in each.text).click()

    def texts(self, css: str) -> list[str]:
        """What elements say, whether they can be seen or not."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return [str(text).strip() for text in self.run(script, css)]

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns, waiting for it if that is a promise."""
        return self.driver.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def show_all(self) -> None:
        """Have every chart drawn, as for a printer, and not only those on the screen."""
        self.run("for (const type of ['beforeprint', 'afterprint']) dispatchEvent(new Event(type))")

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait until something is so; fail after a minute."""
        WebDriverWait(self.driver, 60, poll_frequency=0.02).until(lambda _: condition())

    @contextmanager
    def prefers_dark(self) -> Iterator[None]:
        """A user whose system is dark."""
        feature = {"name": "prefers-color-scheme", "value": "dark"}
        self._tell("Emulation.setEmulatedMedia", features=[feature])
        try:
            yield
        finally:
            self._tell("Emulation.setEmulatedMedia", features=[])

    @contextmanager
    def wide(self, pixels: int) -> Iterator[None]:
        """A screen of some width; a narrow one is a phone's."""
        size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 600}
        self._tell("Emulation.setDeviceMetricsOverride", **size)
        try:
            yield
        finally:
            self._tell("Emulation.clearDeviceMetricsOverride")

    def complaints(self) -> list[str]:
        """What the console has, and which requests left the page, since this was last asked."""
        console = [str(entry["message"]) for entry in self._log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [*console, *filter(None, map(_foreign, events))]

    def _log(self, name: str) -> Any:
        return self.driver.get_log(name)  # type: ignore[no-untyped-call]

    def _tell(self, command: str, **arguments: Any) -> None:
        self.driver.execute_cdp_cmd(command, arguments)


def _foreign(event: dict[str, Any]) -> str:
    """What was asked of somebody else than the page; empty if nothing was."""
    parameters = event["params"]
    if event["method"] == "Network.webSocketCreated":
        return str(parameters["url"])
    if event["method"] != "Network.requestWillBeSent":
        return ""
    url = str(parameters["request"]["url"])
    return "" if url.startswith(_HERE) else url


def start() -> webdriver.Chrome:
    """A driver of the browser that is installed; skips the test where there is none."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in _ARGUMENTS:
        options.add_argument(argument)  # type: ignore[no-untyped-call]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, Service(driver))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests, as it takes a second to start."""
    driver = start()
    driver.set_window_size(1440, 900)
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser; fails the test if a page complained, or asked anybody for anything."""
    chromium.complaints()
    yield chromium
    assert chromium.complaints() == []
