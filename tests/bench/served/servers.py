"""The servers that are compared, each a process of its own, on a core of its own."""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.package.server import (
    HOST,
    SERVICE,
    Server,
    build_store_env,
    find_free_port,
    run_server,
)
from tests.bench.served import bare, diy
from tests.bench.served.plain import VERSION

PARTS = "tests.bench.served"
STOCK, EMPTY = f"{PARTS}.stock:Stock", f"{PARTS}.empty:Empty"

SERVER_CORE, CLIENT_CORE = 0, 1
"""Where there are two at least: a client that takes its server's time measures itself."""

READY_S = 120.0
NO_MORE: Mapping[str, str] = {}


@dataclass
class Servers:
    """Starts servers in `folder` until the stack that ends them is left."""

    folder: Path
    stack: ExitStack
    started: list[str] = field(default_factory=list)

    def ours(
        self,
        bundle: Path,
        rules: Sequence[Mapping[str, Any]] = (),
        env: Mapping[str, str] = NO_MORE,
    ) -> Server:
        """`bentoml serve` of the service over a bundle, with rules in a database of its own."""
        home = self.home("ours")
        return self.bento(SERVICE, home, {**settings(bundle, home, rules), **env})

    def stock(self, bundle: Path) -> Server:
        """The look-up as a BentoML service with all defaults."""
        return self.bento(STOCK, self.home("stock"), {"FBT_BUNDLE": str(bundle)})

    def bare(self, bundle: Path, rules: Sequence[Mapping[str, Any]] = ()) -> Server:
        """The same answers by ASGI alone."""
        home = self.home("bare")
        file = home / "rules.json"
        file.write_text(json.dumps([to_stored_rule(rule) for rule in rules]))
        return self._uvicorn("bare", home, {"FBT_BUNDLE": str(bundle), bare.RULES: str(file)})

    def with_fastapi(self, bundle: Path) -> Server:
        """The look-up as a FastAPI application."""
        return self._uvicorn("with_fastapi", self.home("fastapi"), {"FBT_BUNDLE": str(bundle)})

    def diy(self, model: Path) -> Server:
        """A model of implicit behind FastAPI."""
        return self._uvicorn("diy", self.home("diy"), {diy.MODEL: str(model)})

    def bento(self, target: str, home: Path, env: Mapping[str, str]) -> Server:
        """`bentoml serve` of anything."""
        command, url = bento_command(target)
        return self._running(command, url, home, env)

    def ingest(self, events_url: str, env: Mapping[str, str] = NO_MORE, core: int = 0) -> Server:
        """`python -m bento.ingest` with one worker."""
        port = find_free_port()
        command = [sys.executable, "-m", "bento.ingest", "--host", HOST, "--port", str(port)]
        env = {"FBT_EVENTS_URL": events_url, **env}
        return self._running(command, f"http://{HOST}:{port}", self.home("ingest"), env, core)

    def _uvicorn(self, module: str, home: Path, env: Mapping[str, str]) -> Server:
        port = find_free_port()
        command = [sys.executable, "-m", "uvicorn", f"{PARTS}.{module}:app", "--factory"]
        command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        command += ["--host", HOST, "--port", str(port)]
        return self._running(command, f"http://{HOST}:{port}", home, env)

    def _running(
        self,
        command: Sequence[str],
        url: str,
        home: Path,
        env: Mapping[str, str],
        core: int = SERVER_CORE,
    ) -> Server:
        return self.stack.enter_context(
            run_server(
                pin_to_core(command, core), url, env={**environment(home), **env},
                log=home / "server.log", cwd=home, timeout_s=READY_S,
            )
        )  # fmt: skip

    def home(self, name: str) -> Path:
        """A fresh folder for a server, its log included."""
        self.started.append(name)
        home = self.folder / f"{name}-{len(self.started)}"
        home.mkdir(parents=True)
        return home


def settings(bundle: Path, home: Path, rules: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
    """The environment of the service, with rules in a database in `home`."""
    database = f"sqlite:///{home / 'fbt.db'}"
    add_rules(database, rules)
    return {
        "FBT_BUNDLE": str(bundle), "FBT_MODEL_VERSION": VERSION, "FBT_DATABASE_URL": database,
    }  # fmt: skip


def bento_command(target: str) -> tuple[list[str], str]:
    """The command that serves a BentoML service on a free port, and the address."""
    port = find_free_port()
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", HOST]
    return [*command, "--port", str(port)], f"http://{HOST}:{port}"


def pin_to_core(command: Sequence[str], core: int) -> list[str]:
    """The command on that core alone, where there are as many."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return list(command)
    return ["taskset", "-c", str(cores[core]), *command]


def environment(home: Path) -> dict[str, str]:
    """This environment without settings of the service, which the bench sets itself.

    BLAS is told what our service tells itself: on one core, more threads only cost.
    """
    kept = {
        name: text for name, text in build_store_env(home).items() if not name.startswith("FBT_")
    }
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def add_rules(database: str, rules: Sequence[Mapping[str, Any]]) -> None:
    """Write the rules into the database, whose tables are made."""
    from sqlalchemy import insert

    from bento.store.store import Store
    from bento.store.tables import RULES

    store = Store(database)
    store.migrate()
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    about = {"created_at": moment, "updated_at": moment, "created_by": "bench"}
    rows = [{"body": json.dumps(one), "rule_id": uuid.uuid4().hex, **about} for one in rules]
    # One by one, ten thousand rules take minutes.
    with store._writing(rules=True) as (connection, _):
        if rows:
            connection.execute(insert(RULES), rows)
    store.close()


def to_stored_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as the store keeps it."""
    moment = "2024-01-01T00:00:00Z"
    about = {"created_at": moment, "updated_at": moment, "created_by": "bench"}
    return {**rule, **about, "rule_id": json.dumps(rule, sort_keys=True)}


def missing_tools() -> list[str]:
    """The programs that measuring needs and that are not installed."""
    return [name for name in ("wrk", "taskset") if shutil.which(name) is None]
