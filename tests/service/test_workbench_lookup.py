"""The workbench's frame and its look up, asked over HTTP, beside a real service."""

import contextlib
import html
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from bento.schemas.responses import SCORE_PARTS
from bento.workbench.carts import cart_path
from bento.workbench.pages import PARTS
from components.baskets.weighting import BasketWeighting
from components.embeddings.cooccurrence import count_pairs
from components.model.bundle import read_bundle, write_bundle
from components.package.server import ServerError, find_free_port, serve_bundle
from components.ranking.chance import build_chance
from pipelines.demo import DemoFailed, Example, request_companions, verify_page
from pipelines.home import Home
from pipelines.workbench import run_workbench, serve_workbench
from tests.factories import CATEGORIES, PAIRS, corpus_of, make_bundle
from tests.service.serving import TOKEN

ODD = {"a/b c": None, "x,y": None, "..": None, "50%": None, "مرحبا 🫖": None}
EVIL = "<img src=x onerror=alert(1)>&\"'"
BASKETS = [*[(0, 1)] * 20, *[(2, 3)] * 18, *[(4, 5)] * 16, *[(6, 7)] * 14, *[(0, 4)] * 5]
"""Tea with milk twenty times, and with bread five times."""

WRITES = {"Authorization": f"Bearer {TOKEN}", "X-Fbt-User": "ann"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """With evidence."""
    folder = tmp_path_factory.mktemp("lookup")
    plain = read_bundle(make_bundle(folder / "plain", PAIRS, CATEGORIES, ODD))
    corpus = corpus_of(*BASKETS)
    pairs = count_pairs(corpus, 8)
    chance = build_chance(corpus, pairs, BasketWeighting())
    features = replace(plain.item_features, recent=np.zeros(len(pairs.rows), np.float32))
    counted = replace(plain, pairs=pairs, chance=chance, item_features=features)
    write_bundle(counted, folder / "bundle")
    return folder / "bundle"


def within_five_seconds(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def make_home(folder):
    home = Home(folder / "fbt")
    for one in (home.logs, home.root):
        one.mkdir(parents=True, exist_ok=True)
    return home


@contextlib.contextmanager
def service_of(bundle, home, port=0):
    settings = {
        "FBT_ADMIN_TOKEN": TOKEN,
        "FBT_DATABASE_URL": f"sqlite:///{home.root / 'fbt.db'}",
    }
    with serve_bundle(bundle, "7", port=port, settings=settings) as server:
        yield server.url


@pytest.fixture(scope="module")
def service(bundle, tmp_path_factory):
    """Its product 50% has a name that wants to be a tag."""
    with service_of(bundle, make_home(tmp_path_factory.mktemp("lookup-service"))) as url:
        change = {"upsert": [{"product_id": "50%", "name": EVIL}]}
        httpx.post(f"{url}/catalogue", json=change, headers=WRITES).raise_for_status()
        within_five_seconds(lambda: httpx.get(f"{url}/products/50%25").json()["name"] == EVIL)
        yield url


@pytest.fixture(scope="module")
def pages(service, tmp_path_factory):
    home = make_home(tmp_path_factory.mktemp("lookup-pages"))
    with pages_of(home, service) as client:
        yield client


@contextlib.contextmanager
def pages_of(home, service):
    with (
        serve_workbench(home, service, find_free_port()) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        yield client


def open_page(pages, path, status=200):
    response = pages.get(path)
    assert response.status_code == status, response.text[-2000:]
    return response.text


class Text(HTMLParser):
    """Of a page or a part of it, without tags."""

    def __init__(self, page):
        super().__init__()
        self.parts = []
        self.feed(page)

    def handle_data(self, data):
        self.parts.append(data)


def text_of(page):
    return " ".join(" ".join(Text(page).parts).split())


def section(page, start, end="</ol>"):
    """From a heading to the end of its list."""
    return page[page.index(start) :].partition(end)[0]


def named(part):
    """Names of the products in a part, in their order."""
    return [
        html.unescape(name).removesuffix(", the good one")
        for name in re.findall(r'<a href="/product/[^"]*"><bdi>(.*?)</bdi>', part)
    ]


# Search


@pytest.mark.parametrize(
    ("typed", "first"),
    [("Tea, the good", "Tea"), ("coffe", "Coffee"), ("buttre", "Butter"), ("pesto", "Pesto")],
)
def test_products_are_suggested_by_name_and_id_with_typos(pages, typed, first):
    options = open_page(pages, f"/search/options?q={quote(typed)}")
    assert re.findall(r"<bdi>(\w+), the good one", options)[0] == first


def test_a_category_is_suggested_and_shows_its_products_alone(pages):
    options = open_page(pages, "/search/options?q=drinks")
    assert "All of <bdi>drinks</bdi>" in options
    assert "All of" not in open_page(pages, "/search/options?q=drinks&only=products")
    found = named(open_page(pages, "/search?q=drinks&category=drinks"))
    assert found == ["Tea", "Milk", "Coffee"]


def test_an_empty_search_and_one_that_finds_nothing_say_so(pages):
    assert "Search by name" in open_page(pages, "/search")
    assert "Nothing is like" in open_page(pages, "/search?q=qqqqqqq")
    assert "Nothing is like" in open_page(pages, "/search/options?q=qqqqqqq")


@pytest.mark.parametrize("typed", ["<script>", "' OR 1=1 --", "🫖" * 300, "x" * 5000, "\u202e"])
def test_whatever_is_typed_is_shown_as_text(pages, typed):
    page = open_page(pages, f"/search?q={quote(typed)}")
    assert "<script>'" not in page
    assert typed[:5] in html.unescape(page)
    open_page(pages, f"/search/options?q={quote(typed)}")


# Products


def test_a_page_shows_a_product_and_its_companions_in_their_order(pages, service):
    page = open_page(pages, "/product/tea")
    assert "<h1><bdi>Tea, the good one</bdi></h1>" in page
    answered = [one["name"] for one in request_companions(service, ["tea"], k=7)["items"]]
    shown = named(page[: page.index("could replace it")])
    assert [f"{name}, the good one" for name in shown] == answered
    assert shown[0] == "Milk"
    # A shopper sees five.
    assert len(named(section(page, 'class="cards five"'))) == 5


def test_the_reason_has_the_figures(pages):
    reason = text_of(
        section(open_page(pages, "/product/tea"), 'aria-label="Why Milk', "</details>")
    )
    assert "Bought together 20 orders" in reason
    assert "Source bought together more often than by chance" in reason
    assert re.search(r"By chance [\d.]+ Times as often [\d.]+×", reason)
    assert re.search(r"Complement, by vectors [\d.]+ Popularity −[\d.]+ .* Sum of these", reason)


def test_every_part_of_a_score_has_words():
    assert PARTS.keys() == SCORE_PARTS.keys()


def test_k_is_chosen_and_checked(pages):
    assert len(named(section(open_page(pages, "/product/tea?k=5"), "five"))) == 5
    for given in ("0", "101", "x", "9" * 5000, "²", "-1"):
        message = text_of(open_page(pages, f"/product/tea?k={quote(given)}", 422))
        assert "expected a number from 1 to 100" in message


@pytest.mark.parametrize("product_id", ODD)
def test_a_product_with_an_odd_id_is_found_by_its_link(pages, product_id):
    page = open_page(pages, f"/search?q={quote(product_id)}")
    paths = [html.unescape(path) for path in re.findall(r'<a href="(/product/[^"]*)"', page)]
    found = [open_page(pages, path) for path in paths]
    assert any(f"<dd><bdi>{html.escape(product_id)}</bdi></dd>" in one for one in found)


def test_a_name_is_never_a_tag(pages):
    for path in (
        "/product/50%25",
        "/search?q=50%25",
        "/search/options?q=50%25",
        "/cart?items=50%25",
    ):
        page = open_page(pages, path)
        assert EVIL in html.unescape(page)
        assert "<img" not in page


def test_an_unknown_product_is_not_found_and_others_are_suggested(pages):
    page = open_page(pages, "/product/tae", 404)
    assert "The catalogue of the service has no product of this id" in page
    assert named(open_page(pages, "/product/coffeee", 404)) == ["Coffee"]
    for path in ("/product/", "/product/" + "x" * 3000, "/product/%00", "/product/%FF"):
        open_page(pages, path, 404)


# Carts


def test_a_cart_says_what_each_product_brings_in_and_which_one_is_due_to_it(pages):
    page = open_page(pages, "/cart?items=tea,coffee&k=2")
    lines = section(page, 'class="rows lines"').split("<li>")[1:]
    brought = [re.search("brings in(.*?)</div>", line, re.S) for line in lines]
    assert "Milk" in named(brought[0][1])
    assert "Sugar" in named(brought[1][1])
    recommended = section(page, 'class="rows recommended"')
    assert recommended.count('class="place"') == 2
    assert {"Milk", "Sugar"} < set(named(recommended))
    assert "due to Tea, the good one" in text_of(recommended)


def test_products_are_added_removed_and_moved_by_links(pages):
    added = pages.get("/cart?items=tea&items=&add=pesto")
    assert (added.status_code, added.headers["location"]) == (303, "/cart?items=tea,pesto")
    page = html.unescape(open_page(pages, "/cart?items=tea,coffee,bread"))
    assert 'href="/cart?items=coffee,bread" aria-label="Remove Tea, the good one"' in page
    assert 'href="/cart?items=coffee,tea,bread" aria-label="Move Tea, the good one down"' in page
    assert 'href="/cart?items=tea,bread,coffee" aria-label="Move Bread, the good one up"' in page


def test_words_that_are_no_id_offer_products_to_add(pages):
    page = html.unescape(open_page(pages, "/cart?items=tea&items=&add=pest"))
    assert 'href="/cart?items=tea,pesto">Add<' in page


@pytest.mark.parametrize(
    "items", [["tea"], ["x,y"], ["x,y", "tea"], ["a/b c", "..", "50%"], ["مرحبا 🫖", "x,y"], []]
)
def test_the_path_of_a_cart_keeps_every_id(pages, items):
    page = html.unescape(open_page(pages, cart_path(items)))
    assert re.findall(r'name="items" value="(.+?)"', page) == items
    assert open_page(pages, cart_path(items, k=5, with_rules=True)).count("<h1>") == 1


def test_a_cart_of_unknown_products_is_answered_by_a_fallback(pages):
    page = open_page(pages, "/cart?items=nobody,nothing")
    assert page.count('<span class="chip warn">unknown</span>') == 2
    assert "A fallback answers, bestsellers" in page


def test_in_a_large_cart_the_product_to_examine_is_chosen(pages):
    items = ["tea", "coffee", *(f"unknown {number}" for number in range(9))]
    page = html.unescape(open_page(pages, cart_path(items, k=5)))
    assert "brings in" not in page
    examine = f"{cart_path(items, k=5)}&examine=tea"
    assert f'href="{examine}" aria-label="What Tea, the good one changes"' in page
    examined = open_page(pages, examine)
    assert examined.count("brings in") == 1
    assert examined.count("What it changes") == 10


def test_a_cart_that_is_too_large_is_refused_with_its_size(pages):
    items = ",".join(map(str, range(51)))
    message = text_of(open_page(pages, f"/cart?items={items}", 422))
    assert "items: found 51 products, expected 50 at most" in message


# People


def test_a_person_who_may_not_correct_sees_no_menu(pages, service, tmp_path, monkeypatch):
    assert "Block here" in open_page(pages, "/product/tea")
    monkeypatch.setenv("FBT_WORKBENCH_OPEN", "viewer")
    with pages_of(make_home(tmp_path), service) as viewer:
        for path in ("/product/tea", "/cart?items=tea,coffee"):
            page = open_page(viewer, path)
            assert "Milk" in named(page)
            assert "Block" not in page
            assert "/rules/new" not in page


# Errors


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/nowhere", 404), ("POST", "/product/tea", 405), ("GET", "/static/nothing.css", 404),
])  # fmt: skip
def test_errors_are_pages_with_the_same_protection(pages, method, path, status):
    response = pages.request(method, path)
    assert response.status_code == status
    assert '<nav aria-label="Views">' in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_scripts_and_styles_are_asked_for_once(pages):
    first = pages.get("/static/workbench.css")
    assert first.headers["cache-control"] == "no-cache"
    again = pages.get("/static/workbench.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.timeout(120)
def test_pages_say_that_the_service_is_down_and_recover_with_it(bundle, tmp_path):
    home, port = make_home(tmp_path), find_free_port()
    with pages_of(home, f"http://127.0.0.1:{port}") as pages:
        started = time.monotonic()
        page = open_page(pages, "/product/tea", 503)
        start = open_page(pages, "/")
        assert time.monotonic() - started < 4
        for one in (page, start):
            assert "The service does not answer" in one
            assert "data-retry" in one
        assert 'type="search"' in start
        assert open_page(pages, "/cart").count("data-retry") == 0
        with service_of(bundle, home, port):
            assert named(open_page(pages, "/product/tea"))[0] == "Milk"
            assert "Version 7 answers" in open_page(pages, "/")


# Rules


def change_rule(service, **rule):
    response = httpx.post(f"{service}/rules", json=rule, headers=WRITES)
    assert response.status_code == 201, response.text
    return response.json()["rule_id"]


@pytest.fixture(scope="module")
def ruled(bundle, tmp_path_factory):
    """Pages, the ids of a pin of pesto and of a block of milk beside tea, and the servers' home."""
    home = make_home(tmp_path_factory.mktemp("lookup-rules"))
    with service_of(bundle, home) as service, pages_of(home, service) as pages:
        tea = {"product_id": "tea"}
        pin = {"action": "pin", "target": {"product_id": "pesto"}, "when": tea, "position": 2}
        pin = change_rule(service, **pin, note=f"Ann likes {EVIL}")
        block = {"action": "block", "target": {"product_id": "milk"}, "when": tea}
        block = change_rule(service, **block, note="Out of season")
        within_five_seconds(lambda: "Out of season" in open_page(pages, "/product/tea"))
        yield pages, pin, block, (home, service)


def test_an_item_names_the_rule_that_moved_it_its_author_and_its_reason(ruled):
    pages, pin, _, _ = ruled
    page = open_page(pages, "/product/tea")
    assert named(section(page, "cards five"))[1] == "Pesto"
    why = section(page, 'aria-label="Why Pesto', "</details>")
    assert f'href="/rules/{pin}"' in why
    assert f"Rule: pin at place 2 for Tea, the good one by ann : “ Ann likes {EVIL} ”" in text_of(
        why
    )


def test_products_that_rules_leave_out_are_listed(ruled):
    pages, _, block, _ = ruled
    left_out = section(open_page(pages, "/product/tea"), "Left out by rules", "</ul>")
    assert named(left_out) == ["Milk"]
    assert f'href="/rules/{block}"' in left_out
    assert "Out of season" in left_out


def test_without_rules_the_model_is_seen_alone_and_changes_are_marked(ruled):
    pages, *_ = ruled
    page = open_page(pages, "/product/tea?rules=off&k=5")
    cards = section(page, "cards five").split("<li>")[1:]
    assert [named(card)[0] for card in cards] == ["Milk", "Bread", "Coffee", "Sugar", "Butter"]
    assert "blocked by a rule" in cards[0]
    assert "with rules at 1" in cards[1]
    assert not any("chip accent" in card for card in cards[2:])
    assert named(section(page, "With rules, also"))[0] == "Pesto"
    off = section(open_page(pages, "/cart?items=tea,coffee&rules=off&k=5"), "rows recommended")
    assert "Milk" in named(off)


def test_a_page_shows_without_the_database_and_names_rules_alone(ruled, tmp_path):
    pages, pin, _, (home, service) = ruled
    database = home.root / "fbt.db"
    hidden = database.rename(tmp_path / "hidden")
    try:
        database.mkdir()
        # Connections to the file that was there are kept for a while.
        with pages_of(home, service) as blind:
            page = open_page(blind, "/product/tea")
    finally:
        database.rmdir()
        hidden.rename(database)
    assert "The database does not answer" in page
    assert f'href="/rules/{pin}"' in page
    assert named(section(page, "cards five"))[1] == "Pesto"
    assert "Ann likes" in open_page(pages, "/product/tea")


def test_a_block_is_two_clicks_away(ruled):
    pages, *_ = ruled
    page = open_page(pages, "/product/tea")
    menu = section(page, 'aria-label="Correct Coffee', "</details>")
    fields = dict(re.findall(r'name="(target|when|back)" value="(.*?)"', menu.split("</form>")[0]))
    assert fields == {"target": "coffee", "when": "tea", "back": "/product/tea"}
    assert menu.count('action="/rules/block"') == 2
    assert "/rules/new?action=pin&target=coffee&when=tea" in html.unescape(menu)


# The commands


def test_the_demo_verifies_a_page(pages, service):
    answered = request_companions(service, ["tea"])["items"]
    verify_page(str(pages.base_url), Example({"tea": "Tea"}, answered))
    with pytest.raises(DemoFailed, match="does not show, in this order: Butter"):
        verify_page(str(pages.base_url), Example({"tea": "Tea"}, answered[::-1]))


def test_a_taken_port_is_named(pages, tmp_path):
    port = pages.base_url.port
    with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}"):
        run_workbench(make_home(tmp_path), "", "127.0.0.1", port)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_tells_its_address_and_ends_in_order(service, tmp_path, sent):
    port = find_free_port()
    command = [sys.executable, "-m", "pipelines.cli", "workbench", "--port", str(port)]
    env = {**os.environ, "FBT_HOME": str(tmp_path / "fbt")}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--service", service], env=env, **pipe) as process:
        try:
            assert process.stdout.readline() == f"workbench: http://127.0.0.1:{port}\n"
            page = ask_until_it_answers(f"http://127.0.0.1:{port}/product/tea")
        finally:
            process.send_signal(sent)
            _, errors = process.communicate(timeout=30)
    assert named(page)[0] == "Milk"
    assert (process.returncode, errors) == (0, "")


def ask_until_it_answers(url, within_s=60):
    until = time.monotonic() + within_s
    while True:
        try:
            return httpx.get(url, timeout=20).text
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.1)
