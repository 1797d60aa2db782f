"""One product's companions as a team writes it first: cards in memory, pydantic models out."""

import os
import uuid
from pathlib import Path

from pydantic import BaseModel

from components.model.bundle import read_bundle

VERSION, VARIANT = "bench", "default"


class Question(BaseModel):
    """A product, and how many companions."""

    items: list[str]
    k: int = 10


class Product(BaseModel):
    """A card with its score."""

    product_id: str
    name: str | None
    category: str | None
    brand: str | None
    price: float | None
    image_url: str | None
    in_stock: bool | None
    score: float
    source: str


class Answer(BaseModel):
    """What the service of this project answers, field by field."""

    request_id: str
    model_version: str
    variant: str
    items: list[Product]
    source: str
    fallback: str | None
    message: str | None
    unknown: list[str]


class PlainLookUp:
    """The pages of the bundle in FBT_BUNDLE, and its products as dictionaries."""

    def __init__(self) -> None:
        bundle = read_bundle(Path(os.environ["FBT_BUNDLE"]), verify=False)
        assert bundle.precomputed is not None
        self._pages = bundle.precomputed
        columns = [name for name in Product.model_fields if name not in ("score", "source")]
        self._cards = bundle.products.select(columns).to_pylist()
        self._row_of = {card["product_id"]: row for row, card in enumerate(self._cards)}

    def answer(self, question: Question) -> Answer:
        """The first `k` of the product's page."""
        row = self._row_of[question.items[0]]
        rows = self._pages.rows[row, : question.k].tolist()
        scores = self._pages.scores[row, : question.k].tolist()
        return build_answer([self._cards[row] for row in rows], scores)


def build_answer(cards: list[dict[str, object]], scores: list[float]) -> Answer:
    """The answer with these products."""
    items = [
        Product.model_validate({**card, "score": score, "source": "model"})
        for card, score in zip(cards, scores, strict=True)
    ]
    return Answer(
        request_id=uuid.uuid4().hex, model_version=VERSION, variant=VARIANT, items=items,
        source="model", fallback=None, message=None, unknown=[],
    )  # fmt: skip
