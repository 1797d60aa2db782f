"""Limits of kinds: what they cost on the same item pages, and for other rankers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluation.baselines import Ranker
from components.evaluation.measures import CatalogueFacts, measure
from components.evaluation.tasks import Queries
from components.model.arrays import Int32Array
from components.model.kind_limits import NO_LIMITS, KindLimits
from components.model.kinds import LIMITED_DEPTH, Kinds
from components.model.recommender import Recommender
from components.model.top_k import RankedRows

SETTINGS = (
    NO_LIMITS,
    KindLimits(max_own_kind=1),
    KindLimits(max_own_kind=1, max_same_kind=2),
    KindLimits(max_own_kind=0, max_same_kind=2),
    KindLimits(max_own_kind=1, max_same_kind=1),
)
SHOWN = ("ndcg", "excess", "own_kind_at_5", "kinds_at_5")


@dataclass(frozen=True)
class LimitedRanker:
    """Another method under the model's limits: neither gains by showing kinds as it likes."""

    ranker: Ranker
    kinds: Kinds
    limits: KindLimits

    def rank(self, queries: Sequence[Int32Array], k: int) -> RankedRows:
        ranked = self.ranker.rank(queries, max(k, LIMITED_DEPTH))
        return self.kinds.limit(ranked, queries, self.limits, k)


def limit_ranker(ranker: Ranker, kinds: Kinds | None, limits: KindLimits) -> Ranker:
    if kinds is None or limits.are_lifted:
        return ranker
    return LimitedRanker(ranker, kinds, limits)


def measure_limits(
    recommender: Recommender, queries: Queries, facts: CatalogueFacts, k: int
) -> list[dict[str, Any]]:
    """Means of SHOWN for each of SETTINGS and the model's own limits; empty without kinds:

    [{"max_own_kind": 1, "max_same_kind": None, "is_chosen": False, "ndcg": 0.1, ...}]
    """
    kinds, chosen = recommender.bundle.kinds, recommender.bundle.manifest.kind_limits
    if kinds is None or not len(queries):
        return []
    ranked = recommender.rank_unlimited(queries.asked, LIMITED_DEPTH)
    rows = []
    for limits in _list_settings(chosen):
        found, _ = kinds.limit(ranked, queries.asked, limits, k)
        scores = measure(found, queries, facts)
        means = {name: float(scores[name].mean()) for name in SHOWN}
        rows.append({**limits._asdict(), "is_chosen": limits == chosen, **means})
    return rows


def _list_settings(chosen: KindLimits) -> Sequence[KindLimits]:
    return SETTINGS if chosen in SETTINGS else (*SETTINGS, chosen)
