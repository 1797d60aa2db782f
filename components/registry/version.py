"""What a version says of itself: parameters, metrics, tags, drawn from the run's own files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.bundle.bundle import read_manifest, sha256_of
from components.progress import say
from components.registry.place import check_experiment
from components.registry.registry import (
    BUNDLE_HASH_TAG,
    CHECKS_TAG,
    ROLLOUT_TAG,
    VERDICT_TAG,
    register,
)
from components.results import flat_numbers, read_json

RUN_KEY_TAG = "fbt.run_key"


def register_run(artefacts: Mapping[str, Path], parameters: Mapping[str, Any], run_key: str) -> str:
    """Register a run's artefacts (by the names the registry gives them); return the version."""
    check_experiment()
    manifest = read_manifest(artefacts["bundle"])
    evaluation = read_json(artefacts["evaluation.json"])
    verdict = read_json(artefacts["verdict.json"])
    metrics = flat_numbers({"test": evaluation["tasks"], "paired": evaluation["paired"]})
    if manifest.search_recall is not None:
        metrics["ann_recall_at_10"] = manifest.search_recall
    model = evaluation["tasks"]
    tags = {
        VERDICT_TAG: "passed" if verdict["passed"] else "failed",
        RUN_KEY_TAG: run_key,
        BUNDLE_HASH_TAG: sha256_of(artefacts["bundle"] / "bundle.json"),
        "fbt.ndcg_a": f"{model['a']['model']['ndcg']['mean']:.4f}",
        "fbt.ndcg_b": f"{model['b']['model']['ndcg']['mean']:.4f}",
        "fbt.coverage_a": f"{model['a']['model']['coverage']:.3f}",
        "fbt.data_window": " to ".join(manifest.data_window or ("no timestamps",)),
        "fbt.git_revision": manifest.git_revision,
        "fbt.code_version": manifest.code_version,
        "fbt.products": str(manifest.n_items),
        ROLLOUT_TAG: "registered",
    }
    if failed := failed_checks(artefacts):
        tags[CHECKS_TAG] = " ".join(failed)
    params = {**parameters, **{f"model.{key}": value for key, value in manifest.config.items()}}
    version = register(artefacts, params, metrics, tags)
    say(f"registered as version {version}")
    return version


def failed_checks(artefacts: Mapping[str, Path]) -> list[str]:
    """`TABLE.CHECK` of every data check that failed: warnings, for a critical one ends its run."""
    reports = [read_json(artefacts[f"checks/{table}.json"]) for table in ("order_lines", "baskets")]
    return [
        f"{report['table']}.{check['name']}"
        for report in reports
        for check in report["checks"]
        if not check["passed"]
    ]
