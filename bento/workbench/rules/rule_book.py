"""All rules with their names and conflicts, read anew only when a rule or the catalogue changed."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from bento.client import FbtError
from bento.schemas.rules import Rule, RuleList, RuleRequest
from bento.store.rule_rows import Revision
from bento.store.store import Store
from bento.workbench.context import Workbench
from bento.workbench.errors import NotFound, PartUnavailable
from bento.workbench.rules.conflicts import RuleConflict, RuleIndex
from bento.workbench.rules.words import Words, describe, describe_body, list_product_ids, plain
from bento.workbench.versions import LoadedVersion, VersionUnavailable

MAX_AGE_S = 300.0
"""By then rules that began or ended since count in the conflicts."""

SERVED_BY_ALIAS = "champion"
"""The version to ask the registry for where the service does not say which one it has."""

SERVED_FOR_S = 10.0
"""How long the service's answer counts."""

NAMES_S = 0.7
"""A page waits so long for names of products; others are shown by their ids."""


class RuleBook:
    """The rules of one revision, with the version whose catalogue names their products."""

    def __init__(self, listed: RuleList, revision: Revision, loaded: LoadedVersion | None) -> None:
        self.listed, self.rules, self.loaded = listed, listed.rules, loaded
        self.revision = revision
        self.names: dict[str, str | None] = {}
        """Of products, where no version is open."""
        self.catalogue = loaded.selection.catalogue if loaded else None
        self.read_at = time.monotonic()

    def prepare(self) -> "RuleBook":
        """Compute what takes long, on this thread."""
        _ = self.conflicts, self.texts
        return self

    @cached_property
    def by_id(self) -> Mapping[str, Rule]:
        return {rule.rule_id: rule for rule in self.rules}

    @cached_property
    def index(self) -> RuleIndex:
        return RuleIndex(self.rules, self.catalogue, datetime.now(UTC))

    @cached_property
    def conflicts(self) -> Mapping[str, list[RuleConflict]]:
        return self.index.find_all()

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """By rule, what a search looks through, in lower case."""
        return {rule.rule_id: self._list_text(rule) for rule in self.rules}

    def _list_text(self, rule: Rule) -> str:
        scopes = (one.key[1] for one in (rule.target, rule.when) if one is not None)
        words = plain(self.describe(rule))
        return "\n".join((words, *scopes, rule.note, rule.created_by)).casefold()

    def describe(self, rule: RuleRequest) -> Words:
        return describe(rule, self.find_name)

    def describe_body(self, body: str | Mapping[str, Any] | None) -> Words:
        return describe_body(body, self.find_name)

    def find_name(self, product_id: str) -> str | None:
        if self.catalogue is None:
            return self.names.get(product_id)
        row = self.catalogue.row(product_id)
        name = None if row is None else self.catalogue.card(row).get("name")
        return None if name is None else str(name)


class RuleBooks:
    """Keeps the newest book, and knows which version's catalogue it is to have."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._newest: RuleBook | None = None
        self._making = threading.Lock()
        self._served = SERVED_BY_ALIAS
        self._asked_at = -math.inf

    async def read(self, wait_s: float = 1.0) -> RuleBook:
        """Without a version where none can be opened in `wait_s`. Raises PartUnavailable."""
        loaded = await self._open_version(wait_s)
        return await self._workbench.database.call(lambda store: self._read(store, loaded))

    def _read(self, store: Store, loaded: LoadedVersion | None) -> RuleBook:
        catalogue = loaded.selection.catalogue if loaded else None
        # With thousands of rules a book takes a second: one thread makes it for all.
        with self._making:
            book, revision = self._newest, store.revision()
            is_young = book is not None and time.monotonic() - book.read_at < MAX_AGE_S
            if book and is_young and book.catalogue is catalogue and book.revision == revision:
                return book
            book = RuleBook(store.rules(), revision, loaded).prepare()
            self._newest = book
            return book

    async def _open_version(self, wait_s: float) -> LoadedVersion | None:
        """The one that serves, or else the champion."""
        if time.monotonic() - self._asked_at > SERVED_FOR_S:
            with contextlib.suppress(FbtError):
                self._served = (await self._workbench.service.model()).model_version
            self._asked_at = time.monotonic()
        for version in dict.fromkeys((self._served, SERVED_BY_ALIAS)):
            with contextlib.suppress(NotFound, VersionUnavailable, PartUnavailable, TimeoutError):
                opening = asyncio.ensure_future(self._workbench.versions.get(version))
                # A version that takes longer is open for the next page.
                return await asyncio.wait_for(asyncio.shield(opening), wait_s)
        return None

    async def ask_names(self, book: RuleBook, rules: Iterable[Rule]) -> None:
        """Of these rules' products, from the service, where no version is open."""
        if book.loaded is not None:
            return
        ids = dict.fromkeys(one for rule in rules for one in list_product_ids(rule))
        unknown = [one for one in ids if one not in book.names]

        async def ask(product_id: str) -> None:
            with contextlib.suppress(FbtError):
                book.names[product_id] = (await self._workbench.service.product(product_id)).name

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NAMES_S):
                await asyncio.gather(*map(ask, unknown))
