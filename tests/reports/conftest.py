"""The page of some records, in Debian's Chromium; frames with names that are no text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from page_checks import ARGUMENTS, CHROMIUM, WIDTHS, Opener, replicated
from playwright.sync_api import Browser, Page, sync_playwright

from unlearnable_bench.reports.html import Page as PageReport
from unlearnable_bench.results.frame import load_records


@pytest.fixture
def python_strings() -> Iterator[None]:
    """Let frames hold lone surrogates, as in names of files that are not UTF-8.

    Where pyarrow is installed, pandas 3 stores text by it, which refuses them. Runs refuse such
    names of rows, so that only a user's own frame can hold one.
    """
    with pd.option_context("mode.string_storage", "python"):
        yield


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = replicated(tmp_path_factory.mktemp("records") / "results")
    return load_records(folder, unfinished=True)


@pytest.fixture(scope="session")
def file(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(PageReport().render(frame), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opener]:
    """Return what opens the page; what it asks for and what goes wrong in it fails the test."""
    contexts, wrong = [], []
    asked: list[str] = []
    files: set[str] = set()

    def opener(
        address: str = "", at: Path = file, width: str = "desktop", scheme: Any = "light"
    ) -> Page:
        size = WIDTHS[width]
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{at.as_uri()}#{address}")
        files.add(at.as_uri())
        return page

    yield opener
    for context in contexts:
        context.close()
    assert wrong == []
    # A picture is in the file itself, and a download is made by the page.
    outside = {url.partition("#")[0] for url in asked if not url.startswith(("data:", "blob:"))}
    assert outside == files
