"""The locks of the images, beside requirements.lock and the extras of pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest

from components.package.requirements import list_serving_requirements
from pipelines.images import TARGETS

ROOT = Path(__file__).parents[2]
LOCKS = {file.stem: file for file in (ROOT / "k8s/images/requirements").glob("*.lock")}
EXTRAS = {
    "serve": ["serve", "signing"],
    "steps": ["serve", "steps", "spark", "signing"],
    "promoter": ["deploy", "signing"],
    "mlflow": ["mlflow"],
    "workbench": ["serve", "workbench", "signing"],
}


def read_pins(file):
    """The hashes by `name==version`."""
    blocks = re.split(r"^(?=[a-z0-9])", file.read_text(), flags=re.MULTILINE)[1:]
    return {block.split()[0]: set(re.findall(r"--hash=(\S+)", block)) for block in blocks}


def names(requirements):
    return {line.partition("==")[0] for line in requirements}


def test_every_image_has_a_lock():
    assert set(LOCKS) == {*TARGETS, "build", "sbom"}
    assert set(EXTRAS) == set(TARGETS)


@pytest.mark.parametrize("image", sorted(LOCKS))
def test_an_images_lock_has_the_pins_and_hashes_of_the_common_lock(image):
    common, own = read_pins(ROOT / "requirements.lock"), read_pins(LOCKS[image])
    assert own
    assert all(own.values())
    assert {pin: common.get(pin) for pin in own} == own, "run k8s/images/lock"


@pytest.mark.parametrize("image", sorted(EXTRAS))
def test_an_images_lock_has_all_that_its_extras_declare(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][extra] for extra in EXTRAS[image])
    declared = [*project["dependencies"], *(line for lines in extras for line in lines)]
    wanted = {re.match(r"[\w.-]+", line)[0].lower() for line in declared}
    assert wanted <= names(read_pins(LOCKS[image])), "run k8s/images/lock"


def test_the_serving_image_has_what_a_bento_installs():
    found = names(read_pins(LOCKS["serve"]))
    assert names(list_serving_requirements().splitlines()) <= found
    assert not {"pyspark", "mlflow", "kfp", "gensim", "pandas", "pytest"} & found


def test_no_lock_names_a_registry():
    for file in (ROOT / "requirements.lock", *LOCKS.values()):
        assert not re.search(r"https?://|index-url", file.read_text().replace("--no-emit-", "")), (
            file
        )
