"""What k8s/images/sbom writes about the packages of an image, here those of this machine."""

import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SBOM = Path(__file__).parents[2] / "k8s" / "images" / "sbom"


@pytest.fixture
def sbom():
    loader = importlib.machinery.SourceFileLoader("sbom", str(SBOM))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("sbom", loader))
    loader.exec_module(module)
    return module


def make_jar(path, *coordinates):
    with zipfile.ZipFile(path, "w") as jar:
        for group, name, version in coordinates:
            told = f"#made\ngroupId={group}\nartifactId={name}\nversion={version}\n"
            jar.writestr(f"META-INF/maven/{group}/{name}/pom.properties", told)
    return path


def test_a_jar_is_known_by_its_own_coordinates_not_by_those_it_carries(sbom, tmp_path):
    carried, own = ("com.google", "gson", "2.9"), ("org.apache.spark", "spark-core_2.13", "4.1.2")
    made = sbom.describe_jar(make_jar(tmp_path / "spark-core_2.13-4.1.2.jar", carried, own))
    assert made["purl"] == "pkg:maven/org.apache.spark/spark-core_2.13@4.1.2"
    assert len(made["hashes"][0]["content"]) == 64


def test_a_jar_without_coordinates_is_known_by_its_hash(sbom, tmp_path):
    made = sbom.describe_jar(make_jar(tmp_path / "bundle-2.jar"))
    assert made["purl"] == "pkg:generic/bundle-2"
    assert made["hashes"]


def test_a_debian_package_is_the_one_of_its_architecture(sbom):
    made = sbom.describe_debian_package("libstdc++6", "1:12.2.0-14+deb12u1", "amd64")
    assert made["purl"].startswith("pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64")


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no Debian")
def test_the_sbom_is_valid_complete_and_repeats(sbom, tmp_path, monkeypatch):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    python = tmp_path / "fbt" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    make_jar(python.parents[1] / "one-1.jar", ("org.example", "one", "1"))
    monkeypatch.setattr(sys, "argv", ["sbom", "fbt-serve"])
    monkeypatch.setenv("VERSION", "0.1.0")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
    texts = []
    for name in ("first", "second"):
        monkeypatch.setattr(sbom, "PYTHON", python)
        monkeypatch.setattr(sbom, "TARGET", tmp_path / name / "sbom.cdx.json")
        sbom.main()
        texts.append(sbom.TARGET.read_text())
    assert texts[0] == texts[1]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(texts[0]) is None
    bom = json.loads(texts[0])
    assert bom["metadata"]["component"]["name"] == "fbt-serve"
    found = {one.get("purl", "").partition("@")[0] for one in bom["components"]}
    assert {"pkg:pypi/pip", "pkg:deb/debian/dpkg", "pkg:maven/org.example/one"} <= found
