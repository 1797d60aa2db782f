"""All measures of a ranking, by query."""

from dataclasses import dataclass

from components.evaluation.excess import compute_excess_ndcg
from components.evaluation.metrics import METRICS, score
from components.evaluation.tasks import Queries
from components.evaluation.visible_quality import VISIBLE_MEASURES, measure_visible
from components.model.arrays import AnyArray, Float64Array, Int64Array

MEASURES = ("excess", *METRICS, *VISIBLE_MEASURES)


@dataclass(frozen=True)
class CatalogueFacts:
    """Facts of the products for the measures, in order of popularity."""

    shares: Float64Array  # (n_items,): see `compute_shares`, of the split that queries come from
    kinds: AnyArray | None = None  # (n_items,): see `Kinds`

    @property
    def n_items(self) -> int:
        return len(self.shares)


def measure(found: Int64Array, queries: Queries, facts: CatalogueFacts) -> dict[str, Float64Array]:
    """MEASURES of rows `found` (n_queries, k), (n_queries,) each."""
    return {
        "excess": compute_excess_ndcg(found, queries.relevant, facts.shares),
        **score(found, queries.relevant, facts.n_items),
        **measure_visible(found, queries.asked, facts.kinds),
    }
