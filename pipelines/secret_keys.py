"""The Secrets that manifests ask for, with the keys that they name."""

from collections.abc import Iterator
from typing import Any

from pipelines.cluster import STORE_KEYS

Object = dict[str, Any]


def list_secret_keys(manifests: list[Object]) -> dict[tuple[str, str], set[str]]:
    """Keys by namespace and name, of all that are not optional."""
    found: dict[tuple[str, str], set[str]] = {}
    for one in manifests:
        for name, keys in _read_references(_find_pod(one)):
            found.setdefault((one["metadata"].get("namespace", ""), name), set()).update(keys)
    return found


def _find_pod(one: Object) -> Object:
    spec = one.get("spec") or {}
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    pod: Object = (spec.get("template") or {}).get("spec") or {}
    return pod


def _read_references(pod: Object) -> Iterator[tuple[str, set[str]]]:
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        for variable in container.get("env") or []:
            one = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if one and not one.get("optional"):
                yield one["name"], {one["key"]}
        for source in container.get("envFrom") or []:
            one = source.get("secretRef")
            if one and not one.get("optional"):
                # Only object stores' Secrets come whole: their keys are boto3's own names.
                yield one["name"], set(STORE_KEYS)
    for volume in pod.get("volumes") or []:
        one = volume.get("secret")
        if one and not one.get("optional"):
            yield one["secretName"], {item["key"] for item in one.get("items") or []}
