"""Draws the two pictures of the README, with Chromium, from the demo as it runs.

make demo                                   # in another terminal
.venv/bin/python -m tests.pictures.draw 962568
"""

import argparse
import html
import json
import subprocess
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZE = (1200, 370)
REPORT_SIZE = (1200, 640)


def main() -> None:
    """Ask the service for one product, and draw its page and the top of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("product_id")
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="of the service")
    parser.add_argument("--report", type=Path, default=Path(".fbt/report.html"))
    options = parser.parse_args()
    product = fetch(f"{options.url}/products/{options.product_id}")
    body = {"items": [options.product_id], "k": 5, "explain": True}
    companions = fetch(f"{options.url}/recommend", body)["items"]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(render_page(product, companions))
        take_screenshot(page, HERE / "product_page.png", SIZE)
    take_screenshot(options.report, HERE / "report.png", REPORT_SIZE)


def fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON answer of the service."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def render_page(product: dict[str, Any], companions: list[dict[str, Any]]) -> str:
    """A product page as a shop may show it: the product, and its companions in a row."""
    template = (HERE / "product_page.html").read_text()
    cards = "\n".join(render_card(one) for one in companions)
    return template.replace("{{product}}", render_card(product)).replace("{{companions}}", cards)


def render_card(product: dict[str, Any]) -> str:
    """A tile: the demo data has no photographs, so a product is drawn by its initial."""
    name, category = product["name"], product["category"]
    price = f"${product['price']:.2f}" if product.get("price") else ""
    evidence = product.get("because_of")
    note = ""
    if evidence and evidence["times_more_often"]:
        times = f"{evidence['times_more_often']:.1f}"
        note = f"{evidence['bought_together']:,} baskets with it, {times} × chance"
    return (
        f'<div class="card"><div class="tile" style="--hue:{hue_of(category)}">{name[0]}</div>'
        f"<b>{html.escape(name)}</b><span>{html.escape(category.lower())}</span>"
        f"<em>{price}</em><small>{note}</small></div>"
    )


def hue_of(category: str) -> int:
    """A colour, the same for all products of a category, in degrees."""
    return zlib.crc32(category.encode()) % 360


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
