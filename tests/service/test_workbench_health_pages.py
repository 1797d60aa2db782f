"""The view Health, with a real registry, service, database, Prometheus and events."""

import contextlib
import json
import math
import re
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from mlflow import MlflowClient

from components.package.server import find_free_port, run_server, serve_bundle
from components.registry import registry
from components.registry.online import OnlineMeasure, record_online_metrics
from components.registry.promotion import history, promote
from components.registry.registry import register
from tests.archive import write_archive
from tests.factories import make_bundle
from tests.service.workbench import csrf_of, workbench

NAME = '<b>"Anne" & مريم</b>'
MAX_S = 2.5
"""For a page, on a busy machine."""


@pytest.fixture
def mlflow(mlflow_url, monkeypatch, request):
    """The server, with a model of this test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    for module in ("registry", "promotion"):
        name = f"components.registry.{module}.MODEL"
        monkeypatch.setattr(name, f"fbt-health-{request.node.name}")
    return MlflowClient(mlflow_url)


def check(name, passed, severity="warning"):
    return {
        "name": name, "title": f"Check {name}", "severity": severity, "passed": passed,
        "observed": "0.31", "expected": "at most 0.2", "examples": [], "why": "",
        "remedy": "Look at the export.",
    }  # fmt: skip


@pytest.fixture
def add(mlflow, tmp_path):
    """Registers a version and returns its number."""

    def add(verdict="passed", checks=(), **tags):
        files = {"report.html": tmp_path / "report.html"}
        files["report.html"].write_text("A report")
        for table, found in dict(checks).items():
            file = tmp_path / f"{table}.json"
            content = {"table": table, "first_run": False, "checks": found}
            file.write_text(json.dumps(content))
            files[f"checks/{table}.json"] = file
        tags = {f"fbt.{name}": value for name, value in tags.items()}
        return register(files, {}, {}, {registry.VERDICT_TAG: verdict, **tags})

    return add


@contextlib.contextmanager
def browser_of(folder, **settings):
    with workbench(folder, **settings) as url, httpx.Client(base_url=url, timeout=20) as browser:
        yield browser


@pytest.fixture
def browser(mlflow, tmp_path):
    with browser_of(tmp_path) as made:
        yield made


def read(browser, path="/health"):
    """The page's words, once nothing is being asked for any more; the service stays down."""
    until = time.monotonic() + 30
    while True:
        text = browser.get(path).text
        if "no answer within" not in text:
            return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
        assert time.monotonic() < until
        time.sleep(0.2)


def champion():
    return next((one.version for one in registry.list_versions() if "champion" in one.aliases), "")


def move(browser, path, version, typed=None, champion="", **more):
    form = {"version": version, "typed": version if typed is None else typed, **more}
    return browser.post(path, data={**form, "champion": champion, "csrf": csrf_of(browser)})


def test_an_empty_registry_is_said(browser):
    words = read(browser)
    assert "No version is registered yet." in words
    assert "No version was champion yet." in words
    assert "No version is rolling out." in words


def test_the_page_shows_what_serves_and_since_when(mlflow, add, tmp_path):
    version = add()
    promote(version, NAME)
    bundle = make_bundle(tmp_path / "bundle")
    database = f"sqlite:///{tmp_path / 'fbt.db'}"
    with (
        serve_bundle(bundle, version, settings={"FBT_DATABASE_URL": database}) as server,
        browser_of(tmp_path, service_url=server.url) as browser,
    ):
        httpx.post(f"{server.url}/recommend", json={"items": ["tea"]}).raise_for_status()
        httpx.post(f"{server.url}/recommend", json={"items": ["unheard of"]}).raise_for_status()
        time.sleep(1.5)  # the service counts once a second
        words = read(browser)
        assert f"Version {version} champion" in words
        assert "Champion since 2" in words
        assert "50.0 % of 2 answers" in words
        assert "the workbench&#39;s, revision" in words
        assert "&lt;b&gt;&#34;Anne&#34; &amp; مريم&lt;/b&gt;" in words
        elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
        with browser_of(tmp_path, service_url=server.url, database_url=elsewhere) as other:
            assert "not the workbench&#39;s" in read(other)
        another = add()
        promote(another, "ann")
        time.sleep(2)
        assert f"the champion is {another}" in read(browser)


@contextlib.contextmanager
def silent_server():
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_silent_neighbours_delay_no_page_and_it_recovers(mlflow, add, tmp_path, monkeypatch):
    version, address = add(), mlflow.tracking_uri
    with silent_server() as silent:
        places = {"service_url": silent, "prometheus_url": silent}
        with browser_of(tmp_path, **places) as browser:
            read(browser)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
            time.sleep(2.1)
            for _ in range(3):
                start = time.monotonic()
                text = browser.get("/health").text
                assert time.monotonic() - start < MAX_S
                assert "does not answer" in text
                assert "The registry does not answer" in text
                assert "data-retry" in text
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with browser_of(tmp_path) as browser:
        assert f"{version} challenger" in read(browser)


def test_a_registry_that_is_down_is_said_in_its_place(mlflow, add, tmp_path, monkeypatch):
    version, address = add(), mlflow.tracking_uri
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with browser_of(tmp_path) as browser:
        words = read(browser)
        assert "registry: MLflow at http://127.0.0.1:9 refused or cannot be reached" in words
        assert "Unknown while the registry does not answer" in words
        assert browser.get("/health/promote/1").status_code == 503
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        time.sleep(2.1)
        assert f"{version} challenger" in read(browser)


def test_a_releaser_promotes_by_typing_the_number(browser, add):
    first, second = add(), add()
    page = browser.get(f"/health/promote/{second}").text
    assert "Champion now</dt><dd>none" in page
    assert "Promote it all the same" not in page
    for typed in ("", first, f"version {second}", f"{second}0"):
        refused = move(browser, "/health/promote", second, typed)
        assert refused.status_code == 422
        assert "nothing was changed" in refused.text
    assert champion() == ""
    done = move(browser, "/health/promote", second, f" {second} ")
    assert done.status_code == 303
    assert champion() == second
    words = read(browser)
    assert f"Version {second} is champion now; it was none." in words
    assert (
        history()[0].by == words.partition("Champions so far")[2].split("promoted ")[1].split()[0]
    )


def test_a_version_that_failed_its_gate_needs_an_extra_tick(browser, add):
    version = add(verdict="failed")
    page = browser.get(f"/health/promote/{version}").text
    assert "has the gate verdict &#39;failed&#39;" in page
    assert "Promote it all the same" in page
    refused = move(browser, "/health/promote", version)
    assert refused.status_code == 422
    assert champion() == ""
    assert move(browser, "/health/promote", version, force="yes").status_code == 303
    assert champion() == version
    assert history()[0].why == "promoted by force"
    assert "promoted by force, by" in read(browser)


def test_the_champion_that_moved_meanwhile_is_told_and_nothing_is_done(browser, add):
    first, second, third = add(), add(), add()
    promote(first, "ann")
    assert f'name="champion" value="{first}"' in browser.get(f"/health/promote/{third}").text
    promote(second, NAME)
    refused = move(browser, "/health/promote", third, champion=first)
    assert refused.status_code == 409
    assert f"version {second} was made champion by &lt;b&gt;" in refused.text
    assert champion() == second


def test_a_releaser_rolls_back_to_the_version_that_the_page_names(browser, add):
    first, second, third = add(), add(), add()
    assert browser.get("/health/rollback").status_code == 409
    for version in (first, second, third):
        promote(version, "ann")
    page = browser.get("/health/rollback").text
    assert f"Roll back to version {second}" in page
    assert move(browser, "/health/rollback", first, champion=third).status_code == 409
    assert move(browser, "/health/rollback", second, third, champion=third).status_code == 422
    assert champion() == third
    assert move(browser, "/health/rollback", second, champion=third).status_code == 303
    assert champion() == second
    assert "rolled back" in read(browser)
    assert move(browser, "/health/rollback", second, champion=third).status_code == 409


def test_two_promotions_at_once_make_one_champion(browser, add):
    from concurrent.futures import ThreadPoolExecutor

    versions = [add(), add()]
    token = csrf_of(browser)

    def send(version):
        form = {"version": version, "typed": version, "champion": "", "csrf": token}
        return browser.post("/health/promote", data=form).status_code

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(send, versions)) == [303, 409]


def test_an_unknown_version_is_not_promoted(browser, add):
    add()
    page = browser.get("/health/promote/99")
    assert page.status_code == 404
    assert "There is no version 99 (versions: 1)" in page.text


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_others_neither_see_nor_may_promote(role, mlflow, add, tmp_path):
    first, second = add(), add()
    promote(first, "ann")
    promote(second, "ann")
    with browser_of(tmp_path, workbench_open=role) as browser:
        words = read(browser)
        assert "Promote" not in words
        assert "Roll back" not in words
        assert browser.get(f"/health/promote/{first}").status_code == 403
        assert move(browser, "/health/promote", first, champion=second).status_code == 403
        assert move(browser, "/health/rollback", first, champion=second).status_code == 403
    assert champion() == second


def test_online_measures_are_shown_with_their_intervals(browser, add):
    first, second = add(), add()
    for version, value in ((first, 0.1), (second, 0.12)):
        measures = {
            "click_through": OnlineMeasure(value, value - 0.01, value + 0.01),
            "coverage": OnlineMeasure(0.5),
        }
        record_online_metrics(version, measures, 1234, "2026-11-01 to 2026-11-28")
    words = read(browser)
    assert "Clicks per product seen" in words
    assert "12.00 % 11.00 % to 13.00 %" in words
    assert "no interval" in words
    assert f"Version {second}: 1,234 sessions, 2026-11-01 to 2026-11-28" in words
    assert browser.get("/health").text.count("<svg") == 2


def test_data_checks_and_drift_of_the_last_runs_are_shown(browser, add):
    add()
    add(
        checks={
            "order_lines": [check("rows", True), check("drift_products", False)],
            "baskets": [check("rows", True, "critical")],
        }
    )
    words = read(browser)
    assert "Order lines: 1 check passed, 1 failed" in words
    assert "Check drift_products : found 0.31, expected at most 0.2. Look at the export." in words
    assert "Baskets: 1 check passed" in words
    assert "Its run kept no checks." in words


def test_links_lead_to_the_registry_the_report_and_the_pipeline(mlflow, add, tmp_path):
    version = add(kfp_run="a/b")
    places = {"mlflow_url": "https://mlflow.shop.example/", "kfp_url": "https://kfp.shop.example"}
    with browser_of(tmp_path, **places) as browser:
        read(browser)
        page = browser.get("/health").text
    assert f'href="https://mlflow.shop.example/#/models/fbt/versions/{version}"' in page
    assert "/artifacts/report.html" in page
    assert 'href="https://kfp.shop.example/#/runs/details/a%2Fb"' in page


EXPERIMENT = {"name": "spring", "arms": [{"name": "A"}, {"name": "B"}], "planned_sessions": 100}


def test_an_experiment_is_read_from_compacted_events(browser, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "spring.json").write_text(json.dumps(EXPERIMENT))
    (folder / "broken.json").write_text("{")
    days = [datetime.now(UTC).date() - timedelta(days=n) for n in (9, 8, 7)]
    write_archive(tmp_path / "online", days, n=40, arms=("A", "B"), experiment="spring")
    start = time.monotonic()
    first = browser.get("/health")
    assert time.monotonic() - start < MAX_S
    assert "Experiments" in first.text
    words = read(browser)
    assert "spring" in words
    assert "sessions: A 60, B 60" in words
    assert "broken" in words


def test_an_experiment_without_events_says_how_they_come(browser, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "spring.json").write_text(json.dumps(EXPERIMENT))
    words = read(browser)
    assert "spring no verdict yet" in words
    assert "fbt events compact" in words


def openmetrics(now):
    """Ten minutes of two versions in each of two namespaces: the canary, 2, answers half of its
    requests by fallbacks."""
    lines = []

    families = {}
    for version, fallbacks in (("1", 0.1), ("2", 0.5)):
        families.setdefault(("counter", "fbt_recommend_requests"), []).extend([
            (f'model_version="{version}",source="model"', 2 * (1 - fallbacks)),
            (f'model_version="{version}",source="bestsellers"', 2 * fallbacks),
        ])  # fmt: skip
        families.setdefault(("counter", "fbt_requests"), []).append(
            (f'endpoint="/recommend",model_version="{version}",status="200"', 2)
        )
    for (kind, name), each in families.items():
        lines.append(f"# TYPE {name} {kind}")
        lines += [
            f'{name}_total{{{labels},namespace="{place}"}} {rate * t} {now - 600 + t}'
            for labels, rate in each
            for place in ("shop", "other")
            for t in range(0, 601, 15)
        ]
    for end, value in (("lower", -0.3), ("upper", -0.1)):
        name = f"fbt_online_lift_{end}"
        labels = 'event="select_item",variant="",model_version="2",against="1",namespace="shop"'
        lines.append(f"# TYPE {name} gauge")
        lines += [f"{name}{{{labels}}} {value} {now - 60 + t}" for t in range(0, 61, 15)]
    return "\n".join([*lines, "# EOF", ""])


@contextlib.contextmanager
def prometheus(folder):
    """With a past of its own."""
    samples = folder / "samples"
    samples.write_text(openmetrics(math.floor(time.time())))
    command = [shutil.which("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*command, samples, folder / "tsdb"], check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("{}")
    port = find_free_port()
    command = [
        shutil.which("prometheus"), f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=10y",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with run_server(
        command, url, env={}, log=folder / "log", cwd=folder, ready="/-/ready"
    ) as server:
        yield server.url


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's prometheus")
@pytest.mark.parametrize(("namespace", "requests"), [("shop", "600"), ("", "1,200")])
def test_canary_and_stable_stand_side_by_side(mlflow, add, tmp_path, namespace, requests):
    add(rollout="live")
    add(rollout="rolling out")
    with prometheus(tmp_path) as url:
        places = {"prometheus_url": url, "metrics_namespace": namespace}
        with browser_of(tmp_path, **places) as browser:
            words = read(browser)
    assert "Version 2 is rolling out beside version 1." in words
    assert f"Requests in 5 minutes {requests} {requests} at least 100 holds" in words
    assert "Answers without error 100.0% 100.0% at least 99.5% holds" in words
    assert "Share of fallbacks 10.0% 50.0% at most 15.0% broken" in words
    assert "Clicks per list -30.0% to -10.0% above -5% broken" in words
    assert "not known yet" in words  # no latency was measured


def test_a_prometheus_that_is_down_is_said(mlflow, add, tmp_path):
    add(rollout="rolling out")
    with browser_of(tmp_path, prometheus_url="http://127.0.0.1:9") as browser:
        words = read(browser)
    assert "The Prometheus does not answer" in words


def test_without_prometheus_the_page_says_what_to_set(mlflow, add, tmp_path):
    add(rollout="rolling out")
    with browser_of(tmp_path) as browser:
        assert "FBT_PROMETHEUS_URL" in read(browser)
