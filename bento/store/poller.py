"""A thread that brings changes of the database to this process within a second.

If the database fails, earlier changes stay in force. SQLAlchemy is imported only when needed.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bento.answering.rules import RuleSet
from bento.schemas.catalogue import ChangedProduct
from bento.store.errors import StoreError

if TYPE_CHECKING:
    from bento.store.rule_rows import Revision
    from bento.store.store import Store

DATABASE_URL = "FBT_DATABASE_URL"
DATABASE_FILE = "fbt.db"

STALE_AFTER_S = 5.0
MAX_BACKOFF_S = 5.0

_log = logging.getLogger("bentoml.fbt")


def store_url(folder: Path | None = None) -> str | None:
    if given := os.environ.get(DATABASE_URL):
        return given
    return f"sqlite:///{folder / DATABASE_FILE}" if folder is not None else None


class ChangePoller:
    """Calls back from its own thread, one call at a time, until `stop`.

    `on_products` gets changed products in parts, `on_rules` all rules whenever one changed; a call
    that raises is repeated. The state is `fresh` after both. Every poll calls `on_stale`.
    """

    def __init__(
        self,
        url: str,
        on_products: Callable[[list[ChangedProduct]], None],
        on_rules: Callable[[RuleSet], None],
        interval_s: float = 1.0,
        on_stale: Callable[[float], None] = lambda _stale_s: None,
    ) -> None:
        self._url, self._interval_s = url, interval_s
        self._on_products, self._on_rules, self._on_stale = on_products, on_rules, on_stale
        self._store: Store | None = None
        self._making = threading.Lock()
        self._wake, self._read_once, self._stopped = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._run, name="fbt-live", daemon=True)
        self._started_at = time.monotonic()
        self._contact_at: float | None = None
        self._error: str | None = None
        self._migrated = False
        self._revision: Revision | None = None
        self._changed: set[str] = set()
        self._void: set[str] = set()
        self._malformed: list[str] = []

    @property
    def store(self) -> "Store":
        """Blocks at its first use. Raises StoreUnavailable for a bad URL."""
        with self._making:
            if self._store is None:
                from bento.store.store import Store

                self._store = Store(self._url)
            return self._store

    def start(self) -> "ChangePoller":
        self._started_at = time.monotonic()
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._store is not None:
            self._store.close()

    def refresh(self) -> None:
        self._wake.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first complete read; False at the timeout."""
        return self._read_once.wait(timeout_s)

    def stale_s(self) -> float:
        """Seconds since the last contact or the start; 0 while the state is fresh."""
        return 0.0 if self._state() == "fresh" else round(self._since_contact(), 3)

    def status(self) -> dict[str, Any]:
        return {
            "state": self._state(),
            "epoch": self._revision.epoch if self._revision else None,
            "revision": self._revision.value if self._revision else None,
            "seconds_since_contact": round(self._since_contact(), 3),
            "error": self._error,
            "malformed_rules": self._malformed[:10],
        }

    def _state(self) -> str:
        if not self._read_once.is_set():
            return "starting"
        late = self._since_contact() > max(STALE_AFTER_S, 3 * self._interval_s)
        return "stale" if late or self._error else "fresh"

    def _since_contact(self) -> float:
        return time.monotonic() - (self._contact_at or self._started_at)

    def _run(self) -> None:
        wait_s = self._interval_s
        while not self._stopped.is_set():
            try:
                self._poll()
                wait_s = self._interval_s
            except Exception as error:
                self._log_failure(error)
                # Random: a database that comes back must not meet all processes at once.
                wait_s = min(wait_s * 2, MAX_BACKOFF_S) * random.uniform(0.7, 1.0)
            self._on_stale(self.stale_s())
            self._wake.wait(wait_s)
            self._wake.clear()

    def _poll(self) -> None:
        if not self._migrated:
            self.store.migrate()
            self._migrated = True
        while self._apply_next_part():
            if self._stopped.is_set():
                return
        self._contact_at, self._error = time.monotonic(), None
        self._read_once.set()

    def _apply_next_part(self) -> bool:
        """Returns whether there are more."""
        changes = self.store.read_delta(self._revision)
        if changes.restarted:
            self._void |= self._changed
            self._changed = set()
        if changes.products:
            self._on_products(changes.products)
            applied = {product.product_id for product in changes.products}
            self._changed |= applied
            self._void -= applied
        if changes.rules is not None:
            self._on_rules(RuleSet(changes.rules))
            self._malformed = changes.malformed
        if self._void and not changes.more:
            # Only the former database had changed these products.
            self._on_products([ChangedProduct(one, {}) for one in sorted(self._void)])
            self._void = set()
        self._revision = changes.revision
        return changes.more

    def _log_failure(self, error: Exception) -> None:
        self._migrated = False
        words = str(error) if isinstance(error, StoreError) else type(error).__name__
        if words != self._error:
            if isinstance(error, StoreError):
                _log.warning("rules and catalogue changes stay as they were: %s", words)
            else:
                _log.exception("rules and catalogue changes stay as they were")
        self._error = words
