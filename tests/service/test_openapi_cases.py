"""Whatever is sent to a real service, it answers as its OpenAPI document says: Schemathesis.

FBT_SCHEMATHESIS_CASES is how many cases there are at least; more take longer.
"""

import collections
import os

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks

from bento.endpoints import ROUTES
from bento.http import openapi
from bento.service import Fbt
from components.package.server import serve_bundle
from tests.factories import make_bundle
from tests.service.serving import TOKEN, writable

CASES = int(os.environ.get("FBT_SCHEMATHESIS_CASES", "300"))
RULE = {"action": "block", "target": {"brand": "Recalled & Co"}}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]

asked = []
"""Of every case, method, path and status."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    bundle = make_bundle(tmp_path_factory.mktemp("cases") / "bundle")
    settings = writable(bundle.parent)
    with serve_bundle(bundle, "7", log=bundle.parent / "log", settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        yield session


document = schemathesis.openapi.from_dict(openapi.build_document(Fbt, "7", ROUTES))
document.config.generation.update(
    max_examples=-(-CASES // len(ROUTES)), with_security_parameters=False
)


def make_known(case, rules_url, session):
    """Ask for what there is: what is generated is never the id of anything."""
    if "rule_id" in case.path_parameters:
        rule = session.post(rules_url, json=RULE, timeout=30).json()
        case.path_parameters["rule_id"] = rule["rule_id"]
    if isinstance(case.body, dict):
        questions = case.body.get("requests")
        for body in [case.body, *(questions if isinstance(questions, list) else [])]:
            name_tea(body)


def name_tea(body):
    if isinstance(body, dict) and isinstance(body.get("items"), list):
        body["items"] = ["tea", *body["items"][1:]]
    if isinstance(body, dict) and isinstance(body.get("item"), str):
        body["item"] = "tea"


@document.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
@pytest.mark.timeout(3600)
def test_every_answer_is_as_documented(case, server, session):
    if len(asked) % 2:
        make_known(case, f"{server.url}/rules", session)
    response = case.call(server.url, session, timeout=30)
    asked.append((case.operation.label, response.status_code))
    case.validate_response(response, checks=CHECKS)


def test_there_were_as_many_cases_as_asked_for(server):
    """Runs after the other, which pytest sees to."""
    print(sorted(collections.Counter(asked).items()))
    assert len(asked) >= CASES
    assert "Traceback" not in server.log.read_text()
