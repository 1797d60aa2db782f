"""Component `signed-bundles` on a real cluster: what no known key signed never gets a pod.

In namespaces of its own, and skipped, as tests/cluster/test_promotion_on_cluster.py is.
"""

import json

import pytest

from components.registry.registry import ROLLOUT_TAG
from components.registry.signing import SIGNED_TAG, sign_version
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
        version = staging.register(tmp_path)
        if name:
            monkeypatch.setenv(SIGNING_KEY, keys[name].private.read_text())
            sign_version(version)
        return version

    return make


@pytest.fixture(scope="module")
def versions():
    """By the name of their key."""
    return {}


def test_a_signed_version_serves(staging, register, versions):
    versions["ours"] = register("ours")
    staging.set_champion(versions["ours"])
    wait_until(lambda: staging.is_live(versions["ours"]), 300)


@pytest.mark.parametrize("name", ["", "theirs"])
def test_a_version_that_is_not_signed_by_us_is_refused_before_a_pod_starts(
    staging, register, versions, name
):
    version = register(name)
    staging.set_champion(version)
    wait_until(lambda: staging.champion == versions["ours"], 60)
    assert "signed" in staging.tags(version)[ROLLOUT_TAG]
    assert staging.is_live(versions["ours"])
    events = json.loads(run("-n", staging.name, "get", "events", "-o", "json"))["items"]
    assert "VersionRefused" in {one["reason"] for one in events}


def test_a_version_of_the_next_key_serves_beside(staging, register, keys, versions):
    both = "".join(keys[name].public.read_text() for name in ("ours", "next"))
    change = {"stringData": {"keys.pem": both}}
    run("-n", staging.name, "patch", "secret", "fbt-verify-keys", "-p", json.dumps(change))
    version = register("next")
    with staging.open_shop():
        # The kubelet brings a changed Secret within two minutes.
        wait_until(lambda: promote(staging, version), 240, every_s=10)
        wait_until(lambda: staging.is_live(version), 420)
    assert staging.tags(versions["ours"])[SIGNED_TAG] != staging.tags(version)[SIGNED_TAG]


def promote(staging, version):
    """Whether the promoter takes it."""
    staging.set_champion(version)
    wait_until(lambda: staging.pinned == version or staging.champion != version, 30)
    return staging.pinned == version
