"""Timeouts and retries of the client."""

import email.utils
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import httpx
from pydantic import BaseModel, ConfigDict, Field

RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RetryPolicy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    connect_s: float = Field(default=0.5, gt=0)
    read_s: float = Field(default=2.0, gt=0)
    """Read timeout in seconds, per try."""
    deadline_s: float = Field(default=5.0, gt=0)
    """Seconds for all tries of one request and the waits between them."""
    bulk_s: float = Field(default=30.0, gt=0)
    """Replaces `read_s` and `deadline_s` for batches and catalogue changes."""
    attempts: int = Field(default=3, ge=1, le=20)
    """Maximum number of tries, the first included."""
    backoff_s: float = Field(default=0.1, gt=0)
    """Upper bound of the first wait; it doubles with every try. Waits are random (full jitter)."""


class RetryState:
    """The tries of one request."""

    def __init__(self, policy: RetryPolicy, bulk: bool, idempotent: bool) -> None:
        self._policy, self._idempotent = policy, idempotent
        self._read_s = policy.bulk_s if bulk else policy.read_s
        self._deadline = time.monotonic() + (policy.bulk_s if bulk else policy.deadline_s)
        self.n_tries = 0

    def start_try(self) -> httpx.Timeout:
        self.n_tries += 1
        left_s = max(self._deadline - time.monotonic(), 0.001)
        connect_s = min(self._policy.connect_s, left_s)
        return httpx.Timeout(min(self._read_s, left_s), connect=connect_s, pool=connect_s)

    def wait_after_error(self, error: httpx.TransportError) -> float | None:
        """Seconds until the next try; None if there is none."""
        is_safe = self._idempotent or isinstance(error, NEVER_SENT)
        return self._allow(self._backoff_s()) if is_safe else None

    def wait_after(self, response: httpx.Response) -> float | None:
        """Seconds until the next try; None if the response is final."""
        # A write that is answered 503 may have been made all the same.
        retried = RETRIED if self._idempotent else RETRIED[:1]
        if response.status_code not in retried:
            return None
        return self._allow(parse_retry_after(response.headers) + self._backoff_s())

    def _backoff_s(self) -> float:
        return random.uniform(0, self._policy.backoff_s * 2 ** (self.n_tries - 1))

    def _allow(self, wait_s: float) -> float | None:
        in_time = time.monotonic() + wait_s < self._deadline
        return wait_s if in_time and self.n_tries < self._policy.attempts else None


def parse_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; the header may hold a date. 0 for none."""
    header = headers.get("Retry-After", "")
    if header.strip().isdigit():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
