"""The snippet of bento/README.md for pages, in a real browser, from another origin."""

import contextlib
import functools
import http.server
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.service.ingesting import ingesting, stored

README = Path(__file__).parents[2] / "bento" / "README.md"

PAGE = """<!doctype html>
<style>a { display: block; height: 100px }</style>
<div data-request-id="r1">
  <a data-product-id="first">1</a>
  <a data-product-id="second">2</a>
  <p style="height: 5000px"></p>
  <a data-product-id="below">3</a>
</div>
<script>%s</script>
<script>
setTimeout(() => document.querySelector("[data-product-id=second]").click(), 500);
setTimeout(() => { location.href = "about:blank"; }, 1500);
</script>
"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def website(folder):
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def visiting(address, profile):
    if not (chromium := shutil.which("chromium")):
        pytest.skip("Debian's chromium is not installed")
    choices = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    choices += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [chromium, *choices, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        try:
            yield
        finally:
            browser.terminate()


def test_a_page_sends_what_was_in_the_viewport_and_what_was_clicked(tmp_path):
    text = README.read_text().partition("### In the browser")[2]
    (snippet,) = re.findall(r"```js\n(.*?)```", text.partition("\n### ")[0], re.DOTALL)
    sink, shop = f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "shop"
    shop.mkdir()
    with (
        website(shop) as origin,
        ingesting(sink, cors_origins=origin, events_key="public-key") as server,
    ):
        (shop / "index.html").write_text(
            PAGE % snippet.replace("http://127.0.0.1:3000", server.url)
        )
        with visiting(origin, tmp_path / "profile"):
            deadline = time.monotonic() + 60
            while len(events := stored(sink)) < 2 and time.monotonic() < deadline:
                time.sleep(0.2)
    seen, clicked = events
    assert (seen.event, clicked.event) == ("view_item_list", "select_item")
    assert [(one.product_id, one.position) for one in seen.items] == [("first", 0), ("second", 1)]
    assert [(one.product_id, one.position) for one in clicked.items] == [("second", 1)]
    assert seen.request_id == clicked.request_id == "r1"
    assert seen.session_id == clicked.session_id is not None
    assert seen.ts_us < clicked.ts_us
