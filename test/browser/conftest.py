"""A browser, and pages that are watched while they are open."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright  # here: the modules are skipped without it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def watched(browser: "Browser") -> "Callable[[Path], AbstractContextManager[Page]]":
    """A function that opens a file; at the end it asked for no other file, ran no foreign script and had no error."""

    @contextmanager
    def watch(html: Path) -> "Iterator[Page]":
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(html.as_uri())
        yield page
        page.close()
        assert [url for url in asked if not url.startswith("data:")] == [html.as_uri()]
        assert faults == []

    return watch
