"""Registration of a run: parameters, metrics and tags of its version."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluation.gate import PAIRED
from components.experiment import find_or_create_experiment
from components.model.bundle import compute_sha256, read_manifest
from components.model.manifest import MANIFEST_FILE
from components.progress import log_progress
from components.registry.artifact_access import check_experiment
from components.registry.reading import (
    count_unreadable,
    list_parameters,
    read_orders_reading,
    tag_reading,
)
from components.registry.registry import (
    BUNDLE_HASH_TAG,
    CHECKS_TAG,
    KFP_RUN_TAG,
    ROLLOUT_TAG,
    VERDICT_TAG,
    Version,
    list_versions,
    register,
    registry_client,
    set_challenger,
)
from components.registry.signing import SIGNED_TAG, sign_artefacts, sign_version
from components.results import flatten_numbers, read_json
from components.signing.keys import read_signing_key

RUN_KEY_TAG = "fbt.run_key"


def register_run(artefacts: Mapping[str, Path], parameters: Mapping[str, Any], run_key: str) -> str:
    """Return the version. A retried step finds the version of the same key and bundle."""
    check_experiment()
    bundle_hash = compute_sha256(artefacts["bundle"] / MANIFEST_FILE)
    for made in find_versions(run_key):
        if made.tags.get(BUNDLE_HASH_TAG) == bundle_hash:
            if read_signing_key() and SIGNED_TAG not in made.tags:
                sign_version(made.version)
            set_challenger(made.version)
            log_progress(f"is registered already, as version {made.version}")
            return made.version
    manifest = read_manifest(artefacts["bundle"])
    evaluation = read_json(artefacts["evaluation.json"])
    verdict = read_json(artefacts["verdict.json"])
    metrics = flatten_numbers(
        {"test": evaluation["tasks"], **{name: evaluation[name] for name in PAIRED.values()}}
    )
    if manifest.search_recall is not None:
        metrics["ann_recall_at_10"] = manifest.search_recall
    model = evaluation["tasks"]
    tags = {
        VERDICT_TAG: "passed" if verdict["passed"] else "failed",
        RUN_KEY_TAG: run_key,
        BUNDLE_HASH_TAG: bundle_hash,
        "fbt.ndcg_a": f"{model['item']['model']['ndcg']['mean']:.4f}",
        "fbt.ndcg_b": f"{model['cart']['model']['ndcg']['mean']:.4f}",
        "fbt.excess_a": f"{model['item']['model']['excess']['mean']:.4f}",
        "fbt.excess_b": f"{model['cart']['model']['excess']['mean']:.4f}",
        "fbt.coverage_a": f"{model['item']['model']['coverage']:.3f}",
        "fbt.data_window": " to ".join(manifest.data_window or ("no timestamps",)),
        "fbt.git_revision": manifest.git_revision,
        "fbt.code_version": manifest.code_version,
        "fbt.products": str(manifest.n_items),
        ROLLOUT_TAG: "registered",
    }
    if kfp_run := os.environ.get("FBT_KFP_RUN"):
        tags[KFP_RUN_TAG] = kfp_run
    if failed := list_failed_checks(artefacts):
        tags[CHECKS_TAG] = " ".join(failed)
    params = {**parameters, **{f"model.{key}": value for key, value in manifest.config.items()}}
    if reading := read_orders_reading(artefacts["reading.json"]):
        tags |= tag_reading(reading)
        params |= list_parameters(reading)
        metrics |= count_unreadable(reading)
    with tempfile.TemporaryDirectory(prefix="fbt-sign-") as scratch:
        signatures, signed = sign_artefacts(artefacts["bundle"], Path(scratch))
        version = register({**artefacts, **signatures}, params, metrics, {**tags, **signed})
    key = f", signed by key {signed[SIGNED_TAG][:12]}" if signed else ""
    log_progress(f"registered as version {version}{key}")
    return version


def find_versions(run_key: str) -> list[Version]:
    """Newest first. Without versions whose run was deleted or left in a renamed experiment."""
    found = [one for one in list_versions() if one.tags.get(RUN_KEY_TAG) == run_key]
    with registry_client() as client:
        experiment = find_or_create_experiment(client).experiment_id
        return [
            one
            for one in found
            if client.search_runs([experiment], f"attributes.run_id = '{one.run_id}'")
        ]


def list_failed_checks(artefacts: Mapping[str, Path]) -> list[str]:
    """`TABLE.CHECK` of failed warnings; a critical check ends its run."""
    reports = [read_json(artefacts[f"checks/{table}.json"]) for table in ("order_lines", "baskets")]
    return [
        f"{report['table']}.{check['name']}"
        for report in reports
        for check in report["checks"]
        if not check["passed"]
    ]
