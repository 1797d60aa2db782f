"""Component `signed-bundles` on a real cluster: what no known key signed never gets a pod.

In namespaces of its own, and skipped, as tests/cluster/test_promotion_on_cluster.py is.
"""

import json

import pytest

from components.registry.registry import ROLLOUT_TAG
from components.registry.signing import SIGNED_TAG
from components.signing.keys import SIGNING_KEY
from tests.cluster.kube import run, wait_until
from tests.cluster.staging import install_staging
from tests.signing_keys import make_keys

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_keys(folder, name) for name in ("ours", "next", "theirs")}


@pytest.fixture(scope="module")
def staging(keys):
    public = {"fbt-verify-keys": {"keys.pem": keys["ours"].public.read_text()}}
    with install_staging("signed-bundles", public) as installed:
        yield installed


@pytest.fixture
def register(staging, keys, tmp_path, own_environment, monkeypatch):
    """A version that was signed by the key of that name, if any."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", staging.url)

    def make(name=""):
        if name:
            monkeypatch.setenv(SIGNING_KEY, keys[name].private.read_text())
        else:
            monkeypatch.delenv(SIGNING_KEY, raising=False)
        return staging.register(tmp_path)

    return make


@pytest.mark.parametrize("name", ["", "theirs"])
def test_a_version_that_is_not_signed_by_us_is_refused_before_a_pod_starts(staging, register, name):
    version, before = register(name), staging.champion if staging.has_model() else ""
    staging.set_champion(version)
    wait_until(lambda: staging.champion == before, 60)
    assert "signed" in staging.tags(version)[ROLLOUT_TAG]
    assert staging.pinned != version
    assert not staging.ready_pods()[version]
    reasons = {one["reason"] for one in list_events(staging)}
    assert "VersionRefused" in reasons


def list_events(staging):
    return json.loads(run("-n", staging.name, "get", "events", "-o", "json"))["items"]


def test_a_signed_version_serves_also_one_of_the_next_key(staging, register, keys):
    first = register("ours")
    staging.set_champion(first)
    wait_until(lambda: staging.is_live(first), 300)
    both = "".join(keys[name].public.read_text() for name in ("ours", "next"))
    change = {"stringData": {"keys.pem": both}}
    run("-n", staging.name, "patch", "secret", "fbt-verify-keys", "-p", json.dumps(change))
    second = register("next")
    with staging.open_shop():
        # The kubelet brings a changed Secret within two minutes.
        wait_until(lambda: promote(staging, second), 240, every_s=10)
        wait_until(lambda: staging.is_live(second), 420)
    assert staging.tags(first)[SIGNED_TAG] != staging.tags(second)[SIGNED_TAG]


def promote(staging, version):
    """Whether the promoter takes it."""
    staging.set_champion(version)
    wait_until(lambda: staging.pinned == version or staging.champion != version, 30)
    return staging.pinned == version
