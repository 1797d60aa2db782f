"""Registered versions, opened in this process to rank as the service would."""

import asyncio
import importlib
import json
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from bento.answering.catalogue import Catalogue
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import AnyRequest, Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest
from bento.schemas.responses import RecommendResponse
from bento.store.poller import ChangePoller
from bento.workbench.bundle_cache import (
    BundleCache,
    Progress,
    VersionUnavailable,
    check_signature,
)
from bento.workbench.errors import NotFound, PartUnavailable
from bento.workbench.mapped_memory import count_mapped_bytes, release_pages
from components.model.bundle import Bundle, BundleError, read_bundle
from components.model.recommender import Recommender
from components.model.verification import verify_bundle
from components.registry.registry import RegistryError, Version, list_versions
from components.signing.keys import KeyConfigurationError

__all__ = ["LoadedVersion", "LoadedVersions", "VersionLoading", "VersionUnavailable"]

Result = TypeVar("Result")

PATIENCE_S = 1.5
"""A request waits so long for a version; then its page shows the progress."""

KNOWN_S = 5.0
"""Aliases that were read so long ago at most are not read again."""

FAILED_S = 20.0
"""So long a failure is shown before the version is tried again: a page that reloads itself must not
fetch a damaged bundle over and over."""

CONNECT_S = 2.0

MAX_MAPPED_BYTES = 400_000_000
"""Of files in memory, beyond which they are given back. Two versions of a million products have
6 GB of them."""

N_LOADERS = 4


class VersionLoading(RuntimeError):
    """The version is being fetched: ask again in a few seconds."""

    def __init__(self, number: str, progress: Progress) -> None:
        super().__init__(f"version {number} is being fetched")
        self.number, self.done, self.total = number, progress.done, progress.total


class LoadedVersion:
    """An open bundle, with the present rules and catalogue changes."""

    def __init__(self, version: str, bundle: Bundle) -> None:
        self.version = version
        catalogue = Catalogue(bundle.records, bundle.facets, bundle.sensitive)
        self.selection = Selection(Recommender(bundle), catalogue)
        self._renderer = ResponseRenderer(version, "workbench")

    @property
    def bundle(self) -> Bundle:
        return self.selection.recommender.bundle

    def answer(self, request: AnyRequest, selection: Selection | None = None) -> RecommendResponse:
        """As the service with this version, or with other rules or settings by `selection`."""
        selection = selection or self.selection
        if isinstance(request, RecommendRequest):
            answer = selection.recommend(request)
        else:
            answer = selection.similar(request)
        body = self._renderer.response(answer, "", None)
        return RecommendResponse.model_validate(json.loads(body))

    def select_without_rules(self) -> Selection:
        """The present catalogue, no rules."""
        return Selection(self.selection.recommender, self.selection.catalogue)


class LoadedVersions:
    """The most recently used versions stay open. Thread-safe."""

    def __init__(
        self,
        cache: Path,
        database_url: str | None,
        n_kept: int,
        patience_s: float = PATIENCE_S,
        bundles: BundleCache | None = None,
    ) -> None:
        self._bundles = bundles or BundleCache(cache / "versions")
        self._n_kept, self._patience_s = n_kept, patience_s
        self._lock = threading.Lock()
        self._open: OrderedDict[str, LoadedVersion] = OrderedDict()
        self._loading: dict[str, tuple[Future[LoadedVersion], Progress]] = {}
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._known: tuple[float, list[Version]] = (-KNOWN_S, [])
        self._loaders = ThreadPoolExecutor(N_LOADERS, "load-version")
        self._changing = threading.Lock()
        self._rules, self._products = RuleSet(), dict[str, ChangedProduct]()
        self.revision = 0
        """Increases with every change of a rule or a product."""
        self._poller = (
            None
            if database_url is None
            else ChangePoller(
                database_url, self._apply_products, self._apply_rules, on_stale=self._trim
            )
        )

    def start(self) -> None:
        # MLflow's client takes seconds to be imported: the first page need not wait for it.
        self._loaders.submit(importlib.import_module, "mlflow")
        if self._poller is not None:
            self._poller.start()

    def stop(self) -> None:
        if self._poller is not None:
            self._poller.stop()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    async def list(self) -> list[Version]:
        """Newest first. Raises PartUnavailable."""
        found = await ask_registry(list_versions)
        self._known = time.monotonic(), found
        return found

    async def get(self, version: str) -> LoadedVersion:
        """By number or alias.

        Raises NotFound, VersionLoading, VersionUnavailable or PartUnavailable.
        """
        number = await self._resolve(version)
        with self._lock:
            if (found := self._open.get(number)) is not None:
                self._open.move_to_end(number)
                return found
        future, progress = self._begin(number)
        try:
            waiting = asyncio.shield(asyncio.wrap_future(future))
            return await asyncio.wait_for(waiting, self._patience_s)
        except TimeoutError:
            raise VersionLoading(number, progress) from None

    async def _resolve(self, version: str) -> str:
        """The number. A version that is here is found without the registry."""
        if version.isdecimal() and (version in self._open or version in self._loading):
            return version
        try:
            return (await self._find(version)).version
        except PartUnavailable:
            if version.isdecimal() and self._bundles.find(version) is not None:
                return version
            raise

    async def _find(self, version: str) -> Version:
        read_at, versions = self._known
        if time.monotonic() - read_at > KNOWN_S or _pick(versions, version) is None:
            versions = await self.list()
        if (found := _pick(versions, version)) is not None:
            return found
        raise NotFound(_describe_unknown(version, versions))

    def _begin(self, number: str) -> tuple["Future[LoadedVersion]", Progress]:
        """Loads it unless that has begun. Raises an error that is a few seconds old."""
        with self._lock:
            if number in self._loading:
                return self._loading[number]
            failed_at, error = self._failed.get(number, (-FAILED_S, None))
            if error is not None and time.monotonic() - failed_at < FAILED_S:
                raise error
            progress = Progress()
            future = self._loaders.submit(self._load, number, progress)
            self._loading[number] = future, progress
            return future, progress

    def _load(self, number: str, progress: Progress) -> LoadedVersion:
        try:
            folder = self._fetch(number, progress)
            # A search index of a million IN vectors takes 600 MB; exact search does for people.
            bundle = replace(read_bundle(folder, False, products=False), in_index_path=None)
            loaded = LoadedVersion(number, bundle)
            with self._changing:
                self._bring_up_to_date(loaded)
                self._keep(loaded)
        except (BundleError, KeyConfigurationError) as error:
            failure: Exception = VersionUnavailable(f"version {number} cannot be opened: {error}")
        except RegistryError as error:
            failure = PartUnavailable("registry", str(error))
        except Exception as error:
            failure = error
        else:
            return loaded
        with self._lock:
            self._failed[number] = time.monotonic(), failure
            del self._loading[number]
        raise failure

    def _fetch(self, number: str, progress: Progress) -> Path:
        """Without the registry where that does not answer, and the bundle is here."""
        version = _pick(self._known[1], number)
        if version is None:
            folder = self._bundles.find(number)
            assert folder is not None
            check_signature(folder, number)
            verify_bundle(folder)
            return folder
        return self._bundles.fetch(version, progress, {*self._open, *self._loading})

    def _bring_up_to_date(self, loaded: LoadedVersion) -> None:
        selection = loaded.selection
        if self._products:
            selection.catalogue = selection.catalogue.with_changes(list(self._products.values()))
        selection.rules = self._rules

    def _keep(self, loaded: LoadedVersion) -> None:
        with self._lock:
            self._open[loaded.version] = loaded
            while len(self._open) > self._n_kept:
                self._open.popitem(last=False)
            self._failed.pop(loaded.version, None)
            del self._loading[loaded.version]

    def _apply_products(self, changes: Sequence[ChangedProduct]) -> None:
        with self._changing:
            self._products |= {one.product_id: one for one in changes}
            for one in self._list_open():
                one.selection.catalogue = one.selection.catalogue.with_changes(changes)
            self.revision += 1

    def _apply_rules(self, rules: RuleSet) -> None:
        with self._changing:
            self._rules = rules
            for one in self._list_open():
                one.selection.rules = rules
            self.revision += 1

    def _trim(self, _: float) -> None:
        """After every poll."""
        if count_mapped_bytes() > MAX_MAPPED_BYTES:
            for one in self._list_open():
                release_pages(one.bundle)

    def _list_open(self) -> tuple[LoadedVersion, ...]:
        with self._lock:
            return tuple(self._open.values())


async def ask_registry(call: Callable[[], Result]) -> Result:
    """From a thread. Raises PartUnavailable."""

    def ask() -> Result:
        _check_reachable(os.environ.get("MLFLOW_TRACKING_URI", ""))
        return call()

    try:
        return await asyncio.to_thread(ask)
    except RegistryError as error:
        raise PartUnavailable("registry", str(error)) from None


def _check_reachable(address: str) -> None:
    """MLflow's client tries for a quarter of a minute; a page should not take so long."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise PartUnavailable(
            "registry",
            f"nothing answers at {parts.hostname}:{port} ({reason}); start MLflow, or name another "
            "server by MLFLOW_TRACKING_URI",
        ) from None


def _pick(versions: Sequence[Version], name: str) -> Version | None:
    return next((one for one in versions if name == one.version or name in one.aliases), None)


def _describe_unknown(name: str, versions: Sequence[Version]) -> str:
    if not versions:
        return "no version is registered yet: train one with `fbt run`, and load the page again"
    known = ", ".join(one.version for one in versions[:20])
    return (
        f"no version or alias {name!r} is registered (versions: {known}); choose one of these, or "
        "give a version the alias with `fbt promote VERSION`"
    )
