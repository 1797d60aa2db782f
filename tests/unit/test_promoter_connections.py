"""The promoter's connections: without MLflow and the official client of Kubernetes."""

import json
import subprocess
import sys

import pytest
import urllib3

from components.promoter.api_server import ApiServer, find_pod_server
from components.promoter.cluster import Cluster, ClusterError, Gone
from components.registry.registry import RegistryError
from components.registry.rest_client import PAGE, rest_client
from tests.fakes import FakeServer

HEAVY = ("kubernetes", "mlflow", "pandas", "pyarrow", "requests")


class Pages(FakeServer):
    """A registry with more versions than an answer has, and one webhook on its second page."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def answer(self, handler, method, path, query, body, kind):
        self.seen.append((method, path, json.loads(body) if body else query))
        second = query.get("page_token") == "more"
        if path.endswith("/model-versions/search"):
            start, end = (PAGE, PAGE + 3) if second else (0, PAGE)
            versions = [
                {"version": str(n + 1), "creation_timestamp": "1700000000000"}
                for n in range(start, end)
            ]
            return 200, {"model_versions": versions, "next_page_token": "" if second else "more"}
        if path.endswith("/webhooks") and method == "GET":
            hook = {"webhook_id": "7", "name": "mine" if second else "other"}
            return 200, {"webhooks": [hook], "next_page_token": "" if second else "more"}
        if path.endswith("/alias"):
            return 403, {"error_code": "PERMISSION_DENIED", "message": "not\nyou"}
        return 200, ["no object"] if path.endswith("/set-tag") else {}


@pytest.fixture
def pages(monkeypatch):
    with Pages().running() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        yield server


def test_the_promoter_imports_neither_mlflow_nor_the_official_client():
    program = (
        "import sys, components.promoter.controller\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_all_pages_are_read(pages):
    with rest_client() as client:
        found = client.search_model_versions("name = 'fbt'")
    assert [one.version for one in found] == [str(n + 1) for n in range(PAGE + 3)]


def test_a_webhook_is_overwritten_wherever_it_is_listed(pages):
    with rest_client() as client:
        client.set_webhook("mine", "http://here/webhook", ("model_version_alias.created",), "key")
    method, path, given = pages.seen[-1]
    assert (method, path) == ("PATCH", "/api/2.0/mlflow/webhooks/7")
    assert given["events"] == [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}]
    assert given["secret"] == "key"


def test_a_refusal_names_server_call_and_reason(pages):
    with (
        rest_client() as client,
        pytest.raises(RegistryError, match=r"registered-models/alias answered 403: not"),
    ):
        client.set_registered_model_alias("fbt", "champion", "1")


def test_what_is_no_answer_of_mlflow_is_refused(pages):
    with rest_client() as client, pytest.raises(RegistryError, match="with list"):
        client.set_model_version_tag("fbt", "1", "a", "b")


def test_a_server_that_is_away_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    with rest_client() as client, pytest.raises(RegistryError, match=r"127\.0\.0\.1:9") as failed:
        client.search_model_versions("name = 'fbt'")
    assert "secret" not in str(failed.value)


@pytest.fixture
def account(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text("")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def test_a_pod_reads_its_renewed_token(account):
    found = find_pod_server(account)
    assert found.url == "https://[fd00::1]:443"
    assert found.read_authorization() == "Bearer first"
    (account / "token").write_text("second")
    assert found.read_authorization() == "Bearer second"


def test_outside_of_a_pod_there_is_no_account(account, monkeypatch):
    (account / "token").unlink()
    assert find_pod_server(account) is None
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert find_pod_server(account) is None


class Strange(FakeServer):
    def answer(self, handler, method, path, query, body, kind):
        self.asked = dict(handler.headers), query
        if path.endswith("/fbt"):
            return 410, {"message": "too old"}
        return 200, b"<html>a proxy's page</html>"


def test_answers_of_others_and_statuses_become_errors_with_the_request():
    with Strange().running() as server:
        cluster = Cluster(ApiServer(server.url, urllib3.PoolManager(), lambda: "Bearer me"), "shop")
        with pytest.raises(ClusterError, match="GET Pod  had no answer"):
            cluster.list_objects("Pod", "fbt/version")
        headers, query = server.asked
        assert headers["Authorization"] == "Bearer me"
        assert query == {"labelSelector": "fbt/version"}
        with pytest.raises(Gone, match="410 too old"):
            cluster.get("Rollout", "fbt")
