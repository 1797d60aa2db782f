"""Validation baskets as questions: candidates, what is known of them, what was right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bento.evidence import FEATURES
from bento.recommender import DEPTH, Recommender
from components.attributes.text import joined
from components.baskets.corpus import Corpus
from components.evaluation.metrics import find_hits, ideal_dcg
from components.evaluation.tasks import draw_queries

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]

K = 10
BATCH = 128
N_QUESTIONS = {"a": 10_000, "b": 12_000}
"""Questions of each task to learn from."""

NO_ROWS = np.full((0, DEPTH), -1)
NO_FEATURES = np.zeros((0, DEPTH, len(FEATURES)), np.float32)

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
    rows, features = (_of_pages if task == "a" else _of_carts)(recommender, queries.asked)
    gain = 1 / ideal_dcg(queries.relevant.sizes, K)
    hits = find_hits(rows, queries.relevant, recommender.bundle.manifest.n_items)
    return Questions(features, rows, hits, gain.astype(np.float32), queries.basket)


def _of_pages(recommender: Recommender, asked: Sequence[Ints]) -> tuple[Rows, Floats]:
    """Candidates, in order of rows, and their features; a page asked for often is made once."""
    products, place = np.unique(joined(asked, np.int32), return_inverse=True)
    queries = list(products[:, None])
    rows = np.sort(recommender.rank(queries, DEPTH)[0], axis=1)
    said = recommender.evidence.said
    blocks = [
        recommender.evidence.features(queries[at], said(queries[at]), rows[at])
        for at in _batches(len(queries))
    ]
    return rows[place], np.concatenate([NO_FEATURES, *blocks])[place]


def _of_carts(recommender: Recommender, asked: Sequence[Ints]) -> tuple[Rows, Floats]:
    """Candidates, in order of rows, and their features."""
    blocks = [
        recommender.cart_candidates(recommender.carts_of(asked[at]), DEPTH)
        for at in _batches(len(asked))
    ]
    rows, features = zip((NO_ROWS, NO_FEATURES), *blocks, strict=True)
    return np.concatenate(rows), np.concatenate(features)


def _batches(n: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, n, BATCH)]


def ndcg(scores: Floats, questions: Questions) -> npt.NDArray[np.float64]:
    """NDCG@10 of every question when its candidates are ranked by `scores` (n_questions, DEPTH)."""
    scores = np.where(questions.there, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    discounts = 1 / np.log2(np.arange(order.shape[1]) + 2)
    found: npt.NDArray[np.float64] = np.take_along_axis(questions.hits, order, 1) @ discounts
    return found * questions.gain
