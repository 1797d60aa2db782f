"""Every product's page, ranked in advance: one product is then a table look-up."""

from pathlib import Path
from typing import Any

import numpy as np

from components.model.bundle import Pages
from components.model.recommender import DEPTH, Recommender, reranked
from components.progress import say
from components.ranking.queries import BATCH, page_features
from components.ranking.reranker import MIX, predict
from components.ranking.text_features import Texts

PAGE_DEPTH = 100
"""Companions kept per product: the most that one request may ask for; 800 bytes a product."""

SHOWN_EVERY = 100
"""Batches between two lines of progress."""

MODEL = "page_model.txt"
"""LightGBM's own format: pages are ranked where it is installed, and nowhere else."""


def make_pages(recommender: Recommender, model: Any) -> Pages:
    """The pages of the whole catalogue by the recommender's blend, re-ranked by `model` if any."""
    n_items = recommender.bundle.manifest.n_items
    depth = min(PAGE_DEPTH, max(n_items - 1, 1))
    rows = np.full((n_items, depth), -1, np.int32)
    scores = np.full((n_items, depth), -np.inf, np.float32)
    texts = None if model is None else Texts(recommender.attributes)
    for number, start in enumerate(range(0, n_items, BATCH)):
        products = np.arange(start, min(start + BATCH, n_items), dtype=np.int32)
        block = slice(start, start + len(products))
        rows[block], scores[block] = _ranked(recommender, products, depth, model, texts)
        if number % SHOWN_EVERY == 0 or block.stop == n_items:
            say(f"pages: {block.stop} of {n_items} products")
    return Pages(rows, scores)


def write_page_model(model: Any, folder: Path) -> None:
    """Keep the re-ranker of pages in `folder`, which is not yet in its place."""
    model.save_model(str(folder / MODEL))


def read_page_model(folder: Path) -> Any:
    """The model that `write_page_model` kept; None where there is none."""
    import lightgbm

    return lightgbm.Booster(model_file=folder / MODEL) if (folder / MODEL).exists() else None


def _ranked(
    recommender: Recommender, products: Any, depth: int, model: Any, texts: Texts | None
) -> tuple[Any, Any]:
    rows, scores = recommender.rank_pages(list(products[:, None]), depth)
    if texts is None:
        return rows, scores
    grown = predict(model, page_features(recommender, texts, products, rows[:, :DEPTH]))
    return reranked(rows, scores, grown, MIX["a"])
