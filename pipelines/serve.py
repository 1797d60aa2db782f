"""`fbt serve`: serves the champion, and changes over when the alias moves."""

import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus

from bento.settings import variable_name
from bento.store.poller import DATABASE_URL
from components.model.bundle import BundleError
from components.package.bento import import_bento
from components.package.server import Server, serve_bento
from components.registry.promotion import history
from components.registry.registry import BENTO_TAG, RegistryError, fetch_artifact, get_version
from components.registry.signing import check_archive
from components.signing.keys import KeyConfigurationError
from pipelines.home import Home

POLL_S = 5.0
PROBE_S = 10.0

EVENTS_URL = variable_name("events_url")
EVENTS_FILE = "events.db"


@contextmanager
def serve_champion(home: Home, port: int) -> Iterator[tuple[Server, str]]:
    """Yields the server and the version. Raises RegistryError without a champion."""
    version = _find_champion()
    if not version:
        raise RegistryError(
            "serve: no version is champion; see `fbt models`, then `fbt promote VERSION`"
        )
    with _serve(version, home, port) as server:
        yield server, version


def follow_champion(home: Home, port: int, show: Callable[[str], None] = print) -> None:
    """The next champion's Bento is fetched before the server stops."""
    with serve_champion(home, port) as (server, version):
        _show_served(server, version, home, show)
        following = _wait_for_change(server, version, home, show)
    while True:
        with _serve(following, home, port) as server:
            _show_served(server, following, home, show)
            following = _wait_for_change(server, following, home, show)


def _show_served(server: Server, version: str, home: Home, show: Callable[[str], None]) -> None:
    show(f"version {version} answers on {server.url}")
    if find_events_url(home) != "off" and not takes_events(server.url):
        show(
            f"version {version} was packaged before there were events: POST /events answers 404, "
            "and nothing is kept. `fbt run` packages a new version; `fbt serve --arm "
            f"control={version}` serves this one with events"
        )


def takes_events(url: str) -> bool:
    """Whether the service knows `/events`, asked by a body that is refused."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/events", b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=PROBE_S):
            return True
    except urllib.error.HTTPError as error:
        return error.code != HTTPStatus.NOT_FOUND
    except OSError:
        return True  # not known


def build_store_settings(home: Home) -> dict[str, str]:
    """Where the service keeps rules and events: in files that outlive it."""
    database = os.environ.get(DATABASE_URL) or f"sqlite:///{home.root.resolve() / 'fbt.db'}"
    return {DATABASE_URL: database, EVENTS_URL: find_events_url(home)}


def _serve(version: str, home: Home, port: int) -> AbstractContextManager[Server]:
    return serve_bento(
        fetch_bento(version, home),
        home.bentos,
        port=port,
        log=home.logs / "serve.log",
        settings=build_store_settings(home),
    )


def find_events_url(home: Home) -> str:
    """As the service, but for a file that outlives it."""
    if given := os.environ.get(EVENTS_URL):
        return given
    database = os.environ.get(DATABASE_URL, "")
    is_postgres = database.partition(":")[0] in ("postgres", "postgresql")
    return database if is_postgres else f"sqlite:///{home.root.resolve() / EVENTS_FILE}"


def _wait_for_change(server: Server, version: str, home: Home, show: Callable[[str], None]) -> str:
    """Block until another version is champion and its Bento is fetched."""
    refused = ""
    while True:
        if (code := server.process.poll()) is not None:
            raise RuntimeError(f"serve: the server ended with code {code}; log: {server.log}")
        time.sleep(POLL_S)
        try:
            champion = _find_champion()
            if champion and champion not in (version, refused):
                refused = champion
                fetch_bento(champion, home)
                return champion
        except (RegistryError, BundleError, KeyConfigurationError) as error:
            # The registry does not answer, or the version has no Bento that is signed as it should
            # be: keep on serving.
            show(f"version {version} is still served: {error}")


def _find_champion() -> str:
    moves = history()
    return moves[0].to if moves else ""


def fetch_bento(version: str, home: Home) -> str:
    """Import the Bento into the store of `home`; its tag.

    Raises RegistryError, and BundleError where the signature is missing or wrong.
    """
    found = get_version(version)
    tag = found.tags.get(BENTO_TAG)
    if not tag:
        raise RegistryError(
            f"serve: version {version} has no Bento; its run ended before packaging: run it again"
        )
    name, _, bento_version = tag.partition(":")
    if (home.bentos / "bentos" / name / bento_version / "bento.yaml").is_file():
        return tag
    folder = home.root / "downloads" / version
    try:
        if not fetch_artifact(version, "bento", folder):
            raise RegistryError(f"serve: the run of version {version} has lost its Bento archive")
        archive = next(folder.rglob("*.bento"))
        check_archive(archive, version, tag)
        return import_bento(archive, home.bentos)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
