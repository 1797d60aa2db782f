"""The archive of a model version, served where this source tree cannot be imported."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import httpx
import psutil
import pytest

from components.model.bundle import BundleError, compute_sha256
from components.package.bento import build_bento, import_bento
from components.package.requirements import list_serving_requirements
from components.package.server import serve_bento
from tests.factories import make_bundle

HEAVY = ("pyspark", "gensim", "mlflow", "kfp", "pandas", "great-expectations", "optuna", "pytest")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def archive(store):
    bundle = make_bundle(store / "bundle")
    assert build_bento(bundle, "3", store / "archive") == "fbt:3"
    return store / "archive"


@pytest.fixture(scope="module")
def home(store, archive):
    assert import_bento(archive, store / "home") == "fbt:3"
    return store / "home"


@pytest.fixture(scope="module")
def elsewhere(store):
    """A Python that has all installed packages, but not this source tree."""
    venv.create(store / "venv", with_pip=False, symlinks=True)
    python = store / "venv" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    # A .pth in a folder that a .pth adds is not followed: ours, of the editable install, is not.
    (Path(purelib.stdout.strip()) / "packages.pth").write_text(sysconfig.get_path("purelib"))
    here = subprocess.run(
        [python, "-c", "import bentoml, components"], capture_output=True, cwd="/"
    )
    assert b"No module named 'components'" in here.stderr
    return python


def ask(url, *items):
    response = httpx.post(f"{url}/recommend", json={"items": items, "k": 1}, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_archive_serves_without_this_source_tree(home, elsewhere, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(elsewhere))
    with serve_bento("fbt:3", home) as server:
        answer = ask(server.url, "tea")
        assert answered(server) == 1
    assert answer["model_version"] == "3"
    assert [item["product_id"] for item in answer["items"]] == ["milk"]


def test_the_archive_holds_what_a_machine_needs_and_nothing_of_the_steps(archive):
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        requirements = tar.extractfile("env/python/requirements.txt").read().decode()
        dockerfile = tar.extractfile("env/docker/Dockerfile").read().decode()
    assert any(name.endswith("/bundle.json") for name in names)
    modules = {name for name in names if name.endswith(".py")}
    assert "src/bento/service.py" in modules
    assert not any("component.py" in name or "pipelines" in name for name in modules)
    assert "BENTOML_DO_NOT_TRACK" in dockerfile
    pinned = {line.partition("==")[0] for line in requirements.splitlines()}
    assert {"bentoml", "numpy", "hnswlib", "pyarrow", "uvloop", "httptools"} <= pinned
    assert not pinned & set(HEAVY)


def test_requirements_are_pinned():
    lines = list_serving_requirements().splitlines()
    assert len(lines) > 20
    assert all("==" in line for line in lines)


def test_importing_again_changes_nothing(archive, home):
    before = sorted(path for path in home.rglob("*") if path.is_file())
    assert import_bento(archive, home) == "fbt:3"
    assert sorted(path for path in home.rglob("*") if path.is_file()) == before


def test_another_bento_of_the_same_version_replaces_the_first(tmp_path, home):
    bundle = make_bundle(tmp_path / "bundle", pairs=[("tea", "lemon")])
    build_bento(bundle, "3", tmp_path / "other.bento")
    shutil.copytree(home, tmp_path / "home")
    import_bento(tmp_path / "other.bento", tmp_path / "home")
    described = (tmp_path / "home" / "bentos" / "fbt" / "3" / "bento.yaml").read_text()
    assert compute_sha256(bundle / "bundle.json") in described


def test_a_damaged_bundle_is_not_packaged(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "in_vectors.npy").unlink()
    with pytest.raises(BundleError, match="in_vectors"):
        build_bento(bundle, "4", tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_two_servers_of_one_store_keep_their_metrics_apart_and_end_on_ctrl_c(home):
    families = []

    def ask_both_until_ctrl_c():
        with serve_bento("fbt:3", home) as one, serve_bento("fbt:3", home) as other:
            families.extend(family_of(one) + family_of(other))
            ask(one.url, "tea")
            ask(other.url, "tea")
            assert [answered(one), answered(other)] == [1, 1]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_both_until_ctrl_c()
    assert len(families) >= 4
    assert not any(runs(process) for process in families)


def test_a_server_that_hangs_is_ended_all_the_same(home, monkeypatch):
    monkeypatch.setattr("components.package.server.GRACE_S", 1.0)
    with serve_bento("fbt:3", home) as server:
        family = family_of(server)
        for process in family:
            process.suspend()
    assert not any(runs(process) for process in family)


def family_of(server):
    leader = psutil.Process(server.process.pid)
    return [leader, *leader.children(recursive=True)]


def runs(process):
    # What was killed stays a zombie where nobody adopts orphans.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def answered(server):
    """How often this server answered by its model, as it says itself."""
    name = 'fbt_recommend_requests_total{model_version="3",source="model"}'
    (line,) = (x for x in httpx.get(f"{server.url}/metrics").text.splitlines() if name in x)
    return float(line.split()[-1])
