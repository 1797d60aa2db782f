"""A real `python -m bento.ingest`, and what it stored."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from components.events.open import open_sink
from components.package.server import build_store_env, find_free_port, run_server
from tests.service.serving import ROOT


@contextlib.contextmanager
def ingesting(url, port=0, workers=1, **settings):
    """`settings` are those of bento/settings.py."""
    variables = {f"FBT_{name.upper()}": str(value) for name, value in settings.items()}
    variables = {"FBT_EVENTS_URL": url, "FBT_MAX_LAG_MS": "60000"} | variables
    with tempfile.TemporaryDirectory(prefix="fbt-ingest-", ignore_cleanup_errors=True) as home:
        port = port or find_free_port()
        command = [sys.executable, "-m", "bento.ingest", "--port", str(port)]
        with run_server(
            [*command, "--workers", str(workers)],
            f"http://127.0.0.1:{port}",
            env={**build_store_env(Path(home)), **variables, "PYTHONPATH": path_of_imports()},
            log=Path(home) / "log",
            cwd=Path(home),
        ) as server:
            yield server


def path_of_imports():
    return os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def stored(url):
    """All events of a sink."""
    return [event for batch in batches(url) for event in batch.events]


def logged(url):
    """All of its recommendations."""
    return [one for batch in batches(url) for one in batch.recommendations]


def batches(url):
    with contextlib.closing(open_sink(url)) as sink:
        position = ""
        while True:
            batch = sink.read(position)
            yield batch
            position = batch.position
            if batch.is_last:
                return


def click(event_id, session_id="s1", **fields):
    items = [{"item_id": "tea", "index": 0}]
    given = {"event": "select_item", "event_id": str(event_id), "session_id": session_id}
    return {**given, "items": items, **fields}


def numbered(n, prefix, **fields):
    """Clicks with ids of their own."""
    return [click(f"{prefix}-{i}", **fields) for i in range(n)]


def slices(events, size):
    return (events[at : at + size] for at in range(0, len(events), size))
