"""Prometheus metrics of the promoter."""

from datetime import datetime
from functools import partial

from components.promoter.decide import Phase, State, VersionInfo, in_sync

MISSING = "missing"
"""Phase without a Deployment."""


class Metrics:
    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self.steps = counter(
            "fbt_promoter_steps_total", "Steps taken, by kind and reason.", ["step", "reason"]
        )
        self.reconciles = counter(
            "fbt_promoter_reconciles_total", "Reconciles, by outcome.", ["outcome"]
        )
        self.webhooks = counter(
            "fbt_promoter_webhooks_total", "Messages to the webhook, by outcome.", ["outcome"]
        )
        self.leader = gauge("fbt_promoter_leader", "1 where this promoter acts.")
        self.last = gauge(
            "fbt_promoter_last_reconcile_timestamp_seconds", "Time of the last good reconcile."
        )
        self.in_sync = gauge("fbt_promoter_in_sync", "1 while all pods serve the champion.")
        self.phase = gauge("fbt_promoter_phase", "1 for the rollout's phase.", ["phase"])
        self.version = gauge("fbt_promoter_version", "Version numbers, 0 for none.", ["role"])
        self.created = gauge(
            "fbt_newest_version_created_timestamp_seconds",
            "Time when the newest version was registered; 0 while none is known.",
        )
        self.check_failed = gauge(
            "fbt_newest_version_check_failed",
            "1 for every data check with a warning in the run of the newest version.",
            ["table", "check"],
        )
        self._failed_before: set[tuple[str, str]] = set()
        for outcome in ("ok", "error"):
            self.reconciles.labels(outcome)

    def observe(self, state: State) -> None:
        workload = state.workload
        current = str(workload.phase) if workload else MISSING
        for phase in (*map(str, Phase), MISSING):
            self.phase.labels(phase).set(phase == current)
        newest = max(filter(str.isdigit, state.versions), key=int, default="")
        if newest:
            self._observe_newest(state.versions[newest])
        roles = {"champion": state.champion, "newest": newest}
        if workload:
            roles |= {"pinned": workload.pinned, "stable": workload.stable}
        for role, version in roles.items():
            self.version.labels(role).set(int(version) if version.isdigit() else 0)
        self.in_sync.set(in_sync(state))
        self.last.set_to_current_time()

    def _observe_newest(self, newest: VersionInfo) -> None:
        self.created.set(datetime.fromisoformat(newest.created_at).timestamp())
        names = (name.partition(".") for name in newest.checks_failed.split())
        failed = {(table, check) for table, _, check in names}
        # Set to 0 rather than removed: a series that misses one scrape resets its alert.
        self._failed_before |= failed
        for labels in self._failed_before:
            self.check_failed.labels(*labels).set(labels in failed)

    def render(self) -> tuple[int, str, bytes]:
        """Status, content type, content."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return 200, CONTENT_TYPE_LATEST, generate_latest(self.registry)
