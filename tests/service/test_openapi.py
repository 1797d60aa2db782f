"""The OpenAPI document: whole, true, and its examples work."""

import httpx
import pytest

from bento.endpoints import ROUTES
from bento.http import openapi
from bento.schemas.responses import AboutModel, Ready
from bento.service import Fbt
from components.package.server import serve_bundle
from tests.factories import make_bundle
from tests.service.serving import TOKEN, writable

PROBED = {"/healthz", "/livez", "/metrics"}
"""BentoML's."""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    bundle = make_bundle(tmp_path_factory.mktemp("openapi") / "bundle", with_index=True)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serve_bundle(bundle, "7", settings=writable(bundle.parent)) as server,
        httpx.Client(base_url=server.url, timeout=20, headers=headers) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def document(client):
    return client.get("/docs.json").json()


def resolved(document, described):
    while "$ref" in described:
        kind, name = described["$ref"].split("/")[-2:]
        described = document["components"][kind][name]
    return described


def test_every_route_is_documented_and_every_documented_path_is_routed(document):
    routed = {(one.method, one.path) for one in ROUTES}
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert documented == routed | {("GET", path) for path in PROBED}


def test_what_bentoml_answers_is_there(client):
    assert all(client.get(path).status_code == 200 for path in PROBED)


def test_the_document_is_the_same_wherever_it_is_made(document):
    made = openapi.build_document(Fbt, "7", ROUTES)
    for part in ("openapi", "info", "components"):
        assert made[part] == document[part]
    assert made["paths"].keys() == document["paths"].keys()


def test_every_reference_leads_somewhere(document):
    def follow(part):
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                resolved(document, part)
            part = list(part.values())
        for one in part if isinstance(part, list) else []:
            follow(one)

    follow(document)


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_an_endpoint_says_what_it_can_answer(document, route):
    described = document["paths"][route.path][route.method.lower()]
    assert described["summary"].endswith(".")
    assert ("security" in described) == route.protected
    assert {"401", "403"} <= described["responses"].keys() or not route.protected
    assert ("504" in described["responses"]) == route.is_async
    assert ("429" in described["responses"]) == ("503" in described["responses"])
    assert all(one["description"] for one in described["parameters"])
    named = {one["name"] for one in described["parameters"] if one["in"] == "path"}
    assert named == {part.strip("{}") for part in route.path.split("/") if "{" in part}
    for status, response in described["responses"].items():
        content = resolved(document, response).get("content", {})
        if int(status) >= 400:
            assert content["application/problem+json"]["example"]["status"] == int(status)
        elif "application/json" in content and "$ref" in content["application/json"]["schema"]:
            schema = resolved(document, content["application/json"]["schema"])
            assert "example" in schema


WITH_BODY = [one for one in ROUTES if one.body is not None]


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda one: f"{one.method} {one.path}")
def test_every_example_is_answered(client, route):
    assert route.examples
    for body in [*route.examples.values(), route.body.model_json_schema()["example"]]:
        path = route.path
        if "{rule_id}" in path:
            path = path.replace("{rule_id}", client.post("/rules", json=body).json()["rule_id"])
        answer = client.request(route.method, path, json=body)
        assert answer.status_code == route.status, answer.text
        route.answer.model_validate_json(answer.content)


def test_every_example_of_an_answer_is_one():
    for answer in {one.answer for one in ROUTES if one.answer is not None}:
        example = answer.model_json_schema()["example"]
        answer.model_validate_json(httpx.Request("POST", "/", json=example).content)


def test_what_answers_and_how_it_is_are_as_documented(client):
    about = AboutModel.model_validate_json(client.get("/model").content)
    assert (about.n_items, about.n_products, about.data_window) == (8, 10, None)
    assert about.index is not None
    assert about.index.recall_at_10 == 1
    assert set(about.files) >= {"in_vectors.npy"}
    ready = Ready.model_validate_json(client.get("/readyz").content)
    assert ready.details["database"]["state"] == "fresh"


def test_what_is_refused_is_a_problem_of_that_status(client):
    def status_of(*request, **more):
        answer = client.request(*request, **more)
        assert answer.json()["status"] == answer.status_code
        assert answer.headers["Content-Type"] == "application/problem+json"
        return answer.status_code

    assert status_of("POST", "/recommend", content=b"{") == 400
    assert status_of("GET", "/rules", headers={"Authorization": "Bearer x"}) == 401
    assert status_of("GET", "/rules/history", headers={"Authorization": "Bearer x"}) == 401
    assert status_of("GET", "/rules/history?limit=0&before=soon") == 400
    assert status_of("GET", f"/rules/history?before={2**63}") == 400
    assert status_of("GET", "/rules/none") == 404
    assert status_of("GET", "/no/such/path") == 404
    assert status_of("GET", "/recommend") == 405
    assert status_of("POST", "/recommend", content=b"x" * 300_000) == 413
