"""The page, opened in a real Chromium: quiet, right, and readable by everybody, at any width, day and night."""

import os
import shutil

import pytest
import story

from spending import open_call, spend
from steptrack_callbacks import Budget, report, step

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def need(condition, what):
    """Skip, or fail where all tests must run."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    need(path, "chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need(False, "playwright")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def axe():
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        need(False, "axe-playwright-python")
    return Axe()


@pytest.fixture
def file(tmp_path):
    with story.stopped() as clock:
        story.tell(clock)
    with pytest.raises(ValueError, match="wrong"), step("broken", max_usd=0):
        raise ValueError("wrong <b>here</b>")
    return report().write_html(tmp_path / "report.html")


@pytest.fixture
def page(browser, file, request):
    """The page, and all that it complained about or asked the network for."""
    context = browser.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda asked: page.heard.append(asked.url) if asked.url != file.as_uri() else None)
    page.goto(file.as_uri())
    yield page
    context.close()


def test_the_page_is_quiet_and_its_totals_are_the_books(page):
    assert page.heard == []
    total = report().total
    main = page.locator("main")
    assert main.get_attribute("data-cost-usd") == str(total.cost_usd)
    assert main.get_attribute("data-calls") == str(total.calls)
    shown = page.locator(".tree tr.total td").all_inner_texts()
    assert shown[2:5] == [f"{number:,}" for number in (total.calls, total.input_tokens, total.output_tokens)]
    assert page.locator(".tree tr.total data").get_attribute("value") == str(total.cost_usd)
    rows = page.locator(".tree tr[data-step-id]")
    assert rows.count() == len(report().records)
    assert "wrong <b>here</b>" in rows.last.inner_text()


SCREENS = {
    f"{scheme} at {width}": {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    for width in (390, 1200)
    for scheme in ("light", "dark")
}


@pytest.mark.parametrize("page", SCREENS.values(), ids=SCREENS, indirect=True)
def test_axe_finds_nothing_and_nothing_sticks_out(page, axe):
    page.locator("summary").click()
    found = axe.run(page)
    assert [violation["id"] for violation in found.response["violations"]] == [], found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    outside = page.evaluate(
        "[...document.querySelectorAll('main *:not(.hidden):not(caption):not(thead):not(thead *)')]"
        ".filter(each => each.getBoundingClientRect().right > window.innerWidth + 1).map(each => each.outerHTML)"
    )
    assert outside == []


BROKEN = """[...document.querySelectorAll('td, dd, .words')].flatMap(cell => {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
    for (let text; (text = texts.nextNode()); )
        for (const number of text.data.matchAll(/[$\\d][\\d,.]*/g)) {
            const range = document.createRange();
            range.setStart(text, number.index);
            range.setEnd(text, number.index + number[0].length);
            if (range.getClientRects().length > 1) broken.push(number[0]);
        }
    return broken;
})"""
"""Numbers that go on in a second line."""


def dig(depth):
    team = Budget("team-of-the-north", max_usd=5_000_000, window="1d")
    with step(f"level {depth}", max_usd=4e7, max_tokens=900_000_000, budgets=[team], unpriced="free"):
        open_call(price=lambda _: None).abandon(1_234_567)
        spend(1_234_567, 1_234_567, cost_usd=12_345.6789)
        if depth < 8:
            dig(depth + 1)


@pytest.mark.parametrize("width", [320, 390, 768, 941, 1024, 1280])
def test_large_numbers_in_deep_steps_stay_whole_and_on_the_page(browser, tmp_path, width):
    dig(1)
    file = report().write_html(tmp_path / "report.html")
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(file.as_uri())
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "$98,765.4312" in page.locator(".tree").inner_text()
    assert page.evaluate(BROKEN) == []
    page.close()


def test_a_screen_reader_finds_tables_with_headers_at_any_width(page):
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 800})
        table = page.get_by_role("table", name="What each step spent")
        assert table.get_by_role("columnheader").all_inner_texts() == [
            "Step", "Status", "Used of limit", "Calls", "In", "Out", "Cost",
        ]  # fmt: skip
        assert table.get_by_role("rowheader").count() == len(report().records) + 2
        assert page.get_by_role("img", name="calls over").count() == 1


def test_the_calls_can_be_opened_with_the_keyboard(page):
    assert not page.locator("table.calls").is_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("table.calls tbody tr").count() == len(report().calls)
    assert page.locator("table.calls").is_visible()
