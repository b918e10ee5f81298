"""The browser of the tests that drive a page."""

import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def browser():
    """A window of Chromium."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the extra `browser` has it"
    )
    if not CHROMIUM:
        pytest.skip("there is no Chromium")
    with driver.sync_playwright() as play:
        sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, "--no-proxy-server"])
        page = chromium.new_page()
        page.set_default_timeout(120_000)
        yield page
        chromium.close()
