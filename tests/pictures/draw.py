"""Draws the README's pictures of the workbench and of a run's report, with Chromium, from the demo.

make demo                                   # in another terminal
.venv/bin/python -m tests.pictures.draw 962568
"""

import argparse
import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
SIZE = {"width": 1200, "height": 1000}
REPORT_SIZE = (1200, 640)


def main() -> None:
    """Draw the workbench's page of a product, and the top of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("product_id")
    parser.add_argument("--workbench", default="http://127.0.0.1:3002", help="its address")
    parser.add_argument("--report", type=Path, default=Path(".fbt/report.html"))
    options = parser.parse_args()
    draw_page(f"{options.workbench}/product/{options.product_id}", HERE / "workbench.png")
    take_screenshot(options.report, HERE / "report.png", REPORT_SIZE)


def draw_page(address: str, target: Path) -> None:
    """With the reason for the first companion opened."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(address, wait_until="networkidle")
        page.get_by_text("Why", exact=True).first.click()
        page.screenshot(path=target)
        browser.close()


def take_screenshot(page: Path, target: Path, size: tuple[int, int]) -> None:
    """Let Chromium write `target`. Raises CalledProcessError when it cannot."""
    width, height = size
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu",
            f"--window-size={width},{height}", f"--screenshot={target}", page.absolute().as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


if __name__ == "__main__":
    main()
