"""A headless Chromium for tests that look at a page as its reader does; skips without one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
)
SCREEN, PHONE = (1280, 800), (360, 740)


@contextmanager
def chromium() -> Iterator[Any]:
    """Selenium's driver of a Chromium of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: make install")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no chromium and chromedriver (Debian: apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as made:
        yield made


def set_size(browser, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait_for(browser, script, *arguments):
    """What a script returns, once it is true."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda each: each.execute_script(script, *arguments))


def errors(browser) -> list[str]:
    """What went wrong since the last call, in the words of the console."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
