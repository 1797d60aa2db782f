"""What there is to say of a rule before it is saved: names, conflicts, and its effect."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bento.answering.product_search import ProductSearch
from bento.schemas.rules import Rule, RuleRequest
from bento.store.rule_rows import to_body
from bento.workbench.rules.conflicts import RuleConflict, RuleIndex, UnknownName, find_unknown_names
from bento.workbench.rules.preview import Preview, preview_change
from bento.workbench.rules.rule_book import RuleBook
from bento.workbench.versions import LoadedVersion

NEW = "new"
"""The id of a rule that has none yet."""

N_SUGGESTED = 3
N_SEARCHED = 30
"""Products whose categories or brands are suggested."""


@dataclass(frozen=True)
class Suggestion:
    """A name that a person may have meant, and its words."""

    value: str
    words: str


@dataclass(frozen=True)
class Unknown:
    name: UnknownName
    suggestions: list[Suggestion]


@dataclass(frozen=True)
class Findings:
    conflicts: list[RuleConflict] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    preview: Preview | None = None
    is_same: bool = False
    """The rule is there just so."""

    @property
    def must_be_confirmed(self) -> bool:
        return any(one.severity == "confirm" for one in self.conflicts)


async def examine_rule(
    book: RuleBook,
    request: RuleRequest,
    rule_id: str,
    asked: Sequence[str] = (),
    is_kept: bool = True,
) -> Findings:
    """Of a rule that is to be added, or to replace the one with its id.

    The effect of a rule that is there just so is that of having it. Unknown names that are not to
    be kept come alone.
    """
    unknown = find_unknown(book, request)
    if unknown and not is_kept:
        return Findings(unknown=unknown)
    rule, stored = as_rule(request, rule_id), book.by_id.get(rule_id)
    is_same = stored is not None and to_body(stored) == to_body(request)
    before = apply_changes(book.rules, [(rule_id, None)]) if is_same else book.rules
    after = apply_changes(before, [(rule_id, rule)])
    preview = await _preview(book.loaded, before, after, asked)
    conflicts = book.index.find(rule) + describe_emptied(preview)
    return Findings(conflicts, unknown, preview, is_same)


def find_unknown(book: RuleBook, request: RuleRequest) -> list[Unknown]:
    """None where no version is open to ask."""
    if book.loaded is None:
        return []
    names = find_unknown_names(request, book.loaded.selection.catalogue)
    return [Unknown(one, _suggest(book.loaded, one)) for one in names]


async def examine_changes(book: RuleBook, changes: Iterable[tuple[str, Rule | None]]) -> Findings:
    """Of rules together, by their ids; None for one that is to be deleted."""
    changes = list(changes)
    after = apply_changes(book.rules, changes)
    ids = {rule_id for rule_id, _ in changes}
    conflicts = await asyncio.to_thread(_find_conflicts, book, after, ids)
    preview = await _preview(book.loaded, book.rules, after)
    return Findings(conflicts + describe_emptied(preview), [], preview)


def _find_conflicts(
    book: RuleBook, rules: Sequence[Rule], ids: Collection[str]
) -> list[RuleConflict]:
    """Of the rules with these ids; of two that conflict, one says so."""
    index = RuleIndex(rules, book.catalogue, datetime.now(UTC))
    return [
        conflict
        for rule in rules
        if rule.rule_id in ids
        for conflict in index.find(rule)
        if conflict.other_id not in ids or rule.rule_id < (conflict.other_id or "")
    ]


async def _preview(
    loaded: LoadedVersion | None,
    before: Sequence[Rule],
    after: Sequence[Rule],
    asked: Sequence[str] = (),
) -> Preview | None:
    """None where no version is open."""
    if loaded is None:
        return None
    return await asyncio.to_thread(preview_change, loaded, before, after, asked)


def apply_changes(rules: Sequence[Rule], changes: Iterable[tuple[str, Rule | None]]) -> list[Rule]:
    """Rules that stay are the same objects."""
    by_id: dict[str, Rule | None] = {rule.rule_id: rule for rule in rules}
    by_id.update(changes)
    return [rule for rule in by_id.values() if rule is not None]


def as_rule(request: RuleRequest, rule_id: str) -> Rule:
    now = datetime.now(UTC)
    fields = {name: getattr(request, name) for name in RuleRequest.model_fields}
    return Rule.model_construct(
        **fields, rule_id=rule_id, created_at=now, updated_at=now, created_by=""
    )


def describe_emptied(preview: Preview | None) -> list[RuleConflict]:
    if preview is None or not preview.n_emptied:
        return []
    n = preview.n_emptied
    pages = "1 page would" if n == 1 else f"{n} pages would"
    return [RuleConflict("empties", f"{pages} show nothing at all.", "confirm")]


def _suggest(loaded: LoadedVersion, unknown: UnknownName) -> list[Suggestion]:
    catalogue = loaded.selection.catalogue
    hits = ProductSearch(loaded.bundle).find(catalogue, unknown.name, N_SEARCHED)
    cards = [catalogue.card(hit.row) for hit in hits]
    if unknown.kind == "product_id":
        return [
            Suggestion(str(card["product_id"]), str(card.get("name") or card["product_id"]))
            for card in cards[:N_SUGGESTED]
        ]
    names = dict.fromkeys(str(card[unknown.kind]) for card in cards if card.get(unknown.kind))
    return [Suggestion(name, name) for name in list(names)[:N_SUGGESTED]]
