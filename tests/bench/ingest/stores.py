"""The stores that take events, each with real servers, and how to break them."""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("sqlite", "postgres", "kafka")


class Missing(RuntimeError):
    """A server that this machine does not have."""


@dataclass(frozen=True)
class StoreServer:
    url: str
    restart: Callable[[], None] | None = None
    """Kill its server and start it again."""
    pid: int | None = None
    """Of its server."""


@contextlib.contextmanager
def open_store(name: str, folder: Path) -> Iterator[StoreServer]:
    """Raises Missing."""
    import pytest

    if importlib.util.find_spec(f"components.events.sinks.{name}") is None:
        raise Missing(f"{name}: fbt has no such sink")
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(OPENERS[name](folder))
        except pytest.skip.Exception as why:
            raise Missing(f"{name}: {why}") from None


@contextlib.contextmanager
def _open_sqlite(folder: Path) -> Iterator[StoreServer]:
    yield StoreServer(f"sqlite:///{folder / 'events.db'}")


@contextlib.contextmanager
def _open_postgres(_folder: Path) -> Iterator[StoreServer]:
    with _load("tests.postgres").postgres(durable=True) as server:

        def restart() -> None:
            server.stop()
            server.start()

        yield StoreServer(server.url(), restart, server.pid)


@contextlib.contextmanager
def _open_kafka(_folder: Path) -> Iterator[StoreServer]:
    with _load("tests.kafka").kafka() as broker:

        def restart() -> None:
            broker.kill()
            broker.start()

        yield StoreServer(broker.url("bench"), restart, broker.pid)


OPENERS: dict[str, Callable[[Path], Any]] = {
    "sqlite": _open_sqlite,
    "postgres": _open_postgres,
    "kafka": _open_kafka,
}


def _load(module: str) -> Any:
    """Tests have no types."""
    return importlib.import_module(module)
