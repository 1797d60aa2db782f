"""What people think of versions: their grades, beside the offline measures of the runs."""

from components.judging.graded import FILE, FOLDER, Judgements
from components.judging.read import Interval
from components.registry import registry
from components.registry.registry import registry_client

METRIC = "judged."
"""Prefix of a run's metrics: `judged.grade`, `….lower`, `….upper`, `judged.n_pages`."""
GRADE_TAG = "fbt.judged_grade"
"""Mean and its 95 % bounds: `2.31 (2.10 to 2.52)`."""
PAGES_TAG, JUDGES_TAG = "fbt.judged_pages", "fbt.judged_judges"
ALPHA_TAG, CASE_TAG = "fbt.judged_alpha", "fbt.judged_case"


def record_judgements(version: str, judged: Judgements, grade: Interval, n_pages: int) -> None:
    """As metrics, tags and an artefact of the version; a later record replaces an earlier one's
    tags and artefact. Raises RegistryError."""
    metrics = {
        "grade": grade.mean, "grade.lower": grade.low, "grade.upper": grade.high,
        "n_pages": n_pages, "n_judges": judged.n_judges, "alpha": judged.alpha,
    }  # fmt: skip
    tags = {
        PAGES_TAG: str(n_pages),
        JUDGES_TAG: str(judged.n_judges),
        ALPHA_TAG: "" if judged.alpha is None else f"{judged.alpha:.2f}",
        CASE_TAG: judged.case,
        registry.JUDGED_AT_TAG: judged.judged_at,
        GRADE_TAG: f"{grade.mean:.2f} ({grade.low:.2f} to {grade.high:.2f})",
    }
    with registry_client() as client:
        run_id = registry.get_run_id(client, version)
        client.log_text(run_id, judged.model_dump_json(indent=1), f"{FOLDER}/{FILE}")
        for name, value in metrics.items():
            if value is not None:
                client.log_metric(run_id, f"{METRIC}{name}", float(value))
        for key, text in tags.items():
            client.set_model_version_tag(registry.MODEL, version, key, text)
