"""Versions in the workbench's cache: opened, kept and brought up to date without a registry."""

import asyncio
import shutil
import time

import pytest

from bento.schemas.catalogue import CatalogueRequest
from bento.schemas.requests import RecommendRequest
from bento.schemas.rules import RuleRequest
from bento.store.store import Store
from bento.workbench.bundle_cache import BundleCache, Progress
from bento.workbench.errors import PartUnavailable
from bento.workbench.mapped_memory import count_mapped_bytes, release_pages
from bento.workbench.versions import LoadedVersions, VersionLoading, VersionUnavailable
from components.model.bundle import read_bundle
from components.registry.registry import Version
from components.signing.bundle import SIGNATURE_FILE, sign_bundle
from components.signing.keys import read_signing_key
from tests.factories import make_bundle, make_large_bundle
from tests.signing_keys import make_keys


@pytest.fixture(autouse=True)
def no_registry(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def cache(tmp_path, bundle):
    """With the versions 1, 2 and 3."""
    for number in "123":
        shutil.copytree(bundle, tmp_path / "versions" / number)
    return tmp_path


def open_versions(cache, database_url=None, n_kept=2, **more):
    return LoadedVersions(cache, database_url, n_kept, **more)


def get(versions, name):
    return asyncio.run(versions.get(name))


def recommended(loaded, product_id, k=1):
    request = RecommendRequest(items=[product_id], k=k)
    return [item.product_id for item in loaded.answer(request).items]


def test_a_version_that_is_here_is_opened_without_the_registry(cache):
    loaded = get(open_versions(cache), "1")
    assert loaded.version == "1"
    assert recommended(loaded, "tea") == ["milk"]


def test_an_alias_needs_the_registry(cache):
    with pytest.raises(PartUnavailable, match="MLFLOW_TRACKING_URI is not set"):
        get(open_versions(cache), "champion")


def test_a_registry_that_is_down_is_reported_at_once(cache, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(PartUnavailable, match=r"nothing answers at 127\.0\.0\.1:9"):
        get(open_versions(cache), "champion")
    assert time.monotonic() - began < 3


def test_a_version_stays_open(cache):
    versions = open_versions(cache)
    assert get(versions, "1") is get(versions, "1")


def test_only_the_versions_used_last_stay_open(cache):
    versions = open_versions(cache, n_kept=2)
    first, second = get(versions, "1"), get(versions, "2")
    get(versions, "1")
    get(versions, "3")
    assert get(versions, "1") is first
    assert get(versions, "2") is not second


def test_a_version_that_many_ask_for_is_loaded_once(cache):
    versions = open_versions(cache)

    async def ask():
        return await asyncio.gather(*(versions.get("1") for _ in range(20)))

    assert len({id(one) for one in asyncio.run(ask())}) == 1


def test_a_slow_version_is_reported_as_being_fetched_and_is_there_later(cache):
    versions = open_versions(cache, patience_s=0)
    with pytest.raises(VersionLoading, match="version 1 is being fetched"):
        get(versions, "1")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            assert get(versions, "1").version == "1"
            return
        except VersionLoading:
            time.sleep(0.05)
    pytest.fail("the version never came")


def test_a_damaged_file_is_named_with_the_version(cache):
    (cache / "versions" / "2" / "n_orders.npy").write_bytes(b"broken")
    versions = open_versions(cache)
    with pytest.raises(VersionUnavailable, match=r"version 2 .*n_orders\.npy is damaged"):
        get(versions, "2")
    assert get(versions, "1").version == "1"


def test_with_keys_no_version_is_opened_that_none_of_them_signed(cache, tmp_path, monkeypatch):
    keys = make_keys(tmp_path, "ours")
    monkeypatch.setenv("FBT_SIGNING_KEY_FILE", str(keys.private))
    monkeypatch.setenv("FBT_VERIFY_KEYS_FILE", str(keys.public))
    signed = cache / "versions" / "1"
    (signed / SIGNATURE_FILE).write_text(sign_bundle(signed, read_signing_key()))
    versions = open_versions(cache)
    assert get(versions, "1").version == "1"
    with pytest.raises(VersionUnavailable, match=r"version 2 cannot be opened: .* is not signed"):
        get(versions, "2")
    monkeypatch.setenv("FBT_VERIFY_KEYS_FILE", str(tmp_path / "absent"))
    with pytest.raises(VersionUnavailable, match="FBT_VERIFY_KEYS_FILE is"):
        get(versions, "3")


def test_a_failure_is_shown_again_without_another_try(cache):
    damaged = cache / "versions" / "2" / "n_orders.npy"
    damaged.write_bytes(b"broken")
    versions = open_versions(cache)
    with pytest.raises(VersionUnavailable):
        get(versions, "2")
    shutil.copy(cache / "versions" / "1" / "n_orders.npy", damaged)
    with pytest.raises(VersionUnavailable):
        get(versions, "2")


def test_the_oldest_bundles_are_removed_but_none_in_use(cache):
    bundles = BundleCache(cache / "versions", max_bundles=2)
    version = Version("3", "", "passed", [], {})
    bundles.fetch(version, Progress(), in_use=["1"])
    assert {one.name for one in (cache / "versions").iterdir()} == {"1", "3"}


def test_bundles_that_take_too_much_are_removed(cache):
    bundles = BundleCache(cache / "versions", max_bytes=1)
    bundles.fetch(Version("3", "", "passed", [], {}), Progress(), in_use=[])
    assert [one.name for one in (cache / "versions").iterdir()] == ["3"]


def test_memory_that_is_given_back_is_read_again(cache):
    folder = make_large_bundle(cache / "large", 20_000, with_index=False)
    bundle = read_bundle(folder, products=False)
    total = float(bundle.in_vectors.sum())
    before = count_mapped_bytes()
    release_pages(bundle)
    assert count_mapped_bytes() < before - bundle.in_vectors.nbytes / 2
    assert float(bundle.in_vectors.sum()) == total


@pytest.fixture
def live(cache, tmp_path):
    """Versions that follow a database, and its store."""
    url = f"sqlite:///{tmp_path / 'fbt.db'}"
    store = Store(url)
    store.migrate()
    versions = open_versions(cache, url)
    versions.start()
    yield versions, store
    versions.stop()
    store.close()


def wait_for_change(versions, since):
    deadline = time.monotonic() + 10
    while versions.revision == since and time.monotonic() < deadline:
        time.sleep(0.02)
    assert versions.revision != since


def test_rules_act_on_versions_that_are_open_and_on_those_opened_later(live):
    versions, store = live
    opened = get(versions, "1")
    since = versions.revision
    pin = {"action": "pin", "target": {"product_id": "pesto"}, "when": {"product_id": "tea"}}
    store.add_rule(RuleRequest(**pin), "ann")
    wait_for_change(versions, since)
    assert recommended(opened, "tea") == ["pesto"]
    assert recommended(get(versions, "2"), "tea") == ["pesto"]


def test_an_answer_without_rules_is_the_models_own(live):
    versions, store = live
    loaded, since = get(versions, "1"), versions.revision
    block = {"action": "block", "target": {"product_id": "milk"}}
    store.add_rule(RuleRequest(**block), "ann")
    wait_for_change(versions, since)
    assert recommended(loaded, "tea") != ["milk"]
    request = RecommendRequest(items=["tea"], k=1)
    own = loaded.answer(request, loaded.select_without_rules())
    assert [item.product_id for item in own.items] == ["milk"]


def test_changes_of_the_catalogue_act_on_both(live):
    versions, store = live
    opened, since = get(versions, "1"), versions.revision
    store.change_products(CatalogueRequest(delete=["milk"]))
    wait_for_change(versions, since)
    assert recommended(opened, "tea") != ["milk"]
    assert recommended(get(versions, "2"), "tea") != ["milk"]
