"""What a change of rules does to real lists, before it is made."""

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np

from bento.answering.catalogue import Catalogue
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.requests import RecommendRequest
from bento.schemas.rules import Rule, Scope
from bento.workbench.rules.words import find_state
from bento.workbench.versions import LoadedVersion
from components.model.arrays import Int64Array
from components.model.product_records import hash_facet

N_SHOWN = 10
"""Products of a list."""

N_SAMPLED = 200
"""Pages, the most bought ones where the change applies."""

N_LISTING = 30
"""Pages that list the target, looked at besides."""

BUDGET_S = 1.0
"""After so long the sample is as large as it is; with thousands of rules a page takes longer."""

MIN_PAGES = 20

N_PAGES = 4
"""Pages shown, besides those that a person asks for."""

Move = Literal["up", "down", "entered", "left", ""]


class PreviewItem(NamedTuple):
    card: dict[str, Any]
    move: Move


class PreviewPage(NamedTuple):
    card: dict[str, Any]
    before: list[PreviewItem]
    after: list[PreviewItem]

    @property
    def n_moved(self) -> int:
        return sum(one.move != "" for one in (*self.before, *self.after))


@dataclass(frozen=True)
class Preview:
    version: str
    pages: list[PreviewPage]
    n_sampled: int
    n_changed: int
    n_emptied: int
    n_shortened: int
    """Fewer products than before."""
    is_later: bool
    """A rule that has not begun is shown as if it had."""


def preview_change(
    loaded: LoadedVersion,
    before: Sequence[Rule],
    after: Sequence[Rule],
    asked: Sequence[str] = (),
) -> Preview:
    """`asked` are products whose pages to show in any case."""
    now, catalogue = datetime.now(UTC), loaded.selection.catalogue
    changed = find_changed(before, after)
    old, new = (_select(loaded.selection, rules, changed, now) for rules in (before, after))
    wanted = [row for row in map(catalogue.row, asked) if row is not None]
    sample = sample_pages(loaded, changed)
    first = dict.fromkeys([*wanted, *find_listing_pages(loaded, changed)])
    lists = _rank_pages(old, new, list(first), sample)
    differing = [row for row, one in lists.items() if one.differ and row not in wanted]
    # Those that change most, of these the most bought.
    differing.sort(key=lambda row: (-_count_moved(*lists[row]), row))
    shown = [*dict.fromkeys(wanted), *differing[:N_PAGES]]
    sampled = [lists[row] for row in sample if row in lists]
    return Preview(
        version=loaded.version,
        pages=[_build_page(catalogue, row, *lists[row]) for row in shown],
        n_sampled=len(sampled),
        n_changed=sum(one.differ for one in sampled),
        n_emptied=sum(bool(one.before) and not one.after for one in lists.values()),
        n_shortened=sum(len(one.before) > len(one.after) for one in lists.values()),
        is_later=any(find_state(rule, now) == "upcoming" for rule in changed),
    )


class Lists(NamedTuple):
    """Rows of a page's products."""

    before: list[int]
    after: list[int]

    @property
    def differ(self) -> bool:
        return self.before != self.after


def _rank_pages(
    old: Selection, new: Selection, first: Sequence[int], sample: Sequence[int]
) -> dict[int, Lists]:
    """By page, as many as time allows."""
    lists, started_at = dict[int, Lists](), time.monotonic()
    for row in dict.fromkeys([*first, *sample]):
        if len(lists) >= MIN_PAGES and time.monotonic() - started_at > BUDGET_S:
            break
        request = RecommendRequest(items=[old.catalogue.product_id(row)], k=N_SHOWN)
        lists[row] = Lists(_list_rows(old, request), _list_rows(new, request))
    return lists


def _list_rows(selection: Selection, request: RecommendRequest) -> list[int]:
    return [item.row for item in selection.recommend(request).shown]


def find_changed(before: Sequence[Rule], after: Sequence[Rule]) -> list[Rule]:
    """Rules of either side that the other does not have so."""
    old, new = ({rule.rule_id: rule for rule in rules} for rules in (before, after))
    gone = [rule for rule in before if new.get(rule.rule_id) is not rule]
    return [*gone, *(rule for rule in after if old.get(rule.rule_id) is not rule)]


def _select(
    selection: Selection, rules: Iterable[Rule], changed: Sequence[Rule], now: datetime
) -> Selection:
    """As the given selection, with other rules; changed ones have begun."""
    own = {id(rule) for rule in changed if find_state(rule, now) == "upcoming"}
    begun = (
        rule.model_copy(update={"starts_at": None}) if id(rule) in own else rule for rule in rules
    )
    other = copy.copy(selection)
    other.rules = RuleSet(begun)
    return other


def sample_pages(loaded: LoadedVersion, rules: Iterable[Rule]) -> list[int]:
    """Rows of the most bought products whose pages the rules apply to."""
    selection = loaded.selection
    rows = np.unique(_find_pages(selection, rules))
    if (deleted := selection.catalogue.deleted) is not None:
        rows = rows[~deleted[rows]]
    return [int(row) for row in rows[:N_SAMPLED]]


def _find_pages(selection: Selection, rules: Iterable[Rule]) -> Int64Array:
    n_items = selection.recommender.n_items
    blocks = [_find_rows(selection.catalogue, rule.when, n_items) for rule in rules]
    return np.concatenate([np.empty(0, np.int64), *blocks])


def _find_rows(catalogue: Catalogue, scope: Scope | None, n_items: int) -> Int64Array:
    if scope is None:
        return np.arange(n_items)
    kind, name = scope.key
    if kind != "product_id":
        rows = catalogue.find_rows(hash_facet(kind, name)).astype(np.int64)
        return rows[rows < n_items]
    row = catalogue.row(name)
    return np.array([] if row is None else [row], np.int64)


def find_listing_pages(loaded: LoadedVersion, rules: Iterable[Rule]) -> list[int]:
    """Rows of the most bought products whose lists have a rule's target by the model."""
    selection, bundle = loaded.selection, loaded.bundle
    if bundle.precomputed is None:
        return []
    found: list[int] = []
    for rule in rules:
        targets = _find_rows(selection.catalogue, rule.target, len(selection.catalogue))
        if rule.target is None or not len(targets):
            continue
        depth = None if rule.action == "boost" else 2 * N_SHOWN
        listed = np.flatnonzero(np.isin(bundle.precomputed.rows[:, :depth], targets).any(axis=1))
        pages = _find_rows(selection.catalogue, rule.when, selection.recommender.n_items)
        found += pages[np.isin(pages, listed)][:N_LISTING].tolist()
    return found


def _count_moved(before: Sequence[int], after: Sequence[int]) -> int:
    n_left = len(set(before) - set(after))
    return n_left + sum(move != "" for move in _find_moves(before, after))


def _find_moves(before: Sequence[int], after: Sequence[int]) -> list[Move]:
    """Of the products after the change. One that others only push along does not move."""
    old = {row: place for place, row in enumerate(before)}
    stayed = [row for row in after if row in old]
    steady = _find_longest_rise([old[row] for row in stayed])
    old_rank = {row: rank for rank, row in enumerate(sorted(stayed, key=old.__getitem__))}
    new_rank = {row: rank for rank, row in enumerate(stayed)}

    def name_move(row: int) -> Move:
        if row not in old:
            return "entered"
        if old[row] in steady:
            return ""
        return "up" if new_rank[row] < old_rank[row] else "down"

    return [name_move(row) for row in after]


def _find_longest_rise(numbers: Sequence[int]) -> set[int]:
    """The longest increasing subsequence: the fewest others have moved."""
    best: list[list[int]] = []
    for number in numbers:
        lower = [one for one in best if one[-1] < number]
        best.append([*(max(lower, key=lambda one: len(one)) if lower else []), number])
    longest: list[int] = max(best, key=len, default=[])
    return set(longest)


def _build_page(
    catalogue: Catalogue, row: int, before: Sequence[int], after: Sequence[int]
) -> PreviewPage:
    kept = set(after)
    moves = _find_moves(before, after)
    return PreviewPage(
        catalogue.card(row),
        [PreviewItem(catalogue.card(one), "" if one in kept else "left") for one in before],
        [PreviewItem(catalogue.card(one), move) for one, move in zip(after, moves, strict=True)],
    )
