"""Waits for a run of Kubeflow Pipelines, also while its server is away."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipelines.kfp_server import PORT_FORWARD, KfpError, kfp_client

if TYPE_CHECKING:
    from kfp import Client

FINAL_STATES = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "ERROR")
POLL_S = 10.0
MAX_AWAY_S = 300.0
"""A server that moves to another node is back in less; a port-forward ends with its pod."""
AWAY_STATUSES = (500, 502, 503, 504)


def wait_for(
    run_id: str,
    endpoint: str,
    namespace: str,
    wait_s: float,
    show: Callable[[str], None] = print,
    poll_s: float = POLL_S,
) -> None:
    """Raises KfpError if the run fails or does not end in `wait_s`."""
    with kfp_client(endpoint, namespace) as client:
        wait_for_end(client, run_id, wait_s, poll_s, show)


def wait_for_end(
    client: "Client",
    run_id: str,
    wait_s: float,
    poll_s: float,
    show: Callable[[str], None],
    max_away_s: float = MAX_AWAY_S,
) -> None:
    """As `wait_for`. kfp's own waiting ignores canceled runs, and ends with the connection."""
    # It warns of each of its own retries.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    run = RunWatch(client, run_id, show, max_away_s)
    deadline = time.monotonic() + wait_s
    while run.look() not in FINAL_STATES:
        if time.monotonic() > deadline:
            raise KfpError(
                f"submit: the run has not ended after {wait_s:g} s and continues: {run.link}; "
                f"`{run.wait_command}` waits for it again"
            )
        time.sleep(poll_s)
    if run.state != "SUCCEEDED":
        reason = f": {run.error}" if run.error else ""
        raise KfpError(f"submit: the run {run.state.lower()}{reason}; see its steps: {run.link}")


class RunWatch:
    def __init__(
        self, client: "Client", run_id: str, show: Callable[[str], None], max_away_s: float
    ) -> None:
        self._client, self._run_id, self._show = client, run_id, show
        self._max_away_s, self._away_since = max_away_s, 0.0
        self.endpoint = client._get_url_prefix()
        self.link = f"{self.endpoint}/#/runs/details/{run_id}"
        self.wait_command = f"fbt wait {run_id} --endpoint {self.endpoint}"
        self.state, self.error = "", ""

    def look(self) -> str:
        """The state; the last one known while the server is away. Raises KfpError."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            found = self._client.get_run(self._run_id)
        except ApiException as error:
            reason = f"answered {error.status}: {error.reason}"
            if error.status not in AWAY_STATUSES:
                raise KfpError(self._explain(reason)) from None
            self._bear(reason)
        except (HTTPError, OSError) as error:
            self._bear(f"cannot be reached ({str(error).splitlines()[0][:200]})")
        else:
            self._take(found)
        return self.state

    def _bear(self, reason: str) -> None:
        now = time.monotonic()
        if not self._away_since:
            self._away_since = now
            self._show(
                f"  KFP at {self.endpoint} {reason}; the run goes on without it, asking again "
                f"for {self._max_away_s:g} s"
            )
        if now - self._away_since > self._max_away_s:
            raise KfpError(self._explain(f"{reason}, for {self._max_away_s:g} s"))

    def _explain(self, reason: str) -> str:
        return (
            f"submit: KFP at {self.endpoint} {reason}; run {self._run_id} is not lost and goes on "
            f"there. When KFP answers again (a port-forward ends with its pod: `{PORT_FORWARD}`), "
            f"`{self.wait_command}` waits for it again"
        )

    def _take(self, found: Any) -> None:
        if self._away_since:
            self._away_since = 0.0
            self._show(f"  KFP at {self.endpoint} answers again")
        if str(found.state) != self.state:
            self.state = str(found.state)
            self._show(f"  {self.state.lower()}")
        self.error = found.error.message if found.error else ""
