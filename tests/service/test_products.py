"""Products looked up and searched over HTTP, as they are bought, changed and deleted."""

import time
import urllib.parse

import httpx
import pytest

from bento.schemas.responses import Product, SearchResponse
from components.package.server import serve_bundle
from tests.factories import CATEGORIES, PAIRS, make_bundle
from tests.service.serving import TOKEN, writable

ODD = {"a/b c": "drinks", "große 🫖": None, "50%": None, "x?y#z": None, "..": None}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("products")
    bundle = make_bundle(folder / "bundle", PAIRS, CATEGORIES, ODD)
    with (
        serve_bundle(bundle, "7", settings=writable(folder)) as server,
        httpx.Client(base_url=server.url, timeout=10) as client,
    ):
        yield client


def look_up(client, product_id):
    return client.get(f"/products/{urllib.parse.quote(product_id, safe='')}")


def search(client, q, **more):
    response = client.get("/products", params={"q": q, **more})
    assert response.status_code == 200, response.text
    SearchResponse.model_validate_json(response.content)
    return response.json()["items"]


def ids(client, q, **more):
    return [one["product_id"] for one in search(client, q, **more)]


def change(client, **request):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = client.post("/catalogue", json=request, headers=headers)
    assert response.status_code == 200, response.text


def within_five_seconds(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_product_comes_with_its_card_and_how_often_it_was_bought(client):
    assert look_up(client, "tea").json() == {
        "product_id": "tea",
        "name": "Tea, the good one",
        "category": "drinks",
        "brand": None,
        "price": 1.5,
        "image_url": None,
        "in_stock": True,
        "known_to_model": True,
        "orders": 80,
    }


@pytest.mark.parametrize("product_id", [one for one in ODD if one != ".."])
def test_an_odd_id_is_looked_up_and_found(client, product_id):
    response = look_up(client, product_id)
    product = Product.model_validate_json(response.content)
    assert (product.product_id, product.known_to_model, product.orders) == (product_id, False, None)
    assert ids(client, product_id)[0] == product_id


def test_a_slash_may_stay_as_it_is(client):
    assert client.get("/products/a/b%20c").json()["product_id"] == "a/b c"


@pytest.mark.parametrize("path", ["no%20such", "%FF", "x" * 5000, "%00", "tea/", "a%2Fb", "%F0%9F"])
def test_what_is_no_product_is_not_found(client, path):
    response = client.get(f"/products/{path}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["errors"][0]["field"] == "product_id"
    assert len(response.content) < 1000


def test_products_are_found_by_name_category_and_misspelt(client):
    (first, *_) = search(client, "Tea, the good one")
    assert (first["product_id"], first["match"]) == ("tea", "name")
    assert ids(client, "drinks") == ["tea", "milk", "coffee", "a/b c"]
    assert ids(client, "drinks", limit=2) == ["tea", "milk"]
    assert search(client, "buttr")[0].items() >= {"product_id": "butter", "match": "typos"}.items()
    assert ids(client, "qqqqqq") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=", "q"),
        ("q=%20%09", "q"),
        ("q=" + "x" * 257, "q"),
        ("q=" + "x" * 10_000, "q"),
        ("q=a&q=b", "q"),
        ("q=a&limit=0", "limit"),
        ("q=a&limit=101", "limit"),
        ("q=a&limit=ten", "limit"),
        ("q=a&limit=" + "9" * 5000, "limit"),
        ("q=a&limit=", "limit"),
        ("q=a&page=2", "page"),
    ],
)
def test_a_wrong_search_is_told_what_and_where(client, query, field):
    response = client.get(f"/products?{query}")
    assert response.status_code == 400, response.text
    errors = response.json()["errors"]
    assert [error["field"] for error in errors] == [field]
    assert all(error["found"] and error["expected"] for error in errors)
    assert len(response.content) < 2000


@pytest.mark.parametrize(
    "q", ['"', "'; DROP TABLE", "a OR b", "NEAR(", "*", "\0", "🫖" * 256, "%", "\u202e", "\ud7ff"]
)
def test_whatever_is_typed_is_answered(client, q):
    search(client, q, limit=100)


@pytest.mark.parametrize("query", [b"q=%FF%FE", b"q=%", b"q=%zz", b"q=a;b=c&&=&limit=3"])
def test_odd_queries_are_no_failures(client, query):
    assert client.get(b"/products?".decode() + query.decode()).status_code in (200, 400)


def test_changes_are_found_and_deleted_products_are_not(client):
    new = {"product_id": "neu/1", "name": "Zanzibar cloves", "margin": 7}
    renamed = {"product_id": "sugar", "name": "Muscovado"}
    change(client, upsert=[new, renamed], delete=["pesto"])
    within_five_seconds(lambda: ids(client, "zanzibra") == ["neu/1"])
    assert "margin" not in look_up(client, "neu/1").json()
    assert look_up(client, "neu/1").json()["known_to_model"] is False
    assert (
        search(client, "muscovado")[0].items() >= {"product_id": "sugar", "match": "name"}.items()
    )
    assert look_up(client, "sugar").json()["name"] == "Muscovado"
    assert look_up(client, "pesto").status_code == 404
    assert "pesto" not in ids(client, "pesto") + ids(client, "good one", limit=100)
    change(client, upsert=[{"product_id": "pesto"}], delete=["neu/1"])
    within_five_seconds(lambda: look_up(client, "neu/1").status_code == 404)
    assert ids(client, "zanzibar") == []
    assert ids(client, "pesto")[0] == "pesto"
