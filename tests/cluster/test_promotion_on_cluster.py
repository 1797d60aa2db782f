"""Promotion by alias on a real cluster: kubelet, Argo Rollouts, Prometheus, MLflow, the promoter.

Skipped unless KUBECONFIG names a cluster with the software that the overlay `staging` needs, and
with the images `fbt-*:0.1.0` and those of platform/stores on its nodes. The tests build on each
other, in namespaces of their own that are deleted afterwards, and take about 15 minutes.
"""

import base64
import json
import re
import time
import uuid
from collections import Counter
from itertools import pairwise

import httpx
import pytest

from components.promoter.webhook import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from components.registry.registry import FAILED_TAG, ROLLOUT_TAG
from tests.cluster.kube import forward_port, run, wait_until
from tests.cluster.staging import count, install_staging

pytestmark = pytest.mark.timeout(900)

JUDGED_STEPS = (1, 3, 5)
"""Of the Rollout, by index: what is judged after 5, 25 and 50 %."""
UNKNOWN_PRODUCTS = (("lamp", "bulb"), ("pen", "ink"))
"""A bundle that knows nothing that the shop asks for."""


@pytest.fixture(scope="module")
def staging():
    with install_staging() as installed:
        yield installed


@pytest.fixture(autouse=True)
def registry(staging, own_environment, monkeypatch):
    """`own_environment` puts back what was there before the module's fixture."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", staging.url)


@pytest.fixture
def live(staging, tmp_path):
    """The version that serves; the very first one where none does."""
    version = staging.champion if staging.has_model() else ""
    if not version or not staging.is_live(version):
        version = version or staging.register(tmp_path)
        staging.set_champion(version)
        wait_until(lambda: staging.is_live(version), 300)
    return version


def test_the_very_first_version_arrives_without_a_canary(staging, tmp_path, record_property):
    version = staging.register(tmp_path)
    began = staging.set_champion(version)
    wait_until(lambda: staging.ready_pods()[version], 120, every_s=0.2)
    record_property("first_pod_ready_s", time.time() - began)
    wait_until(lambda: staging.is_live(version), 120)
    assert staging.analysed() == []
    assert staging.cluster.get("Deployment", "fbt")["spec"]["replicas"] == 0


def test_a_good_version_arrives_in_the_steps_that_the_answers_show(
    staging, live, tmp_path, record_property
):
    version = staging.register(tmp_path)
    with staging.open_shop() as shop:
        began = staging.set_champion(version)
        wait_until(lambda: staging.pinned == version, 10, every_s=0.1)
        record_property("pinned_s", time.time() - began)
        wait_until(lambda: staging.ready_pods()[version], 120, every_s=0.2)
        record_property("first_canary_ready_s", time.time() - began)
        steps = watch_steps(staging, version)
        record_property("all_traffic_s", time.time() - began)
        seconds = shop.wait(time.time())
    answers = sum((Counter(one["answers"]) for one in seconds), Counter())
    assert answers.keys() == {live, version}
    for step in JUDGED_STEPS:
        since, until, pods = steps[step]
        shown = count(seconds, since + 3, until - 1)
        share, expected = shown[version] / shown.total(), pods[version] / pods.total()
        record_property(f"step_{step}", f"{share:.3f} of {shown.total()}, pods {dict(pods)}")
        assert share == pytest.approx(expected, abs=0.08)
    assert_no_pause(seconds)


def watch_steps(staging, version):
    """(first seen, last seen, ready pods) by step, until the version is live."""
    steps = {}
    until = time.monotonic() + 600
    while not staging.is_live(version):
        assert time.monotonic() < until, staging.status
        assert not staging.status.get("abort"), staging.status
        index, pods, now = staging.status.get("currentStepIndex"), staging.ready_pods(), time.time()
        since, _, before = steps.get(index, (now, now, pods))
        steps[index] = (now if pods != before else since, now, pods)
        time.sleep(0.5)
    return steps


def assert_no_pause(seconds):
    """A busy machine may let the shop itself skip a second."""
    answered = [one["at"] for one in seconds if one["answers"]]
    assert max(later - earlier for earlier, later in pairwise(answered)) <= 3


@pytest.mark.parametrize(
    ("fault", "bundle", "metric"),
    [
        ("slow", {}, "latency-p99"),
        ("erring", {}, "success-rate"),
        ("unknowing", {"pairs": UNKNOWN_PRODUCTS, "categories": {}}, "fallback-share"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_bad_version_is_aborted_and_gives_champion_back(
    staging, live, tmp_path, fault, bundle, metric, record_property
):
    version = staging.register(tmp_path, fault, **bundle)
    with staging.open_shop() as shop:
        staging.set_champion(version)
        wait_until(lambda: staging.champion == live, 300)
        wait_until(lambda: staging.is_live(live), 120)
        back = time.time()
        seconds = shop.wait(back + 5)
    assert metric in staging.tags(version)[FAILED_TAG]
    judged = staging.judged_at()
    last = max(one["at"] for one in seconds if version in one["answers"])
    record_property("back_after_s", last - judged)
    assert last - judged <= 60
    assert live in count(seconds, back, back + 5)
    if fault != "erring":
        assert not [name for one in seconds for name in one["answers"] if name.startswith("HTTP")]
    assert_no_pause(seconds)
    staging.set_champion(version)
    wait_until(lambda: staging.champion == live, 30)
    assert staging.pinned == live


def test_without_a_webhook_the_alias_acts_within_15_s_and_an_abort_by_hand_gives_it_back(
    staging, live, tmp_path, record_property
):
    from mlflow import MlflowClient

    for webhook in MlflowClient().list_webhooks():
        MlflowClient().delete_webhook(webhook.webhook_id)
    version = staging.register(tmp_path)
    began = staging.set_champion(version)
    wait_until(lambda: staging.pinned == version, 20, every_s=0.1)
    record_property("polled_s", time.time() - began)
    wait_until(lambda: staging.ready_pods()[version], 120)
    staging.cluster.patch("Rollout", "fbt/status", {"status": {"abort": True}})
    wait_until(lambda: staging.champion == live and staging.pinned == live, 30)
    wait_until(lambda: staging.is_live(live), 120)
    assert staging.tags(version)[ROLLOUT_TAG] == "aborted by hand"


@pytest.mark.parametrize(("away_s", "status"), [(-120, 202), (120, 202), (-400, 400), (400, 400)])
def test_mlflows_clock_may_be_two_minutes_off(staging, away_s, status):
    """As MLflow's pod would send it, for pods of one node have one clock."""
    encoded = run(
        "-n", staging.name, "get", "secret", "fbt-webhook", "-o", "jsonpath={.data.secret}"
    )
    body, delivery = b'{"entity": "model_version_alias"}', uuid.uuid4().hex
    sent_at = str(round(time.time() + away_s))
    signed = signature(base64.b64decode(encoded).decode(), delivery, sent_at, body)
    headers = {ID_HEADER: delivery, TIMESTAMP_HEADER: sent_at, SIGNATURE_HEADER: signed}
    with forward_port(staging.name, "fbt-promoter", 80) as url:
        answer = httpx.post(f"{url}/webhook", content=body, headers=headers)
    assert answer.status_code == status
    if status == 400:
        way = "behind" if away_s < 0 else "ahead of"
        assert re.search(rf"(399|400|401) s {way} this pod's", answer.text)


def test_of_two_promotions_within_a_second_the_last_one_arrives(staging, live, tmp_path):
    first, second = staging.register(tmp_path), staging.register(tmp_path)
    with staging.open_shop() as shop:
        staging.set_champion(first)
        staging.set_champion(second)
        wait_until(lambda: staging.is_live(second), 600)
        seconds = shop.read()
    assert staging.champion == second
    assert staging.tags(first).get("fbt.rollout", "registered") in ("registered", "superseded")
    assert count(seconds, 0, time.time()).keys() <= {live, first, second}


def test_the_promoter_is_small(staging, record_property):
    nodes = json.loads(run("get", "nodes", "-o", "json"))["items"]
    for node in nodes:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in json.loads(run("get", "--raw", path))["pods"]:
            if pod["podRef"]["namespace"] == staging.name and "promoter" in pod["podRef"]["name"]:
                size = pod["memory"]["workingSetBytes"]
                record_property(pod["podRef"]["name"], size)
                assert size <= 80e6
