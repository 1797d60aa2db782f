"""The promoter's HTTP server: MLflow's webhook, probes and metrics.

A webhook only wakes the promoter, which then reads the registry. A lost one costs the seconds until
the next poll.
"""

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_AGE_S = 300
"""Also how far the clocks of MLflow's pod and this one may be apart."""
MAX_BODY_BYTES = 64 * 1024
"""MLflow's message about an alias has some 200 bytes."""
MAX_REMEMBERED = 10_000
CLIENT_TIMEOUT_S = 5.0

ID_HEADER = "x-mlflow-delivery-id"
TIMESTAMP_HEADER = "x-mlflow-timestamp"
SIGNATURE_HEADER = "x-mlflow-signature"

log = logging.getLogger("fbt.promoter")


class WebhookRejected(Exception):
    """The reason goes to the metrics, the text to the sender."""

    def __init__(self, status: HTTPStatus, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.status, self.reason = status, reason


@dataclass
class WebhookVerifier:
    """Thread-safe."""

    secret: str
    """Without one, every message is rejected."""
    clock: Callable[[], float] = time.time
    _seen: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the message is about an alias. Raises WebhookRejected.

        Names of `headers` are in lower case. The signature comes first, so that nobody without the
        secret fills the memory of past deliveries.
        """
        delivery, sent_at = headers.get(ID_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
        signatures = headers.get(SIGNATURE_HEADER, "")
        if not self.secret:
            raise WebhookRejected(HTTPStatus.SERVICE_UNAVAILABLE, "no secret")
        expected = signature(self.secret, delivery, sent_at, body)
        given = [one.encode() for one in signatures.split(" ")]
        if not any(hmac.compare_digest(expected.encode(), one) for one in given):
            raise WebhookRejected(HTTPStatus.UNAUTHORIZED, "wrong signature")
        if not sent_at.isascii() or not sent_at.isdigit():
            raise WebhookRejected(HTTPStatus.BAD_REQUEST, "no timestamp")
        self._reject_wrong_time(int(sent_at))
        self._reject_replay(delivery)
        return _is_about_alias(body)

    def _reject_wrong_time(self, sent_at: int) -> None:
        age = self.clock() - sent_at
        if abs(age) <= MAX_AGE_S:
            return
        away = f"{abs(age):.0f} s {'behind' if age > 0 else 'ahead of'} this pod's"
        text = (
            f"old timestamp: MLflow's clock is {away}, or the message is a copy; allowed are "
            f"{MAX_AGE_S} s"
        )
        # Only who has the secret gets here, so that nobody else fills the log.
        log.warning("%s; set the clocks of the nodes (NTP); polls go on without webhooks", text)
        raise WebhookRejected(HTTPStatus.BAD_REQUEST, "old timestamp", text)

    def _reject_replay(self, delivery: str) -> None:
        now = self.clock()
        with self._lock:
            if delivery in self._seen:
                raise WebhookRejected(HTTPStatus.CONFLICT, "replay")
            # A message from the future stays valid for up to twice its age limit.
            kept = {one: at for one, at in self._seen.items() if now - at <= 2 * MAX_AGE_S}
            if len(kept) >= MAX_REMEMBERED:
                raise WebhookRejected(HTTPStatus.TOO_MANY_REQUESTS, "too many")
            self._seen = {**kept, delivery: now}


def signature(secret: str, delivery: str, sent_at: str, body: bytes) -> str:
    """`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{delivery}.{sent_at}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class WebhookServer(ThreadingHTTPServer):
    """`wake` is called for messages about an alias, `count` with every outcome.

    `pages` return status, content type and content by path.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        verifier: WebhookVerifier,
        wake: Callable[[], None],
        count: Callable[[str], None],
        pages: Mapping[str, Callable[[], tuple[int, str, bytes]]],
    ) -> None:
        super().__init__(address, Handler)
        self.verifier, self.wake, self.count, self.pages = verifier, wake, count, pages

    def handle_error(self, *_: object) -> None:
        """A client hung up or never finished."""


class Handler(BaseHTTPRequestHandler):
    server: WebhookServer
    timeout = CLIENT_TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fbt", ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        self._send(*page()) if page else self._send_text(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        self.close_connection = True
        if self.path != "/webhook":
            return self._send_text(HTTPStatus.NOT_FOUND, "no such page")
        try:
            body = self._read_body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            outcome = "accepted" if self.server.verifier.accept(headers, body) else "ignored"
            if outcome == "accepted":
                self.server.wake()
            self.server.count(outcome)
            self._send_text(HTTPStatus.ACCEPTED, outcome)
        except WebhookRejected as rejected:
            self.server.count(rejected.reason)
            self._send_text(rejected.status, str(rejected))

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise WebhookRejected(HTTPStatus.LENGTH_REQUIRED, "no length")
        if int(length) > MAX_BODY_BYTES:
            raise WebhookRejected(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise WebhookRejected(HTTPStatus.BAD_REQUEST, "cut off")
        return body

    def _send_text(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        # The client may be gone.
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Probes come every few seconds, and webhooks are counted."""


def _is_about_alias(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("entity") == "model_version_alias"
