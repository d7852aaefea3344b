"""A real browser for tests: headless Chromium of the system's packages, driven by Selenium."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
# Root, as whom CI runs, must do without the sandbox; a container's /dev/shm is too small for a page.
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage")
# A browser tells an uncaught error of some kinds, such as a ResizeObserver's, to the page alone.
TOLD = "addEventListener('error', (event) => console.error(event.message))"


class Browser:
    """A window that was opened; `driver` is Selenium's."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TOLD})

    def open(self, address: Path | str, *, width: int = 1280, height: int = 900) -> None:
        """Load a page in a window of `width` CSS pixels; below 600 it is a phone's."""
        self.resize(width, height)
        self.driver.get(address.as_uri() if isinstance(address, Path) else address)

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def visible(self, selector: str) -> list[WebElement]:
        return [element for element in self.all(selector) if element.is_displayed()]

    def texts(self, elements: list[WebElement]) -> list[str]:
        """What elements show; in one call, as each takes milliseconds."""
        found: list[str] = self.run("return arguments[0].map((element) => element.innerText.trim())", elements)
        return found

    def point_at(self, element: WebElement) -> None:
        # Selenium's pointer takes 0.25 s to get there, unless told otherwise.
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def until(self, found: Callable[[], T], *, seconds: float = 60) -> T:
        """What `found` gives as soon as it is true: a page draws itself some moments after a click."""
        passing = (NoSuchElementException, StaleElementReferenceException)
        return WebDriverWait(self.driver, seconds, 0.05, passing).until(lambda _: found())

    def run(self, script: str, *arguments: object) -> Any:
        """What a script gives back, run in the page."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, pictures inside the page left out."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [address for address in sent if not address.startswith("data:")]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, closed at the end. Skips the test where Chromium or its driver is not installed."""
    # Named outright, as Selenium would look for them in the network.
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("a browser test needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
