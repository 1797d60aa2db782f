"""Builds the answer to a query: rank, leave out, fill up, reorder, explain."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from bento.answering.answer import Answer, AnswerItem, Ranking
from bento.answering.attribution import attribute
from bento.answering.awkward import mark_items
from bento.answering.eligibility import Eligibility
from bento.answering.explanation import Explainer
from bento.answering.ordering import (
    apply_factors,
    diversify,
    insert_pins,
    limit_kinds,
    sort_ranking,
)
from bento.answering.query import Query
from bento.answering.sources import BESTSELLERS, EMBEDDINGS, MODEL, name_sources
from bento.schemas.requests import RecommendRequest
from components.model.arrays import Float32Array, Int64Array, concat_arrays
from components.model.evidence import UNPROVEN, find_grades, has_grades
from components.model.kind_limits import NO_LIMITS, KindLimits
from components.model.kinds import LIMITED_DEPTH
from components.model.text_similarity import Attributes
from components.model.top_k import find_top_k

N_CANDIDATES = LIMITED_DEPTH
"""Minimum length of the first ranking, as filters, rules and limits leave some products out."""

MAX_EXTRA_CANDIDATES = 20_000
"""Eligible products, the most bought first, that are scored if the first ranking is too short."""

HOLDOUT_REASON = "the session is held out of recommendations by an experiment"


class AnswerBuilder:
    def __init__(self, query: Query) -> None:
        self._query, self._k = query, query.request.k
        self._recommender = query.recommender
        self._eligibility = Eligibility(query)
        self._filled_up: set[int] = set()

    def build_companions(self, request: RecommendRequest, limits: KindLimits = NO_LIMITS) -> Answer:
        query, eligible = self._query, self._eligibility
        on_page = request.context == "product_page" or (
            request.context is None and len(query.known) == 1
        )
        ranking = self._rank_by_model(on_page) if query.known else self._rank_by_attributes()
        explainer = Explainer(query, "page" if on_page else "cart", ranking)
        if request.strict:
            ranking = ranking.select(explainer.mark_real(ranking.rows, is_strict=True))
        # The model leaves out the products asked for and their variants; for a page only one.
        n_left_out = min(len(query.known), 1) if on_page else len(query.known)
        all_left_out = n_left_out and n_left_out == len(query.rows)
        ranking = eligible.filter(
            ranking, eligible.excluded_rows if all_left_out else eligible.hidden_rows
        )
        ranking = eligible.apply_price_limit(ranking)
        if request.min_score is not None:
            ranking = ranking.select(ranking.scores >= request.min_score)
        elif len(ranking.rows) < self._k and not request.strict:
            known = query.known[-1:] if on_page else query.known
            score = functools.partial(self._score_companions, known)
            ranking = self._fill_up(ranking, score, eligible.hidden_rows)
        return self._build(ranking, explainer, request.diversity, limits)

    def build_substitutes(self) -> Answer:
        query, recommender = self._query, self._recommender
        row = query.found[0] if query.found else None
        described = query.catalogue.find_attributes(row, query.attributes)
        known = query.known[0] if query.known else None
        found = recommender.rank_substitutes(known, described, max(N_CANDIDATES, 2 * self._k))
        ranking = Ranking(found.rows, found.scores, found.source)
        hidden = [*query.rows, *self._eligibility.excluded_rows]

        def score(rows: Int64Array) -> Float32Array:
            if known is None:
                return recommender.items.score_rows([], rows)
            return recommender.substitutes.score_rows(known, described, rows)

        ranking = self._eligibility.filter(ranking, hidden)
        if len(ranking.rows) < self._k:
            ranking = self._fill_up(ranking, score, hidden)
        return self._build(ranking, Explainer(query, "substitutes"))

    def build_bestsellers(self) -> Answer:
        """Of all products, whatever was asked for: filters and blocking rules apply, no others."""
        query, eligible = self._query, self._eligibility
        rows: Int64Array = np.empty(0, np.int64)
        for block in eligible.iterate_rows(eligible.hidden_rows):
            rows = np.concatenate([rows, block])[: self._k]
            if len(rows) == self._k:
                break
        scores = self._recommender.items.score_rows([], rows)
        best = sort_ranking(query, Ranking(rows, scores, BESTSELLERS))
        pairs = zip(best.rows.tolist(), best.scores.tolist(), strict=True)
        items = [AnswerItem(row, score, BESTSELLERS) for row, score in pairs]
        return Answer(
            items,
            BESTSELLERS,
            query.catalogue,
            query.unknown,
            reason=HOLDOUT_REASON,
            message=_describe_shortage(query, len(items)) if len(items) < self._k else "",
        )

    def _rank_by_model(self, on_page: bool) -> Ranking:
        depth = max(N_CANDIDATES, self._k)
        if on_page:
            rows, scores = self._recommender.items.rank_one(self._query.known[-1], depth)
        else:
            cart = np.array(self._query.known, np.int32)
            block, values = self._recommender.carts.rank([cart], depth)
            is_real = block[0] >= 0
            rows, scores = block[0][is_real], values[0][is_real]
        return Ranking(rows, scores, MODEL)

    def _rank_by_attributes(self) -> Ranking:
        query = self._query
        described = query.describe_products() or [query.attributes or Attributes()]
        source, rows, scores = self._recommender.cold_start.rank_companions(
            described, max(N_CANDIDATES, 2 * self._k)
        )
        return Ranking(rows, scores, source)

    def _score_companions(self, known: list[int], rows: Int64Array) -> Float32Array:
        """By vectors and popularity, those that are likely with `known` above all others."""
        scores = self._recommender.items.score_rows(known, rows)
        bundle = self._recommender.bundle
        if not has_grades(bundle) or not len(rows):
            return scores
        is_likely = find_grades(bundle, np.array(known, np.int32), rows) > UNPROVEN
        raised = scores + is_likely * (np.ptp(scores) + 1)
        return raised.astype(np.float32)

    def _fill_up(
        self,
        ranking: Ranking,
        score: Callable[[Int64Array], Float32Array],
        hidden: Sequence[int],
    ) -> Ranking:
        """Up to `k`, with the best by `score` of the eligible products not yet in the ranking."""
        blocks: list[Int64Array] = []
        for block in self._eligibility.iterate_rows(hidden):
            blocks.append(block[~np.isin(block, ranking.rows)])
            if sum(map(len, blocks)) >= MAX_EXTRA_CANDIDATES:
                break
        rows = concat_arrays(blocks, np.int64)[:MAX_EXTRA_CANDIDATES]
        scores = score(rows)
        best = find_top_k(scores, self._k - len(ranking.rows))
        self._filled_up.update(rows[best].tolist())
        if ranking.scores.size and best.size:
            # These scores are made of fewer features: they stay below the ranking's.
            scores = np.minimum(scores, ranking.scores[-1])
        return Ranking(
            np.concatenate([ranking.rows, rows[best]]),
            np.concatenate([ranking.scores, scores[best]]).astype(np.float32),
            ranking.source,
        )

    def _build(
        self,
        ranking: Ranking,
        explainer: Explainer,
        diversity: float = 0,
        limits: KindLimits = NO_LIMITS,
    ) -> Answer:
        query, k = self._query, self._k
        ranking = apply_factors(query, ranking)
        if diversity > 0:
            ranking = diversify(query, ranking, diversity)
        ranking = limit_kinds(query, ranking, limits)
        best = sort_ranking(query, ranking.select(slice(k)))
        sources = self._name_sources(best, explainer)
        found = zip(best.rows.tolist(), best.scores.tolist(), sources, strict=True)
        items = [AnswerItem(*one) for one in found]
        if any(effects.pins for effects in query.effects):
            items = insert_pins(query, self._eligibility, items)
        items = attribute(query, items)
        if query.request.explain:
            explained = [explainer.explain(item) for item in items]
            items = mark_items(query, explainer.add_score_parts(explained))
        return Answer(
            items,
            ranking.source,
            query.catalogue,
            query.unknown,
            reason="" if query.known else _describe_fallback(query),
            message=_describe_shortage(query, len(items)) if len(items) < k else "",
            rules={action: n for action, n in query.rule_counts.items() if n},
            applied=[one.effects for one in query.effects],
            acting_rules={*query.acting_rules, *query.set_by},
            set_by=query.set_by,
        )

    def _name_sources(self, ranking: Ranking, explainer: Explainer) -> Sequence[str]:
        if ranking.source == MODEL and explainer.kind != "substitutes":
            return name_sources(explainer.mark_real(ranking.rows).tobytes())
        filled_up = EMBEDDINGS if self._query.known else BESTSELLERS
        rows = ranking.rows.tolist()
        return [filled_up if row in self._filled_up else ranking.source for row in rows]


def _describe_fallback(query: Query) -> str:
    if not query.product_ids:
        return "only attributes were given"
    return "no product asked for is known to the model"


def _describe_shortage(query: Query, n: int) -> str:
    """The reason for fewer than `k` products: the conditions that they had to meet."""
    request = query.request
    given = [name for name in ("filters", "exclude") if getattr(request, name)]
    if isinstance(request, RecommendRequest):
        given += ["strict"] * request.strict
        given += ["min_score"] * (request.min_score is not None)
        given += ["price_ratio"] * query.has_price_limit()
    given += ["the stock"] * query.hides_out_of_stock()
    given += ["rules"] * bool(query.effects)
    given += ["FBT_SENSITIVE_PAIRS"] * query.awkward.blocks_sensitive
    condition = f"pass {', '.join(given)}" if given else "can be shown"
    return f"{n or 'no'} product{'s' * (n != 1)} {condition}, {request.k} were asked for"
