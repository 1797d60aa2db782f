"""Bundles as images: what `fbt bundle-image` builds, and what the promoter does with the names."""

import copy
import json
import os

import pytest

from components.model.bundle import compute_sha256
from components.model.verification import VERIFIED_FILE, verify_bundle
from components.promoter.workload import VERSION_LABEL, build_pin, read_pinned_version
from pipelines.bundle_image import build_bundle_image
from pipelines.images import ImagesError
from tests.factories import make_bundle
from tests.fakes import FakeMlflow
from tests.manifests.conftest import find, rendered


@pytest.fixture
def deployment():
    return copy.deepcopy(find(rendered("base+bundle-image"), "Deployment", "fbt"))


def volumes_of(template):
    return {one["name"]: one for one in template["spec"]["volumes"]}


def test_a_pin_names_the_image_and_leaves_the_other_volumes(deployment):
    deployment["metadata"]["annotations"]["fbt/bundle-image"] = "registry.example.com/fbt-bundle"
    pin = build_pin(deployment, "7")
    assert pin["metadata"]["labels"] == {VERSION_LABEL: "7"}
    before, after = volumes_of(deployment["spec"]["template"]), volumes_of(pin)
    reference = "registry.example.com/fbt-bundle:7"
    assert after.pop("bundle")["image"] == {"pullPolicy": "IfNotPresent", "reference": reference}
    assert after == {name: one for name, one in before.items() if name != "bundle"}


def test_a_pin_without_images_changes_the_label_alone():
    base = find(rendered("base"), "Deployment", "fbt")
    assert build_pin(base, "7") == {"metadata": {"labels": {VERSION_LABEL: "7"}}}


def test_a_deployment_that_changes_over_to_images_is_pinned_anew(deployment):
    template = deployment["spec"]["template"]
    template["metadata"]["labels"][VERSION_LABEL] = "7"
    assert read_pinned_version(deployment) == ""
    template["spec"] |= build_pin(deployment, "7")["spec"]
    assert read_pinned_version(deployment) == "7"


BUILDER = """#!/bin/sh
folder=$(dirname "$0")
[ "$1" != build ] || for context; do :; done
[ -z "$context" ] || cp -r "$context" "$folder/context"
echo "$*" >> "$folder/calls"
"""
"""A stand-in that keeps what it would build."""


@pytest.fixture
def builder(tmp_path, monkeypatch):
    (tmp_path / "buildah").write_text(BUILDER)
    (tmp_path / "buildah").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr("pipelines.images.BUILDERS", {"buildah": ("buildah", "info")})
    return tmp_path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


def test_the_image_carries_the_registered_bundle_and_says_which(builder, bundle, monkeypatch):
    with FakeMlflow(bundle).running() as mlflow:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        mlflow.aliases["challenger"] = mlflow.add()
        tag = build_bundle_image("challenger", "registry.example.com/fbt/", push=True)
    assert tag == "registry.example.com/fbt/fbt-bundle:1"
    model = builder / "context" / "model"
    assert not (model / VERIFIED_FILE).exists()
    verify_bundle(model)
    built, pushed = (builder / "calls").read_text().splitlines()[-2:]
    assert f"fbt.bundle_sha256={compute_sha256(bundle / 'bundle.json')}" in built
    assert json.loads((model / "bundle.json").read_text())["created_at"] in built
    assert pushed == f"push {tag}"


def test_a_database_file_is_no_registry_of_a_cluster(builder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with pytest.raises(ImagesError, match="expected the http"):
        build_bundle_image("1")
