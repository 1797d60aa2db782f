"""Leader election by a Lease, as in Kubernetes' own controllers.

Clocks of different machines are never compared: a lease has expired when its record has not
changed for its whole duration by the observer's clock.
"""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from components.promoter.cluster import Cluster, ClusterError, Conflict

POKE_ANNOTATION = "fbt/poked"
"""Written by a standby that receives a webhook."""


class LeadershipLost(RuntimeError):
    """Another promoter may act by now."""


class Leadership:
    def __init__(
        self,
        cluster: Cluster,
        name: str,
        identity: str,
        duration_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._name, self.identity = cluster, name, identity
        self._duration_s, self._clock = duration_s, clock
        self._held_until = -1.0
        self._observed: tuple[Any, float] = (None, 0.0)
        self._poke = ""

    @property
    def is_held(self) -> bool:
        """Ends well before others may acquire the lease."""
        return self._clock() < self._held_until

    def check(self) -> None:
        """Call it before every write. Raises LeadershipLost."""
        if not self.is_held:
            raise LeadershipLost(f"promoter {self.identity} no longer holds lease {self._name}")

    def renew(self) -> bool:
        """Acquire or renew if possible; whether a standby notified since. Raises ClusterError."""
        started = self._clock()
        lease = self._cluster.get("Lease", self._name)
        if lease is not None and not self._can_acquire(lease):
            self._held_until = -1.0
            return False
        try:
            self._write_lease(lease)
        except Conflict:
            # Another one acquired it or notified in between. The next round sees which.
            return False
        self._held_until = started + self._duration_s * 2 / 3
        annotations = (lease or {}).get("metadata", {}).get("annotations") or {}
        before, self._poke = self._poke, annotations.get(POKE_ANNOTATION, "")
        return bool(self._poke != before)

    def notify_holder(self) -> None:
        """Raises ClusterError."""
        poke = {"metadata": {"annotations": {POKE_ANNOTATION: uuid.uuid4().hex}}}
        self._cluster.patch("Lease", self._name, poke)

    def release(self) -> None:
        """Never raises: a lease that stays expires."""
        was_held, self._held_until = self.is_held, -1.0
        if not was_held:
            return
        try:
            lease = self._cluster.get("Lease", self._name)
            if lease and lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._cluster.replace("Lease", lease)
        except ClusterError:
            return

    def _can_acquire(self, lease: dict[str, Any]) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._observed[0]:
            self._observed = (record, self._clock())
        if holder in ("", self.identity):
            return True
        return self._clock() - self._observed[1] > float(spec.get("leaseDurationSeconds") or 0)

    def _write_lease(self, lease: dict[str, Any] | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict((lease or {}).get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "renewTime": now,
        }
        if lease is None:
            self._cluster.create("Lease", {"metadata": {"name": self._name}, "spec": spec})
        else:
            self._cluster.replace("Lease", {**lease, "spec": spec})
