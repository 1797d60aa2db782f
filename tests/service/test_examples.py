"""Every example of bento/README.md, run as it stands against a real service."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bento.schemas.catalogue import CatalogueAnswer
from bento.schemas.events import EventsAnswer
from bento.schemas.responses import BatchResponse, RecommendResponse, SearchResponse
from bento.schemas.rules import Rule
from components.model.bundle import read_bundle, write_bundle
from components.model.product_records import build_records
from components.model.token_index import build_token_index
from components.package.server import serve_bundle
from tests.factories import make_bundle
from tests.service.ingesting import stored
from tests.service.serving import TOKEN, writable

README = Path(__file__).parents[2] / "bento" / "README.md"
ADDRESS = "http://127.0.0.1:3000"

NAMES = {
    "85123A": "White hanging heart",
    "22423": "Regency cakestand",
    "22699": "Roses regency teacup and saucer",
    "22698": "Pink regency teacup and saucer",
    "84879": "Assorted colour bird ornament",
    "21733": "Red hanging heart",
}


def printed(items):
    return [f"{item.product_id} {item.name}" for item in items]


def first_of_each(answer):
    return printed(one.items[0] for one in answer.responses)


ANSWERS = {
    "Companions of a cart, filtered and explained": (
        RecommendResponse,
        lambda a: printed(a.items),
    ),
    "Many questions at once": (BatchResponse, first_of_each),
    "Substitutes of a product": (RecommendResponse, lambda a: printed(a.items)),
    "Product search, typos included": (SearchResponse, lambda a: printed(a.items)),
    "Events: seen, clicked, bought": (EventsAnswer, lambda a: [f"accepted {a.accepted}"]),
    "A rule: the cake stand first, beside the teacup": (Rule, None),
    "Out of stock, and another price": (CatalogueAnswer, None),
}
"""By title, what curl gets, and the lines that Python and JavaScript print of it, if the same."""


def examples():
    """By title and language."""
    section = README.read_text().partition("## Examples\n")[2].partition("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        title, _, text = part.partition("\n")
        yield title, dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def server(folder):
    ids = list(NAMES)
    pairs = list(zip(ids[::2], ids[1::2], strict=True))
    made = read_bundle(make_bundle(folder / "unnamed", pairs, dict.fromkeys(ids, "Kitchen"), {}))
    place = made.products.schema.get_field_index("name")
    field = made.products.schema.field("name")
    named = made.products.set_column(place, field, [list(NAMES.values())])
    records, facets = build_records(named)
    lookups = {"records": records, "facets": facets, "token_index": build_token_index(named)}
    write_bundle(replace(made, products=named, **lookups), folder / "bundle")
    settings = {**writable(folder), "FBT_EVENTS_URL": events_url(folder)}
    with serve_bundle(folder / "bundle", "7", settings=settings) as server:
        yield server


def events_url(folder):
    return f"sqlite:///{folder / 'events.db'}"


def run(server, command, code):
    """What the example prints."""
    env = {**os.environ, "FBT_ADMIN_TOKEN": TOKEN}
    code = code.replace(ADDRESS, server.url)
    done = subprocess.run(command, input=code, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_there_is_an_example_of_everything_in_every_language():
    found = dict(examples())
    assert found.keys() == ANSWERS.keys()
    assert all(list(one) == ["sh", "python", "js"] for one in found.values())
    assert all(ADDRESS in code for one in found.values() for code in one.values())


@pytest.mark.parametrize(("title", "codes"), examples(), ids=[title for title, _ in examples()])
def test_an_example_answers_alike_in_every_language(server, title, codes):
    if not (node := shutil.which("node")):
        pytest.skip("Debian's nodejs is not installed")
    model, lines = ANSWERS[title]
    answer = model.model_validate_json(run(server, ["bash", "-eu"], codes["sh"]))
    python = run(server, [sys.executable, "-"], codes["python"]).splitlines()
    js = run(server, [node, "--input-type=module", "-"], codes["js"]).splitlines()
    if lines is not None:
        assert python == js == lines(answer)
        assert python
    elif model is Rule:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        rules = httpx.get(f"{server.url}/rules", headers=headers, timeout=20).json()["rules"]
        assert [rule["rule_id"] for rule in rules] == [answer.rule_id, *python, *js]
        assert {rule["created_by"] for rule in rules} == {"ann"}
    else:
        assert (answer.upserted, answer.unchanged) == (2, 0)
        # Every write counts, though the second and third say nothing new.
        assert [*python, *js] == [str(answer.revision + 1), str(answer.revision + 2)]


def test_an_example_that_is_refused_fails(server):
    codes = dict(examples())["Many questions at once"]
    wrong = codes["sh"].replace('"k": 1', '"k": 0')
    env = {**os.environ, "FBT_ADMIN_TOKEN": TOKEN}
    done = subprocess.run(
        ["bash", "-eu"], input=wrong.replace(ADDRESS, server.url), env=env, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert json.loads(done.stdout)["status"] == 400


def part(title):
    """Code of a part of the section on events."""
    text = README.read_text().partition(f"\n### {title}\n")[2].partition("\n#")[0]
    return re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", part("From Google Analytics 4 and Segment"))
def test_events_of_others_are_accepted(server, code):
    answer = EventsAnswer.model_validate_json(run(server, ["bash", "-eu"], code))
    assert (answer.accepted, answer.refused) == (1, [])


BROWSER = """
const listeners = {}, sent = [];
globalThis.sessionStorage = {};
globalThis.addEventListener = (name, then) => { listeners[name] = then; };
globalThis.setInterval = () => {};
Object.defineProperty(globalThis, "navigator", { value: { sendBeacon: (address, body) => {
  sent.push(fetch(address, { method: "POST", body }));
  return true;
} } });
globalThis.IntersectionObserver = class {
  constructor(then) { this.then = then; }
  observe(target) { target.observer = this; }
  unobserve(target) { target.observer = null; }
};
const products = ["22423", "22699", "84879"].map((productId) => ({
  dataset: { productId },
  addEventListener(name, then) { this[name] = then; },
}));
const box = { dataset: { requestId: "browser" }, querySelectorAll: () => products };
globalThis.document = { visibilityState: "visible", querySelectorAll: () => [box] };
"""
VISIT = """
const see = (...seen) => {
  products[0].observer.then(seen.map((n) => ({ isIntersecting: true, target: products[n] })));
};
see(0, 1);
products[1].click();
document.visibilityState = "hidden";
listeners.visibilitychange();
const answers = await Promise.all(sent.map(async (one) => (await one).json()));
console.log(JSON.stringify(answers));
"""


def test_a_page_sends_what_was_seen_and_clicked(server, folder):
    """The snippet of the README in Node, whose browser is made of a few lines."""
    if not (node := shutil.which("node")):
        pytest.skip("Debian's nodejs is not installed")
    (snippet,) = part("In the browser")
    code = BROWSER + snippet + VISIT
    (answer,) = json.loads(run(server, [node, "--input-type=module", "-"], code))
    assert (answer["accepted"], answer["refused"]) == (2, [])
    seen, clicked = (event for event in stored(events_url(folder)) if event.request_id == "browser")
    assert (seen.event, [one.position for one in seen.items]) == ("view_item_list", [0, 1])
    assert (clicked.event, [one.product_id for one in clicked.items]) == ("select_item", ["22699"])
    assert seen.session_id == clicked.session_id is not None
