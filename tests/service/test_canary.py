"""A canary from end to end without a cluster.

Real service processes behind a real weighted proxy (nginx), a real Prometheus that scrapes them,
and the queries and conditions of the AnalysisTemplates as they are applied to a cluster. Only the
decision to move the weights is not made: Argo Rollouts makes it from these outcomes.
"""

import contextlib
import json
import math
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, start_http_server

from components.package import server as serving
from components.package.server import build_store_env, find_free_port, run_server, serve_bundle
from tests.factories import make_bundle
from tests.world import new_world

TEMPLATES = Path(__file__).parents[2] / "k8s" / "components" / "canary" / "analysis.yaml"

REQUESTS = 640
"""Through the proxy of every canary; a quarter goes to the canary."""
SECONDS = 10.0
"""That they take at least: Prometheus has to see them come."""
SHOPPERS = 4
START_S = 150.0
"""Seven services start at once."""

PATIENT = {"max-latency-ratio": "4", "max-latency": "0.4"}
"""A busy test machine delays single answers; the slow version is slower than that."""

FAULTS = ("slow", "erring", "failing")
CANARIES = {"good": "2", "slow": "3", "erring": "4", "failing": "5", "unloved": "6", "idle": "7"}
"""Names, as the pods' hash, and the model versions they serve."""

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


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """All canaries at once, each beside the same stable version, after some seconds of traffic."""
    root = tmp_path_factory.mktemp("canary")
    bundle = make_bundle(root / "bundle")
    with contextlib.ExitStack() as stack:
        urls = services(stack, bundle)
        proxies = nginx(stack, root, urls)
        online = Online(stack)
        prometheus_url = prometheus(stack, root, {**urls, "shop": online.url})
        wait_for_scrape(prometheus_url, len(urls) + 1)
        began = time.monotonic()
        with online.reporting():
            answered = drive({name: proxies[name] for name in CANARIES if name != "idle"})
        time.sleep(1.5)  # the last scrape
        window_s = math.ceil(time.monotonic() - began) + 2
        yield Shop(prometheus_url, time.time(), window_s, answered)


def services(stack, bundle):
    """Addresses by name: real `bentoml serve` each."""

    def serve(name, version):
        if name in FAULTS:
            return stack.enter_context(faulty_service(bundle, version, name)).url
        return stack.enter_context(serve_bundle(bundle, version, timeout_s=START_S)).url

    versions = {"stable": "1", **CANARIES}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(versions, pool.map(serve, versions, versions.values()), strict=True))


@contextlib.contextmanager
def faulty_service(bundle, version, fault):
    env = {"FBT_BUNDLE": str(bundle), "FBT_MODEL_VERSION": version, "FBT_FAULT": fault}
    root = Path(__file__).parents[2]
    with serving.create_temporary_home() as home:
        port = find_free_port()
        command = [serving.sys.executable, "-m", "bentoml", "serve", "tests.service.breakable:Fbt"]
        command += ["--working-dir", str(root), "--host", "127.0.0.1", "--port", str(port)]
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


def prometheus(stack, root, targets):
    port = find_free_port()
    jobs = [
        {"targets": [address(url)], "labels": {"rollouts_pod_template_hash": name}}
        for name, url in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "fbt", "static_configs": jobs}],
    }
    (root / "prometheus.yml").write_text(json.dumps(configuration))
    command = [
        shutil.which("prometheus"), f"--config.file={root}/prometheus.yml",
        f"--storage.tsdb.path={root}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    stack.enter_context(
        run_server(command, url, env={}, log=root / "prometheus.log", cwd=root, ready="/-/ready")
    )
    return url


def address(url):
    return url.removeprefix("http://")


class Online:
    """What shoppers do with the recommendations, as a later part of the system will report it."""

    CLICKS = dict.fromkeys(("1", *CANARIES.values()), 6) | {"6": 0, "7": 0}
    """Of 60 impressions, ten times a second."""

    def __init__(self, stack):
        registry = CollectorRegistry()
        labels = ["model_version", "variant"]
        self.impressions = Counter("fbt_impressions", "Shown.", labels, registry=registry)
        self.events = Counter("fbt_events", "Done.", ["event", *labels], registry=registry)
        server, _ = start_http_server(0, "127.0.0.1", registry)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.stop = threading.Event()
        for version, clicks in self.CLICKS.items():
            self.impressions.labels(version, "page").inc(0)
            if clicks:  # what nobody ever clicked has not even a series
                self.events.labels("click", version, "page").inc(0)

    @contextlib.contextmanager
    def reporting(self):
        thread = threading.Thread(target=self._report)
        thread.start()
        yield
        self.stop.set()
        thread.join()

    def _report(self):
        while not self.stop.wait(0.1):
            for version, clicks in self.CLICKS.items():
                if version != CANARIES["idle"]:
                    self.impressions.labels(version, "page").inc(60)
                if clicks:
                    self.events.labels("click", version, "page").inc(clicks)


def wait_for_scrape(url, n_targets):
    until = time.monotonic() + 30
    while answer(url, "sum(up)") != [n_targets]:
        assert time.monotonic() < until, "not all targets are scraped"
        time.sleep(0.2)


def drive(proxies):
    """REQUESTS through every proxy; the versions that answered."""
    answered = {name: [] for name in proxies}

    def shopper(name):
        with httpx.Client(base_url=proxies[name], timeout=10) as client:
            for _ in range(REQUESTS // SHOPPERS):
                began = time.monotonic()
                response = client.post("/recommend", json={"items": ["tea"], "k": 2})
                version = response.json()["model_version"] if response.is_success else "error"
                answered[name].append(version)
                pause = SECONDS * SHOPPERS / REQUESTS
                time.sleep(max(0.0, pause - (time.monotonic() - began)))

    with ThreadPoolExecutor(SHOPPERS * len(proxies)) as pool:
        list(pool.map(shopper, [name for name in proxies for _ in range(SHOPPERS)]))
    return answered


def answer(prometheus_url, query, at=None):
    """The result as Argo Rollouts sees it: the values of an instant vector."""
    params = {"query": query} | ({"time": at} if at else {})
    response = httpx.get(f"{prometheus_url}/api/v1/query", params=params, timeout=10)
    assert response.status_code == 200, response.text
    return [float(one["value"][1]) for one in response.json()["data"]["result"]]


def metrics_of(shop, canary, without=()):
    """All metrics of the template `fbt`, arguments filled in, as Argo does."""
    documents = list(yaml.safe_load_all(TEMPLATES.read_text()))
    templates = {one["metadata"]["name"]: one["spec"] for one in documents}
    given = {one["name"]: one.get("value") for one in templates["fbt"]["args"]}
    given |= {"canary-hash": canary, "stable-hash": "stable", **PATIENT}
    names = [one["templateName"] for one in templates["fbt"]["templates"]]
    for name in set(names) - set(without):
        for metric in templates[name]["metrics"]:
            text = json.dumps(metric)
            for argument in templates[name]["args"]:
                text = text.replace(f"{{{{args.{argument['name']}}}}}", given[argument["name"]])
            assert "{{" not in text, "an argument that Argo would not know"
            # The minutes of a real canary are the seconds of this one.
            yield json.loads(re.sub(r"\[\d+m\]", f"[{shop.window_s}s]", text))


def judged(metric, result):
    """What Argo makes of a measurement: neither success nor failure is inconclusive."""
    if holds(metric["failureCondition"], result):
        return "Failed"
    return "Successful" if holds(metric["successCondition"], result) else "Inconclusive"


def holds(condition, result):
    """The expression language of Argo's conditions, as far as they use it."""
    python = condition.replace("&&", " and ").replace("||", " or ").replace("!is", " not is")
    names = {"result": result, "len": len, "isNaN": math.isnan, "isInf": math.isinf}
    return eval(python, {"__builtins__": {}}, names)


def outcome(shop, canary, without=()):
    """(of the whole analysis, of every metric)."""
    each = {}
    for metric in metrics_of(shop, canary, without):
        query = metric["provider"]["prometheus"]["query"]
        each[metric["name"]] = judged(metric, answer(shop.prometheus, query, shop.at))
    for worst in ("Failed", "Inconclusive"):
        if worst in each.values():
            return worst, each
    return "Successful", each


def failed(each):
    return {name for name, one in each.items() if one == "Failed"}


def test_the_proxy_shares_the_traffic(shop):
    versions = shop.proxied["good"]
    assert len(versions) == REQUESTS
    assert abs(versions.count("2") - REQUESTS / 4) <= 0.02 * REQUESTS


def test_a_good_version_passes_everything(shop):
    whole, each = outcome(shop, "good")
    assert whole == "Successful", each
    assert len(each) == 5


def test_a_slow_version_fails_by_its_latency(shop):
    whole, each = outcome(shop, "slow")
    assert whole == "Failed", each
    assert failed(each) == {"latency-p99", "latency-p99-against-stable"}


def test_an_erring_version_fails_by_its_success_rate(shop):
    whole, each = outcome(shop, "erring")
    assert whole == "Failed", each
    assert failed(each) == {"success-rate"}


def test_a_version_that_never_answered_fails_too(shop):
    assert set(shop.proxied["failing"]) == {"1", "error"}
    whole, each = outcome(shop, "failing")
    assert whole == "Failed", each
    assert "success-rate" in failed(each)


def test_a_version_that_nobody_clicks_fails_by_that_alone(shop):
    whole, each = outcome(shop, "unloved")
    assert whole == "Failed", each
    assert failed(each) == {"event-rate-against-stable"}
    assert outcome(shop, "unloved", without=["fbt-online"])[0] == "Successful"


def test_no_traffic_is_inconclusive_and_never_passes(shop):
    whole, each = outcome(shop, "idle")
    assert whole == "Inconclusive", each
    assert set(each.values()) == {"Inconclusive"}


def test_a_version_that_is_not_scraped_is_inconclusive(shop):
    whole, each = outcome(shop, "absent")
    assert (whole, set(each.values())) == ("Inconclusive", {"Inconclusive"})


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
    whole, each = outcome(shop, canary)
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
