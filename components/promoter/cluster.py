"""The Kubernetes API as plain dictionaries.

The official client's typed models refuse fields of newer servers and do not know Rollouts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from components.promoter.api_server import ApiServer, find_pod_server, from_official_client

Object = dict[str, Any]

KINDS: Mapping[str, tuple[str, str]] = {
    "Deployment": ("apis/apps/v1", "deployments"),
    "Event": ("api/v1", "events"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "Pod": ("api/v1", "pods"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Rollout": ("apis/argoproj.io/v1alpha1", "rollouts"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
}

TIMEOUT_S = (3.0, 10.0)
"""To connect, and to read."""
MERGE_PATCH = "application/merge-patch+json"


class ClusterError(RuntimeError):
    """The message names the request and the reason."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """0 without an answer."""


class Conflict(ClusterError):
    """Somebody else wrote first."""


class Gone(ClusterError):
    """The server has forgotten where a watch began."""


@dataclass(frozen=True)
class Cluster:
    api: ApiServer
    namespace: str

    def get(self, kind: str, name: str) -> Object | None:
        """None when the object, or its kind, does not exist."""
        try:
            found: Object = self._request("GET", kind, name)
            return found
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def list_objects(self, kind: str, selector: str = "") -> list[Object]:
        query = [("labelSelector", selector)] if selector else []
        return list(self._request("GET", kind, query=query).get("items") or [])

    def create(self, kind: str, body: Object) -> Object:
        """Raises Conflict when it exists."""
        version = KINDS[kind][0].removeprefix("apis/").removeprefix("api/")
        made: Object = self._request(
            "POST", kind, body={"apiVersion": version, "kind": kind, **body}
        )
        return made

    def replace(self, kind: str, body: Object) -> Object:
        """Raises Conflict for an old resourceVersion."""
        written: Object = self._request("PUT", kind, body["metadata"]["name"], body)
        return written

    def patch(self, kind: str, name: str, body: Object) -> Object:
        """Merge patch. Raises Conflict for an old resourceVersion."""
        written: Object = self._request("PATCH", kind, name, body, content_type=MERGE_PATCH)
        return written

    def watch(self, kind: str, name: str, timeout_s: int) -> Iterator[str]:
        """Types of changes from now on, until the server ends the watch. Raises Gone."""
        query = [
            ("watch", "true"),
            ("fieldSelector", f"metadata.name={name}"),
            ("timeoutSeconds", str(timeout_s)),
        ]
        response = self._send("GET", kind, query=query, stream=True)
        try:
            for line in _read_lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"].get("code", 0)
                    error = Gone if status == 410 else ClusterError
                    raise error(f"cluster: watching {kind} {name}: {event['object']}", status)
                yield event["type"]
        finally:
            response.close()
            response.release_conn()

    def _request(
        self,
        method: str,
        kind: str,
        name: str = "",
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        query: list[tuple[str, str]] | None = None,
    ) -> Any:
        response = self._send(method, kind, name, body, content_type=content_type, query=query)
        try:
            return json.loads(response.data)
        except ValueError as error:
            raise _to_no_answer(f"{method} {kind} {name}", error) from error

    def _send(
        self,
        method: str,
        kind: str,
        name: str = "",
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        query: list[tuple[str, str]] | None = None,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        path, plural = KINDS[kind]
        url = f"/{path}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")
        request = f"{method} {kind} {name}"
        try:
            response = self.api.request(
                method, url, body=None if body is None else json.dumps(body).encode(),
                content_type=content_type, query=query or [], stream=stream,
                timeout_s=(TIMEOUT_S[0], 60.0) if stream else TIMEOUT_S,
            )  # fmt: skip
            if response.status < 300:
                return response
            raise _to_cluster_error(request, response.status, response.data)
        except (HTTPError, OSError) as error:
            raise _to_no_answer(request, error) from error


def connect(namespace: str) -> Cluster:
    """By the pod's service account, else by KUBECONFIG."""
    if found := find_pod_server():
        return Cluster(found, namespace)
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise ClusterError(
            f"cluster: neither a pod's service account nor a kubeconfig was found ({error}); "
            "run in a pod, or set KUBECONFIG"
        ) from None
    return Cluster(from_official_client(client.ApiClient(configuration)), namespace)


def _to_cluster_error(request: str, status: int, body: bytes) -> ClusterError:
    try:
        reason = str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        reason = body[:200].decode(errors="replace")
    kind = {409: Conflict, 410: Gone}.get(status, ClusterError)
    return kind(f"cluster: {request}: {status} {reason}", status)


def _to_no_answer(request: str, error: Exception) -> ClusterError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ClusterError(
        f"cluster: {request} had no answer ({reason}); the promoter tries again, and what serves "
        "goes on serving"
    )


def _read_lines(response: BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    try:
        for chunk in response.stream(2**16):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line.strip())
    except (HTTPError, OSError) as error:
        raise ClusterError(f"cluster: a watch broke ({error})") from error
