"""A canary from end to end without a cluster.

Real service processes behind a real weighted proxy (nginx), the ingest of events, the exporter, a
real Prometheus, and the queries and conditions of the AnalysisTemplates as they are applied to a
cluster. Only the decision to move the weights is not made: Argo Rollouts makes it.
"""

import contextlib
import math
import shutil
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from components.events.open import open_sink
from components.package import server as serving
from components.package.server import build_store_env, find_free_port, run_server, serve_bundle
from tests.factories import make_bundle
from tests.service.analysis import (
    ROOT,
    TEMPLATES,
    address,
    answer,
    exporter,
    failed,
    prometheus,
    wait_for_scrape,
)
from tests.service.analysis import outcome as analysed
from tests.shoppers import MINUTE_US, by_time, write
from tests.shoppers import shop as shop_for
from tests.world import new_world

REQUESTS = 640
"""Through the proxy of every canary; a quarter goes to the canary."""
SECONDS = 10.0
"""That they take at least: Prometheus has to see them come."""
SHOPPERS = 4
START_S = 150.0
"""Seven services start at once."""

FAULTS = ("slow", "erring", "failing")
CANARIES = {"good": "2", "slow": "3", "erring": "4", "failing": "5", "unloved": "6", "idle": "7"}
"""Names, as the pods' hash, and the model versions they serve."""
CLICK_RATES = dict.fromkeys(("1", *CANARIES.values()), 0.1) | {"6": 0.04}
"""Of lists, in the hour before: what is compared is of sessions that are over."""

pytestmark = [
    pytest.mark.skipif(not TEMPLATES.is_file(), reason="this tree has no k8s/components/canary"),
    pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx (Debian: nginx-light)"),
    pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus (Debian: prometheus)"),
]


@dataclass(frozen=True)
class Shop:
    """What traffic has left behind in Prometheus."""

    prometheus: str
    at: float
    """The end of the traffic, in seconds of the epoch: what is judged is what was then."""
    window_s: int
    """From the beginning of the traffic to its end."""
    proxied: dict[str, list[str]]
    """Versions that answered through the proxy of each canary."""

    def judge(self, canary, without=()):
        """(of the whole analysis, of every metric)."""
        return analysed(self.prometheus, canary, self.window_s, self.at, without)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """All canaries at once, each beside the same stable version, after some seconds of traffic."""
    root = tmp_path_factory.mktemp("canary")
    bundle = make_bundle(root / "bundle")
    with contextlib.ExitStack() as stack:
        sink_url = f"sqlite:///{root / 'events.db'}"
        shop_before(sink_url)
        urls = services(stack, bundle, sink_url)
        proxies = nginx(stack, root, urls)
        ingest_url = ingest(stack, root, sink_url)
        online_url = stack.enter_context(exporter(root, sink_url, online_max_compared=10))
        prometheus_url = prometheus(stack, root, {**urls, "online": online_url})
        wait_for_scrape(prometheus_url, len(urls) + 1)
        began = time.monotonic()
        busy = {name: proxies[name] for name in CANARIES if name != "idle"}
        answered = drive(busy, ingest_url)
        time.sleep(3)  # the last answers are logged, read and scraped
        window_s = math.ceil(time.monotonic() - began) + 2
        yield Shop(prometheus_url, time.time(), window_s, answered)


def shop_before(sink_url):
    """Half an hour of all versions but the idle one, over an hour ago."""
    start_us = int(time.time() * 1e6) - 75 * MINUTE_US
    records = [
        record
        for version, rate in CLICK_RATES.items()
        if version != CANARIES["idle"]
        for record in shop_for(
            version, 4_000 if version == "1" else 1_500, rate, start_us=start_us, minutes=30
        )
    ]
    with contextlib.closing(open_sink(sink_url)) as sink:
        write(sink, sorted(records, key=by_time))


def ingest(stack, root, sink_url):
    port = find_free_port()
    server = run_server(
        [sys.executable, "-m", "bento.ingest", "--port", str(port)],
        f"http://127.0.0.1:{port}",
        env={**build_store_env(root), "PYTHONPATH": str(ROOT), "FBT_EVENTS_URL": sink_url},
        log=root / "ingest.log",
        cwd=root,
    )
    return stack.enter_context(server).url


def services(stack, bundle, sink_url):
    """Addresses by name: real `bentoml serve` each."""
    settings = {"FBT_EVENTS_URL": sink_url, "FBT_LOG_SHARE": "1"}

    def serve(name, version):
        if name in FAULTS:
            return stack.enter_context(faulty_service(bundle, version, name, settings)).url
        return stack.enter_context(
            serve_bundle(bundle, version, timeout_s=START_S, settings=settings)
        ).url

    versions = {"stable": "1", **CANARIES}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(versions, pool.map(serve, versions, versions.values()), strict=True))


@contextlib.contextmanager
def faulty_service(bundle, version, fault, settings):
    env = {**settings, "FBT_BUNDLE": str(bundle), "FBT_MODEL_VERSION": version, "FBT_FAULT": fault}
    with serving.create_temporary_home() as home:
        port = find_free_port()
        command = [serving.sys.executable, "-m", "bentoml", "serve", "tests.service.breakable:Fbt"]
        command += ["--working-dir", str(ROOT), "--host", "127.0.0.1", "--port", str(port)]
        env = {**build_store_env(home), **env}
        with run_server(
            command,
            f"http://127.0.0.1:{port}",
            env=env,
            log=home / "log",
            cwd=home,
            timeout_s=START_S,
        ) as server:
            yield server


def nginx(stack, root, urls):
    """Proxies by canary: a quarter of the traffic to it, the rest to stable."""
    ports = {name: find_free_port() for name in CANARIES}
    parts = [
        f"upstream {name} {{ server {address(urls['stable'])} weight=3;"
        f" server {address(urls[name])} weight=1; keepalive 8; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{name};"
        " proxy_http_version 1.1; proxy_set_header Connection ''; proxy_next_upstream off; } }"
        for name, port in ports.items()
    ]
    temporary = "".join(
        f"{kind}_temp_path {root}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = root / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {root}/nginx.pid; error_log stderr;\n"
        f"events {{}} http {{ access_log off;\n{temporary}\n" + "\n".join(parts) + "\n"
        f"server {{ listen 127.0.0.1:{(ready := find_free_port())}; return 200; }} }}\n"
    )
    command = [shutil.which("nginx"), "-p", str(root), "-c", str(configuration)]
    stack.enter_context(
        run_server(command, f"http://127.0.0.1:{ready}", env={}, log=root / "nginx.log", cwd=root)
    )
    return {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}


def drive(proxies, ingest_url):
    """REQUESTS through every proxy, and the impression of each answer to the ingest; the versions
    that answered."""
    answered = {name: [] for name in proxies}

    def shopper(name):
        with httpx.Client(timeout=10) as client:
            for _ in range(REQUESTS // SHOPPERS):
                began = time.monotonic()
                asked = {"items": ["tea"], "k": 2, "session_id": uuid.uuid4().hex}
                response = client.post(f"{proxies[name]}/recommend", json=asked)
                version = "error"
                if response.is_success:
                    version = response.json()["model_version"]
                    report_impression(client, ingest_url, response.json(), asked["session_id"])
                answered[name].append(version)
                pause = SECONDS * SHOPPERS / REQUESTS
                time.sleep(max(0.0, pause - (time.monotonic() - began)))

    with ThreadPoolExecutor(SHOPPERS * len(proxies)) as pool:
        list(pool.map(shopper, [name for name in proxies for _ in range(SHOPPERS)]))
    return answered


def report_impression(client, ingest_url, shown, session_id):
    event = {
        "event": "view_item_list",
        "event_id": uuid.uuid4().hex,
        "session_id": session_id,
        "request_id": shown["request_id"],
        "items": [{"item_id": shown["items"][0]["product_id"]}],
    }
    response = client.post(f"{ingest_url}/events", json={"events": [event]})
    assert response.status_code == 202, response.text


def test_the_proxy_shares_the_traffic(shop):
    versions = shop.proxied["good"]
    assert len(versions) == REQUESTS
    assert abs(versions.count("2") - REQUESTS / 4) <= 0.02 * REQUESTS


def test_a_good_version_passes_everything(shop):
    whole, each = shop.judge("good")
    assert whole == "Successful", each
    assert len(each) == 6


def test_a_slow_version_fails_by_its_latency(shop):
    whole, each = shop.judge("slow")
    assert whole == "Failed", each
    assert failed(each) == {"latency-p99", "latency-p99-against-stable"}


def test_an_erring_version_fails_by_its_success_rate(shop):
    whole, each = shop.judge("erring")
    assert whole == "Failed", each
    assert failed(each) == {"success-rate"}


def test_a_version_that_never_answered_fails_too(shop):
    assert set(shop.proxied["failing"]) == {"1", "error"}
    whole, each = shop.judge("failing")
    assert whole == "Failed", each
    assert "success-rate" in failed(each)


def test_a_version_that_is_clicked_less_fails_by_that_alone(shop):
    whole, each = shop.judge("unloved")
    assert whole == "Failed", each
    assert {"event-lift"} <= failed(each) <= {"event-lift", "event-lift-at-the-end"}
    assert shop.judge("unloved", without=["fbt-online"])[0] == "Successful"


def test_no_traffic_is_inconclusive_and_never_passes(shop):
    whole, each = shop.judge("idle")
    assert whole == "Inconclusive", each
    assert set(each.values()) == {"Inconclusive"}


def test_a_version_that_is_not_scraped_is_inconclusive(shop):
    whole, each = shop.judge("absent")
    assert (whole, set(each.values())) == ("Inconclusive", {"Inconclusive"})


def test_impressions_count_for_the_versions_that_answered(shop):
    """From the services' log and the ingest, through the sink and the exporter."""
    versions = [one for answered in shop.proxied.values() for one in answered if one != "error"]
    counted = {
        version: answer(
            shop.prometheus,
            f'sum(fbt_impressions_total{{model_version="{version}"}})',
            shop.at,
        )
        for version in set(versions)
    }
    assert counted == {version: [versions.count(version)] for version in counted}
    assert answer(shop.prometheus, 'fbt_impressions_total{model_version="unknown"}') == []


ENDS = {
    "good": ("2", "2", "live"),
    "slow": ("1", "1", "failed"),
    "erring": ("1", "1", "failed"),
    "unloved": ("1", "1", "failed"),
    "idle": ("2", "2", "rolling out"),
}


@pytest.mark.parametrize("canary", ENDS)
def test_what_becomes_of_champion_and_cluster(shop, canary, tmp_path):
    """Argo Rollouts, played, does what the analysis says; the promoter, real, what follows."""
    whole, each = shop.judge(canary)
    with new_world(make_bundle(tmp_path / "bundle"), "Rollout") as world:
        world.promote(world.mlflow.add())
        world.calm()
        world.promote(world.mlflow.add())
        world.reconcile()
        world.turn()
        verdict = {"Successful": "finish", "Failed": "abort", "Inconclusive": "pause"}[whole]
        getattr(world.argo, verdict)()
        for _ in range(4):
            world.reconcile()
            world.turn()
        assert (world.pinned, world.champion, world.tag("2")) == ENDS[canary], each
        assert ("CanaryPaused" in world.said()) == (canary == "idle")
