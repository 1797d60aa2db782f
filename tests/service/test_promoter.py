"""The promoter against a fake API server."""

import shutil
import time

import pytest
from mlflow import MlflowClient

from components.model.bundle import compute_sha256
from components.package.server import find_free_port
from components.registry import registry
from components.registry.promotion import history, rollback
from components.registry.registry import BUNDLE_HASH_TAG, VERDICT_TAG, get_version, register
from components.signing.bundle import SIGNATURE_FILE, sign_bundle
from components.signing.keys import read_signing_key
from tests.factories import make_bundle
from tests.promotions import *  # noqa: F403
from tests.signing_keys import make_keys
from tests.world import await_, fake_world, looping


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("promoter") / "bundle")


@pytest.fixture
def world(bundle):
    with fake_world(bundle) as made:
        yield made


@pytest.fixture
def real_registry(world, bundle, mlflow_url, monkeypatch, request):
    """A real MLflow server, with two versions of a model of this test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    for module in ("registry", "promotion"):
        monkeypatch.setattr(f"components.registry.{module}.MODEL", f"fbt-{request.node.name}")
    tags = {VERDICT_TAG: "passed", BUNDLE_HASH_TAG: compute_sha256(bundle / "bundle.json")}
    for _ in range(2):
        register({"bundle": bundle}, {}, {}, tags)
    return MlflowClient(mlflow_url)


def turned(world, version):
    """Let the cluster work once; the version's rollout state in the registry."""
    world.turn()
    return get_version(version).tags.get("fbt.rollout")


def test_without_a_secret_nothing_is_subscribed_to(world):
    world.deploy("Deployment")
    with looping(world, webhook_url="http://127.0.0.1:9/webhook", webhook_secret=""):
        await_(lambda: "NoChampion" in world.said())
    assert not [path for _, path in world.mlflow.requests if "webhooks" in path]


def test_a_version_that_nobody_known_signed_is_refused_before_a_pod_starts(
    world, bundle, tmp_path, monkeypatch
):
    keys = make_keys(tmp_path, "ours")
    monkeypatch.setenv("FBT_SIGNING_KEY_FILE", str(keys.private))
    monkeypatch.setenv("FBT_VERIFY_KEYS_FILE", str(keys.public))
    signed = shutil.copytree(bundle, tmp_path / "signed")
    (signed / SIGNATURE_FILE).write_text(sign_bundle(signed, read_signing_key()))
    world.deploy("Rollout")
    first = world.mlflow.add()
    world.mlflow.bundles[first] = signed
    world.promote(first)
    world.until(lambda: world.tag(first) == "live")
    second = world.mlflow.add()
    world.promote(second)
    world.calm()
    assert (world.pinned, world.champion) == (first, first)
    reason = world.tag(second)
    assert reason.startswith("refused: signing: bundle.json of version 2 is not signed")
    assert "fbt sign 2" in reason
    assert "is not signed" in world.said()["VersionRefused"]
    # Signed, it may be promoted again.
    world.mlflow.bundles[second] = signed
    world.promote(second)
    world.reconcile()
    assert world.pinned == second


def test_without_usable_keys_nothing_is_promoted_and_no_version_is_blamed(
    world, tmp_path, monkeypatch
):
    monkeypatch.setenv("FBT_VERIFY_KEYS_FILE", str(tmp_path / "absent"))
    world.deploy("Rollout")
    world.promote(world.mlflow.add())
    with pytest.raises(registry.RegistryError, match=r"FBT_VERIFY_KEYS_FILE is .*absent"):
        world.reconcile()
    assert (world.pinned, world.champion, world.tag("1")) == ("", "1", "registered")


def test_the_alias_set_in_mlflow_is_all_a_person_does(world, real_registry):
    world.deploy("Rollout")
    port = find_free_port()
    url = f"http://127.0.0.1:{port}/webhook"
    # MLflow's own webhook, signed by MLflow, arrives; polls do what it does not tell of.
    with looping(world, port=port, webhook_url=url, poll_s=1.0) as (loop, _):
        await_(lambda: "NoChampion" in world.said())
        # MLflow remembers for a second, set in conftest, that nobody had subscribed.
        time.sleep(2)
        for version, goes in (("1", "live"), ("2", "rolling out")):
            real_registry.set_registered_model_alias(registry.MODEL, "champion", version)
            await_(lambda version=version: world.pinned == version, within_s=60)
            if goes == "live":
                world.turn()
                world.argo.finish()
            await_(lambda v=version, tag=goes: turned(world, v) == tag)
        page = loop.metrics.render()[2].decode()
        assert 'fbt_promoter_webhooks_total{outcome="accepted"}' in page
        world.argo.abort()
        await_(lambda: world.pinned == "1", within_s=60)
    assert get_version("champion").version == "1"
    assert get_version("2").tags["fbt.rollout"] == "failed"
    assert "assessed Failed" in get_version("2").tags["fbt.rollout_failed"]
    assert [(m.to, m.by, m.why) for m in history()[:1]] == [("1", "promoter", "rollout failed")]
    with pytest.raises(ValueError, match="no champion before version 1"):
        rollback(by="ann")
