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

from bento.http.errors import HttpError
from bento.schemas.problems import FieldError
from bento.settings import Network, Rate, Settings, SettingsError

TICK_S = 0.02
TICKS_PER_SECOND = 50

_log = logging.getLogger("fbt")


class AdminToken:
    """Raises SettingsError where the settings name a file without a token."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.admin_token_file
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
        """Read the file again; without a token in it, the last one stays."""
        try:
            token = self._file.read_bytes().strip() if self._file else b""
        except OSError:
            return
        if token and (hashed := hash_token(token)) != self._hash:
            if self._hash is not None:
                _log.info("settings_changed", extra={"setting": "FBT_ADMIN_TOKEN_FILE"})
            self._hash = hashed

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises HttpError: 403 if the service has no token, 401 if the request has not."""
        if self._hash is None:
            raise HttpError(
                403,
                detail="Changes are switched off: the service was started without an admin token; "
                "set FBT_ADMIN_TOKEN or FBT_ADMIN_TOKEN_FILE",
            )
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # Hashes have one length: the time of a comparison does not depend on it.
        is_right = hmac.compare_digest(hash_token(token.strip()), self._hash)
        if scheme.lower() != b"bearer" or not is_right:
            error = FieldError(
                field="Authorization",
                found="another token" if token else "no bearer token",
                expected="Bearer and the admin token",
            )
            raise HttpError(401, error, headers={"www-authenticate": 'Bearer realm="fbt"'})


def hash_token(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class RateLimit:
    """A token bucket per client, of one period's requests.

    A bucket is kept as the time at which it will be full again (GCRA, from ATM networks).
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
            seconds = math.ceil(wait_s)
            expected = f"the next one in {seconds} s"
            error = FieldError(field="requests", found="more than the limit", expected=expected)
            raise HttpError(429, error, headers={"retry-after": str(seconds)})
        self._full_at[key] = full_at
        if len(self._full_at) > self.MAX_CLIENTS:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop full buckets, then the least recently used, to bound the memory."""
        self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        for key in list(self._full_at)[: len(self._full_at) - self.MAX_CLIENTS // 2]:
            del self._full_at[key]


@functools.lru_cache(maxsize=4096)
def bucket_key(client: str) -> str:
    """An IPv6 customer has at least 2^64 addresses, which share a bucket."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return client if address.ipv4_mapped else str(int(address) >> 64)


class ClientAddresses:
    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted
        self._is_trusted = functools.lru_cache(maxsize=4096)(self._is_in_trusted_network)

    def find(self, peer: str, forwarded_for: bytes | None) -> str:
        """The last address in X-Forwarded-For that is no trusted proxy; others may be forged."""
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
    """One timer that calls `on_tick` and `on_second` and measures the event loop's lag.

    A new request would wait as long as a timer that is due.
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
