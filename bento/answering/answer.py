"""The answer to a request, before it is rendered as JSON."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from bento.answering.catalogue import Catalogue
from bento.answering.rules import RuleEffects
from components.model.arrays import BoolArray, Float32Array, Int64Array

NO_RULES: Mapping[str, int] = {}


class Ranking(NamedTuple):
    """Catalogue rows, best first."""

    rows: Int64Array
    scores: Float32Array
    source: str

    def select(self, index: BoolArray | Int64Array | slice) -> "Ranking":
        return Ranking(self.rows[index], self.scores[index], self.source)


class Explanation(NamedTuple):
    """The strongest pair behind a product; see `bento.schemas.responses.Because`."""

    product_id: str
    bought_together: int
    support: float
    confidence: float
    lift: float
    expected: float | None
    times_more_often: float | None


class AnswerItem(NamedTuple):
    row: int
    score: float | None
    source: str
    why: Explanation | None = None
    proposed_by: str = ""
    """Only if explained; see `bento.schemas.responses.RecommendedProduct`."""
    marks: Sequence[str] | None = None
    """Likewise."""
    moved_by: Sequence[str] = ()
    """Rules that moved this product."""
    score_parts: Mapping[str, float] | None = None
    """Only if explained."""


class Answer(NamedTuple):
    """The rows of `shown` are those of `catalogue`."""

    shown: Sequence[AnswerItem]
    source: str
    catalogue: Catalogue
    unknown: Sequence[str] = ()
    reason: str = ""
    """The reason for a fallback, or empty."""
    message: str = ""
    """The reason for fewer than `k` products, or empty."""
    rules: Mapping[str, int] = NO_RULES
    """Number of products that rules of each action moved, inserted or removed."""
    catalogues: Sequence[Catalogue] | None = None
    """Of each of `shown`, where they come from two models."""
    applied: Sequence[RuleEffects] = ()
    """Effects that could change the answer."""
    acting_rules: Collection[str] = ()
    """The rules that did: they moved, inserted or removed a product, or set settings."""
    set_by: Sequence[str] = ()
    """The rules that set settings."""
    left_out: Sequence[tuple[int, str]] | None = None
    """Rows that rules removed, with a rule each; only if explained."""

    def list_product_ids(self) -> list[str]:
        if self.catalogues is None:
            return self.catalogue.list_product_ids([item[0] for item in self.shown])
        pairs = zip(self.shown, self.catalogues, strict=True)
        return [catalogue.product_id(item.row) for item, catalogue in pairs]
