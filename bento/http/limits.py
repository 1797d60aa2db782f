"""Limits that protect the service: admin token, rate limit, overload."""

import asyncio
import functools
import hashlib
import hmac
import ipaddress
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

from bento.http.errors import HttpError
from bento.schemas import FieldError
from bento.settings import Network, Rate, Settings, SettingsError

TICK_S = 0.02
"""Between two looks at the clock."""

TICKS_PER_SECOND = 50

_log = logging.getLogger("fbt")


class AdminToken:
    """Checks a request's token in constant time.

    Raises SettingsError where the settings name a file without a token.
    """

    def __init__(self, settings: Settings) -> None:
        self._file = settings.admin_token_file
        self._stamp: tuple[int, ...] | None = None
        self._hash: bytes | None = None
        if settings.admin_token is not None:
            self._hash = hash_token(settings.admin_token.get_secret_value().encode())
        self.refresh()
        if self._file is not None and self._hash is None:
            raise SettingsError(
                f"FBT_ADMIN_TOKEN_FILE: found {self._file}, which is missing or empty, expected "
                "a file with a token"
            )

    def refresh(self) -> None:
        """Read the file again if it has changed; keep the token if it is gone."""
        if self._file is None or (stamp := read_stamp(self._file)) in (None, self._stamp):
            return
        try:
            token = self._file.read_bytes().strip()
        except OSError:
            return
        if self._stamp is not None:
            _log.info("settings_changed", extra={"setting": "FBT_ADMIN_TOKEN_FILE"})
        self._stamp = stamp
        if token:
            self._hash = hash_token(token)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises HttpError: 403 where the service has no token, 401 where the request has not."""
        if self._hash is None:
            raise HttpError(
                HTTPStatus.FORBIDDEN,
                [],
                "Changes are switched off: the service was started without an admin token; set "
                "FBT_ADMIN_TOKEN or FBT_ADMIN_TOKEN_FILE",
            )
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # Hashes have one length: the time of a comparison does not depend on the token's.
        is_right = hmac.compare_digest(hash_token(token.strip()), self._hash)
        if scheme.lower() != b"bearer" or not is_right:
            error = FieldError(
                field="Authorization",
                found="another token" if token else "no bearer token",
                expected="Bearer and the admin token",
            )
            challenge = {"www-authenticate": 'Bearer realm="fbt"'}
            raise HttpError(HTTPStatus.UNAUTHORIZED, [error], headers=challenge)


def hash_token(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def read_stamp(file: Path) -> tuple[int, ...] | None:
    """Differs after any change of the file; None where there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class RateLimit:
    """A token bucket per client, of one period's requests, in bounded memory.

    A bucket is the time at which it will be full again (GCRA, from ATM networks).
    """

    MAX_CLIENTS = 10_000

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._cost_s = rate.seconds / rate.requests
        self._depth_s = float(rate.seconds)
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def check(self, client: str) -> None:
        """Count a request of a client. Raises HttpError (429)."""
        now, key = self._clock(), bucket_key(client)
        full_at = max(self._full_at.pop(key, now), now) + self._cost_s
        wait_s = full_at - now - self._depth_s
        if wait_s > 1e-9:  # more than a rounding error
            self._full_at[key] = full_at - self._cost_s
            raise rate_limit_error(wait_s)
        self._full_at[key] = full_at
        if len(self._full_at) > self.MAX_CLIENTS:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop full buckets, then the least recently used."""
        self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        for key in list(self._full_at)[: len(self._full_at) - self.MAX_CLIENTS // 2]:
            del self._full_at[key]


def rate_limit_error(wait_s: float) -> HttpError:
    seconds = math.ceil(wait_s)
    error = FieldError(
        field="requests", found="more than the limit", expected=f"the next one in {seconds} s"
    )
    headers = {"retry-after": str(seconds)}
    return HttpError(HTTPStatus.TOO_MANY_REQUESTS, [error], headers=headers)


@functools.lru_cache(maxsize=4096)
def bucket_key(client: str) -> str:
    """Addresses of one IPv6 customer, who has at least 2^64, share a bucket."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return client if address.ipv4_mapped else str(int(address) >> 64)


class ClientAddresses:
    """Finds the address of a client behind trusted proxies."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted
        self._is_trusted = functools.lru_cache(maxsize=4096)(self._is_in_trusted_network)

    def find(self, peer: str, forwarded_for: bytes | None) -> str:
        """The last address in X-Forwarded-For that is no trusted proxy.

        Anybody may have written the addresses to the left of it.
        """
        if not self._trusted or forwarded_for is None or not self._is_trusted(peer):
            return peer
        nearest = peer
        for hop in reversed(forwarded_for.decode("latin-1").split(",")):
            nearest = hop.strip()
            if not self._is_trusted(nearest):
                break
        return nearest[:64]

    def _is_in_trusted_network(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._trusted)


class EventLoopMonitor:
    """One timer that measures the event loop's lag and calls `on_tick` and `on_second`.

    The lag is the work ahead of a callback that is due: a new request would wait as long.
    """

    def __init__(
        self, max_lag_s: float, on_tick: Callable[[], None], on_second: Callable[[], None]
    ) -> None:
        self.overloaded = False
        self._max_lag_s = max_lag_s
        self._on_tick = on_tick
        self._on_second = on_second
        self._n_ticks = 0
        self._is_failing = False

    def start(self) -> None:
        """In the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def stop(self) -> None:
        self._timer.cancel()
        self.overloaded = False

    def _schedule(self) -> None:
        self._due = time.perf_counter() + TICK_S
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self.overloaded = time.perf_counter() - self._due > self._max_lag_s
        self._n_ticks += 1
        try:
            self._on_tick()
            if self._n_ticks % TICKS_PER_SECOND == 0:
                self._on_second()
        except Exception:
            if not self._is_failing:  # logged once, not fifty times a second
                _log.exception("chore_failed")
            self._is_failing = True
        else:
            self._is_failing = False
        finally:
            self._schedule()
