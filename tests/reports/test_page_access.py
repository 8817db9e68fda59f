"""The page for everyone: keyboard, axe, widths, themes, print."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_checks import WIDTHS, Opener, panel


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", list(WIDTHS))
def test_axe_finds_nothing_and_no_width_overflows(opened: Opener, width: str, scheme: str) -> None:
    page = opened(width=width, scheme=scheme)
    for sources in page.locator(".note summary").all():
        sources.click()
    for step in ("page", "filters", "panel"):
        if step == "filters" and width == "phone":
            page.get_by_text("Filters and contents").click()
        if step == "panel":
            page.evaluate("location.hash = 'open=main-1/4/1&q=sem'")
            panel(page).wait_for()
            for details in panel(page).locator("details:not([open]) > summary").all():
                if details.is_visible():
                    details.click()
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth") <= WIDTHS[width][0]
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= WIDTHS[width][0]


def test_the_theme_follows_the_system_and_then_the_reader(opened: Opener) -> None:
    page = opened(scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light theme").click()
    light = page.evaluate(ground)
    assert (light, dark) == ("rgb(253, 253, 251)", "rgb(22, 24, 27)")
    assert page.url.endswith("#theme=light")
    assert opened().evaluate(ground) == light


def test_a_print_has_tables_without_controls(opened: Opener) -> None:
    page = opened(scheme="dark")
    page.emulate_media(media="print")
    assert page.get_by_role("button", name="Download CSV of main-1").is_hidden()
    assert page.get_by_label("Search").is_hidden()
    assert page.locator("#main-1 table").is_visible()
    assert page.locator("#published-1 .note a").first.is_visible()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(253, 253, 251)"


def test_everything_is_reached_and_left_by_keyboard(opened: Opener) -> None:
    page = opened()
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.id") == "main"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.getAttribute('aria-label')").startswith("Clean test accuracy")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#main-1 th").first.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    for _ in range(3):
        page.keyboard.press("Tab")
    label = page.evaluate(f"{focused}.getAttribute('aria-label')")
    assert label.startswith("Clean, rho_a 0: ")
    page.keyboard.press("Enter")
    assert panel(page).is_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        outside = "document.activeElement === document.body"
        assert page.evaluate(f"{outside} || Boolean({focused}.closest('dialog'))")
    page.keyboard.press("Escape")
    assert panel(page).is_hidden()
    assert page.evaluate(f"{focused}.getAttribute('aria-label')") == label
    assert "open=" not in page.url
