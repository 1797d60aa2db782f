"""The order of an answer: boosts and buries, diversity, sorting, pins."""

from collections.abc import Callable, Iterable

import numpy as np

from bento.answering.answer import AnswerItem, Ranking
from bento.answering.eligibility import Eligibility
from bento.answering.query import Query
from bento.answering.resolved_effects import ResolvedEffects
from bento.answering.rules import MAX_FACTOR
from bento.answering.sources import PIN
from components.model.arrays import AnyArray, Float32Array, Int64Array
from components.model.features import normalize_vectors
from components.model.kind_limits import N_VISIBLE, KindLimits
from components.model.kinds import Kinds, append_others
from components.model.product_records import hash_facet

DIVERSITY_POOL = 3
"""Candidates of the diversity selection as a multiple of `k`; at least 30."""

SAME_CATEGORY = 0.5
"""Added to the cosine similarity of two products of one category, for diversity."""

N_COMPARED = 10
"""Products of a category; if their kinds differ, categories are no kinds."""


def apply_factors(query: Query, ranking: Ranking) -> Ranking:
    moving = [effects for effects in query.effects if not effects.moved.is_empty]
    if not moving:
        return ranking
    factors = np.ones(len(ranking.rows))
    for effects in moving:
        factors *= effects.compute_factors(ranking.rows, query.catalogue)
    if (factors == 1).all():
        return ranking
    factors = np.clip(factors, 1 / MAX_FACTOR, MAX_FACTOR)
    query.rule_counts["boost"] += int((factors < 1).sum())
    query.rule_counts["bury"] += int((factors > 1).sum())
    ranks = (1 + np.arange(len(factors))) * factors
    order, k = np.argsort(ranks, kind="stable"), query.request.k
    seen = np.union1d(order[:k], np.arange(min(k, len(order))))
    rows = ranking.rows[seen[factors[seen] != 1]].tolist()
    query.acting_rules.update(*(one.moved.find_rules(row) for one in moving for row in rows))
    return ranking.select(order)


def diversify(query: Query, ranking: Ranking, diversity: float) -> Ranking:
    """First `k` by maximal marginal relevance (Carbonell and Goldstein 1998), then the others."""
    k = query.request.k
    n = min(len(ranking.rows), max(30, DIVERSITY_POOL * k))
    relevance = 1 - np.arange(n) / max(n, 1)
    similarity = _compute_similarity(query, ranking.rows[:n])
    nearest = np.zeros(n)
    taken: list[int] = []
    for _ in range(min(k, n)):
        gain = (1 - diversity) * relevance - diversity * nearest
        gain[taken] = -np.inf
        best = int(np.argmax(gain))
        taken.append(best)
        nearest = np.maximum(nearest, similarity[best])
    others = np.setdiff1d(np.arange(len(ranking.rows)), taken)
    return ranking.select(np.concatenate([taken, others]).astype(np.int64))


def limit_kinds(query: Query, ranking: Ranking, limits: KindLimits) -> Ranking:
    """At least the first `k`."""
    kinds = query.recommender.bundle.kinds
    if kinds is None or limits.are_lifted:
        return ranking
    rows, exempt = ranking.rows.tolist(), _find_exempt(query, ranking.rows)
    first = kinds.find_first(rows, _find_own_kinds(query, kinds), limits, exempt)
    if first and first[-1] >= len(first):
        order = append_others(first, min(len(rows), query.request.k))
        ranking = ranking.select(np.array(order, np.int64))
    if exempt:
        shown = exempt.intersection(ranking.rows[:N_VISIBLE].tolist())
        query.rule_counts["exempt"] += len(shown)
        usual = kinds.find_first(rows, _find_own_kinds(query, kinds), limits)
        query.let_in = shown - {rows[place] for place in usual}
    return ranking


def _find_exempt(query: Query, rows: Int64Array) -> set[int]:
    """Those of `rows` that rules exempt from limits."""
    exempt: set[int] = set()
    for effects in query.effects:
        if not effects.exempt.is_empty:
            exempt.update(rows[effects.exempt.mark(rows)].tolist())
    return exempt


def _find_own_kinds(query: Query, kinds: Kinds) -> set[int]:
    own = {kinds.get(row) for row in query.rows}
    if len(query.known) < max(len(query.product_ids), 1):
        # A product that the bundle does not have is of the kind of its category.
        categories = {one.category for one in query.list_rule_products() if one.category}
        for category in categories:
            same = query.catalogue.find_rows(hash_facet("category", category))[:N_COMPARED]
            if len(found := {kinds.get(row) for row in same.tolist()}) == 1:
                own |= found
    return own


def _compute_similarity(query: Query, rows: Int64Array) -> Float32Array:
    """Similarities (n, n) of products by their IN vectors and categories."""
    bundle = query.recommender.bundle
    unit = normalize_vectors(bundle.in_vectors[rows])
    similarity: Float32Array = np.maximum(unit @ unit.T, 0)
    codes = bundle.item_features.category_codes[rows]
    similarity += np.float32(SAME_CATEGORY) * ((codes[:, None] == codes) & (codes > 0))
    return similarity


def sort_ranking(query: Query, ranking: Ranking) -> Ranking:
    """In the requested order; equal values by relevance, unknown ones last."""
    catalogue, sort = query.catalogue, query.request.sort
    if sort == "relevance":
        return ranking
    columns: dict[str, AnyArray] = {
        "price": catalogue.price,
        "price_descending": catalogue.price,
        "popularity": query.recommender.bundle.n_orders,
        "newest": catalogue.added_at,
        "margin": catalogue.margin,
    }
    values = columns[sort][ranking.rows].astype(np.float64)
    ascending = values if sort == "price" else -values
    keys = np.where(np.isnan(ascending), np.inf, ascending)
    return ranking.select(np.argsort(keys, kind="stable"))


def insert_pins(
    query: Query, eligibility: Eligibility, items: list[AnswerItem]
) -> list[AnswerItem]:
    items, n_placed = place_pins(query.effects, items, eligibility.allows_pin)
    query.rule_counts["pin"] += n_placed
    return items[: query.request.k]


def place_pins(
    effects: Iterable[ResolvedEffects], items: list[AnswerItem], may_pin: Callable[[int], bool]
) -> tuple[list[AnswerItem], int]:
    """The items, perhaps more than before, and the number of pins placed; `may_pin` takes rows."""
    placed: set[int] = set()
    for pin, row in sorted(pin for one in effects for pin in one.pins):
        if row in placed or not may_pin(row):
            continue
        placed.add(row)
        items = [item for item in items if item.row != row]
        pinned = AnswerItem(row, None, PIN, moved_by=(pin.rule_id,))
        items.insert(min(pin.position - 1, len(items)), pinned)
    return items, len(placed)
