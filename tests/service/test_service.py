"""A real `bentoml serve`, asked over HTTP."""

import http.client
import json
import socket
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from bento.schemas.responses import SOURCES
from components.model.bundle import read_bundle
from components.package.server import ServerError, serve_bundle
from pipelines.serving_check import build_selection, check_serving, find_difference
from tests.factories import PAIRS, make_bundle, products_table, write

IDS = [id_ for pair in PAIRS for id_ in pair]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("service") / "bundle")


@pytest.fixture(scope="module")
def server(bundle):
    with serve_bundle(bundle, "7", settings={"FBT_READ_TIMEOUT_S": "2"}) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=10) as client:
        yield client


def ask(client, *items, k=3):
    response = client.post("/recommend", json={"items": items, "k": k})
    assert response.status_code == 200, response.text
    return response.json()


def ids_of(answer):
    return [item["product_id"] for item in answer["items"]]


def test_a_product_gets_its_partner_with_its_card(client):
    answer = ask(client, "tea", k=1)
    (item,) = answer["items"]
    assert item.pop("score") > 0
    assert item == {
        "product_id": "milk",
        "name": "Milk, the good one",
        "category": "drinks",
        "brand": None,
        "price": 2.5,
        "image_url": None,
        "in_stock": True,
        "source": "model",
    }
    assert answer["source"] == "model"
    assert answer["model_version"] == "7"
    assert answer["unknown"] == []


def test_ten_come_unless_another_number_is_asked_for(client):
    response = client.post("/recommend", json={"items": ["tea"]})
    assert len(response.json()["items"]) == len(IDS) - 1 < 10
    assert len(ask(client, "tea", k=2)["items"]) == 2


def test_a_cart_gets_the_partners_of_its_products(client):
    assert set(ids_of(ask(client, "tea", "pasta", "tea", k=2))) == {"milk", "pesto"}


def test_an_unknown_product_gets_a_named_fallback(client):
    answer = ask(client, "no such")
    assert (answer["source"], answer["unknown"]) == ("bestsellers", ["no such"])
    assert ids_of(answer) == IDS[:3]


def test_a_cold_product_gets_what_goes_with_products_like_it(client):
    answer = ask(client, "rye bread")
    assert (answer["source"], answer["unknown"]) == ("attribute_neighbours", ["rye bread"])
    assert ids_of(answer)[0] == "butter"


NEW = {"name": "Fresh pasta", "category": "dry goods", "brand": None, "price": 3}


@pytest.mark.parametrize("items", [{}, {"items": []}, {"items": ["brand new"]}])
def test_a_brand_new_product_is_answered_by_its_attributes(client, items):
    response = client.post("/recommend", json={**items, "attributes": NEW, "k": 2})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["source"] == "attribute_neighbours"
    assert answer["unknown"] == items.get("items", [])
    assert ids_of(answer)[0] == "pesto"


def test_similar_products_come_with_their_cards(client):
    response = client.post("/similar", json={"item": "tea", "k": 3})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["source"], answer["unknown"], len(answer["items"])) == ("model", [], 3)
    assert "tea" not in ids_of(answer)
    assert answer.keys() == ask(client, "tea").keys()
    assert answer["items"][0].keys() == ask(client, "tea")["items"][0].keys()


@pytest.mark.parametrize(
    ("request_", "first"),
    [
        ({"item": "rye bread"}, "bread"),
        ({"item": "brand new", "attributes": NEW}, "pasta"),
        ({"attributes": NEW}, "pasta"),
    ],
)
def test_cold_products_are_similar_by_their_attributes(client, request_, first):
    answer = client.post("/similar", json=request_).json()
    assert answer["source"] == "attribute_neighbours"
    assert answer["unknown"] == ([request_["item"]] if "item" in request_ else [])
    assert ids_of(answer)[0] == first


def test_known_and_unknown_together_are_answered_by_the_model(client):
    answer = ask(client, "🫖", "tea", k=1)
    assert (answer["source"], answer["unknown"], ids_of(answer)) == ("model", ["🫖"], ["milk"])


def test_a_sane_request_id_comes_back(client):
    given = {"X-Request-Id": "shop-1.2:3_4"}
    response = client.post("/recommend", json={"items": ["tea"]}, headers=given)
    assert response.json()["request_id"] == response.headers["X-Request-Id"] == "shop-1.2:3_4"


@pytest.mark.parametrize("odd", ["", "x" * 129, "a b", 'quote"', "semi;colon"])
def test_another_request_id_is_replaced(client, odd):
    response = client.post("/recommend", json={"items": ["tea"]}, headers={"X-Request-Id": odd})
    assert response.json()["request_id"] not in ("", odd)


MALFORMED = {
    "empty": ("", "body"),
    "no json": ("tea", "body"),
    "half of it": ('{"items": ["tea"', "body"),
    "not utf-8": (b'{"items": ["\xff"]}', "body"),
    "lone surrogate": (r'{"items": ["\ud800"]}', "body"),
    "a list": ("[]", "body"),
    "a number": ("3", "body"),
    "null": ("null", "body"),
    "too deep": ("[" * 10_000 + "]" * 10_000, "body"),
    "deep inside": ('{"items": ' + "[" * 10_000 + "]" * 10_000 + "}", "body"),
    "no items": ('{"k": 3}', "items"),
    "items null": ('{"items": null}', "items"),
    "items a text": ('{"items": "tea"}', "items"),
    "items empty": ('{"items": []}', "items"),
    "items NaN": ('{"items": NaN}', "items"),
    "too many items": (json.dumps({"items": ["tea"] * 51}), "items"),
    "an item a number": ('{"items": ["tea", 7]}', "items.1"),
    "an item empty": ('{"items": ["tea", "milk", ""]}', "items.2"),
    "an item too long": (json.dumps({"items": ["x" * 257]}), "items.0"),
    "an item of 10 kB": (json.dumps({"items": ["🫖" * 10_000]}), "items.0"),
    "k zero": ('{"items": ["tea"], "k": 0}', "k"),
    "k negative": ('{"items": ["tea"], "k": -1}', "k"),
    "k too large": ('{"items": ["tea"], "k": 101}', "k"),
    "k huge": ('{"items": ["tea"], "k": 1' + "0" * 400 + "}", "k"),
    "k a text": ('{"items": ["tea"], "k": "3"}', "k"),
    "k a fraction": ('{"items": ["tea"], "k": 2.5}', "k"),
    "k true": ('{"items": ["tea"], "k": true}', "k"),
    "k null": ('{"items": ["tea"], "k": null}', "k"),
    "k negative infinity": ('{"items": ["tea"], "k": -Infinity}', "k"),
    "k NaN": ('{"items": ["tea"], "k": NaN}', "k"),
    "k Infinity": ('{"items": ["tea"], "k": Infinity}', "k"),
    "items an object": ('{"items": {"0": "tea"}}', "items"),
    "an item null": ('{"items": ["tea", null]}', "items.1"),
    "an item a list": ('{"items": [["tea"]]}', "items.0"),
    "exclude too many": (json.dumps({"items": ["tea"], "exclude": ["x"] * 1001}), "exclude"),
    "exclude a number": ('{"items": ["tea"], "exclude": [7]}', "exclude.0"),
    "filters a list": ('{"items": ["tea"], "filters": []}', "filters"),
    "an unknown filter": ('{"items": ["tea"], "filters": {"size": 3}}', "filters.size"),
    "a category a text": (
        '{"items": ["tea"], "filters": {"category": "drinks"}}',
        "filters.category",
    ),
    "a price filter NaN": (
        '{"items": ["tea"], "filters": {"price": {"max": NaN}}}',
        "filters.price.max",
    ),
    "price bounds crossed": (
        '{"items": ["tea"], "filters": {"price": {"min": 3, "max": 2}}}',
        "filters.price",
    ),
    "in_stock a number": ('{"items": ["tea"], "filters": {"in_stock": 1}}', "filters.in_stock"),
    "an attribute of 10 kB": (
        json.dumps({"items": ["tea"], "filters": {"attributes": {"x" * 10_000: {}}}}),
        f"filters.attributes.{'x' * 80}… (10000 characters).[key]",
    ),
    "sort unknown": ('{"items": ["tea"], "sort": "cheapest"}', "sort"),
    "context unknown": ('{"items": ["tea"], "context": "home"}', "context"),
    "diversity NaN": ('{"items": ["tea"], "diversity": NaN}', "diversity"),
    "diversity above 1": ('{"items": ["tea"], "diversity": 1.1}', "diversity"),
    "min_score Infinity": ('{"items": ["tea"], "min_score": Infinity}', "min_score"),
    "min_score too large for a number": ('{"items": ["tea"], "min_score": 1e999}', "min_score"),
    "price_ratio zero": ('{"items": ["tea"], "price_ratio": 0}', "price_ratio"),
    "price_ratio NaN": ('{"items": ["tea"], "price_ratio": NaN}', "price_ratio"),
    "strict a text": ('{"items": ["tea"], "strict": "yes"}', "strict"),
    "a variant with spaces": ('{"items": ["tea"], "variant": "a b"}', "variant"),
    "a session too long": (json.dumps({"items": ["tea"], "session_id": "x" * 129}), "session_id"),
    "an extra field of 10 kB": (
        json.dumps({"items": ["tea"], "x" * 10_000: 1}),
        f"{'x' * 80}… (10000 characters)",
    ),
    "extra field": ('{"items": ["tea"], "limit": 3}', "limit"),
    "attributes a text": ('{"attributes": "tea"}', "attributes"),
    "attributes empty": ('{"attributes": {}}', "attributes"),
    "attributes blank": ('{"attributes": {"name": " ", "price": 3}}', "attributes"),
    "attributes null and no items": ('{"attributes": null}', "items"),
    "attributes beside a cart": ('{"attributes": {"name": "x"}, "items": ["a", "b"]}', "items"),
    "an unknown attribute": ('{"attributes": {"name": "x", "size": 3}}', "attributes.size"),
    "a name a number": ('{"attributes": {"name": 7}}', "attributes.name"),
    "a name too long": (json.dumps({"attributes": {"name": "x" * 1001}}), "attributes.name"),
    "a price a text": ('{"attributes": {"name": "x", "price": "3"}}', "attributes.price"),
    "a price negative": ('{"attributes": {"name": "x", "price": -1}}', "attributes.price"),
    "a price NaN": ('{"attributes": {"name": "x", "price": NaN}}', "attributes.price"),
    "a price Infinity": ('{"attributes": {"name": "x", "price": Infinity}}', "attributes.price"),
}

MALFORMED_SIMILAR = {
    "empty object": ("{}", "item"),
    "item null": ('{"item": null}', "item"),
    "item empty": ('{"item": ""}', "item"),
    "item a list": ('{"item": ["tea"]}', "item"),
    "items": ('{"items": ["tea"]}', "items"),
    "k zero": ('{"item": "tea", "k": 0}', "k"),
    "attributes empty": ('{"attributes": {}}', "attributes"),
    "not an object": ("[]", "body"),
}


MALFORMED_BATCH = {
    "no requests": ("{}", "requests"),
    "requests empty": ('{"requests": []}', "requests"),
    "too many requests": (json.dumps({"requests": [{"items": ["a"]}] * 1001}), "requests"),
    "one of them wrong": (
        '{"requests": [{"items": ["tea"]}, {"items": ["tea"], "k": 101}]}',
        "requests.1.k",
    ),
    "a request null": ('{"requests": [null]}', "requests.0"),
}

CASES = [("/recommend", *MALFORMED[case]) for case in MALFORMED]
CASES += [("/similar", *MALFORMED_SIMILAR[case]) for case in MALFORMED_SIMILAR]
CASES += [("/recommend/batch", *MALFORMED_BATCH[case]) for case in MALFORMED_BATCH]
CASE_NAMES = [*MALFORMED, *MALFORMED_SIMILAR, *MALFORMED_BATCH]


@pytest.mark.parametrize(("path", "body", "field"), CASES, ids=CASE_NAMES)
def test_a_malformed_request_is_told_what_and_where(client, path, body, field):
    response = client.post(path, content=body)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() == {"type", "title", "status", "detail", "errors"}
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert field in [error["field"] for error in problem["errors"]]
    assert all(error["found"] and error["expected"] for error in problem["errors"])
    assert len(response.content) < 10_000


def test_every_wrong_field_is_named_at_once(client):
    response = client.post("/recommend", json={"items": [], "k": 0, "limit": 3})
    assert {error["field"] for error in response.json()["errors"]} == {"items", "k", "limit"}


@pytest.mark.parametrize(
    "id_",
    [
        "7",
        "-1",
        "0",
        "1e3",
        "NaN",
        "null",
        " ",
        "\u0000",
        "\u202e",
        "é",
        "e\u0301",
        "🫖" * 256,
        "../tea",
        "'\"<>",
    ],
)
def test_any_text_is_an_id_and_an_unknown_one_is_named(client, id_):
    answer = ask(client, id_, k=2)
    assert (answer["unknown"], answer["source"]) == ([id_], "bestsellers")
    assert ids_of(answer) == IDS[:2]
    assert client.post("/similar", json={"item": id_}).json()["unknown"] == [id_]
    together = ask(client, id_, "tea", k=1)
    assert (together["unknown"], ids_of(together)) == ([id_], ["milk"])


NOTHING_LEFT = {
    "an unknown category": {"filters": {"category": {"include": ["no such"]}}},
    "an unknown brand": {"filters": {"brand": {"include": ["no such"]}}},
    "an unknown attribute": {"filters": {"attributes": {"no such": {"include": ["x"]}}}},
    "a price that nothing has": {"filters": {"price": {"min": 1000}}},
    "out of stock": {"filters": {"in_stock": False}},
    "everything excluded": {"exclude": IDS},
    "a score that nothing has": {"min_score": 1e30},
    "nothing sure": {"strict": True},
}


@pytest.mark.parametrize("asked", NOTHING_LEFT.values(), ids=NOTHING_LEFT)
@pytest.mark.parametrize("items", [["tea"], ["tea", "pasta"], ["no such"]], ids=str)
def test_where_nothing_is_left_the_answer_is_empty_and_says_so(client, items, asked):
    response = client.post("/recommend", json={"items": items, **asked})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["items"] == []
    assert answer["message"]


def test_where_less_is_left_than_asked_for_the_answer_says_so(client):
    asked = {"items": ["tea"], "filters": {"category": {"include": ["dry goods"]}}}
    answer = client.post("/recommend", json=asked).json()
    assert ids_of(answer) == ["pasta", "pesto"]
    assert answer["message"]
    assert ask(client, "tea", k=2)["message"] is None


def chunks(n_bytes):
    yield from (b"x" * 65_536 for _ in range(n_bytes // 65_536))


@pytest.mark.parametrize("content", [b"x" * 10_000_000, chunks(10_000_000)], ids=["whole", "parts"])
def test_a_body_of_ten_megabytes_is_refused(client, content):
    response = client.post("/recommend", content=content)
    assert response.status_code == 413
    assert response.json()["errors"][0]["field"] == "body"
    assert ask(client, "tea", k=1)["unknown"] == []


def test_the_largest_valid_request_is_answered(client):
    items = [f"{row:02}" + "\U0001f600" * 254 for row in range(50)]
    assert len(json.dumps({"items": items})) > 150_000
    assert ask(client, *items, k=100)["unknown"] == items


def test_other_methods_and_paths_are_refused(client):
    assert client.get("/recommend").status_code == 405
    assert client.post("/recommend/", json={}).status_code in (307, 404)
    assert client.post("/recommendation", json={}).status_code == 404


def test_probes_answer(client):
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200


def metric(client, name, **labels):
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(f"{name}{{")]
    return sum(float(line.split()[-1]) for line in found if all(w in line for w in wanted))


@pytest.mark.parametrize(
    ("items", "source"),
    [
        (["tea"], "model"),
        (["rye bread"], "attribute_neighbours"),
        (["no such", "nor such"], "bestsellers"),
    ],
)
def test_answers_are_counted_by_source_and_version(client, items, source):
    name, labels = "fbt_recommend_requests_total", {"source": source, "model_version": "7"}
    before = metric(client, name, **labels)
    unknown_before = metric(client, "fbt_recommend_unknown_items_total")
    answer = ask(client, *items)
    assert metric(client, name, **labels) == before + 1
    unknown = metric(client, "fbt_recommend_unknown_items_total") - unknown_before
    assert unknown == len(answer["unknown"])


def test_questions_for_substitutes_are_counted_apart(client):
    labels = {"source": "model", "model_version": "7"}
    before = metric(client, "fbt_similar_requests_total", **labels)
    recommended = metric(client, "fbt_recommend_requests_total")
    client.post("/similar", json={"item": "tea"})
    assert metric(client, "fbt_similar_requests_total", **labels) == before + 1
    assert metric(client, "fbt_recommend_requests_total") == recommended


def test_every_source_is_counted_from_the_start(client):
    for source in SOURCES:
        line = f'fbt_recommend_requests_total{{model_version="7",source="{source}"}}'
        assert line in client.get("/metrics").text


def test_latency_is_measured_per_route_finer_than_a_millisecond(client):
    ask(client, "tea")
    name = "bentoml_service_request_duration_seconds_bucket"
    assert metric(client, name, endpoint="/recommend", http_response_code="200", le="+Inf") > 0
    assert 'le="0.00025"' in client.get("/metrics").text


def test_the_page_of_the_documentation_is_whole_and_calls_nobody_else(client):
    page = client.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert asset in page.text
        assert client.get(f"/static_content/{asset}").status_code == 200


def test_many_at_once_are_each_answered_right(server):
    def fifty(worker):
        one, other = PAIRS[worker % len(PAIRS)]
        with httpx.Client(base_url=server.url, timeout=10) as client:
            return [ids_of(ask(client, one, k=1)) == [other] for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(fifty, range(8)))
    assert sum(map(sum, answers)) == 400


def test_a_client_that_hangs_up_harms_nobody(server, client):
    address = urllib.parse.urlsplit(server.url)
    whole = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + b"{" * 100
    for cut in (1, 20, len(whole) - 150, len(whole) - 50, len(whole)):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(whole[:cut])
    time.sleep(0.2)
    assert ids_of(ask(client, "tea", k=1)) == ["milk"]
    assert "Traceback" not in server.log.read_text()


def test_a_client_that_never_finishes_is_told_so(server):
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.putrequest("POST", "/recommend")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    assert connection.getresponse().status == 408
    connection.close()


def test_check_serving_finds_the_service_right(bundle):
    report = check_serving(bundle, n_requests=100, seed=3)
    assert report.pop("p50_ms") <= report.pop("p99_ms") < 1000
    assert report == {"started": True, "asked": 100, "correct": 100, "errors": []}


def swap_ids(answer):
    one, other = answer["items"][:2]
    one["product_id"], other["product_id"] = other["product_id"], one["product_id"]


WRONG = {
    "twice": lambda answer: answer["items"][1].update(product_id="milk"),
    "of the request": lambda answer: answer["items"][0].update(product_id="tea"),
    "source": lambda answer: answer.update(source="bestsellers"),
    "unknown": lambda answer: answer.update(unknown=["tea"]),
    "2 products": lambda answer: answer["items"].pop(),
    "place 0": swap_ids,
    "place 2": lambda answer: answer["items"][2].update(product_id="pesto"),
    "place 1": lambda answer: answer["items"][1].update(score=None),
}


@pytest.mark.parametrize("complaint", WRONG)
def test_check_serving_would_see_a_wrong_answer(client, bundle, complaint):
    selection = build_selection(read_bundle(bundle))
    query, answer = {"items": ["tea"], "k": 3}, ask(client, "tea")
    assert find_difference(query, 200, answer, selection) == ""
    WRONG[complaint](answer)
    assert complaint in find_difference(query, 200, answer, selection)
    assert "status 500" in find_difference(query, 500, answer, selection)


def test_check_serving_excuses_a_tie_and_nothing_else(tmp_path):
    ids, alike = ["tea", "milk", "sugar", "lemon"], np.ones((4, 2), np.float32)
    alike[3] = 0.5
    table = products_table(ids, {}, {})
    bundle = write(tmp_path / "bundle", table, alike, alike, np.array([9, 9, 9, 9]))
    selection = build_selection(read_bundle(bundle))
    query, expected = {"items": ["tea"], "k": 1}, selection.recommender.recommend(["tea"], 1)
    answer = {"source": "model", "unknown": []}
    score = float(expected.scores[0])
    for id_, excused in (("milk", True), ("sugar", True), ("lemon", False), ("no such", False)):
        answer["items"] = [{"product_id": id_, "score": score}]
        assert (find_difference(query, 200, answer, selection) == "") == excused


def test_check_serving_reports_a_damaged_bundle(tmp_path):
    damaged = make_bundle(tmp_path / "bundle")
    (damaged / "n_orders.npy").write_bytes(b"")
    report = check_serving(damaged, n_requests=100, seed=3)
    assert (report["started"], report["asked"]) == (False, 0)
    assert "n_orders.npy is damaged" in report["errors"][0]


def test_a_damaged_bundle_is_never_served(tmp_path):
    damaged = make_bundle(tmp_path / "bundle")
    (damaged / "n_orders.npy").write_bytes(b"")
    with pytest.raises(ServerError, match=r"n_orders\.npy is damaged"), serve_bundle(damaged):
        pytest.fail("the server took a damaged bundle")


def test_a_taken_port_is_no_server_of_ours(bundle):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ServerError, match="already in use"),
        serve_bundle(bundle, port=taken.getsockname()[1]),
    ):
        pytest.fail("the server took a port that was taken")
