"""Registered versions, opened in this process to rank as the service would."""

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bento.answering.catalogue import Catalogue
from bento.answering.rendering import ResponseRenderer
from bento.answering.rules import RuleSet
from bento.answering.selection import AnyRequest, Selection
from bento.schemas.catalogue import ChangedProduct
from bento.schemas.requests import RecommendRequest
from bento.schemas.responses import RecommendResponse
from bento.store.poller import ChangePoller
from bento.workbench.errors import NotFound, PartUnavailable
from components.model.bundle import Bundle, BundleError, read_bundle
from components.model.recommender import Recommender
from components.registry.registry import (
    RegistryError,
    Version,
    fetch_artifact,
    get_version,
    list_versions,
)

Result = TypeVar("Result")


class VersionUnavailable(RuntimeError):
    """The version's bundle is missing or damaged; the message says what to do."""


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


class LoadedVersions:
    """The most recently used versions stay open. Thread-safe."""

    def __init__(self, cache: Path, database_url: str | None, n_kept: int) -> None:
        self._cache, self._n_kept = cache, n_kept
        self._open: OrderedDict[str, LoadedVersion] = OrderedDict()
        self._lock = threading.Lock()
        self._rules, self._products = RuleSet(), dict[str, ChangedProduct]()
        self._poller = (
            None
            if database_url is None
            else ChangePoller(database_url, self._apply_products, self._apply_rules)
        )

    def start(self) -> None:
        if self._poller is not None:
            self._poller.start()

    def stop(self) -> None:
        if self._poller is not None:
            self._poller.stop()

    async def list(self) -> list[Version]:
        """Newest first. Raises PartUnavailable."""
        return await ask_registry(list_versions)

    async def get(self, version: str) -> LoadedVersion:
        """By number or alias.

        Raises NotFound, VersionUnavailable or PartUnavailable.
        """
        return await asyncio.to_thread(self._get, version)

    def _get(self, version: str) -> LoadedVersion:
        with self._lock:
            if version not in self._open:
                self._open[version] = self._load(version)
                while len(self._open) > self._n_kept:
                    self._open.popitem(last=False)
            self._open.move_to_end(version)
            return self._open[version]

    def _load(self, version: str) -> LoadedVersion:
        folder = self._cache / "versions" / version
        try:
            if not (folder / "bundle.json").is_file():
                number = get_version(version).version
                folder = self._cache / "versions" / number
                if not fetch_artifact(number, "bundle", folder):
                    raise VersionUnavailable(f"the run of version {number} has lost its bundle")
            loaded = LoadedVersion(folder.name, read_bundle(folder, products=False))
        except RegistryError as error:
            raise NotFound(str(error)) from None
        except BundleError as error:
            raise VersionUnavailable(f"version {version}: {error}") from None
        changes = list(self._products.values())
        loaded.selection.catalogue = loaded.selection.catalogue.with_changes(changes)
        loaded.selection.rules = self._rules
        return loaded

    def _apply_products(self, changes: Sequence[ChangedProduct]) -> None:
        with self._lock:
            self._products |= {one.product_id: one for one in changes}
            for one in self._open.values():
                one.selection.catalogue = one.selection.catalogue.with_changes(changes)

    def _apply_rules(self, rules: RuleSet) -> None:
        with self._lock:
            self._rules = rules
            for one in self._open.values():
                one.selection.rules = rules


async def ask_registry(call: Callable[[], Result]) -> Result:
    """From a thread. Raises PartUnavailable."""
    try:
        return await asyncio.to_thread(call)
    except RegistryError as error:
        raise PartUnavailable("registry", str(error)) from None
