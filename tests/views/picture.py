"""Draw the picture of a report that the docs show: `python tests/views/picture.py` writes docs/report.png."""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import story  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from test_report_in_browser import FLAGS  # noqa: E402

from steptrack_callbacks import report  # noqa: E402

PICTURE = Path(__file__).parents[2] / "docs" / "report.png"
MARGIN = 6


def draw() -> None:
    with story.stopped() as clock:
        story.tell(clock)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        file = report().write_html(Path(folder, "report.html"), title="Step report")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 800}, color_scheme="light")
        page.goto(file.as_uri())
        keys = page.locator(".keys").bounding_box()
        height = keys["y"] + keys["height"] + MARGIN
        page.screenshot(path=PICTURE, full_page=True, clip={"x": 0, "y": 0, "width": 1100, "height": height})
        browser.close()


if __name__ == "__main__":
    draw()
