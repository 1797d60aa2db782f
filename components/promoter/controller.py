"""The promoter: brings the cluster to the champion.

It reconciles every few seconds, and at once after a change in MLflow or the cluster. Several may
run: the holder of the lease acts.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from components.promoter.cluster import Cluster, ClusterError, Conflict, Gone, connect
from components.promoter.decide import EmitEvent
from components.promoter.lease import Leadership, LeadershipLost
from components.promoter.metrics import Metrics
from components.promoter.reconcile import Promoter
from components.promoter.settings import Settings, settings_from_environment
from components.promoter.versions import subscribe
from components.promoter.webhook import WebhookServer, WebhookVerifier
from components.registry.registry import RegistryError

WATCH_S = 240
MIN_GAP_S = 0.2

log = logging.getLogger("fbt.promoter")


class Loop:
    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.settings, self._cluster = settings, cluster
        self.metrics = Metrics()
        self.leadership = Leadership(cluster, settings.lease, settings.identity, settings.lease_s)
        self.promoter = Promoter(cluster, settings, self.leadership, self.metrics)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._looped_at = time.monotonic()
        # Without a secret every message would be rejected.
        secret = settings.webhook_secret.get_secret_value()
        self._subscribed = not (settings.webhook_url and secret)

    def run(self) -> None:
        """Block until `stop`."""
        with self._serve_http(), self._run_threads():
            while not self._stop.is_set():
                self._wake.wait(self.settings.poll_s)
                self._wake.clear()
                self._looped_at = time.monotonic()
                if self.leadership.is_held and not self._stop.is_set():
                    self._reconcile()
                    # Changes come in bursts: one look sees them all.
                    self._stop.wait(MIN_GAP_S)
        self.leadership.release()

    def stop(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()

    def notify(self) -> None:
        if self.leadership.is_held:
            self._wake.set()
            return
        with suppress(ClusterError):
            self.leadership.notify_holder()

    def _subscribe(self) -> None:
        try:
            subscribe(self.settings.webhook_url, self.settings.webhook_secret.get_secret_value())
            self._subscribed = True
        except RegistryError as error:
            log.warning("no webhook yet, only polls: %s", error)

    def _reconcile(self) -> None:
        if not self._subscribed:
            self._subscribe()
        try:
            actions = self.promoter.reconcile()
        except Conflict as conflict:
            log.info("%s; looking again", conflict)
            self._wake.set()
        except (ClusterError, RegistryError, LeadershipLost) as error:
            self.metrics.reconciles.labels("error").inc()
            log.warning("%s", error)
        except Exception:
            # A bug must not end the loop silently: the metric is alerted on.
            self.metrics.reconciles.labels("error").inc()
            log.exception("reconcile failed")
        else:
            self.metrics.reconciles.labels("ok").inc()
            if not all(isinstance(action, EmitEvent) for action in actions):
                self._wake.set()

    def _renew(self) -> None:
        while not self._stop.is_set():
            was_held = self.leadership.is_held
            try:
                notified = self.leadership.renew()
                if notified or (self.leadership.is_held and not was_held):
                    self._wake.set()
            except ClusterError as error:
                log.warning("%s", error)
            self.metrics.leader.set(self.leadership.is_held)
            self._stop.wait(self.settings.lease_s / 5)

    def _watch(self, kind: str) -> None:
        name = self.settings.names_by_kind[kind]
        while not self._stop.is_set():
            pause_s = 0.5
            try:
                for _ in self._cluster.watch(kind, name, WATCH_S):
                    if self._stop.is_set():
                        return
                    self._wake.set()
            except Gone:
                pass
            except (ClusterError, ValueError):
                # The polls go on; a missing kind is looked for now and then.
                pause_s = self.settings.poll_s
            self._stop.wait(pause_s)

    @contextmanager
    def _run_threads(self) -> Iterator[None]:
        renewal = threading.Thread(target=self._renew, daemon=True)
        renewal.start()
        for kind in self.settings.names_by_kind:
            threading.Thread(target=self._watch, args=(kind,), daemon=True).start()
        try:
            yield
        finally:
            self._stop.set()
            # Watches block in a read and die with the process.
            renewal.join(timeout=5)

    @contextmanager
    def _serve_http(self) -> Iterator[None]:
        verifier = WebhookVerifier(self.settings.webhook_secret.get_secret_value())
        health = self._check_health
        pages = {"/metrics": self.metrics.render, "/healthz": health, "/readyz": health}
        address, count = (self.settings.host, self.settings.port), self._count_webhook
        http = WebhookServer(address, verifier, self.notify, count, pages)
        self.port = http.server_address[1]
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            http.shutdown()
            http.server_close()

    def _count_webhook(self, outcome: str) -> None:
        self.metrics.webhooks.labels(outcome).inc()

    def _check_health(self) -> tuple[int, str, bytes]:
        """Healthy while the loop turns: an API server that is away is no reason to restart."""
        stuck = time.monotonic() - self._looped_at > 10 * self.settings.poll_s + 120
        return (500, "text/plain", b"stuck\n") if stuck else (200, "text/plain", b"ok\n")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = settings_from_environment()
    loop = Loop(connect(settings.namespace), settings)
    signal.signal(signal.SIGTERM, loop.stop)
    signal.signal(signal.SIGINT, loop.stop)
    loop.run()


if __name__ == "__main__":
    main()
