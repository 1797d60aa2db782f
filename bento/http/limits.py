"""What keeps the service standing, and its changes to those who may: tokens, rates, overload."""

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

from bento.http.routing import HttpError
from bento.schemas import FieldError
from bento.settings import Network, Rate, Settings, SettingsError

TICK_S = 0.02
"""Between two looks at the clock."""

TICKS_PER_SECOND = 50

_log = logging.getLogger("fbt")


class AdminToken:
    """Compares what a request brings with the token of the settings, in constant time.

    Raises SettingsError where the settings name a file without a token.
    """

    def __init__(self, settings: Settings) -> None:
        self._file = settings.admin_token_file
        self._stamp: tuple[int, ...] | None = None
        self._digest: bytes | None = None
        if settings.admin_token is not None:
            self._digest = hash_token(settings.admin_token.get_secret_value().encode())
        self.refresh()
        if self._file is not None and self._digest is None:
            raise SettingsError(
                f"FBT_ADMIN_TOKEN_FILE: found {self._file}, which is not there or empty, expected "
                "a file that holds a token"
            )

    def refresh(self) -> None:
        """Read the file again if it is another one than before; keep the token if it is gone."""
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
            self._digest = hash_token(token)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Let pass who brings the token. Raises Refused: 403 when there is none, else 401."""
        if self._digest is None:
            raise HttpError(
                HTTPStatus.FORBIDDEN,
                [],
                "Changes are switched off: the service was started without an admin token; set "
                "FBT_ADMIN_TOKEN or FBT_ADMIN_TOKEN_FILE",
            )
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # Digests are of one length: the time of a comparison tells nothing of the token's.
        right = hmac.compare_digest(hash_token(token.strip()), self._digest)
        if scheme.lower() != b"bearer" or not right:
            error = FieldError(
                field="Authorization",
                found="another token" if token else "no bearer token",
                expected="Bearer and the admin token",
            )
            challenge = (b"www-authenticate", b'Bearer realm="fbt"')
            raise HttpError(HTTPStatus.UNAUTHORIZED, [error], headers=[challenge])


def hash_token(token: bytes) -> bytes:
    """What is compared instead of a token."""
    return hashlib.sha256(token).digest()


def read_stamp(file: Path) -> tuple[int, ...] | None:
    """What changes when a file does, by whatever means; None when it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class RateLimit:
    """A token bucket per client that holds one period's requests, of bounded memory.

    Kept as the time at which the bucket will be full again: GCRA, the algorithm of ATM networks.
    """

    MAX_CLIENTS = 10_000

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._cost_s = rate.seconds / rate.requests
        self._depth_s = float(rate.seconds)
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def check(self, client: str) -> None:
        """Count a request of a client. Raises Refused (429)."""
        now, key = self._clock(), bucket_key(client)
        full_at = max(self._full_at.pop(key, now), now) + self._cost_s
        wait_s = full_at - now - self._depth_s
        # The remainder of a division is no reason to refuse.
        if wait_s > 1e-9:
            self._full_at[key] = full_at - self._cost_s
            raise rate_limit_error(wait_s)
        self._full_at[key] = full_at
        if len(self._full_at) > self.MAX_CLIENTS:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop full buckets, and where that does not help, those that were not used longest."""
        self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        for key in list(self._full_at)[: len(self._full_at) - self.MAX_CLIENTS // 2]:
            del self._full_at[key]


def rate_limit_error(wait_s: float) -> HttpError:
    """The refusal of a client that asks faster than it may."""
    seconds = math.ceil(wait_s)
    error = FieldError(
        field="requests", found="more than the limit", expected=f"the next one in {seconds} s"
    )
    retry = (b"retry-after", str(seconds).encode())
    return HttpError(HTTPStatus.TOO_MANY_REQUESTS, [error], headers=[retry])


@functools.lru_cache(maxsize=4096)
def bucket_key(client: str) -> str:
    """Who shares a bucket: an IPv6 customer owns at least 2^64 addresses."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return client if address.ipv4_mapped else str(int(address) >> 64)


class ClientAddresses:
    """Says who asks: the peer, or whom the trusted proxies in front of us say."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted
        self._is_trusted = functools.lru_cache(maxsize=4096)(self._is_in_trusted_network)

    def address(self, peer: str, forwarded_for: bytes | None) -> str:
        """The address nearest to us that is no trusted proxy.

        What stands further left in X-Forwarded-For was written by who knows whom.
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
    """One timer for everything: measures how late the event loop is, and does chores.

    The loop is late by as much as it has to do before it can look at the clock: a request that
    comes now would wait as long.
    """

    def __init__(
        self, max_lag_s: float, on_tick: Callable[[], None], on_second: Callable[[], None]
    ) -> None:
        self.overloaded = False
        self._max_lag_s = max_lag_s
        self._on_tick = on_tick
        self._on_second = on_second
        self._n_ticks = 0
        self._failing = False

    def start(self) -> None:
        """Begin to beat in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def stop(self) -> None:
        """Beat no more."""
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
            if not self._failing:  # and not fifty times a second
                _log.exception("chore_failed")
            self._failing = True
        else:
            self._failing = False
        finally:
            self._schedule()
