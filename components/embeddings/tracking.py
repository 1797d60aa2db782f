"""Tracks the sweep in MLflow. Optional: when MLflow fails, the sweep goes on."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from components.experiment import find_or_create_experiment, tag_parent
from components.progress import log_progress

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}  # No telemetry, and short time-outs for a server that is down

Track = Callable[[str, Mapping[str, Any]], None]


@contextmanager
def start_tracking(uri: str | None, name: str, params: Mapping[str, Any]) -> Iterator[Track]:
    """A function that logs a trial by its name, as a run nested in the run `name`.

    A no-op without `uri`, and from the first MLflow error on.
    """
    if not uri:
        yield lambda name, result: None
        return
    record = _MlflowRecorder(uri)
    record.attempt(record.start, name, params)
    yield lambda name, result: record.attempt(record.add, name, result)
    record.attempt(record.finish)


class _MlflowRecorder:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.reachable = True

    def attempt(self, action: Callable[..., None], *args: Any) -> None:
        if not self.reachable:
            return
        try:
            action(*args)
        except Exception as error:
            self.reachable = False
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            log_progress(f"sweep: MLflow at {self.uri} failed, going on without it ({reason})")

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiment = find_or_create_experiment(self.client).experiment_id
        self.parent = self._create_run(name, params, tag_parent(self.client))

    def add(self, name: str, result: Mapping[str, Any]) -> None:
        run_id = self._create_run(name, result["config"], {"mlflow.parentRunId": self.parent})
        for key in ("ndcg_item", "ndcg_cart", "beta_single", "beta_cart", "cpu_s"):
            if result[key] is not None:
                self.client.log_metric(run_id, key, result[key])
        self.client.set_tag(run_id, "state", result["state"])
        self.client.set_tag(run_id, "error", result["error"][:5000])
        failed = result["state"] == "failed"
        self.client.set_terminated(run_id, status="FAILED" if failed else "FINISHED")

    def finish(self) -> None:
        self.client.set_terminated(self.parent)

    def _create_run(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        tags = {"mlflow.runName": name, **tags}
        run_id = str(self.client.create_run(self.experiment, tags=tags).info.run_id)
        for key, value in params.items():
            self.client.log_param(run_id, key, value)
        return run_id
