"""`fbt submit` and `fbt feedback submit`: upload this code to a cluster, and run it."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipelines.compile import compile_pipeline
from pipelines.home import code_version
from pipelines.kfp_server import KfpError, ensure_experiment, ensure_version, kfp_client
from pipelines.parameters import Parameters
from pipelines.placement import ARCHIVE_PATH, NODE_SELECTOR, Placement
from pipelines.run_wait import POLL_S, wait_for_end

EXPERIMENT = "fbt"


class Target(Placement):
    endpoint: str = Field(default="", description="KFP server; empty = KF_PIPELINES_ENDPOINT")
    namespace: str = Field(default="", description="Your namespace, if KFP has several users")
    node_selector: tuple[Annotated[str, Field(pattern="^[^=]+=")], ...] = Field(
        default=(), description="LABEL=VALUE of the nodes for the steps; may be repeated"
    )


def submit(
    parameters: Parameters,
    target: Target,
    wait_s: float = 0,
    show: Callable[[str], None] = print,
    poll_s: float = POLL_S,
) -> str:
    """The run's id. Raises KfpError if it fails or does not end in `wait_s`."""
    with kfp_client(target.endpoint, target.namespace) as client:
        pipeline, version = upload_version(client, parameters.pipeline, target)
        experiment = ensure_experiment(client, EXPERIMENT, target.namespace)
        with contextlib.redirect_stdout(io.StringIO()):
            run = client.run_pipeline(
                experiment,
                f"{parameters.pipeline} {time.strftime('%Y-%m-%d %H:%M:%S')}",
                pipeline_id=pipeline,
                version_id=version,
                params=arguments(parameters, target),
            )
        link = f"{client._get_url_prefix()}/#/runs/details/{run.run_id}"
        show(f"run {run.run_id} of version {version_name(target)}: {link}")
        if wait_s:
            wait_for_end(client, str(run.run_id), wait_s, poll_s, show)
    return str(run.run_id)


def upload_version(client: Any, pipeline: str, target: Target) -> tuple[str, str]:
    """Ids of pipeline and version, uploaded unless they exist."""
    if pipeline == "feedback" and not target.events_claim:
        raise KfpError(
            "feedback: no claim is given, so the archive would end with its pod; expected "
            f"--events-claim, a PersistentVolumeClaim, which pods see as {ARCHIVE_PATH}"
        )
    name = version_name(target)
    with tempfile.TemporaryDirectory() as folder:
        package, _ = compile_pipeline(Path(folder), name, target, pipeline)
        return ensure_version(client, str(package), f"fbt-{pipeline}", name)


def version_name(target: Target) -> str:
    import hashlib

    place = target.model_dump_json(include=set(Placement.model_fields))
    return f"{code_version()}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


def arguments(parameters: Parameters, target: Target) -> dict[str, Any]:
    labels = dict(one.split("=", 1) for one in target.node_selector)
    return {**parameters.model_dump(), NODE_SELECTOR: labels}
