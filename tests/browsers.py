"""A headless Chromium for tests of pages: the one that is installed, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no chromium is installed, in which the page would be looked at"
)
PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1440, "height": 900}


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser. It has an event loop in this thread, so that no test of the same time can have one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_page(browser: "Browser", **options: Any) -> Iterator["Page"]:
    """A page with nothing remembered, `errors` of which are told at its end: of scripts, and whatever the page's policy
    has stopped. What the server refuses is none.

    Args:
        browser: that opens it.
        options: of the browser's context, such as `viewport` and `color_scheme`.
    """
    context = browser.new_context(**{"viewport": LAPTOP, "locale": "en-US", **options})
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
    page.on(
        "console",
        lambda said: (
            errors.append(said.text) if said.type == "error" and "Failed to load resource" not in said.text else None
        ),
    )
    try:
        yield page
        assert not errors
    finally:
        context.close()
