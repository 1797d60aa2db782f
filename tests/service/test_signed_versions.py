"""Versions of a real MLflow server, signed, changed in its store, and fetched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bento.workbench.bundle_cache import BundleCache, Progress
from components.model.bundle import BundleError, compute_sha256
from components.promoter.fetch import MISCONFIGURED, Source, fetch_bundle, find_bundle_problem
from components.registry import registry
from components.registry.registry import RegistryError, attach_archive, fetch_artifact
from components.registry.rest import MlflowServer
from components.registry.signing import (
    SIGNED_TAG,
    attach_archive_signature,
    check_archive,
    sign_artefacts,
    sign_version,
)
from components.signing.bundle import SIGNATURE_FILE
from components.signing.keys import KeyConfigurationError, read_verify_keys
from pipelines.serve import fetch_bento
from tests.factories import make_bundle
from tests.signing_keys import make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(autouse=True)
def model(mlflow_url, monkeypatch, request, keys):
    """A model of the test's own, with a key to sign and the same to verify."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    monkeypatch.setattr(registry, "MODEL", f"fbt-{request.node.path.stem}-{request.node.name}")
    monkeypatch.setenv("FBT_SIGNING_KEY_FILE", str(keys.private))
    monkeypatch.setenv("FBT_VERIFY_KEYS_FILE", str(keys.public))


@pytest.fixture
def add(tmp_path):
    """Register a version, signed or not, and return it as the init container sees it."""

    def register(signed=True, **how):
        bundle = make_bundle(tmp_path / f"made{len(list(tmp_path.iterdir()))}" / "bundle", **how)
        with_signature = sign_artefacts(bundle, bundle.parent) if signed else ({}, {})
        tags = {registry.BUNDLE_HASH_TAG: compute_sha256(bundle / "bundle.json")}
        version = registry.register(
            {"bundle": bundle, **with_signature[0]}, {}, {}, {**tags, **with_signature[1]}
        )
        uri = os.environ["MLFLOW_TRACKING_URI"]
        return Source(MlflowServer(uri), version, registry.MODEL, verify_keys=read_verify_keys())

    return register


def stored(source, artefact="bundle"):
    """Where the server keeps it."""
    with registry.registry_client() as client:
        run = client.get_run(registry.get_version(source.version).run_id)
        return Path(run.info.artifact_uri) / artefact


def refuses(source, target, *words):
    """Promoter and init container, both."""
    scratch = target.parent / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    problem = find_bundle_problem(source, scratch)
    target = target.parent / "pod" / "model"
    with pytest.raises(BundleError) as refused:
        fetch_bundle(source, target)
    assert list(target.parent.iterdir()) == [], "nothing half is left"
    for text in (problem, str(refused.value)):
        assert all(word in text for word in (f"version {source.version}", *words)), text


def test_a_signed_version_comes_with_its_signature(add, tmp_path, keys):
    source, scratch = add(), tmp_path / "scratch"
    scratch.mkdir()
    assert find_bundle_problem(source, scratch) == ""
    fetch_bundle(source, tmp_path / "pod" / "model")
    assert (tmp_path / "pod" / "model" / SIGNATURE_FILE).is_file()
    assert registry.get_version(source.version).tags[SIGNED_TAG] == compute_sha256(keys.public)


def test_without_keys_a_signature_changes_nothing(add, tmp_path):
    source = add()
    fetch_bundle(Source(source.server, source.version, source.model), tmp_path / "model")
    assert not (tmp_path / "model" / SIGNATURE_FILE).exists()


def test_an_older_version_is_refused_until_it_is_signed(add, tmp_path):
    source = add(signed=False)
    refuses(source, tmp_path / "pod", "is not signed", "fbt sign 1")
    sign_version(source.version)
    fetch_bundle(source, tmp_path / "model")


def test_a_bundle_that_was_replaced_with_all_its_records(add, tmp_path):
    """Whoever may write to the store and the registry cannot sign."""
    source = add()
    shutil.rmtree(stored(source))
    forged = make_bundle(tmp_path / "forged", with_index=True)
    with registry.registry_client() as client:
        sha256 = compute_sha256(forged / "bundle.json")
        tag = registry.BUNDLE_HASH_TAG
        client.set_model_version_tag(registry.MODEL, source.version, tag, sha256)
    shutil.copytree(forged, stored(source))
    refuses(source, tmp_path / "pod", "is not signed")
    original = add()
    shutil.copy(stored(original) / SIGNATURE_FILE, stored(source))
    refuses(source, tmp_path / "pod", "bundle.json", "is refused", "it has sha256")


def test_the_signed_bundle_of_another_version_is_not_this_one(add, tmp_path):
    first, second = add(), add(with_index=True)
    shutil.rmtree(stored(second))
    shutil.copytree(stored(first), stored(second))
    refuses(second, tmp_path / "pod", "bundle.json of version 2 has sha256", "its tag")


def test_a_file_that_nobody_signed_stays_where_it_is(add, tmp_path):
    source = add()
    (stored(source) / "sensitive_classes.npy").write_bytes(b"more")
    fetch_bundle(source, tmp_path / "model")
    assert not (tmp_path / "model" / "sensitive_classes.npy").exists()


def test_what_a_pod_fetched_is_checked_again_when_its_container_starts_anew(add, tmp_path):
    source = add()
    fetch_bundle(source, tmp_path / "model")
    inode = (tmp_path / "model" / "bundle.json").stat().st_ino
    fetch_bundle(source, tmp_path / "model")
    assert (tmp_path / "model" / "bundle.json").stat().st_ino == inode
    (tmp_path / "model" / SIGNATURE_FILE).write_text("{}")
    fetch_bundle(source, tmp_path / "model")
    assert (tmp_path / "model" / "bundle.json").stat().st_ino != inode


def run_init_container(source, target, **env):
    given = {
        "FBT_MODEL_VERSION": source.version,
        "MLFLOW_TRACKING_URI": source.server.uri,
        "FBT_BUNDLE": str(target),
        **env,
    }
    done = subprocess.run(
        [sys.executable, "-m", "components.promoter.fetch"],
        env={**os.environ, **given}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("how", ["absent", "empty", "nonsense"])
def test_an_init_container_without_usable_keys_fetches_nothing(add, tmp_path, how):
    file = tmp_path / "keys.pem"
    if how != "absent":
        file.write_text("" if how == "empty" else "nonsense")
    code, said = run_init_container(
        add(signed=False), tmp_path / "model", FBT_VERIFY_KEYS_FILE=str(file)
    )
    assert (code, "Traceback" in said) == (MISCONFIGURED, False)
    assert "FBT_VERIFY_KEYS" in said
    assert not (tmp_path / "model").exists()


def test_nothing_is_signed_that_somebody_changed(add):
    source = add(signed=False)
    manifest = stored(source) / "bundle.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seed": 7}))
    with pytest.raises(BundleError, match=r"version 1 has sha256 .*sign nothing"):
        sign_version(source.version)
    shutil.rmtree(stored(source))
    with pytest.raises(RegistryError, match=r"version 1 has no bundle/bundle\.json"):
        sign_version(source.version)


def test_signing_needs_a_key(add, monkeypatch):
    source = add(signed=False)
    monkeypatch.delenv("FBT_SIGNING_KEY_FILE")
    with pytest.raises(KeyConfigurationError, match="neither FBT_SIGNING_KEY nor"):
        sign_version(source.version)


def test_the_workbench_fetches_what_is_signed(add, tmp_path):
    cache, progress = BundleCache(tmp_path / "cache"), Progress()
    signed, unsigned = (registry.get_version(add(signed=one).version) for one in (True, False))
    folder = cache.fetch(signed, progress, in_use=[])
    assert (folder / SIGNATURE_FILE).is_file()
    assert 0 < progress.done == progress.total
    with pytest.raises(BundleError, match="version 2 is not signed"):
        cache.fetch(unsigned, Progress(), in_use=[])
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["1"]


def test_a_bento_without_a_signature_is_not_imported(add, tmp_path, home):
    source = add()
    archive = tmp_path / "archive"
    archive.write_bytes(b"code that nobody signed")
    attach_archive(source.version, archive, "fbt:1")
    with pytest.raises(BundleError, match=r"fbt-1\.bento of version 1 is not signed"):
        fetch_bento(source.version, home)
    assert list(home.bentos.iterdir()) == []


def test_a_bento_is_signed_with_its_version(add, tmp_path):
    source = add()
    archive = tmp_path / "archive"
    archive.write_bytes(b"code and bundle")
    attach_archive_signature(source.version, archive, "fbt:1")
    attach_archive(source.version, archive, "fbt:1")

    def fetched(folder):
        assert fetch_artifact(source.version, "bento", tmp_path / folder)
        return tmp_path / folder / "fbt-1.bento"

    check_archive(fetched("got"), source.version, "fbt:1")
    with pytest.raises(BundleError, match=r"fbt-2\.bento of version 2 .* of another file"):
        check_archive(fetched("other"), "2", "fbt:2")
    (stored(source, "bento") / SIGNATURE_FILE).unlink()
    with pytest.raises(BundleError, match=r"fbt-1\.bento of version 1 is not signed"):
        check_archive(fetched("unsigned"), source.version, "fbt:1")
    sign_version(source.version)
    check_archive(fetched("signed"), source.version, "fbt:1")
    (stored(source, "bento") / "fbt-1.bento").write_bytes(b"other code")
    with pytest.raises(BundleError, match=r"fbt-1\.bento of version 1 is refused"):
        check_archive(fetched("changed"), source.version, "fbt:1")
