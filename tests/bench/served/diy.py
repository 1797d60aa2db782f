"""What a team writes itself: a model of `implicit` behind FastAPI.

Factory: `tests.bench.served.diy:app`; FBT_BENCH_MODEL is a folder of `write_model`.
"""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.served.plain import Answer, Product, Question, build_answer
from tests.bench.served.with_fastapi import application

MODEL = "FBT_BENCH_MODEL"


def write_model(model: Any, cards: pa.Table, folder: Path) -> None:
    """Keep an item-item model of implicit, and PRODUCTS in the order of its rows."""
    folder.mkdir(parents=True)
    model.save(str(folder / "model.npz"))
    pq.write_table(cards, folder / "cards.parquet")


def app() -> Any:
    """The application over the model in FBT_BENCH_MODEL."""
    return application(Companions(Path(os.environ[MODEL])))


class Companions:
    """Answers from a model of implicit, and products as dictionaries."""

    def __init__(self, folder: Path) -> None:
        from implicit.nearest_neighbours import ItemItemRecommender

        self._model = ItemItemRecommender.load(str(folder / "model.npz"))
        columns = [name for name in Product.model_fields if name not in ("score", "source")]
        self._cards = pq.read_table(folder / "cards.parquet", columns=columns).to_pylist()
        self._row_of = {card["product_id"]: row for row, card in enumerate(self._cards)}

    def answer(self, question: Question) -> Answer:
        """The `k` most similar items; the product itself is the first."""
        row = self._row_of[question.items[0]]
        rows, scores = self._model.similar_items(row, N=question.k + 1)
        found = [(one, s) for one, s in zip(rows, scores, strict=True) if one != row]
        cards = [self._cards[one] for one, _ in found[: question.k]]
        return build_answer(cards, [float(score) for _, score in found[: question.k]])
