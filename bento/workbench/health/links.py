"""Links to neighbours' own pages, as people's browsers reach them."""

import os
from urllib.parse import quote

from bento.workbench.health.services import hide_password
from bento.workbench.settings import WorkbenchSettings
from components.registry.registry import KFP_RUN_TAG, MODEL, Version


class Links:
    """A link is empty where its neighbour has no page, or none that we know of."""

    def __init__(self, settings: WorkbenchSettings) -> None:
        tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
        url = settings.mlflow_url or (tracking if tracking.startswith("http") else "")
        self._mlflow = hide_password(url)
        self._kfp = hide_password(settings.kfp_url or "")

    def to_version(self, version: Version) -> str:
        return f"{self._mlflow}/#/models/{MODEL}/versions/{version.version}" if self._mlflow else ""

    def to_report(self, version: Version) -> str:
        # An experiment's number is not needed: MLflow finds a run by its id alone.
        path = f"/#/experiments/0/runs/{version.run_id}/artifacts/report.html"
        return self._mlflow + path if self._mlflow and version.run_id else ""

    def to_pipeline_run(self, version: Version) -> str:
        """Its run, or all runs."""
        run = version.tags.get(KFP_RUN_TAG)
        if not self._kfp:
            return ""
        return f"{self._kfp}/#/runs/details/{quote(run, safe='')}" if run else f"{self._kfp}/#/runs"
