"""What shoppers do judges a canary: sink, exporter, Prometheus and the analysis, all real.

Only the pods are played: by a target that says which version each of them serves.
"""

import contextlib
import shutil
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from components.events.open import open_sink
from tests.service.analysis import (
    TEMPLATES,
    exporter,
    failed,
    outcome,
    prometheus,
    wait_for_scrape,
)
from tests.shoppers import MINUTE_US, by_time, shop, write

CLICK_RATES = {
    "stable": 0.12,
    "worse": 0.07,
    "unclicked": 0.0,
    "better": 0.17,
    **{f"equal-{i}": 0.12 for i in range(6)},
    "quiet": 0.12,
}
"""Of a list, by the model version, which is named as its pods' hash is."""
SESSIONS = {"stable": 6_000, "quiet": 150}
OTHERS = 800
IDLE = ("idle",)
"""Its pods answer, and nobody comes."""

pytestmark = [
    pytest.mark.skipif(not TEMPLATES.is_file(), reason="this tree has no k8s/components/canary"),
    pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus (Debian: prometheus)"),
]


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory):
    root = tmp_path_factory.mktemp("online")
    sink_url = f"sqlite:///{root / 'events.db'}"
    start_us = int(time.time() * 1e6) - 90 * MINUTE_US
    records = [
        record
        for version, rate in CLICK_RATES.items()
        for record in shop(
            version, SESSIONS.get(version, OTHERS), rate, start_us=start_us, minutes=50
        )
    ]
    with contextlib.closing(open_sink(sink_url)) as sink:
        write(sink, sorted(records, key=by_time))
    with contextlib.ExitStack() as stack:
        targets = {version: pods(stack, version) for version in (*CLICK_RATES, *IDLE)}
        # All versions are compared with stable, which has the most sessions.
        settings = {"online_max_compared": 20}
        targets["online"] = stack.enter_context(exporter(root, sink_url, **settings))
        url = prometheus(stack, root, targets)
        wait_for_scrape(url, len(targets))
        yield url


def pods(stack, version):
    """The address of a target that serves this version."""
    registry = CollectorRegistry()
    answered = Counter("fbt_recommend_requests", "Answers.", ["model_version"], registry=registry)
    answered.labels(version).inc()
    server, _ = start_http_server(0, "127.0.0.1", registry)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return f"http://127.0.0.1:{server.server_address[1]}"


def judge(url, canary):
    return outcome(url, canary, 60, without=["fbt-service"])


@pytest.mark.parametrize("canary", ["worse", "unclicked"])
def test_a_worse_version_aborts(prometheus_url, canary):
    whole, each = judge(prometheus_url, canary)
    assert whole == "Failed", each
    assert "event-lift" in failed(each)


def test_a_better_version_passes(prometheus_url):
    whole, each = judge(prometheus_url, "better")
    assert whole == "Successful", each
    assert len(each) == 2


@pytest.mark.parametrize("canary", [one for one in CLICK_RATES if "equal" in one])
def test_an_equal_version_passes(prometheus_url, canary):
    whole, each = judge(prometheus_url, canary)
    assert whole == "Successful", each


@pytest.mark.parametrize("canary", ["idle", "quiet"])
def test_little_traffic_pauses(prometheus_url, canary):
    whole, each = judge(prometheus_url, canary)
    assert set(each.values()) == {"Inconclusive"}, each
    assert whole == "Inconclusive"


def test_the_same_version_with_other_pods_passes(prometheus_url):
    whole, each = judge(prometheus_url, "stable")
    assert whole == "Successful", each
