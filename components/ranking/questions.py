"""Validation baskets as questions: candidates, what is known of them, what was right."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bento.evidence import FEATURES
from bento.recommender import DEPTH, Recommender
from components.baskets.corpus import Corpus
from components.evaluation.metrics import find_hits, ideal_dcg
from components.evaluation.tasks import Queries, draw_queries

Floats = npt.NDArray[np.float32]

K = 10
BATCH = 256
N_QUESTIONS = {"a": 10_000, "b": 12_000}
"""Questions of each task to learn from."""

MOST_TIMES = {"a": 4, "b": 1}
"""Questions of one basket at most, where there are few baskets."""


@dataclass(frozen=True)
class Questions:
    """Candidates of every question, in order of rows: scores tie as in `Recommender.rank`."""

    features: Floats
    """(n_questions, DEPTH, n_features), the columns of bento.evidence.FEATURES."""
    rows: npt.NDArray[np.int64]
    """(n_questions, DEPTH) of the catalogue; -1 where there is no candidate."""
    hits: npt.NDArray[np.bool_]
    """(n_questions, DEPTH): which candidates were in the basket."""
    gain: Floats
    """(n_questions,): what a hit in first place adds to a question's NDCG@10."""
    basket: npt.NDArray[np.int64]
    """(n_questions,): which basket asks."""

    def __len__(self) -> int:
        return len(self.basket)

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """(n_questions, DEPTH): where there is a candidate at all."""
        found: npt.NDArray[np.bool_] = self.rows >= 0
        return found

    def take(self, chosen: npt.NDArray[np.bool_] | slice) -> "Questions":
        """Only these questions."""
        return Questions(**{name: array[chosen] for name, array in vars(self).items()})


def draw_questions(recommender: Recommender, validation: Corpus, task: str, seed: int) -> Questions:
    """Questions of a task, with candidates by the recommender's blend."""
    n_baskets = len(validation.with_at_least(2))
    times = min(MOST_TIMES[task], max(1, -(-N_QUESTIONS[task] // max(n_baskets, 1))))
    queries = draw_queries(validation, task, N_QUESTIONS[task], seed, times)
    n_items = recommender.bundle.manifest.n_items
    blocks = [
        _block(recommender, task, queries, slice(start, start + BATCH))
        for start in range(0, len(queries), BATCH)
    ]
    empty = np.full((0, DEPTH), -1), np.zeros((0, DEPTH, len(FEATURES)), np.float32)
    rows, features = (np.concatenate(part) for part in zip(empty, *blocks, strict=True))
    # What is tuned must not inherit the order of the blend that drew the candidates.
    order = np.argsort(rows, axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, 1)
    features = np.take_along_axis(features, order[..., None], 1)
    gain = 1 / ideal_dcg(queries.relevant.sizes, K)
    hits = find_hits(rows, queries.relevant, n_items)
    return Questions(features, rows, hits, gain.astype(np.float32), queries.basket)


def _block(
    recommender: Recommender, task: str, queries: Queries, block: slice
) -> tuple[npt.NDArray[np.int64], Floats]:
    asked = queries.asked[block]
    if task == "b":
        return recommender.cart_candidates(recommender.carts_of(asked), DEPTH)
    rows, _ = recommender.rank_pages(asked, DEPTH)
    evidence = recommender.evidence
    return rows, evidence.features(asked, evidence.said(asked), rows)


def ndcg(scores: Floats, questions: Questions) -> npt.NDArray[np.float64]:
    """NDCG@10 of every question when its candidates are ranked by `scores` (n_questions, DEPTH)."""
    scores = np.where(questions.there, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    discounts = 1 / np.log2(np.arange(order.shape[1]) + 2)
    found: npt.NDArray[np.float64] = np.take_along_axis(questions.hits, order, 1) @ discounts
    return found * questions.gain
