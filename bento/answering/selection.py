"""Answers requests with a model, the current catalogue and the current rules."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from bento.answering.answer import Answer, AnswerItem
from bento.answering.answer_builder import HOLDOUT_REASON, AnswerBuilder
from bento.answering.attribution import find_left_out
from bento.answering.awkward import blocks_any
from bento.answering.awkward_settings import DEFAULT_SETTINGS
from bento.answering.catalogue import Catalogue
from bento.answering.kept_answers import KeptAnswers
from bento.answering.query import Query
from bento.answering.resolved_rules import ResolvedRules
from bento.answering.ruled_page import RuledPage
from bento.answering.rules import NO_RULES, RuleEffects, Setting, merge_settings
from bento.answering.sources import MODEL, name_sources
from bento.schemas.requests import PRICE_RATIO, RecommendRequest, SimilarRequest
from components.model.kind_limits import N_VISIBLE, KindLimits
from components.model.kinds import LIMITED_DEPTH, append_others
from components.model.recommender import Recommender

PLAIN_FIELDS = frozenset(["items", "k", "rules", "session_id", "variant"])
"""Fields that need no more than the precomputed ranking of a product."""

SHORT_DEPTH = 30
"""Products of a precomputed ranking, among which five nearly always fit."""

KIND_LIMITS = KindLimits._fields

AnyRequest = RecommendRequest | SimilarRequest


def list_asked(request: AnyRequest) -> list[str]:
    if isinstance(request, RecommendRequest):
        return request.items
    return [] if request.item is None else [request.item]


class Selection:
    """`catalogue` and `rules` may be replaced at any time: a request reads each once."""

    def __init__(
        self,
        recommender: Recommender,
        catalogue: Catalogue,
        limits: KindLimits | None = None,
        fixed: Collection[str] = (),
    ) -> None:
        """`limits` are the manifest's by default; no rule sets the `fixed` ones."""
        self.recommender = recommender
        self.catalogue = catalogue
        self.limits = recommender.bundle.manifest.kind_limits if limits is None else limits
        self.awkward = DEFAULT_SETTINGS
        self.rules = NO_RULES
        self._fixed = frozenset(fixed)
        self._resolved: ResolvedRules | None = None
        self._kept: KeptAnswers | None = None

    def recommend(self, request: RecommendRequest) -> Answer:
        if (answer := self._answer_plain(request)) is not None:
            return answer
        return self._build(self._build_query(request), self._build_companions)

    def similar(self, request: SimilarRequest) -> Answer:
        query = self._build_query(request)
        return self._build(query, lambda one: AnswerBuilder(one).build_substitutes())

    def bestsellers(self, request: AnyRequest) -> Answer:
        """For a holdout."""
        return AnswerBuilder(self._build_query(request)).build_bestsellers()

    def nothing(self, request: AnyRequest) -> Answer:
        """For a holdout."""
        query = Query(request, list_asked(request), self.recommender, self.catalogue)
        return Answer((), MODEL, query.catalogue, query.unknown, message=HOLDOUT_REASON)

    def resolve_rules(self) -> ResolvedRules:
        """Of the current rules and catalogue; costly after a change of either."""
        resolved, rules, catalogue = self._resolved, self.rules, self.catalogue
        if resolved is None or resolved.rules is not rules or resolved.catalogue is not catalogue:
            resolved = self._resolved = ResolvedRules(rules, catalogue)
        return resolved

    def adopt(self, resolved: ResolvedRules) -> None:
        """Replace rules and catalogue."""
        self.rules, self.catalogue, self._resolved = resolved.rules, resolved.catalogue, resolved

    def _answer_plain(self, request: RecommendRequest) -> Answer | None:
        """The answer for a product page without further conditions; None if there are any.

        AnswerBuilder gives the same at three times the cost.
        """
        catalogue, recommender, k = self.catalogue, self.recommender, request.k
        is_plain = request.model_fields_set <= PLAIN_FIELDS and len(request.items) == 1
        if not is_plain or catalogue.deleted is not None:
            return None
        row = catalogue.row(request.items[0])
        if row is None or row >= recommender.n_items:
            return None
        if request.rules and not self.rules.is_empty:
            return self._answer_ruled(catalogue, row, request)
        return self._answer_page(catalogue, row, k, self.limits)

    def _answer_ruled(
        self, catalogue: Catalogue, row: int, request: RecommendRequest
    ) -> Answer | None:
        resolved, k, now = self.resolve_rules(), request.k, datetime.now(UTC)
        if resolved.catalogue is not catalogue:
            return None
        kept = self._list_kept(resolved, now)
        if (answer := kept.find((row, k))) is not None:
            return answer
        depth = max(k, LIMITED_DEPTH)
        if not self.recommender.items.is_precomputed(depth):
            return None
        effects = resolved.find_for_page(row, request.items[0], now)
        settings = merge_settings(one.effects.settings for one in effects)
        if not settings.keys() <= set(KIND_LIMITS):
            return None
        used = {name: one for name, one in settings.items() if name not in self._fixed}
        given = (used[name].value if name in used else None for name in KIND_LIMITS)
        limits, set_by = self.limits.override(*given), list_rules(used)
        page = RuledPage(self.recommender, catalogue, row, k, depth, effects)
        if page.is_untouched:
            applied = [one.effects for one in effects]
            return self._answer_page(catalogue, row, k, limits, applied, set_by)
        is_any_dear = (catalogue.price[page.rows] > PRICE_RATIO * catalogue.price[row]).any()
        if is_any_dear or self.awkward.blocks_sensitive:
            return None
        if (answer := page.build(limits, set_by)) is not None:
            kept.keep((row, k), answer)
        return answer

    def _list_kept(self, resolved: ResolvedRules, now: datetime) -> KeptAnswers:
        kept = self._kept
        if kept is None or not kept.hold(resolved, now):
            kept = self._kept = KeptAnswers(resolved, now)
        return kept

    def _answer_page(
        self,
        catalogue: Catalogue,
        row: int,
        k: int,
        limits: KindLimits,
        applied: Sequence[RuleEffects] = (),
        set_by: Sequence[str] = (),
    ) -> Answer | None:
        rows, scores, sources = self._rank_one(row, k, limits)
        limit = PRICE_RATIO * float(catalogue.price[row])
        if len(rows) < k or catalogue.is_any_dearer(rows, limit):
            return None
        if blocks_any(self.awkward, catalogue, row, rows):
            return None
        items = [AnswerItem(*one) for one in zip(rows, scores, sources, strict=True)]
        return Answer(items, MODEL, catalogue, applied=applied, acting_rules=set_by, set_by=set_by)

    def _rank_one(
        self, row: int, k: int, limits: KindLimits
    ) -> tuple[list[int], list[float], Sequence[str]]:
        """Rows, scores and sources, fewer than `k` where it takes more to find those that fit."""
        items, has_kinds = self.recommender.items, self.recommender.bundle.kinds is not None
        is_limited = has_kinds and not limits.are_lifted
        is_plain = not is_limited and self.catalogue.stock is None
        found, values = items.rank_one(row, k if is_plain else max(k, SHORT_DEPTH))
        rows, scores, are_real = found.tolist(), values.tolist(), items.mark_real(row, found)
        if is_plain:
            return rows, scores, name_sources(are_real)
        shown = self._choose(row, rows, k, limits)
        if shown == rows[: len(shown)]:
            n = len(shown)
            return shown, scores[:n], name_sources(are_real[:n])
        places = [rows.index(one) for one in shown]
        real = bytes(are_real[place] for place in places)
        return shown, [scores[place] for place in places], name_sources(real)

    def _choose(self, row: int, rows: list[int], k: int, limits: KindLimits) -> list[int]:
        """Up to `k` of the best `rows`: in stock, and of different kinds."""
        kinds = self.recommender.bundle.kinds
        if (stock := self.catalogue.stock) is not None:
            rows = [one for one in rows if stock[one]]
        if kinds is None or limits.are_lifted:
            return rows[:k]
        first = kinds.find_first(rows, [kinds.get(row)], limits)
        if len(first) < N_VISIBLE:
            return []
        if first[-1] < N_VISIBLE:
            return rows[:k]
        return [rows[place] for place in append_others(first, min(k, len(rows)))[:k]]

    def _build_query(self, request: AnyRequest) -> Query:
        resolved = self.resolve_rules()
        query = Query(request, list_asked(request), self.recommender, resolved.catalogue)
        query.awkward = self.awkward
        if request.rules and not resolved.rules.is_empty:
            query.effects = resolved.find(query.list_rule_products())
            self._apply_settings(query)
        return query

    def _apply_settings(self, query: Query) -> None:
        """Give the request what rules set and it does not ask for itself."""
        request = query.request
        settings = merge_settings(one.effects.settings for one in query.effects)
        used = {
            name: setting
            for name, setting in settings.items()
            if name not in self._fixed and is_open(request, name)
        }
        if used:
            values = {name: setting.value for name, setting in used.items()}
            query.request = request.model_copy(update=values)
            query.set_by = list_rules(used)

    def _build_companions(self, query: Query) -> Answer:
        request = query.request
        assert isinstance(request, RecommendRequest)
        limits = self.limits.override(request.max_own_kind, request.max_same_kind)
        return AnswerBuilder(query).build_companions(request, limits)

    def _build(self, query: Query, build: Callable[[Query], Answer]) -> Answer:
        answer = build(query)
        if not query.request.explain:
            return answer
        unblocked = copy.copy(query)
        unblocked.request = query.request.model_copy(update={"explain": False})
        unblocked.effects = [one.without_blocks(query.catalogue) for one in query.effects]
        return answer._replace(left_out=find_left_out(query, build(unblocked)))


def list_rules(settings: Mapping[str, Setting]) -> tuple[str, ...]:
    return tuple({setting.rule_id: None for setting in settings.values()})


def is_open(request: AnyRequest, name: str) -> bool:
    """Whether a rule may set the field: the request has it, and does not give it."""
    if name not in type(request).model_fields:
        return False
    if name in KIND_LIMITS:
        return getattr(request, name) is None
    if name == "price_ratio" and getattr(request, "context", None) == "checkout":
        return False
    return name not in request.model_fields_set
