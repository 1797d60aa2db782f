"""The Python client, against a real service, and against servers that refuse, drop and dawdle."""

import asyncio
import http.server
import json
import math
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from email.utils import formatdate

import pytest

from bento.client import (
    AsyncClient,
    Client,
    ProblemError,
    RetryPolicy,
    Unreachable,
    path_to,
)
from bento.client_events import Bought, add_to_cart, click, impression, purchase
from bento.retry import parse_retry_after
from bento.schemas.catalogue import ProductChange
from bento.schemas.requests import Filters, PriceFilter, RecommendRequest
from components.package.server import find_free_port, serve_bundle
from tests.factories import make_bundle
from tests.service.serving import TOKEN, writable


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    bundle = make_bundle(tmp_path_factory.mktemp("client") / "bundle")
    with serve_bundle(bundle, "7", settings=writable(bundle.parent)) as server:
        yield server


PATIENT = RetryPolicy(connect_s=10, read_s=20, deadline_s=60)
"""For a busy machine."""


@pytest.fixture
def fbt(server):
    with Client(server.url, token=TOKEN, user="Änn", retry_policy=PATIENT) as client:
        yield client


def ids_of(answer):
    return [item.product_id for item in answer.items]


def until(condition, within_s=10):
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_product_gets_its_partner(fbt):
    answer = fbt.recommend("tea", k=1)
    assert ids_of(answer) == ["milk"]
    assert (answer.model_version, answer.items[0].price) == ("7", 2.5)


def test_a_cart_is_asked_with_every_field_of_the_request(fbt):
    answer = fbt.recommend(
        "tea", "pasta", k=3, filters={"category": {"exclude": ["drinks"]}}, explain=True
    )
    assert "pesto" in ids_of(answer)
    assert "milk" not in ids_of(answer)


def test_what_describes_a_product_is_enough(fbt):
    answer = fbt.recommend(attributes={"name": "Fresh pasta", "category": "dry goods"}, k=1)
    assert answer.source == "attribute_neighbours"


def test_models_may_be_given_instead_of_dicts(fbt):
    cheap = Filters(price=PriceFilter(max=2))
    assert ids_of(fbt.recommend("milk", filters=cheap)) == ["tea"]


def test_a_batch_is_answered_in_order(fbt):
    one = RecommendRequest(items=["tea"], k=1)
    answers = fbt.recommend_batch([one, {"items": ["bread"], "k": 1}])
    assert [ids_of(answer) for answer in answers] == [["milk"], ["butter"]]


def test_substitutes(fbt):
    assert "tea" not in ids_of(fbt.similar("tea", k=2))


def test_what_answers(fbt):
    about = fbt.model()
    assert (about.model_version, about.n_items, about.dims) == ("7", 8, 8)


def test_rules_are_added_read_replaced_and_ended(fbt):
    rule = fbt.add_rule(
        action="pin", target={"product_id": "sugar"}, when={"product_id": "bread"}, note="jam ☕"
    )
    assert rule.created_by == "Änn"
    assert until(lambda: ids_of(fbt.recommend("bread", k=1)) == ["sugar"])
    block = {"action": "block", "target": {"product_id": "butter"}, "when": rule.when}
    replaced = fbt.replace_rule(rule.rule_id, **block)
    assert fbt.rule(rule.rule_id) == replaced
    assert [one.rule_id for one in fbt.rules()] == [rule.rule_id]
    assert until(lambda: "butter" not in ids_of(fbt.recommend("bread")))
    fbt.delete_rule(rule.rule_id)
    assert fbt.rules() == []
    deleted, *older = fbt.rule_history(limit=3)
    assert (deleted.action, deleted.changed_by, deleted.rule_id) == ("delete", "Änn", rule.rule_id)
    assert [change.action for change in older] == ["replace", "add"]
    assert fbt.rule_history(limit=1, before=deleted.revision) == older[:1]
    assert until(lambda: ids_of(fbt.recommend("bread", k=1)) == ["butter"])


def test_a_change_says_only_what_is_new(fbt):
    change = ProductChange(product_id="pesto", price=9.5)
    assert fbt.change_catalogue([change]).upserted == 1
    assert fbt.change_catalogue([{"product_id": "pesto", "price": 9.5}]).unchanged == 1

    def card():
        return fbt.recommend("pasta", k=1).items[0]

    assert until(lambda: card().price == 9.5)
    assert card().name == "Pesto, the good one"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"k": 101}, "k"),
        ({"k": "3"}, "k"),
        ({"limit": 3}, "limit"),
        ({"items": ["a"] * 51}, "items"),
        ({"min_score": math.nan}, "min_score"),
        ({"filters": {"price": {"min": 3, "max": 2}}}, "filters.price"),
    ],
)
def test_a_mistake_is_found_before_it_is_sent(asked, field):
    with Client("http://127.0.0.1:1") as nowhere, pytest.raises(ProblemError) as problem:
        nowhere.recommend(**{"items": ["tea"], **asked})
    assert problem.value.status == 400
    (error,) = problem.value.errors
    assert error.field == field
    assert error.found in str(problem.value)


def test_what_the_service_refuses_says_why(server):
    fbt = Client(server.url, token="another", retry_policy=PATIENT)
    with fbt, pytest.raises(ProblemError) as problem:
        fbt.rules()
    assert (problem.value.status, problem.value.errors[0].field) == (401, "Authorization")


def test_a_rule_that_is_not_there(fbt):
    for call in (fbt.rule, fbt.delete_rule):
        with pytest.raises(ProblemError) as problem:
            call("../no/such?rule")
        assert (problem.value.status, problem.value.errors[0].field) == (404, "rule_id")


def test_events_are_stored_once_whatever_is_sent_again(fbt):
    shown = {"session_id": "s1", "request_id": fbt.recommend("tea", k=2).request_id}
    events = [
        impression(["milk", "bread"], **shown),
        click("milk", 0, **shown),
        add_to_cart(Bought("milk", 2, 2.5), **shown),
        purchase("o1", [Bought("milk", 2, 2.5), Bought("tea")], session_id="s1"),
    ]
    assert fbt.send_events(events).accepted == 4
    assert fbt.send_events(events).duplicates == 4
    assert fbt.erase_session("s1").erased >= 4
    assert fbt.erase_session("nobody").erased == 0


def test_a_wrong_event_is_found_before_it_is_sent(fbt):
    wrong = click("milk", -1, session_id="s1", request_id="r1")
    with pytest.raises(ProblemError) as caught:
        fbt.send_events([wrong])
    assert [error.field for error in caught.value.errors] == ["events.0.items.0.index"]


def test_the_async_client_does_the_same(server):
    async def ask():
        async with AsyncClient(server.url, token=TOKEN, retry_policy=PATIENT) as fbt:
            answers = await asyncio.gather(*(fbt.recommend(id_, k=1) for id_ in ("tea", "coffee")))
            (batch,) = await fbt.recommend_batch([{"items": ["pasta"], "k": 1}])
            similar = await fbt.similar("tea", k=1)
            rule = await fbt.add_rule(action="block", target={"brand": "none"})
            replaced = await fbt.replace_rule(rule.rule_id, action="block", target={"brand": "no"})
            assert await fbt.rule(rule.rule_id) == replaced in await fbt.rules()
            await fbt.delete_rule(rule.rule_id)
            assert (await fbt.rule_history(limit=1))[0].action == "delete"
            changed = await fbt.change_catalogue(upsert=[{"product_id": "new", "price": 1}])
            assert (await fbt.model()).model_version == "7"
            with pytest.raises(ProblemError):
                await fbt.recommend(k=0)
            return [*answers, batch], similar, changed

    answers, similar, changed = asyncio.run(ask())
    assert [ids_of(answer) for answer in answers] == [["milk"], ["sugar"], ["pesto"]]
    assert len(similar.items) == 1
    assert changed.upserted == 1


def test_both_clients_have_the_same_methods():
    def public(one):
        return {name for name in vars(one) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_importing_it_needs_httpx_and_pydantic_alone():
    code = "import sys, bento.client; print(*sorted({one.split('.')[0] for one in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"bentoml", "_bentoml_sdk", "numpy", "pyarrow", "sqlalchemy", "hnswlib", "starlette"}
    assert not heavy & set(done.stdout.split())


# Servers that do as they are told

ANSWER = {
    "request_id": "r", "model_version": "7", "variant": "default", "items": [], "source": "model",
    "fallback": None, "message": None, "unknown": [], "of_a_newer_release": 1,
}  # fmt: skip
OK = (200, {}, json.dumps(ANSWER).encode())
BUSY = (503, {"Retry-After": "0"}, b"busy")
DROP, DAWDLE = "drop", "dawdle"


@contextmanager
def scripted(*script):
    """A server whose answers are these, one after the other, and the last for ever; what it got."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            done = script[min(len(got), len(script) - 1)]
            got.append((self.command, self.path, dict(self.headers), body))
            if done == DROP:
                return self.connection.close()
            if done == DAWDLE:
                time.sleep(1)
                done = OK
            status, headers, content = done
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_):
            pass

        def handle(self):
            # The connection was closed as the script said.
            with suppress(ValueError, ConnectionError):
                super().handle()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()


QUICK = RetryPolicy(connect_s=1, read_s=0.3, deadline_s=20, backoff_s=0.01)


def sync_recommend(url, retry_policy):
    with Client(url, retry_policy=retry_policy) as fbt:
        return fbt.recommend("tea")


def async_recommend(url, retry_policy):
    async def ask():
        async with AsyncClient(url, retry_policy=retry_policy) as fbt:
            return await fbt.recommend("tea")

    return asyncio.run(ask())


both = pytest.mark.parametrize("recommend", [sync_recommend, async_recommend])


@both
@pytest.mark.parametrize("first", [BUSY, (429, {}, b""), DROP, DAWDLE], ids=str)
def test_what_is_refused_or_lost_is_asked_again(recommend, first):
    with scripted(first, OK) as (url, got):
        assert recommend(url, QUICK).model_version == "7"
    assert len(got) == 2
    assert got[0][3] == got[1][3] == b'{"items":["tea"]}'


@both
@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 500, 502])
def test_other_refusals_are_final(recommend, status):
    refused = pytest.raises(ProblemError, match=f"{status}.*<html>no")
    with scripted((status, {}, b"<html>no")) as (url, got), refused:
        recommend(url, QUICK)
    assert len(got) == 1


@both
def test_in_the_end_the_refusal_or_the_silence_is_told(recommend):
    with scripted(BUSY) as (url, got), pytest.raises(ProblemError, match="503"):
        recommend(url, QUICK)
    assert len(got) == 3
    with scripted(DROP) as (url, got), pytest.raises(Unreachable, match=r"/recommend.*3 tries"):
        recommend(url, QUICK)
    assert len(got) == 3
    with pytest.raises(Unreachable, match="ConnectError"):
        recommend(f"http://127.0.0.1:{find_free_port()}", QUICK)


def test_retry_after_is_heeded_as_far_as_there_is_time():
    retry_policy = QUICK.model_copy(update={"deadline_s": 10.0})
    with scripted((503, {"Retry-After": "1"}, b""), OK) as (url, _):
        began = time.monotonic()
        sync_recommend(url, retry_policy)
        assert time.monotonic() - began >= 1
    refused = pytest.raises(ProblemError, match="503")
    with scripted((503, {"Retry-After": "60"}, b""), OK) as (url, got), refused:
        sync_recommend(url, retry_policy)
    assert len(got) == 1


def test_the_deadline_ends_it_all():
    retry_policy = QUICK.model_copy(update={"read_s": 0.4, "deadline_s": 0.6, "attempts": 20})
    began = time.monotonic()
    with scripted(DAWDLE) as (url, got), pytest.raises(Unreachable):
        sync_recommend(url, retry_policy)
    assert time.monotonic() - began < 3
    assert len(got) <= 3


def test_a_rule_is_never_added_twice():
    for first in (DROP, BUSY):
        unsure = pytest.raises((Unreachable, ProblemError))
        with scripted(first, OK) as (url, got), Client(url, retry_policy=QUICK) as fbt, unsure:
            fbt.add_rule(action="block", target={"brand": "B"})
        assert len(got) == 1


def test_a_deletion_whose_answer_was_lost_is_done():
    with scripted(DROP, (404, {}, b"{}")) as (url, got), Client(url, retry_policy=QUICK) as fbt:
        fbt.delete_rule("7")
    assert len(got) == 2


def test_the_token_goes_only_where_it_is_needed():
    with scripted(OK) as (url, got), Client(url, token="s", retry_policy=QUICK) as fbt:
        fbt.recommend("tea")
        with pytest.raises(ProblemError, match="another release"):
            fbt.rules()
    assert "Authorization" not in got[0][2]
    assert got[1][2]["Authorization"] == "Bearer s"


STORED = {"accepted": 1, "duplicates": 0, "conflicts": 0}
STORED |= {"ignored_events": 0, "ignored_fields": 0, "refused": []}


def test_events_are_sent_again_under_the_same_ids_when_the_service_says():
    later = (429, {"Retry-After": "1"}, b"full")
    event = click("milk", 0, session_id="s1", request_id="r1")
    with scripted(later, BUSY, DROP, (202, {}, json.dumps(STORED).encode())) as (url, got):
        policy = RetryPolicy(attempts=4, backoff_s=0.01)
        began = time.monotonic()
        with Client(url, token="s", events_key="public", retry_policy=policy) as fbt:
            assert fbt.send_events([event]).accepted == 1
    assert time.monotonic() - began > 1
    bodies = {one[3] for one in got}
    assert len(got) == 4
    assert [one["event_id"] for one in json.loads(bodies.pop())["events"]] == [event["event_id"]]
    assert not bodies
    assert {one[2]["X-Fbt-Key"] for one in got} == {"public"}
    assert not any("Authorization" in one[2] for one in got)


def test_what_a_search_and_a_product_are_asked_with():
    card = {"product_id": "a/b", "name": "A"}
    known = json.dumps({**card, "known_to_model": True, "orders": 3}).encode()
    with scripted((200, {}, known)) as (url, got), Client(url, retry_policy=QUICK) as fbt:
        assert fbt.product("a/b ☕").name == "A"
    assert got[0][1] == "/products/a%2Fb%20%E2%98%95"
    found = json.dumps({"items": [{**card, "match": "name"}]}).encode()
    with scripted((200, {}, found)) as (url, got), Client(url, retry_policy=QUICK) as fbt:
        assert [one.product_id for one in fbt.products("tea & milk", limit=2)] == ["a/b"]
    assert got[0][1] == "/products?q=tea+%26+milk&limit=2"


@pytest.mark.parametrize(
    ("name", "path"), [(".", "%2E"), ("..", "%2E%2E"), ("a.b", "a.b"), ("%2F", "%252F")]
)
def test_any_id_makes_a_path_of_its_own(name, path):
    assert path_to("products", name) == f"/products/{path}"


def test_no_id_is_no_path():
    with pytest.raises(ProblemError, match="400"):
        path_to("products", "")


@pytest.mark.parametrize(("header", "expected"), [("7", 7), ("", 0), ("soon", 0)])
def test_a_wait_may_be_a_number_or_nonsense(header, expected):
    assert parse_retry_after({"Retry-After": header}) == expected


@pytest.mark.parametrize(("ahead_s", "expected"), [(3600, 3600), (-60, 0)])
def test_a_wait_may_be_a_date(ahead_s, expected):
    date = formatdate(time.time() + ahead_s, usegmt=True)
    assert parse_retry_after({"Retry-After": date}) == pytest.approx(expected, abs=60)
    assert parse_retry_after({}) == 0
