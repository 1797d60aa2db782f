"""Requests to an MLflow server by its HTTP API, for images that do not carry MLflow."""

import base64
import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit


@dataclass(frozen=True)
class MlflowServer:
    uri: str
    authorization: str = field(default="", repr=False)
    """The header."""
    timeout_s: float = 30.0

    def ask(
        self, method: str, call: str, query: Any = (), body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer of a call below /api/2.0/mlflow. Raises as `open`, and ValueError."""
        with self.open(method, f"/api/2.0/mlflow/{call}", query, body) as response:
            answer = json.load(response)
        if not isinstance(answer, dict):
            raise ValueError(f"answered {call} with {type(answer).__name__}")
        return answer

    def open(
        self, method: str, path: str, query: Any = (), body: dict[str, Any] | None = None
    ) -> Any:
        """The response. Raises urllib's HTTPError for a refusal, and OSError or HTTPException."""
        url = self.uri.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, method=method)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self.authorization:
            request.add_header("Authorization", self.authorization)
        return urllib.request.urlopen(request, timeout=self.timeout_s, context=_trust(url))


def connect_server(uri: str, timeout_s: float = 30.0) -> MlflowServer:
    """With the login of MLflow's own variables, else of the address."""
    parts = urlsplit(uri)
    login, _, place = parts.netloc.rpartition("@")
    authorization = _authorization_from_environment() or (
        _to_basic(unquote(login)) if login else ""
    )
    return MlflowServer(parts._replace(netloc=place).geturl(), authorization, timeout_s)


def _authorization_from_environment() -> str:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"Bearer {token}"
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return _to_basic(f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}") if user else ""


def _to_basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def read_message(error: urllib.error.HTTPError) -> str:
    """MLflow's own words, where it has some."""
    try:
        return str(json.loads(error.read(2**16))["message"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)


def _trust(url: str) -> ssl.SSLContext | None:
    """By MLflow's own variables."""
    if not url.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
