"""The re-ranker: gradient boosted trees that learn from validation baskets what a hit is worth.

A tree's target is what a candidate adds to its question's NDCG@10, which is how the order that
maximises the expected NDCG is found: on Online Retail and the demo data that ranks better than
lambdarank (pages .223 to .221 and .1104 to .1100) at a little more than half its cost.

What is known of a product alone (popularity, trends) tells which product it is, and trees would
learn by it what was in fashion while the validation baskets were bought. Counted again with those
baskets, counts say so themselves. So such features are blurred before trees see them: on counts
made anew that ranks the demo data's pages 2 % better, and Online Retail's as well as without.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bento.evidence import AT, FEATURES
from components.bundle.bundle import Forest
from components.evaluation.metrics import intervals
from components.ranking.questions import Questions, ndcg

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

PARAMETERS = {
    "objective": "cross_entropy",
    "num_leaves": 15,
    "max_depth": 7,
    "learning_rate": 0.15,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "max_bin": 127,
    "bin_construct_sample_cnt": 20_000,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
ROUNDS = 60
MISSES_KEPT = 0.25
"""Share of the candidates that were no hit to learn from: a quarter teaches as much as all."""

OF_CANDIDATES = (
    *("log_popularity", "trend_short", "trend_long", "basket_size", "days_unsold"),
    "category_share",
)
OF_ASKED = ("asked_popularity", "asked_trend", "asked_basket_size")
BLUR = 0.3
"""Standard deviation of the noise on features of candidates, and of the asked, alone; in theirs."""

PAGE_MIX = 0.5
"""Weight of the blend beside a forest on pages, both scaled alike for each: what few baskets teach
trees is steadied by it (Online Retail +.0027 instead of +.0008 over the blend alone, in halves)."""

FEWEST_HITS = 200
"""With fewer there is nothing to learn from."""


@dataclass(frozen=True)
class Lessons:
    """Candidates with what they are worth, put into bins once for all models that learn of them."""

    data: Any
    """LightGBM's Dataset."""
    question: Rows
    """Which question each candidate is of, ascending, (n,)."""

    def grow(self, seed: int, rounds: int, by: npt.NDArray[np.bool_] | None = None) -> Any:
        """A LightGBM model whose prediction ranks candidates by what they add to NDCG@10.

        Only what is `by` questions (n_questions,) is learned from, if given.
        """
        import lightgbm

        chosen = np.arange(len(self.question)) if by is None else np.flatnonzero(by[self.question])
        data = self.data if by is None else self.data.subset(chosen)
        smallest_leaf = int(np.clip(len(chosen) / 2_000, 20, 200))
        parameters = {**PARAMETERS, "min_data_in_leaf": smallest_leaf, "seed": seed}
        return lightgbm.train(parameters, data, rounds)


def lessons_of(questions: Questions, seed: int) -> Lessons:
    """All hits, and some of the misses."""
    import lightgbm

    rng = np.random.default_rng(seed)
    kept = questions.there & (questions.hits | (rng.random(questions.hits.shape) < MISSES_KEPT))
    worth = np.where(questions.hits, questions.gain[:, None], 0.0)[kept]
    question = np.nonzero(kept)[0]
    features = _blurred(questions.features[kept], question, rng)
    names = list(FEATURES)
    data = lightgbm.Dataset(features, worth, feature_name=names, params=PARAMETERS).construct()
    return Lessons(data, question)


def _blurred(features: Floats, question: npt.NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """`features` (n, n_features), changed in place; the asked are alike for all of a `question`."""
    n_questions = int(question.max(initial=-1)) + 1
    for names, n in ((OF_CANDIDATES, len(features)), (OF_ASKED, n_questions)):
        for name in names:
            column = features[:, AT[name]]
            noise = BLUR * column.std() * rng.standard_normal(n, np.float32)
            column += noise if names == OF_CANDIDATES else noise[question]
    return features


def grow_if_it_pays(
    questions: Questions, blend_scores: Floats, seed: int, mix: float = 0.0
) -> tuple[Any, dict[str, Any]]:
    """A model grown on all questions if models grown on half of the baskets rank the others better.

    They rank together with the blend where `mix` is above 0; see `mixed`. Returns None and why
    instead when the lower 95 % bound of the gain in NDCG@10 over the blend is not above 0.
    """
    n_hits = int(questions.hits.sum())
    if n_hits < FEWEST_HITS:
        why = f"{n_hits} hits are too few to learn from"
        return None, {"pays": False, "gain": None, "why": why, "features": []}
    lessons = lessons_of(questions, seed)
    scores = mixed(crossed(questions, lessons, seed), blend_scores, questions.there, mix)
    gain = ndcg(scores, questions) - ndcg(blend_scores, questions)
    found = intervals({"gain": gain}, questions.basket, seed)["gain"]
    pays = found["low"] > 0
    why = (
        f"on validation baskets that it did not learn from it gains {found['mean']:+.4f} "
        f"(95 % {found['low']:+.4f} to {found['high']:+.4f}) over the blend"
    )
    model = lessons.grow(seed, ROUNDS) if pays else None
    facts = {"pays": pays, "gain": found, "why": why, "features": importance(model)}
    return model, facts


def crossed(questions: Questions, lessons: Lessons, seed: int) -> Floats:
    """Scores (n_questions, depth) by smaller models grown on the other half of the baskets."""
    found = np.zeros(questions.hits.shape, np.float32)
    for half in (questions.basket % 2 == 0, questions.basket % 2 == 1):
        model = lessons.grow(seed, ROUNDS // 2, by=~half)
        found[half] = predict(model, questions.features[half])
    return found


def mixed(grown: Floats, blended: Floats, there: npt.NDArray[np.bool_], mix: float) -> Floats:
    """Scores of trees plus `mix` times those of the blend, (n, depth), where there are candidates.

    Both are scaled to the same spread over the candidates of a question; 0 leaves trees alone.
    """
    if not mix:
        return grown
    total: Floats = _even(grown, there) + np.float32(mix) * _even(blended, there)
    return total


def _even(scores: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """`scores` with a mean of 0 and a spread of 1 in every row, 0 where nothing is there."""
    scores = np.where(there, scores, 0)
    n = np.maximum(there.sum(axis=1, keepdims=True), 1)
    centred = np.where(there, scores - scores.sum(axis=1, keepdims=True) / n, 0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n)
    even: Floats = (centred / np.maximum(spread, 1e-9)).astype(np.float32)
    return even


def predict(model: Any, features: Floats) -> Floats:
    """The model's raw scores for `features` (..., n_features), shape (...)."""
    flat = features.reshape(-1, features.shape[-1])
    if not len(flat):
        return np.zeros(features.shape[:-1], np.float32)
    raw = model.predict(flat, raw_score=True, num_threads=1)
    scores: Floats = np.asarray(raw, np.float32).reshape(features.shape[:-1])
    return scores


def importance(model: Any, n: int = 12) -> list[list[Any]]:
    """The features that tell most, with their shares of what all tell, largest first."""
    if model is None:
        return []
    gains = model.feature_importance("gain")
    best = np.argsort(-gains)[:n]
    return [[FEATURES[i], float(gains[i] / max(gains.sum(), 1e-9))] for i in best if gains[i] > 0]


def as_forest(model: Any) -> Forest:
    """The model as arrays that `bento.forest.predict` reads."""
    trees = [_nodes(one["tree_structure"]) for one in model.dump_model()["tree_info"]]
    width = max(len(tree) for tree in trees)
    padded = [tree + [(0, np.inf, at, at, 0.0) for at in range(len(tree), width)] for tree in trees]
    table = np.array(padded, np.float64)
    feature, threshold, left, right, value = np.moveaxis(table, 2, 0)
    return Forest(
        feature.astype(np.int16),
        threshold.astype(np.float64),
        left.astype(np.int16),
        right.astype(np.int16),
        value.astype(np.float32),
    )


def _nodes(root: dict[str, Any]) -> list[tuple[int, float, int, int, float]]:
    """(feature, threshold, left, right, value) of every node, the root first."""
    nodes: list[Any] = []

    def add(node: dict[str, Any]) -> int:
        at = len(nodes)
        nodes.append(None)
        if "split_feature" not in node:
            nodes[at] = (0, np.inf, at, at, float(node["leaf_value"]))
            return at
        if node["decision_type"] != "<=" or node["missing_type"] != "None":
            raise ValueError(f"forest: a split {node['decision_type']!r} on missing values is new")
        left, right = add(node["left_child"]), add(node["right_child"])
        nodes[at] = (int(node["split_feature"]), float(node["threshold"]), left, right, 0.0)
        return at

    add(root)
    return nodes
