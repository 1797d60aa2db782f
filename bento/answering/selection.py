"""From a question to its answer: what the recommender ranks, as the shop wants it shown.

A ranking goes through here in one order: what may not be shown is left out; where too little is
left, more is ranked; rules move products up and down; the best k are chosen, spread out where
that is asked for, put in order, and pinned ones put in their places.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import Literal, NamedTuple

import numpy as np

from bento.answering.catalogue import Catalogue, ProductFilter
from bento.answering.rules import MAX_FACTOR, QueryProduct, RuleEffects, RuleSet
from bento.schemas import (
    PRICE_RATIO,
    BaseRequest,
    Filters,
    ProductAttributes,
    RecommendRequest,
    SimilarRequest,
)
from components.model.arrays import (
    AnyArray,
    BoolArray,
    Float32Array,
    Int32Array,
    Int64Array,
    concat_arrays,
)
from components.model.features import normalize_vectors
from components.model.product_records import hash_facet
from components.model.recommender import Recommender
from components.model.text_similarity import Attributes
from components.model.top_k import find_top_k

N_CANDIDATES = 100
"""Places ranked at first, however few are asked for: filters and rules leave some out."""

MAX_EXTRA_CANDIDATES = 20_000
"""Products that pass, the most bought first, that are scored where the shortlist is too short."""

DIVERSITY_POOL = 3
"""Times as many products as asked for among which diversity chooses; at least 30."""

SAME_CATEGORY = 0.5
"""What being of one category adds to the cosine of two products, for diversity."""

MIN_BOUGHT_TOGETHER = 2
"""Orders with both that make a pair sure."""

PLAIN_FIELDS = frozenset(["items", "k", "session_id", "variant"])
"""Fields of a question that wishes for nothing."""

NONE_COUNTED: Mapping[str, int] = {}

FEW = 16
"""Rows that are looked for one by one, which is quicker than together."""

MAX_CACHED_RULE_SETS = 64
"""Sets of products in rules whose rows are remembered."""


class Ranking(NamedTuple):
    """Products, best first: rows of the catalogue, scores, and where they came from."""

    rows: Int64Array
    scores: Float32Array
    source: str

    def where(self, kept: BoolArray | Int64Array | slice) -> "Ranking":
        """Those of them, in that order."""
        return Ranking(self.rows[kept], self.scores[kept], self.source)


class Explanation(NamedTuple):
    """The pair that speaks most for a product; see `bento.schemas.Because`."""

    product_id: str
    bought_together: int
    support: float
    confidence: float
    lift: float


class AnswerItem(NamedTuple):
    """One product of an answer."""

    row: int
    score: float | None
    source: str
    why: Explanation | None = None
    proposed_by: str = ""
    """Part of the model that proposed a companion: counts, neighbours, embeddings; if explained."""


class Answer(NamedTuple):
    """What a question is answered with."""

    shown: Sequence[AnswerItem]
    source: str
    catalogue: Catalogue
    """What the rows are of."""
    unknown: Sequence[str] = ()
    reason: str = ""
    """Why a fallback answered, or empty."""
    message: str = ""
    """Why there are fewer than were asked for, or empty."""
    rules: Mapping[str, int] = NONE_COUNTED
    """How many rules of each action moved, showed or hid something."""


class Selection:
    """Answers with one recommender, one state of the catalogue and one set of rules.

    Immutable but for `catalogue` and `rules`, which may be replaced at any time: a question reads
    each once.
    """

    def __init__(self, recommender: Recommender, catalogue: Catalogue) -> None:
        self.recommender = recommender
        self.catalogue = catalogue
        self.rules = RuleSet()
        self._factors: dict[int, tuple[Catalogue, Mapping[str, float], dict[int, float]]] = {}

    def recommend(self, request: RecommendRequest) -> Answer:
        """Companions of what is asked for."""
        if (answer := self._answer_plain(request)) is not None:
            return answer
        return _Query(self, request, request.items, request.attributes).companions(request)

    def _answer_plain(self, request: RecommendRequest) -> Answer | None:
        """The usual answer, to a product's page without wishes; None where it takes more.

        It is what `_Query` makes of it, too, at three times the cost.
        """
        catalogue, recommender, k = self.catalogue, self.recommender, request.k
        plain = request.model_fields_set <= PLAIN_FIELDS and len(request.items) == 1
        if not plain or catalogue.deleted is not None or not self.rules.empty:
            return None
        row = catalogue.row(request.items[0])
        if row is None or row >= recommender.n_items:
            return None
        found, scores = recommender.items.rank_one(row, k)
        rows, limit = found.tolist(), PRICE_RATIO * float(catalogue.price[row])
        if len(rows) < k or catalogue.is_any_dearer(rows, limit):
            return None
        shown = [AnswerItem(*one) for one in zip(rows, scores.tolist(), repeat("model"))]
        return Answer(shown, "model", catalogue)

    def factors_by_row(
        self, catalogue: Catalogue, factors: Mapping[str, float]
    ) -> Mapping[int, float]:
        """Factors of rules by row instead of by id, remembered as long as the rules are."""
        kept = self._factors.get(id(factors))
        if kept is None or kept[0] is not catalogue or kept[1] is not factors:
            rows = ((catalogue.row(id_), factor) for id_, factor in factors.items())
            by_row = {row: factor for row, factor in rows if row is not None}
            if len(self._factors) >= MAX_CACHED_RULE_SETS:
                self._factors.clear()
            kept = self._factors[id(factors)] = (catalogue, factors, by_row)
        return kept[2]

    def similar(self, request: SimilarRequest) -> Answer:
        """What could replace what is asked for."""
        items = [] if request.item is None else [request.item]
        return _Query(self, request, items, request.attributes).substitutes()


class _Query:
    """One question, from its products to its answer."""

    def __init__(
        self,
        selection: Selection,
        request: BaseRequest,
        items: Sequence[str],
        attributes: ProductAttributes | None,
    ) -> None:
        self.request, self.k = request, request.k
        self.recommender, self.catalogue = selection.recommender, selection.catalogue
        self.items = list(dict.fromkeys(items))
        rows = [self.catalogue.row(id_) for id_ in self.items]
        n_items = self.recommender.n_items
        self.known = [row for row in rows if row is not None and row < n_items]
        self.unknown = [
            id_ for id_, row in zip(self.items, rows, strict=True) if row is None or row >= n_items
        ]
        self.rows = [row for row in rows if row is not None]
        self._given = to_attributes(attributes)
        self._found = rows
        self.applied = self._find_effects(selection.rules)
        self._factors_by_row = selection.factors_by_row
        self.wanted = to_product_filter(request.filters)
        self.counted: dict[str, int] = {}
        self._kind: Literal["page", "cart", "substitutes"] = "substitutes"

    def companions(self, request: RecommendRequest) -> Answer:
        page = request.context == "product_page" or (
            request.context is None and len(self.known) == 1
        )
        self._kind = "page" if page else "cart"
        if not self.known:
            ranked = self._rank_by_attributes()
            reason = self._describe_fallback()
        else:
            ranked, reason = self._rank(page), ""
        if request.strict:
            if reason:
                return self._answer(ranked.where(slice(0)), reason, 0)
            ranked = ranked.where(self._is_strict_pair(ranked.rows))
        # What is asked for and its variants are in no ranking of the model; a page knows of one.
        left_out = reason == "" and len(self.rows) == len(self.known) - page * (len(self.known) - 1)
        ranked = self._filter(ranked, self._find_excluded() if left_out else self._hidden())
        ranked = self._in_price(ranked, request)
        if request.min_score is not None:
            ranked = ranked.where(ranked.scores >= request.min_score)
        elif len(ranked.rows) < self.k and not request.strict:
            ranked = self._with_more(ranked, page, request)
        return self._answer(self._apply_factors(ranked), reason, request.diversity)

    def substitutes(self) -> Answer:
        row = self._found[0] if self._found else None
        described = self.catalogue.described(row, self._given)
        known = self.known[0] if self.known else None
        found = self.recommender.rank_substitutes(known, described, max(N_CANDIDATES, 2 * self.k))
        ranked = Ranking(found.rows, found.scores, found.source)
        reason = self._describe_fallback() if not self.known else ""
        hidden = [*self.rows, *self._find_excluded()]
        ranked = self._filter(ranked, hidden)
        if len(ranked.rows) < self.k:
            ranked = self._append(ranked, self._substitute_scores(known, described), hidden)
        return self._answer(self._apply_factors(ranked), reason, 0)

    # Ranking

    def _rank(self, page: bool) -> Ranking:
        """The shortlist by the model."""
        recommender, known = self.recommender, np.array(self.known, np.int32)
        depth = max(N_CANDIDATES, self.k)
        if page:
            rows, scores = recommender.items.rank_one(self.known[-1], depth)
        else:
            block, values = recommender.carts.rank([known], depth)
            kept = block[0] >= 0
            rows, scores = block[0][kept], values[0][kept]
        return Ranking(rows, scores, "model")

    def _rank_by_attributes(self) -> Ranking:
        described = [self.catalogue.described(row, self._given) for row in self._found]
        source, rows, scores = self.recommender.cold_start.rank_companions(
            described or [self._given or Attributes()], max(N_CANDIDATES, 2 * self.k)
        )
        return Ranking(rows, scores, source)

    def _with_more(self, ranked: Ranking, page: bool, request: RecommendRequest) -> Ranking:
        """The list, and behind it what else may be shown, by vectors and popularity."""
        known = self.known[-1:] if page else self.known

        def score(rows: Int64Array) -> Float32Array:
            return self.recommender.items.score_rows(known, rows)

        return self._append(ranked, score, self._hidden(), request)

    def _substitute_scores(
        self, known: int | None, described: Attributes
    ) -> Callable[[Int64Array], Float32Array]:
        if known is not None:
            every = self.recommender.substitutes.score(known, described)
            return lambda rows: every[rows]
        return lambda rows: self.recommender.items.score_rows([], rows)

    def _append(
        self,
        ranked: Ranking,
        score: Callable[[Int64Array], Float32Array],
        hidden: Sequence[int],
        request: RecommendRequest | None = None,
    ) -> Ranking:
        """Behind the list, up to `k`, the best by `score` of what is not yet in it."""
        found: list[Int64Array] = []
        n_items, n_found = self.recommender.n_items, 0
        for block in self.catalogue.every(self.wanted):
            rows = block[block < n_items]
            rows = rows[~np.isin(rows, ranked.rows)]
            rows = rows[self._is_allowed(rows, hidden)]
            if request is not None and self._has_price_limit(request):
                rows = rows[~self._is_too_dear(rows, request)]
            found.append(rows)
            n_found += len(rows)
            if n_found >= MAX_EXTRA_CANDIDATES or (len(block) and block[-1] >= n_items):
                break
        rows = concat_arrays(found, np.int64)[:MAX_EXTRA_CANDIDATES]
        scores = score(rows)
        best = find_top_k(scores, self.k - len(ranked.rows))
        if ranked.scores.size and best.size:
            # What is appended stays behind: its scores are made of less.
            scores = np.minimum(scores, ranked.scores[-1])
        return Ranking(
            np.concatenate([ranked.rows, rows[best]]),
            np.concatenate([ranked.scores, scores[best]]).astype(np.float32),
            ranked.source,
        )

    # What may be shown

    def _filter(self, ranked: Ranking, hidden: Sequence[int]) -> Ranking:
        """Those that are not hidden, deleted, blocked or against the filters."""
        if self.wanted is not ANY or self.catalogue.deleted is not None:
            ranked = ranked.where(self.catalogue.match_filter(ranked.rows, self.wanted))
        if hidden or self.applied:
            ranked = ranked.where(self._is_allowed(ranked.rows, hidden))
        return ranked

    def _is_allowed(self, rows: Int64Array, hidden: Sequence[int]) -> BoolArray:
        """Which of `rows` are neither hidden nor blocked."""
        allowed = ~among(rows, hidden)
        for applied in self.applied:
            blocked = self._is_blocked(applied, rows) & allowed
            self._count("block", int(blocked.sum()))
            allowed &= ~blocked
        return allowed

    def _find_excluded(self) -> list[int]:
        rows = (self.catalogue.row(id_) for id_ in self.request.exclude)
        return [row for row in rows if row is not None]

    def _hidden(self) -> list[int]:
        """What is asked for, its variants, and what is excluded."""
        variants = self.recommender.bundle.variants
        own = [] if variants is None else variants.concat(self.known).tolist()
        return [*self.rows, *own, *self._find_excluded()]

    def _is_blocked(self, applied: RuleEffects, rows: Int64Array) -> BoolArray:
        blocked = np.zeros(len(rows), bool)
        if applied.blocked_products:
            products = blocked_rows(self.catalogue, applied.blocked_products)
            blocked |= among(rows, products)
        tokens = [hash_facet("category", one) for one in applied.blocked_categories]
        tokens += [hash_facet("brand", one) for one in applied.blocked_brands]
        return blocked | self.catalogue.has(rows, tokens) if tokens else blocked

    def _in_price(self, ranked: Ranking, request: RecommendRequest) -> Ranking:
        """Without what is too dear, or by default with that behind all others."""
        dear = self._is_too_dear(ranked.rows, request)
        if not dear.any():
            return ranked
        if self._has_price_limit(request):
            return ranked.where(~dear)
        order = np.argsort(dear, kind="stable")
        moved = ranked.where(order)
        return moved._replace(scores=np.minimum.accumulate(moved.scores))

    def _has_price_limit(self, request: RecommendRequest) -> bool:
        return "price_ratio" in request.model_fields_set or request.context == "checkout"

    def _is_too_dear(self, rows: Int64Array, request: RecommendRequest) -> BoolArray:
        ratio = request.price_ratio
        if request.context == "checkout" and "price_ratio" not in request.model_fields_set:
            ratio = 1.0
        if ratio is None or not self.rows:
            return np.zeros(len(rows), bool)
        price = self.catalogue.price
        dearest = max((float(price[row]) for row in self.rows), key=_or_least)
        dear: BoolArray = price[rows] > np.float32(ratio * dearest)
        return dear

    def _is_strict_pair(self, rows: Int64Array) -> BoolArray:
        whys = [self._why(int(row)) for row in rows]
        return np.array(
            [
                why is not None and why.bought_together >= MIN_BOUGHT_TOGETHER and why.lift > 1
                for why in whys
            ],
            bool,
        )

    # Order

    def _apply_factors(self, ranked: Ranking) -> Ranking:
        """In the order of places that boosts and burials have multiplied."""
        if not self.applied:
            return ranked
        factor = np.ones(len(ranked.rows))
        for applied in self.applied:
            if applied.product_factors:
                by_row = self._factors_by_row(self.catalogue, applied.product_factors)
                factor *= [by_row.get(row, 1.0) for row in ranked.rows.tolist()]
            for name, factors in (
                ("category", applied.category_factors),
                ("brand", applied.brand_factors),
            ):
                for value, multiplier in factors.items():
                    factor[self.catalogue.has(ranked.rows, [hash_facet(name, value)])] *= multiplier
        if (factor == 1).all():
            return ranked
        factor = np.clip(factor, 1 / MAX_FACTOR, MAX_FACTOR)
        self._count("boost", int((factor < 1).sum()))
        self._count("bury", int((factor > 1).sum()))
        places = (1 + np.arange(len(factor))) * factor
        return ranked.where(np.argsort(places, kind="stable"))

    def _answer(self, ranked: Ranking, reason: str, diversity: float) -> Answer:
        if diversity > 0:
            ranked = ranked.where(self._diversify(ranked.rows, diversity))
        best = ranked.where(slice(self.k))
        if self.request.sort != "relevance":
            best = best.where(self._sort(best.rows))
        shown = [
            AnswerItem(row, score, ranked.source)
            for row, score in zip(best.rows.tolist(), best.scores.tolist(), strict=True)
        ]
        if any(applied.pins for applied in self.applied):
            shown = self._insert_pins(shown)
        if self.request.explain:
            shown = [self._explain(one) for one in shown]
        message = self._describe_shortage(len(shown)) if len(shown) < self.k else ""
        counted = self.counted or NONE_COUNTED
        return Answer(shown, ranked.source, self.catalogue, self.unknown, reason, message, counted)

    def _diversify(self, rows: Int64Array, diversity: float) -> Int64Array:
        """Places in the order in which maximal marginal relevance takes them, up to k."""
        n = min(len(rows), max(30, DIVERSITY_POOL * self.k))
        relevance = 1 - np.arange(n) / max(n, 1)
        alike = self._compute_similarity(rows[:n])
        nearest = np.zeros(n)
        taken: list[int] = []
        for _ in range(min(self.k, n)):
            gain = (1 - diversity) * relevance - diversity * nearest
            gain[taken] = -np.inf
            best = int(np.argmax(gain))
            taken.append(best)
            nearest = np.maximum(nearest, alike[best])
        return np.array(taken, np.int64)

    def _compute_similarity(self, rows: Int64Array) -> Float32Array:
        """Likeness (n, n) of products, by the company they are bought in and their categories."""
        bundle = self.recommender.bundle
        unit = normalize_vectors(bundle.in_vectors[rows])
        alike: Float32Array = np.maximum(unit @ unit.T, 0)
        codes = bundle.item_features.category_codes[rows]
        alike += np.float32(SAME_CATEGORY) * ((codes[:, None] == codes) & (codes > 0))
        return alike

    def _sort(self, rows: Int64Array) -> Int64Array:
        """Places of `rows` in the order asked for; equal ones by relevance, unknown ones last."""
        catalogue, sort = self.catalogue, self.request.sort
        columns: dict[str, AnyArray] = {
            "price": catalogue.price,
            "price_descending": catalogue.price,
            "popularity": self.recommender.bundle.n_orders,
            "newest": catalogue.added_at,
            "margin": catalogue.margin,
        }
        values = columns[sort][rows].astype(np.float64)
        rising = values if sort == "price" else -values
        return np.argsort(np.where(np.isnan(rising), np.inf, rising), kind="stable")

    def _insert_pins(self, shown: list[AnswerItem]) -> list[AnswerItem]:
        pins = sorted(pin for applied in self.applied for pin in applied.pins)
        placed: set[int] = set()
        for pin in pins:
            row = self.catalogue.row(pin.product_id)
            if row is None or row in placed or not self._pin_passes(row):
                continue
            placed.add(row)
            shown = [one for one in shown if one.row != row]
            shown.insert(min(pin.position - 1, len(shown)), AnswerItem(row, None, "pin"))
            self._count("pin", 1)
        return shown[: self.k]

    def _pin_passes(self, row: int) -> bool:
        one = Ranking(np.array([row]), np.zeros(1, np.float32), "pin")
        return len(self._filter(one, self._hidden()).rows) > 0

    # Words

    def _explain(self, one: AnswerItem) -> AnswerItem:
        """With its counts; a companion without any, with the part of the model that proposed it."""
        why = self._why(one.row)
        if one.source != "model" or self._kind == "substitutes":
            return one._replace(why=why)
        # Regressions propose for carts only; a page's candidates are counted or near.
        regressed = self._kind == "cart" and one.row in self._neighbours
        part = "counts" if why else "neighbours" if regressed else "embeddings"
        return one._replace(why=why, proposed_by=part)

    @functools.cached_property
    def _neighbours(self) -> set[int]:
        """Rows that the ridge regressions of the products asked for speak for."""
        neighbours = self.recommender.bundle.neighbours
        lists = [neighbours.entries(asked) for asked in self.known]
        rows = [neighbours.rows[one][neighbours.weights[one] > 0] for one in lists]
        return set(concat_arrays(rows, np.int64).tolist())

    def _why(self, row: int) -> Explanation | None:
        """What of the products asked for is bought with `row` most surely."""
        if (pair := self._strongest_pairs.get(row)) is None:
            return None
        confidence, both, asked = pair
        bundle, n = self.recommender.bundle, self.recommender.bundle.manifest.n_orders
        lift = confidence / max(int(bundle.n_orders[row]) / n, 1e-12)
        return Explanation(self._find_id(asked), both, both / n, confidence, lift)

    @functools.cached_property
    def _strongest_pairs(self) -> dict[int, tuple[float, int, int]]:
        """By companion, the confidence, orders with both, and which product asked for it is."""
        bundle = self.recommender.bundle
        surest: dict[int, tuple[float, int, int]] = {}
        for asked in self.known:
            pairs = bundle.pairs.entries(asked)
            n = max(int(bundle.n_orders[asked]), 1)
            companions, together = bundle.pairs.rows[pairs], bundle.pairs.support[pairs]
            for row, both in zip(companions.tolist(), together.tolist(), strict=True):
                if row not in surest or surest[row][0] < both / n:
                    surest[row] = (both / n, both, asked)
        return surest

    def _find_id(self, row: int) -> str:
        return next(id_ for id_, found in zip(self.items, self._found, strict=True) if found == row)

    def _describe_shortage(self, n: int) -> str:
        """What kept products out of an answer that is too short."""
        request = self.request
        given = [name for name in ("filters", "exclude") if getattr(request, name)]
        if isinstance(request, RecommendRequest):
            given += ["strict"] * request.strict
            given += ["min_score"] * (request.min_score is not None)
            given += ["price_ratio"] * self._has_price_limit(request)
        given += ["rules"] * bool(self.applied)
        what = f"pass {', '.join(given)}" if given else "can be shown"
        return f"{n or 'no'} product{'s' * (n != 1)} {what}, {self.k} were asked for"

    def _describe_fallback(self) -> str:
        if not self.items:
            return "only attributes were given"
        return "no product asked for is known to the model"

    def _find_effects(self, rules: RuleSet) -> list[RuleEffects]:
        """What rules do to this question: what they do to every one, and what to such ones."""
        if rules.empty:
            return []
        now = datetime.now(UTC)
        both = (rules.global_effects(now), rules.effects_for(self._query_products(), now))
        return [applied for applied in both if not applied.empty]

    def _query_products(self) -> list[QueryProduct]:
        asked = []
        for id_, row in zip(self.items, self._found, strict=True):
            if row is None or self._given is not None:
                looks = self.catalogue.described(row, self._given)
            else:
                looks = self.catalogue.looks(row)
            asked.append(QueryProduct(id_, looks.category, looks.brand))
        if not asked and self._given is not None:
            asked.append(QueryProduct("", self._given.category, self._given.brand))
        return asked

    def _count(self, action: str, n: int) -> None:
        if n:
            self.counted[action] = self.counted.get(action, 0) + n


@functools.lru_cache(maxsize=MAX_CACHED_RULE_SETS)
def blocked_rows(catalogue: Catalogue, product_ids: frozenset[str]) -> Int32Array:
    """Rows of the products that are in the catalogue."""
    rows = (catalogue.row(id_) for id_ in product_ids)
    return np.array([row for row in rows if row is not None], np.int32)


def among(rows: Int64Array, others: Sequence[int] | Int32Array) -> BoolArray:
    """Which of `rows` are one of the others."""
    if len(others) > FEW:
        return np.isin(rows, others)
    found = np.zeros(len(rows), bool)
    for other in others:
        found |= rows == other
    return found


def _or_least(price: float) -> float:
    return -math.inf if math.isnan(price) else price


ANY = ProductFilter()


def to_product_filter(filters: Filters | None) -> ProductFilter:
    """Filters as the catalogue takes them."""
    if filters is None:
        return ANY
    texts = [("category", filters.category), ("brand", filters.brand)]
    texts += [(f"attributes.{name}", one) for name, one in filters.attributes.items()]
    any_of, none_of = [], []
    for name, text in texts:
        if text is None:
            continue
        if text.include:
            any_of.append(tuple(hash_facet(name, value) for value in text.include))
        none_of += [hash_facet(name, value) for value in text.exclude]
    price = filters.price
    return ProductFilter(
        any_of=tuple(any_of),
        none_of=tuple(none_of),
        lowest=-math.inf if price is None or price.min is None else price.min,
        highest=math.inf if price is None or price.max is None else price.max,
        in_stock=filters.in_stock,
    )


def to_attributes(given: ProductAttributes | None) -> Attributes | None:
    """What a request says of a product, as the recommender takes it."""
    if given is None:
        return None
    return Attributes(given.name, given.category, given.brand, given.price)
