"""The connection to Kubernetes' API server.

In a pod by its service account alone: the official client takes 46 MB, for models that nobody here
uses. Elsewhere that client reads the kubeconfig.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import urllib3

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECTIONS = 8
"""More than the promoter has threads."""


@dataclass(frozen=True)
class ApiServer:
    url: str
    pool: urllib3.PoolManager
    read_authorization: Callable[[], str]
    """The header, which may be empty. Read for every request, for tokens are renewed."""

    def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str,
        query: list[tuple[str, str]], timeout_s: tuple[float, float], stream: bool,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        """Any status is an answer. Raises urllib3's HTTPError or OSError without one.

        The next reconcile is the retry. `timeout_s` is to connect, and to read.
        """
        headers = {"Accept": "application/json", "Content-Type": content_type}
        if authorization := self.read_authorization():
            headers["Authorization"] = authorization
        url = self.url + path + (f"?{urlencode(query)}" if query else "")
        return self.pool.request(
            method, url, body=body, headers=headers, retries=False, redirect=False,
            timeout=urllib3.Timeout(*timeout_s), preload_content=not stream,
        )  # fmt: skip


def find_pod_server(account: Path = ACCOUNT) -> ApiServer | None:
    """None outside of a pod, or in one without its account's token."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
    token, certificate = account / "token", account / "ca.crt"
    if not (host and port and token.is_file() and certificate.is_file()):
        return None
    pool = urllib3.PoolManager(ca_certs=str(certificate), maxsize=CONNECTIONS)
    address = f"[{host}]" if ":" in host else host
    return ApiServer(
        f"https://{address}:{port}", pool, lambda: f"Bearer {token.read_text().strip()}"
    )


def from_official_client(client: "ApiClient") -> ApiServer:
    """With the certificates, proxy and login of a client that is configured."""

    def read_authorization() -> str:
        settings = client.configuration.auth_settings().values()
        return next((str(one["value"]) for one in settings if one["value"]), "")

    url = client.configuration.host.rstrip("/")
    return ApiServer(url, client.rest_client.pool_manager, read_authorization)
