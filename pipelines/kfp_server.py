"""A client of a Kubeflow Pipelines server."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp import Client

ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""kfp's own variable."""

PORT_FORWARD = "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80"


class KfpError(RuntimeError):
    """The message contains the remedy."""


@contextmanager
def kfp_client(endpoint: str, namespace: str) -> "Iterator[Client]":
    """`namespace` is empty unless KFP has several users. All errors become KfpError."""
    endpoint = endpoint or os.environ.get(ENDPOINT, "")
    if not endpoint:
        raise KfpError(
            f"kfp: no server is given; open one with `{PORT_FORWARD}`, then give "
            f"--endpoint http://localhost:8080 or set {ENDPOINT}"
        )
    from kfp import Client
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        # kfp prints links that are wrong behind a port-forward of the API.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            token = os.environ.get("KF_PIPELINES_TOKEN")
            client = Client(host=endpoint, namespace=namespace or "kubeflow", existing_token=token)
        yield client
    except ApiException as error:
        raise KfpError(f"kfp: {endpoint} answered {error.status}: {_reason(error)}") from None
    except (HTTPError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise KfpError(f"kfp: {endpoint} cannot be reached ({reason}); is it up?") from error


def ensure_version(client: "Client", package: str, name: str, version: str) -> tuple[str, str]:
    """Ids of pipeline and version, made unless they exist."""
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline = find_pipeline_id(client, name) or _create_pipeline(client, name)
        for one in _list_all(
            client.list_pipeline_versions, "pipeline_versions", pipeline_id=pipeline
        ):
            if one.display_name == version:
                return str(pipeline), str(one.pipeline_version_id)
        made = client.upload_pipeline_version(package, version, pipeline_id=pipeline)
    return str(pipeline), str(made.pipeline_version_id)


def find_pipeline_id(client: "Client", name: str) -> str:
    """Empty if there is none."""
    return client.get_pipeline_id(name) or ""


def _create_pipeline(client: "Client", name: str) -> str:
    """Without a version: kfp's own upload would make a first one under the pipeline's name."""
    from kfp_server_api import V2beta1Pipeline

    wanted = V2beta1Pipeline(display_name=name, name=name)
    return str(client._pipelines_api.pipeline_service_create_pipeline(wanted).pipeline_id)


def ensure_experiment(client: "Client", name: str, namespace: str) -> str:
    """Create the experiment unless it exists; its id."""
    with contextlib.redirect_stdout(io.StringIO()):
        made = client.create_experiment(name, namespace=namespace or None)
    return str(made.experiment_id)


def _list_all(list_page: Any, field: str, **query: Any) -> Iterator[Any]:
    token = ""
    while True:
        page = list_page(page_token=token, page_size=100, **query)
        yield from getattr(page, field) or []
        token = page.next_page_token or ""
        if not token:
            return


def recurring_runs(client: "Client", experiment: str, pipeline: str) -> list[Any]:
    """Of one pipeline: two may have schedules of the same name."""
    found = _list_all(client.list_recurring_runs, "recurring_runs", experiment_id=experiment)
    return [one for one in found if one.pipeline_version_reference.pipeline_id == pipeline]


def _reason(error: Any) -> str:
    import json

    try:
        return str(json.loads(error.body).get("message") or error.reason)
    except (ValueError, TypeError, AttributeError):
        return str(error.reason)
