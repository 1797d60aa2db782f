"""Answers requests with a model, the current catalogue and the current rules."""

from collections.abc import Sequence
from datetime import UTC, datetime

from bento.answering.answer import Answer, AnswerItem
from bento.answering.answer_builder import HOLDOUT_REASON, AnswerBuilder
from bento.answering.awkward import blocks_any
from bento.answering.awkward_settings import DEFAULT_SETTINGS
from bento.answering.catalogue import Catalogue
from bento.answering.query import Query
from bento.answering.resolved_effects import ResolvedEffects, resolve_effects
from bento.answering.rules import RuleEffects, RuleSet
from bento.answering.sources import MODEL, name_sources
from bento.schemas.requests import PRICE_RATIO, RecommendRequest, SimilarRequest
from components.model.kind_limits import N_VISIBLE, KindLimits
from components.model.kinds import append_others
from components.model.recommender import Recommender

PLAIN_FIELDS = frozenset(["items", "k", "session_id", "variant"])
"""Fields that need no more than the precomputed ranking of a product."""

SHORT_DEPTH = 30
"""Products of a precomputed ranking, among which five nearly always fit."""

MAX_CACHED_EFFECTS = 64

AnyRequest = RecommendRequest | SimilarRequest


def list_asked(request: AnyRequest) -> list[str]:
    if isinstance(request, RecommendRequest):
        return request.items
    return [] if request.item is None else [request.item]


class Selection:
    """`catalogue` and `rules` may be replaced at any time: a request reads each once."""

    def __init__(
        self, recommender: Recommender, catalogue: Catalogue, limits: KindLimits | None = None
    ) -> None:
        """`limits` are the manifest's by default."""
        self.recommender = recommender
        self.catalogue = catalogue
        self.limits = recommender.bundle.manifest.kind_limits if limits is None else limits
        self.awkward = DEFAULT_SETTINGS
        self.rules = RuleSet()
        self._resolved: tuple[Catalogue, dict[RuleEffects, ResolvedEffects]] = (catalogue, {})

    def recommend(self, request: RecommendRequest) -> Answer:
        if (answer := self._answer_plain(request)) is not None:
            return answer
        limits = self.limits.override(request.max_own_kind, request.max_same_kind)
        query = self._build_query(request)
        return AnswerBuilder(query).build_companions(request, limits)

    def similar(self, request: SimilarRequest) -> Answer:
        return AnswerBuilder(self._build_query(request)).build_substitutes()

    def bestsellers(self, request: AnyRequest) -> Answer:
        """For a holdout."""
        return AnswerBuilder(self._build_query(request)).build_bestsellers()

    def nothing(self, request: AnyRequest) -> Answer:
        """For a holdout."""
        query = Query(request, list_asked(request), self.recommender, self.catalogue)
        return Answer((), MODEL, query.catalogue, query.unknown, message=HOLDOUT_REASON)

    def _answer_plain(self, request: RecommendRequest) -> Answer | None:
        """The answer for a product page without further conditions; None if there are any.

        AnswerBuilder gives the same at three times the cost.
        """
        catalogue, recommender, k = self.catalogue, self.recommender, request.k
        is_plain = request.model_fields_set <= PLAIN_FIELDS and len(request.items) == 1
        if not is_plain or catalogue.deleted is not None or not self.rules.is_empty:
            return None
        row = catalogue.row(request.items[0])
        if row is None or row >= recommender.n_items:
            return None
        rows, scores, sources = self._rank_one(row, k)
        limit = PRICE_RATIO * float(catalogue.price[row])
        if len(rows) < k or catalogue.is_any_dearer(rows, limit):
            return None
        if blocks_any(self.awkward, catalogue, row, rows):
            return None
        items = [AnswerItem(*one) for one in zip(rows, scores, sources, strict=True)]
        return Answer(items, MODEL, catalogue)

    def _rank_one(self, row: int, k: int) -> tuple[list[int], list[float], Sequence[str]]:
        """Rows, scores and sources, fewer than `k` where it takes more to find those that fit."""
        items, has_kinds = self.recommender.items, self.recommender.bundle.kinds is not None
        is_limited = has_kinds and not self.limits.are_lifted
        is_plain = not is_limited and self.catalogue.stock is None
        found, values = items.rank_one(row, k if is_plain else max(k, SHORT_DEPTH))
        rows, scores, are_real = found.tolist(), values.tolist(), items.mark_real(row, found)
        if is_plain:
            return rows, scores, name_sources(are_real)
        shown = self._choose(row, rows, k)
        if shown == rows[: len(shown)]:
            n = len(shown)
            return shown, scores[:n], name_sources(are_real[:n])
        places = [rows.index(one) for one in shown]
        real = bytes(are_real[place] for place in places)
        return shown, [scores[place] for place in places], name_sources(real)

    def _choose(self, row: int, rows: list[int], k: int) -> list[int]:
        """Up to `k` of the best `rows`: in stock, and of different kinds."""
        kinds = self.recommender.bundle.kinds
        if (stock := self.catalogue.stock) is not None:
            rows = [one for one in rows if stock[one]]
        if kinds is None or self.limits.are_lifted:
            return rows[:k]
        first = kinds.find_first(rows, [kinds.get(row)], self.limits)
        if len(first) < N_VISIBLE:
            return []
        if first[-1] < N_VISIBLE:
            return rows[:k]
        return [rows[place] for place in append_others(first, min(k, len(rows)))[:k]]

    def _build_query(self, request: AnyRequest) -> Query:
        query = Query(request, list_asked(request), self.recommender, self.catalogue)
        query.awkward = self.awkward
        if not (rules := self.rules).is_empty:
            now = datetime.now(UTC)
            both = (rules.global_effects(now), rules.effects_for(query.list_rule_products(), now))
            query.effects = [
                self._resolve(effects, query.catalogue) for effects in both if not effects.is_empty
            ]
        return query

    def _resolve(self, effects: RuleEffects, catalogue: Catalogue) -> ResolvedEffects:
        """Cached for the current catalogue."""
        resolved_for, cache = self._resolved
        if resolved_for is not catalogue or len(cache) >= MAX_CACHED_EFFECTS:
            cache = {}
            self._resolved = (catalogue, cache)
        if (resolved := cache.get(effects)) is None:
            resolved = cache[effects] = resolve_effects(effects, catalogue)
        return resolved
