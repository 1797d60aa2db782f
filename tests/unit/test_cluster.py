"""`fbt cluster up` and `images` against stand-ins for kubectl and the builders.

The stand-in for kubectl keeps what it is told in a folder: `get` finds what a file there names. It
is no cluster; nothing is scheduled or served.
"""

import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from pipelines.cluster import NEEDED, OVERLAYS, REQUIREMENTS, cluster_up
from pipelines.images import TARGETS, Build, ImagesError, build_images, read_commit
from pipelines.kubectl import TIMEOUT_S, ClusterError

ROOT = Path(__file__).parents[2]
AUTHOR = {
    "GIT_AUTHOR_NAME": "fbt", "GIT_AUTHOR_EMAIL": "fbt@example.com",
    "GIT_COMMITTER_NAME": "fbt", "GIT_COMMITTER_EMAIL": "fbt@example.com",
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+00:00",
}  # fmt: skip

KUBECTL = r"""#!/bin/sh
cd "$(dirname "$0")/cluster" || exit 1
echo "$*" >> calls
[ -e away ] && { echo "The connection to the server was refused" >&2; exit 1; }
case "$1" in
get)
    shift
    case "$*" in
    "--raw /apis/apps/v1/namespaces/"*/deployments/*) ;;
    "--raw /apis/apps/v1/namespaces/"*) cat workloads; exit 0 ;;
    *jsonpath*)
        key=${6##*.data.}
        sed -n "s/.*\"name\": \"$2\", \"namespace\": \"$4\".*\"${key%\}}\": \"\([^\"]*\)\".*/\1/p" \
            secrets | { read -r value; printf %s "$value" | base64; }
        exit 0 ;;
    esac
    grep -qxF -- "$*" there && exit 0
    echo "Error from server (NotFound): $*" >&2
    exit 1 ;;
proxy) exit 1 ;;
apply)
    case "$*" in
    *github.com*)
        [ -e no-github ] && { echo "fatal: Could not resolve host: github.com" >&2; exit 1; } ;;
    esac ;;
create)
    [ "$2" = namespace ] && [ -e namespace ] && {
        echo 'Error from server (AlreadyExists): namespaces "argo-rollouts" already exists' >&2
        exit 1
    }
    [ "$2" = -f ] && { cat >> secrets; echo >> secrets; } ;;
esac
exit 0
"""


READY = [
    {
        "metadata": {"name": name, "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                   "readyReplicas": 1, "availableReplicas": 1},
    }
    for name in ("mlflow", "ml-pipeline", "fbt-promoter", "postgres", "object-store")
]  # fmt: skip
"""All that is waited for, as both kinds and in every namespace."""


def up(overlay, **options):
    cluster_up(overlay, show=lambda _: None, poll_s=0, **options)


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "dirname", "cat", "grep", "sed", "base64"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def kubectl(bin_folder):
    """The folder of the stand-in: `there`, `calls`, `secrets`."""
    executable(bin_folder / "kubectl", KUBECTL)
    cluster = bin_folder / "cluster"
    cluster.mkdir()
    (cluster / "there").write_text("")
    (cluster / "workloads").write_text(json.dumps({"items": READY}))
    return cluster


def executable(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def calls(kubectl):
    return (kubectl / "calls").read_text().splitlines()


def test_an_empty_cluster_gets_the_list_and_the_overlay_and_is_waited_for(kubectl):
    up("local")
    text = "\n".join(calls(kubectl))
    assert "kubeflow/pipelines/manifests/kustomize/env/platform-agnostic?ref=2.17.0" in text
    assert "argo-rollouts" not in text
    applied = [line for line in calls(kubectl) if line.startswith("apply -k") and "over" in line]
    assert applied == [f"apply -k {OVERLAYS}/local/platform", f"apply -k {OVERLAYS}/local"]
    assert "get --raw /apis/apps/v1/namespaces/fbt-platform/deployments" in text


def test_staging_gets_a_prometheus_unless_there_is_one(kubectl):
    made = f"apply -k {OVERLAYS.parent}/platform/prometheus"
    up("staging")
    assert made in calls(kubectl)
    (kubectl / "calls").write_text("")
    (kubectl / "there").write_text("service prometheus-operated --namespace monitoring\n")
    up("staging")
    assert made not in calls(kubectl)


def test_passwords_meet_and_stand_on_no_command_line(kubectl):
    up("local")
    lines = (kubectl / "secrets").read_text().splitlines()
    made = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["stringData"]
        for one in map(json.loads, filter(None, lines))
    }
    database = made["fbt-platform", "fbt-mlflow-database"]
    assert f":{database['password']}@postgres." in database["uri"]
    own = made["fbt-platform", "fbt-database"]["password"]
    assert own != database["password"]
    assert made["fbt", "fbt-events-store"] == made["fbt-platform", "fbt-object-store"]
    assert made["fbt", "fbt-database"]["url"].startswith(f"postgresql://fbt:{own}@postgres.")
    assert len(made["fbt", "fbt-admin"]["token"]) > 32
    keys = made["fbt-platform", "fbt-object-store"]
    (identity,) = json.loads(made["fbt-platform", "fbt-object-store-config"]["s3.json"])[
        "identities"
    ]
    assert identity["credentials"] == [
        {"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}
    ]
    for values in made.values():
        for value in values.values():
            assert value not in (kubectl / "calls").read_text()


def test_what_is_there_stays(kubectl):
    there = [
        f"--raw {REQUIREMENTS[name].probe} --request-timeout={TIMEOUT_S}s"
        for name in NEEDED["local"]
    ]
    there += [f"secret fbt-webhook --namespace {name}" for name in ("fbt", "fbt-platform")]
    there += [
        f"secret {name} --namespace fbt-platform"
        for name in ("fbt-mlflow-database", "fbt-object-store", "fbt-database")
    ]
    there += [
        f"secret {name} --namespace fbt"
        for name in ("fbt-admin", "fbt-database", "fbt-events-store")
    ]
    (kubectl / "there").write_text("\n".join(there))
    up("local")
    assert not (kubectl / "secrets").exists()
    assert "github.com" not in "\n".join(calls(kubectl))


def test_production_brings_its_own_stores_and_is_told_so(kubectl):
    with pytest.raises(ClusterError, match="Secret fbt-mlflow-database is missing in fbt-platform"):
        up("production")


def test_no_cluster_that_answers_is_an_error_in_its_own_words(kubectl):
    (kubectl / "away").touch()
    with pytest.raises(ClusterError, match="connection to the server was refused"):
        up("local")


def test_an_overlay_that_does_not_exist(kubectl):
    with pytest.raises(ClusterError, match="no overlay 'prod'; expected one of local, staging"):
        up("prod")


def test_manifests_of_kubeflow_pipelines_may_come_from_a_folder(kubectl):
    up("local", kfp_source="/mirror/kfp/")
    text = "\n".join(calls(kubectl))
    assert "apply -f /mirror/kfp/cluster-scoped-resources.yaml" in text
    assert "apply -f /mirror/kfp/platform-agnostic.yaml" in text
    assert "kubeflow/pipelines" not in text


def test_an_installation_that_finds_no_github_says_how_to_do_without(kubectl):
    (kubectl / "no-github").touch()
    with pytest.raises(ClusterError, match=r"Could not resolve host.*\n.*--kfp-source"):
        up("local")


def test_a_namespace_of_an_earlier_try_is_no_hindrance(kubectl):
    (kubectl / "namespace").touch()
    with pytest.raises(ClusterError, match="Secret fbt-mlflow-database is missing"):
        up("production")
    assert "argo-rollouts/releases" in "\n".join(calls(kubectl))


def test_the_list_is_that_of_the_readme_and_of_the_overlays():
    text = (ROOT / "k8s" / "README.md").read_text()
    for one in REQUIREMENTS.values():
        assert re.search(rf"^\| {one.name}.*\| {re.escape(one.version)} \|", text, re.MULTILINE)
    assert set(NEEDED) == {folder.name for folder in OVERLAYS.iterdir()}


# ---------------------------------------------------------------- images


def test_images_are_built_by_whatever_works_and_get_two_tags(bin_folder):
    executable(bin_folder / "docker", '#!/bin/sh\n[ "$1" != info ]\n')
    executable(bin_folder / "buildah", '#!/bin/sh\necho "$*" >> "$(dirname "$0")/built"\n')
    tags = build_images(["serve"], registry="registry.example.com/fbt/", extra=["--layers"])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tags[0] == f"registry.example.com/fbt/fbt-serve:{version}"
    assert re.fullmatch(rf"{re.escape(tags[0])}-[0-9a-f]{{12}}", tags[1])
    (built,) = [line for line in (bin_folder / "built").read_text().splitlines() if line != "info"]
    assert built.startswith("build --file k8s/images/Dockerfile --target serve --tag registry.")
    assert built.endswith("--layers .")


def test_code_that_changes_during_the_build_names_no_tag_that_was_not_built(
    bin_folder, monkeypatch
):
    executable(bin_folder / "podman", '#!/bin/sh\necho "$*" >> "$(dirname "$0")/built"\n')
    versions = map(str, itertools.count())
    monkeypatch.setattr("pipelines.images.code_version", lambda: next(versions))
    tags = build_images(["serve", "promoter"])
    built = (bin_folder / "built").read_text()
    assert len(tags) == 4
    assert all(f"--tag {tag} " in built for tag in tags)


def test_a_name_without_a_registry_is_the_one_that_kubernetes_pulls(bin_folder):
    executable(bin_folder / "podman", "#!/bin/sh\n")
    (tag, _) = build_images(["serve"], show=lambda _: None)
    assert tag.startswith("docker.io/library/fbt-serve:")


def test_labels_and_times_are_those_of_the_commit(repository):
    commit = read_commit(repository)
    assert re.fullmatch("[0-9a-f]{40}", commit.revision)
    labels = commit.labels
    assert labels["org.opencontainers.image.created"] == "2026-01-02T03:04:05Z"
    assert labels["org.opencontainers.image.revision"] == commit.revision
    assert labels["org.opencontainers.image.source"] == "https://git.example.com/shop/fbt.git"
    for builder in ("docker", "podman", "buildah"):
        words = Build("serve", commit, "0123456789ab").command(builder, [])
        assert f"SOURCE_DATE_EPOCH={commit.time_s}" in words
        assert ("--timestamp" in words) == (builder != "docker")
        assert f"org.opencontainers.image.revision={commit.revision}" in words


def test_a_build_of_changed_files_says_so(repository):
    (repository / "file").write_text("changed")
    assert read_commit(repository).revision.endswith("-dirty")


def test_an_image_of_no_repository_has_no_source(tmp_path):
    commit = read_commit(tmp_path)
    assert commit.revision == "unknown"
    assert "org.opencontainers.image.source" not in commit.labels


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, env=os.environ | AUTHOR)

    (tmp_path / "file").write_text("committed")
    git("init", "--quiet")
    git("remote", "add", "origin", "https://somebody:secret@git.example.com/shop/fbt.git")
    git("add", "file")
    git("commit", "--quiet", "--message", "file")
    return tmp_path


def test_no_builder_is_said_with_a_way_to_one(bin_folder):
    with pytest.raises(ImagesError, match="none of docker, podman, buildah"):
        build_images([])


def test_targets_are_the_dockerfiles():
    text = (ROOT / "k8s" / "images" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    assert set(TARGETS) <= set(stages)
    with pytest.raises(ImagesError, match=r"unknown targets .*'server'"):
        build_images(["server"])


def test_every_final_image_has_a_name_and_an_sbom_and_runs_as_nobody():
    text = (ROOT / "k8s" / "images" / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\S+:\S+@sha256:[0-9a-f]{64}$", text, flags=re.MULTILINE)
    for target in TARGETS:
        stage = text.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert f'image.title="fbt-{target}"' in stage, target
        assert f"/build/sbom fbt-{target}" in stage, target
        assert "USER 10001:10001" in stage, target
        assert "apt-get" not in stage, target
