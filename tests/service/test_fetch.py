"""The init container's command, against a real MLflow server and one that breaks."""

import base64
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.model.bundle import BundleError, compute_sha256, read_bundle, read_manifest
from components.promoter import fetch as fetching
from components.promoter.fetch import (
    BUNDLE_HASH_TAG,
    DAMAGED,
    MISCONFIGURED,
    UNAVAILABLE,
    ConfigurationError,
    RegistryUnavailable,
    Source,
    fetch_bundle,
    find_bundle_problem,
    limit_from_environment,
)
from components.registry import registry
from components.registry.rest import MlflowServer, connect_server
from components.signing.bundle import SIGNATURE_FILE, sign_bundle
from components.signing.keys import read_signing_key
from tests.factories import make_bundle
from tests.fakes import AWAY, BROKEN, FakeMlflow, Refusal
from tests.signing_keys import make_keys


@pytest.fixture
def source(mlflow_url, tmp_path, monkeypatch, request):
    """Version 1 of a model of this test's own, whose files lie in the fixture `stored`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    name = f"fbt-{request.node.path.stem}-{request.node.name}"
    monkeypatch.setattr(registry, "MODEL", name)
    bundle = make_bundle(tmp_path / "made" / "bundle")
    tags = {registry.BUNDLE_HASH_TAG: compute_sha256(bundle / "bundle.json")}
    return Source(
        MlflowServer(mlflow_url), registry.register({"bundle": bundle}, {}, {}, tags), name
    )


@pytest.fixture
def stored(source):
    with registry.registry_client() as client:
        run = registry.get_version(source.version).run_id
        return Path(client.get_run(run).info.artifact_uri) / "bundle"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(fetching, "RETRY_DELAYS_S", (0.0, 0.0))


def test_a_version_comes_whole(source, tmp_path):
    manifest = fetch_bundle(source, tmp_path / "pod" / "model")
    assert read_bundle(tmp_path / "pod" / "model").product_ids[:2] == ["tea", "milk"]
    assert manifest.n_items == 8
    assert [path.name for path in (tmp_path / "pod").iterdir()] == ["model"]


def test_the_constants_are_the_registrys():
    assert fetching.BUNDLE_HASH_TAG == registry.BUNDLE_HASH_TAG
    assert fetching.MODEL == "fbt"


def test_what_is_there_and_whole_is_not_fetched_again(source, stored, tmp_path):
    fetch_bundle(source, tmp_path / "model")
    before = (tmp_path / "model" / "n_orders.npy").stat().st_ino
    fetch_bundle(source, tmp_path / "model")
    assert (tmp_path / "model" / "n_orders.npy").stat().st_ino == before
    (tmp_path / "model" / "n_orders.npy").write_bytes(b"half")
    fetch_bundle(source, tmp_path / "model")
    read_bundle(tmp_path / "model")


@pytest.mark.parametrize("name", ["bundle.json", "n_orders.npy", "products.arrow"])
def test_a_damaged_file_is_found(source, stored, tmp_path, name):
    content = bytearray((stored / name).read_bytes())
    content[len(content) // 2] ^= 1
    (stored / name).write_bytes(content)
    with pytest.raises(BundleError, match=re.escape(name)):
        fetch_bundle(source, tmp_path / "pod" / "model")
    assert list((tmp_path / "pod").iterdir()) == [], "nothing half is left"


@pytest.mark.parametrize("name", ["bundle.json", "n_orders.npy"])
def test_a_missing_file_is_found_and_seen_before_any_pod_starts(source, stored, tmp_path, name):
    assert find_bundle_problem(source, tmp_path) == ""
    (stored / name).unlink()
    with pytest.raises(BundleError, match=r"version 1\b.*register this one again"):
        fetch_bundle(source, tmp_path / "model")
    assert "version 1" in find_bundle_problem(source, tmp_path)


def test_a_version_without_files(source, stored, tmp_path):
    shutil.rmtree(stored)
    with pytest.raises(BundleError, match="has no bundle in the registry"):
        fetch_bundle(source, tmp_path / "model")


def test_an_unknown_version(source, tmp_path):
    with pytest.raises(BundleError, match="version 77"):
        fetch_bundle(Source(source.server, "77", source.model), tmp_path / "model")


def run(**env):
    command = [sys.executable, "-m", "components.promoter.fetch"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FBT_", "MLFLOW_"))}
    done = subprocess.run(command, env={**inherited, **env}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def fake(tmp_path):
    with FakeMlflow(make_bundle(tmp_path / "stored")).running() as server:
        server.add()
        yield server


def test_the_command(fake, tmp_path):
    env = {
        "FBT_MODEL_VERSION": "1",
        "MLFLOW_TRACKING_URI": fake.url,
        "FBT_BUNDLE": str(tmp_path / "bundle" / "model"),
    }
    code, said = run(**env)
    n_files = len(read_manifest(fake.bundle).files)
    assert (code, said.strip()) == (0, f"fetch: version 1, {n_files} files, every hash as recorded")
    (fake.bundle / "n_orders.npy").write_bytes(b"")
    code, said = run(**{**env, "FBT_BUNDLE": str(tmp_path / "another")})
    assert code == DAMAGED
    assert "n_orders.npy is damaged" in said
    assert "Traceback" not in said


def test_the_command_takes_what_is_signed_and_nothing_else(fake, tmp_path, monkeypatch):
    keys, target = make_keys(tmp_path, "ours"), tmp_path / "pod" / "model"
    env = {
        "FBT_MODEL_VERSION": "1",
        "MLFLOW_TRACKING_URI": fake.url,
        "FBT_BUNDLE": str(target),
        "FBT_VERIFY_KEYS_FILE": str(keys.public),
    }
    code, said = run(**env)
    assert (code, "Traceback" in said) == (DAMAGED, False)
    assert "bundle.json of version 1 is not signed" in said
    assert list(target.parent.iterdir()) == [], "nothing half is left"
    monkeypatch.setenv("FBT_SIGNING_KEY_FILE", str(keys.private))
    (fake.bundle / SIGNATURE_FILE).write_text(sign_bundle(fake.bundle, read_signing_key()))
    code, said = run(**env)
    assert (code, said.strip().endswith("every hash as recorded, and signed")) == (0, True)
    (fake.bundle / "n_orders.npy").write_bytes(b"another")
    code, said = run(**{**env, "FBT_BUNDLE": str(tmp_path / "another")})
    assert (code, "n_orders.npy is damaged" in said) == (DAMAGED, True)


@pytest.mark.parametrize("unset", ["FBT_MODEL_VERSION", "MLFLOW_TRACKING_URI", "FBT_BUNDLE"])
def test_a_pod_that_does_not_say_what_it_wants(unset, tmp_path):
    env = {
        "FBT_MODEL_VERSION": "1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "FBT_BUNDLE": str(tmp_path),
    }
    code, said = run(**{**env, unset: ""})
    assert (code, unset in said, "Traceback" in said) == (MISCONFIGURED, True, False)


def test_nothing_of_mlflow_or_kubernetes_is_needed():
    code = (
        "import sys; import components.promoter.fetch; "
        "print({'mlflow', 'kubernetes', 'requests', 'pandas', 'kfp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_registry_that_comes_back_is_asked_again(fake, tmp_path, quick):
    fake.faults.extend([AWAY, BROKEN])
    fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")


def test_a_registry_that_stays_away(fake, tmp_path, quick):
    fake.down = True
    with pytest.raises(RegistryUnavailable, match="cannot be reached"):
        fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")
    with pytest.raises(RegistryUnavailable):
        find_bundle_problem(Source(MlflowServer(fake.url), "1"), tmp_path)
    assert UNAVAILABLE != DAMAGED


def test_a_connection_that_breaks_is_no_damage(fake, tmp_path, quick, monkeypatch):
    whole = fake.answer

    def cut_short(handler, method, path, *rest):
        status, content = whole(handler, method, path, *rest)
        if not isinstance(content, bytes):
            return status, content
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        handler.connection.close()
        return None

    monkeypatch.setattr(fake, "answer", cut_short)
    with pytest.raises(RegistryUnavailable, match=r"bundle\.json ended after|IncompleteRead"):
        fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")


def test_a_bundle_that_is_larger_than_its_volume_is_not_begun(source, stored, tmp_path):
    needed = sum(file.stat().st_size for file in stored.iterdir())
    fetch_bundle(source, tmp_path / "whole" / "model", needed)
    said = rf"has {needed:,} bytes, .*/pod may hold {needed - 1:,} \(FBT_BUNDLE_LIMIT\)"
    (tmp_path / "pod").mkdir()
    with pytest.raises(ConfigurationError, match=said):
        fetch_bundle(source, tmp_path / "pod" / "model", needed - 1)
    assert list((tmp_path / "pod").iterdir()) == []


def test_a_bundle_that_is_larger_than_the_free_disk_is_not_begun(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(ConfigurationError, match=r"has [\d,]+ bytes, the disk of .* 1,000 free"):
        fetch_bundle(source, tmp_path / "model")


def test_a_disk_that_fills_up_is_not_taken_for_a_registry_that_is_away(fake, tmp_path, quick):
    class Full(Source):
        def download(self, name, target):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with pytest.raises(ConfigurationError, match=r"cannot be written .*No space left"):
        fetch_bundle(Full(MlflowServer(fake.url), "1"), tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("", None), ("4Gi", 4 * 2**30), ("512Mi", 2**29), ("100", 100)]
)
def test_the_limit_is_a_quantity_as_in_manifests(monkeypatch, text, n_bytes):
    monkeypatch.setenv("FBT_BUNDLE_LIMIT", text)
    assert limit_from_environment() == n_bytes


def test_a_limit_that_is_none_is_named(tmp_path):
    env = {"FBT_MODEL_VERSION": "1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    code, said = run(**env, FBT_BUNDLE=str(tmp_path), FBT_BUNDLE_LIMIT="4 GB")
    assert (code, "FBT_BUNDLE_LIMIT is '4 GB'" in said) == (MISCONFIGURED, True)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "Internal Server Error"),
        (401, "Failed to list artifacts in s3://fbt-mlflow: The request signature does not match"),
        (404, "Failed to list artifacts in s3://fbt-mlflow: The specified bucket does not exist"),
    ],
)
def test_an_object_store_that_fails_is_no_damage_and_its_secret_is_named(
    fake, tmp_path, quick, monkeypatch, status, message
):
    def fail(given):
        raise Refusal(status, message)

    monkeypatch.setattr(fake, "GET_artifacts_list", fail)
    said = f"answered {status}: {message}; MLflow's object store .* the Secret fbt-object-store"
    with pytest.raises(RegistryUnavailable, match=said):
        fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")


def test_a_login_that_mlflow_refuses_is_told_from_its_object_store(
    fake, tmp_path, quick, monkeypatch
):
    def fail(given):
        raise Refusal(401, "You are not authenticated")

    monkeypatch.setattr(fake, "GET_model_versions_get", fail)
    with pytest.raises(RegistryUnavailable, match=r"answered 401: .* check MLFLOW_TRACKING_USER"):
        fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")


def test_a_manifest_that_names_another_folder(fake, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(
        Source,
        "list_files",
        lambda self, run_id: dict.fromkeys(("bundle.json", "../outside", "n_orders.npy"), 0),
    )
    manifest = (fake.bundle / "bundle.json").read_text()
    changed = re.sub(r'"files": {[^}]*}', '"files": {"../outside": "00"}', manifest)
    (fake.bundle / "bundle.json").write_text(changed)
    with pytest.raises(BundleError, match=r"names \['../outside'\]"):
        fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")
    assert not (tmp_path / "outside").exists()


def test_a_hash_that_was_recorded_is_what_counts(fake, tmp_path):
    fake.versions["1"][BUNDLE_HASH_TAG] = "0" * 64
    with pytest.raises(BundleError, match=r"its tag fbt\.bundle_sha256 says 000000000000"):
        fetch_bundle(Source(MlflowServer(fake.url), "1"), tmp_path / "model")


def test_a_login_is_sent(monkeypatch, fake, tmp_path):
    """Of MLflow's own variables before the address's, and a token before both."""
    seen, answer = set(), fake.answer

    def note(handler, *given):
        seen.add(handler.headers["Authorization"])
        return answer(handler, *given)

    def fetch(name):
        seen.clear()
        uri = fake.url.replace("//", "//bob:s%40fe@")
        fetch_bundle(Source(connect_server(uri), "1"), tmp_path / name)
        (header,) = seen
        return header

    monkeypatch.setattr(fake, "answer", note)
    assert base64.b64decode(fetch("by-address").removeprefix("Basic ")).decode() == "bob:s@fe"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "päss")
    assert base64.b64decode(fetch("by-name").removeprefix("Basic ")).decode() == "ann:päss"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    assert fetch("by-token") == "Bearer token"
