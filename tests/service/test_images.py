"""What each image holds, started beside real neighbours: PostgreSQL, an S3 server, MLflow.

An environment has the very packages that `k8s/images/Dockerfile` installs for its target, and no
other: their files are linked from the environment of the tests, which comes from the same lock.
No test here starts a container: Debian's own packages, users and a read-only root are not seen.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer

from components.package.bento import import_bento
from components.package.server import find_free_port, run_server
from pipelines.cluster import _postgres
from pipelines.home import Home
from pipelines.images import TARGETS
from pipelines.parameters import parse_parameters
from tests.factories import make_bundle
from tests.pipeline.test_training import small_shop

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "k8s" / "images"
PACKAGES = ("bento", "components", "data_checks", "pipelines")
SCRIPTS = re.compile(r"(\.\./)+bin/")


def environment(target, folder):
    """Make the environment of a target; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    lock = (IMAGES / "requirements" / f"{target}.lock").read_text()
    names = re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE)
    for name in sorted({*names, "fbt"}):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another Python or platform
        for file in distribution.files or []:
            link(Path(distribution.locate_file(file)), str(file), site, folder / "bin")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, site / package, dirs_exist_ok=True)
    return folder / "bin" / "python"


def link(source, name, site, scripts):
    """Link one installed file; a script gets the Python of this environment."""
    if name.endswith((".pth", ".pyc")) or "__editable__" in name or not source.is_file():
        return
    is_script = SCRIPTS.match(name)
    target = scripts / source.name if is_script else site / name
    if target.exists() or (not is_script and name.startswith("..")):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_script and source.read_bytes()[:2] == b"#!":
        _, _, rest = source.read_text().partition("\n")
        target.write_text(f"#!{scripts}/python\n{rest}")
        target.chmod(0o755)
    else:
        target.symlink_to(source)
        link_bytecode(source.parent, target.parent)


def link_bytecode(source, target):
    """Else every process under a read-only root compiles all that it imports."""
    kept, cache = source / "__pycache__", target / "__pycache__"
    if kept.is_dir() and not cache.exists():
        cache.symlink_to(kept)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    made = {}

    def of(target):
        if target not in made:
            made[target] = environment(target, tmp_path_factory.mktemp(target) / "env")
        return made[target]

    return of


@pytest.fixture(scope="module")
def object_store():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def bare(python, **more):
    """Nothing of the tests' own environment: the image's search path, a home of its own."""
    kept = {name: os.environ[name] for name in ("LANG", "JAVA_HOME") if name in os.environ}
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin"
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_installs_its_lock(target):
    stages = (IMAGES / "Dockerfile").read_text().split("\nFROM ")
    (stage,) = (text for text in stages if f" AS {target}-packages\n" in text)
    assert f"COPY k8s/images/requirements/{target}.lock " in stage
    assert f"RUN ./install-locked {target}.lock" in stage


@pytest.fixture(scope="module")
def mlflow_image(python, postgres_server, object_store, tmp_path_factory):
    """The MLflow server as its pod starts it: the schema first, then the server."""
    import boto3

    folder, own = tmp_path_factory.mktemp("mlflow"), python("mlflow")
    postgres_server.sql("create role mlflow login; create database mlflow owner mlflow;")
    written = _postgres("mlflow", "any")
    uri = re.sub(r"@[^/]*/", f"@127.0.0.1:{postgres_server.port}/", written)
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "eu-1"}
    boto3.client(
        "s3", endpoint_url=object_store, aws_access_key_id="k", aws_secret_access_key="s",
        region_name="us-east-1",
    ).create_bucket(Bucket="mlflow")  # fmt: skip
    env = bare(
        own, HOME=str(folder), MLFLOW_BACKEND_STORE_URI=uri, MLFLOW_S3_ENDPOINT_URL=object_store,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **keys,
    )  # fmt: skip
    subprocess.run([own.parent / "mlflow", "db", "upgrade", uri], env=env, cwd=folder, check=True)
    port = find_free_port()
    command = [str(own.parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--artifacts-destination", "s3://mlflow/artifacts"]
    url = f"http://127.0.0.1:{port}"
    with run_server(
        command, url, ready="/health", env=env, log=folder / "log", cwd=folder, timeout_s=120
    ):
        yield url


@pytest.mark.timeout(300)
def test_mlflow_keeps_runs_in_postgres_and_files_in_the_object_store(mlflow_image, tmp_path):
    client = MlflowClient(mlflow_image)
    run = client.create_run(client.create_experiment("from the image"))
    (tmp_path / "note.txt").write_text("kept")
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    got = client.download_artifacts(run.info.run_id, "note.txt", str(tmp_path))
    assert Path(got).read_text() == "kept"


@pytest.mark.timeout(300)
def test_the_promoter_starts_and_misses_nothing_but_a_cluster(mlflow_image, python, tmp_path):
    own = python("promoter")
    done = subprocess.run(
        [own, "-m", "components.promoter.controller"], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False,
        env=bare(own, HOME=str(tmp_path), MLFLOW_TRACKING_URI=mlflow_image, POD_NAME="one"),
    )  # fmt: skip
    words = done.stdout + done.stderr
    assert "neither a pod's service account nor a kubeconfig was found" in words
    assert "ModuleNotFoundError" not in words


@pytest.mark.timeout(300)
def test_the_service_answers_beside_postgres(python, postgres_server, tmp_path):
    own, port = python("serve"), find_free_port()
    postgres_server.sql("create database image;")
    env = bare(
        own, HOME=str(tmp_path), BENTOML_HOME=str(tmp_path / "bentoml"),
        BENTOML_DO_NOT_TRACK="True", FBT_BUNDLE=str(make_bundle(tmp_path / "bundle")),
        FBT_MODEL_VERSION="1", FBT_DATABASE_URL=postgres_server.url("image"),
    )  # fmt: skip
    command = [str(own), "-m", "bentoml", "serve", "bento.service:Fbt", "--host", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}"
    with run_server(
        [*command, "--port", str(port)], url, env=env, log=tmp_path / "log", cwd=tmp_path,
        timeout_s=120,
    ):  # fmt: skip
        body = json.dumps({"items": ["tea"], "k": 1}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/recommend", body), timeout=10
        ) as reply:
            assert json.load(reply)["items"][0]["product_id"] == "milk"


BUILD = """
import sys
from pathlib import Path
from components.package.bento import build_bento
print(build_bento(Path(sys.argv[1]), "7", Path(sys.argv[2])))
"""


@pytest.mark.timeout(300)
def test_a_bento_is_packaged_without_pip_and_without_a_network(python, tmp_path):
    own, archive = python("steps"), tmp_path / "archive"
    assert subprocess.run([own, "-m", "pip"], capture_output=True, check=False).returncode
    alone = ["unshare", "--net"] if os.geteuid() == 0 and shutil.which("unshare") else []
    bundle = make_bundle(tmp_path / "bundle")
    done = subprocess.run(
        [*alone, own, "-c", BUILD, bundle, archive], cwd=tmp_path, capture_output=True, text=True,
        check=False, env=bare(own, HOME=str(tmp_path)),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["fbt:7"], done.stdout + done.stderr
    assert import_bento(archive, tmp_path / "store") == "fbt:7"


ALONE = """
import fcntl, os, socket, struct, subprocess, sys
work, root, python, parameters = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
    fcntl.ioctl(lo, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
mount = lambda *words: subprocess.run(["mount", *words], check=True)
mount("--make-rprivate", "/")
mount("--rbind", "/", root)
mount("-o", "remount,bind,ro", root)
mount("--bind", work, root + work)
os.chroot(root)
os.chdir(work)
try:
    open("/etc/written", "w")
except OSError:
    pass
else:
    sys.exit("the root file system can be written to")
os.execv(python, [python, "-m", "pipelines.kfp_local", "training", parameters])
"""


@pytest.mark.timeout(600)
def test_every_step_runs_from_its_image_alone(python, tmp_path):
    """The whole pipeline, without a network, under a read-only root but for one folder."""
    can = os.geteuid() == 0 and shutil.which("unshare")
    if not can or subprocess.run(["unshare", "--net", "--mount", "true"], check=False).returncode:
        pytest.skip("needs the right to make namespaces of its own: root on Linux")
    own, work = python("steps"), tmp_path / "work"
    home = Home(work / "fbt")
    for folder in (home.runs, home.cache, home.logs, home.mlflow, work / "tmp", tmp_path / "root"):
        folder.mkdir(parents=True)
    given = {"orders": str(small_shop(work / "lines.parquet")), "trials": 2, "shards": 1}
    shop = parse_parameters({**given, "sweep_share": 1})
    (work / "parameters.json").write_text(shop.model_dump_json())
    env = bare(
        own, HOME=str(work), TMPDIR=str(work / "tmp"), PYTHONDONTWRITEBYTECODE="1",
        JAVA_TOOL_OPTIONS=f"-Djava.io.tmpdir={work}/tmp", **home.environment(),
    )  # fmt: skip
    words = [work, tmp_path / "root", own, work / "parameters.json"]
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", ALONE, *words],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (package,) = home.runs.glob("*/package/archive")
    assert import_bento(package, tmp_path / "store") == "fbt:1"
