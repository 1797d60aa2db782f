"""Every rendered object against the schema of its kind, strictly: an unknown field is a mistake."""

import functools
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.manifests.conftest import TARGETS, name_of, rendered

KUBERNETES = ("1.34", "1.36")
"""The oldest that is supported, and the one that all is tried on."""

BUILT_IN = ("v1", "apps/v1", "autoscaling/v2", "batch/v1", "policy/v1", "networking.k8s.io/v1")
CRDS = Path(__file__).parent / "crds"


def is_built_in(one):
    version = one["apiVersion"]
    return version in BUILT_IN or version.startswith("rbac.authorization.k8s.io/")


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("target", TARGETS)
def test_kubernetes_own_kinds(target, version):
    found = [one for one in rendered(target) if is_built_in(one)]
    assert found
    for one in found:
        if complaint := find_complaint(json.dumps(one, sort_keys=True), version):
            pytest.fail(f"{name_of(one)}: {complaint}")


@functools.cache
def find_complaint(text, version):
    """What is wrong with an object; most are the same in many combinations."""
    try:
        kubernetes_validate.validate(json.loads(text), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"


@pytest.mark.parametrize("target", TARGETS)
def test_custom_resources(target):
    for one in rendered(target):
        if not is_built_in(one):
            complaint = find_custom_complaint(json.dumps(one, sort_keys=True))
            assert not complaint, f"{name_of(one)}: {complaint}"


@functools.cache
def find_custom_complaint(text):
    one = json.loads(text)
    schema = schemas().get((one["apiVersion"], one["kind"]))
    assert schema, f"no definition of {one['apiVersion']} {one['kind']} in {CRDS}"
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(one), key=str)
    return f"{errors[0].json_path}: {errors[0].message}" if errors else ""


@functools.cache
def schemas():
    """The strict schema by (apiVersion, kind) of every definition in the folder."""
    found = {}
    for file in sorted(CRDS.glob("*.yaml")):
        spec = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]
        (version,) = spec["versions"]
        key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
        found[key] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema):
    """The schema with Kubernetes' own words translated, and unknown fields forbidden."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: value for name, value in schema.items() if not name.startswith("x-")}
    made.pop("format", None)
    for name in ("items", "additionalProperties", "not"):
        if name in made:
            made[name] = strict(made[name])
    for name in ("allOf", "anyOf", "oneOf"):
        if name in made:
            # Of these only conditions on fields that are declared outside of them.
            made[name] = [dict(one) for one in made[name]]
    if "properties" in made:
        made["properties"] = {name: strict(one) for name, one in made["properties"].items()}
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
        if not open_ended and "additionalProperties" not in made:
            made["additionalProperties"] = False
    # An embedded resource's metadata is declared as an object and means ObjectMeta.
    return made


def test_the_strict_schema_refuses_what_the_definition_does_not_know():
    definition = {
        "type": "object",
        "properties": {"weight": {"x-kubernetes-int-or-string": True}, "name": {"type": "string"}},
    }
    validator = jsonschema.Draft202012Validator(strict(definition))
    assert validator.is_valid({"weight": "5%", "name": "canary"})
    assert not validator.is_valid({"wieght": 5})
    assert not validator.is_valid({"name": 5})
