"""A person at a browser: a page on which every fault of a script or of the policy counts."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response

LAPTOP, TABLET = (1280, 800), (820, 1180)
GRAVE = ("serious", "critical")
FAILED = Path(__file__).parents[2] / "build" / "screenshots" / "failed"
STATUS = re.compile(r"the server responded with a status of (\d+)")


@dataclass
class Visitor:
    page: Page
    url: str
    """Of the workbench."""
    expected: set[int] = field(default_factory=set)
    """Statuses of refusals that the test is about."""
    faults: list[str] = field(default_factory=list)

    def go(self, path: str) -> Response:
        response = self.page.goto(self.url + path)
        assert response is not None
        return response

    def text(self) -> str:
        return self.page.inner_text("body")

    def screenshot(self, name: str) -> None:
        """For people to look at, where they want it."""
        if folder := os.environ.get("FBT_SCREENSHOTS"):
            self.save_picture(Path(folder) / f"{name}.png")

    def save_picture(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)

    def check_accessibility(self) -> None:
        """No serious or critical fault of axe-core's, whose rules of good practice count, too."""
        found = Axe().run(self.page).response["violations"]
        grave = [
            f"{one['impact']}: {one['help']}: {node['html'][:200]}"
            for one in found
            if one["impact"] in GRAVE
            for node in one["nodes"]
        ]
        assert not grave, f"{self.page.url}\n" + "\n".join(grave)

    def check_width(self) -> None:
        """Nothing sticks out to the right."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels wider than the window"

    def note(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        refused = STATUS.search(message.text)
        if not (refused and int(refused[1]) in self.expected):
            self.faults.append(f"{message.text} ({message.location.get('url')})")


def open_visitor(browser: Browser, url: str) -> Visitor:
    """With a session of its own."""
    context = browser.new_context(
        viewport={"width": LAPTOP[0], "height": LAPTOP[1]}, color_scheme="light",
        reduced_motion="reduce",
    )  # fmt: skip
    context.set_default_timeout(15_000)
    visitor = Visitor(context.new_page(), url)
    watch(visitor, visitor.page)
    context.on("page", lambda page: watch(visitor, page))
    return visitor


def watch(visitor: Visitor, page: Page) -> None:
    page.on("console", visitor.note)
    page.on("pageerror", lambda error: visitor.faults.append(str(error)))
