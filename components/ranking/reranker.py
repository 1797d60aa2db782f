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

from components.evaluation.metrics import intervals
from components.model.arrays import BoolArray, Float32Array, Float64Array, IntpArray
from components.model.bundle import TreeEnsemble
from components.model.features import COLUMN
from components.model.tree_ensemble import mix_scores
from components.ranking.gains import Gains
from components.ranking.queries import OFFLINE_FEATURES, LabelledQueries, ndcg

PARAMETERS = {
    "objective": "cross_entropy",
    "num_leaves": 15,
    "max_depth": 7,
    "learning_rate": 0.2,
    "lambda_l2": 5.0,
    "feature_fraction": 0.5,
    "max_bin": 127,
    "bin_construct_sample_cnt": 20_000,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
N_TREES = 45

MAX_NEGATIVES = 150_000
"""Candidates that were worth nothing to learn from: more teach no better."""

NOISY_ITEM_FEATURES = (
    *("log_popularity", "trend_short", "trend_long", "basket_size", "days_unsold"),
    "category_share",
)
NOISY_QUERY_FEATURES = ("asked_popularity", "asked_trend", "asked_basket_size")
NOISE_LEVEL = 0.3
"""Standard deviation of the noise on features of candidates, and of the asked, alone; in theirs."""

BLEND_WEIGHT = {"a": 0.25, "b": 0.5}
"""Weight of the blend beside a forest, both scaled alike for each question: what few baskets teach
trees is steadied by it. Carts of the demo data gain 1 % by it, and pages of Online Retail."""

MIN_HITS = 200
"""With fewer there is nothing to learn from."""


@dataclass(frozen=True)
class RankingDataset:
    """Candidates, put into bins once for all models that learn of them."""

    data: Any
    """LightGBM's Dataset of n candidates."""
    place: tuple[IntpArray, ...]
    """Where each stands in the arrays of the questions: which asked, and which of its candidates;
    (n,) each."""
    is_sampled: BoolArray
    """(n,): which ones teach a model by whose baskets they were worth nothing; chance says so, for
    what they were worth to others must not."""

    def fit(self, gains: Gains, seed: int, rounds: int = N_TREES) -> Any:
        """A LightGBM model whose prediction ranks candidates by what they add to NDCG@10."""
        import lightgbm

        weight, total = gains.weight[self.place[0]], gains.total[self.place]
        chosen = np.flatnonzero((weight > 0) & (self.is_sampled | (total > 0)))
        weight, total = weight[chosen], total[chosen]
        data = self.data.subset(chosen).construct()
        data.set_label((total / weight).astype(np.float32))
        data.set_weight((weight / weight.mean()).astype(np.float32))
        smallest_leaf = int(np.clip(len(chosen) / 2_000, 20, 200))
        parameters = {**PARAMETERS, "min_data_in_leaf": smallest_leaf, "seed": seed}
        return lightgbm.train(parameters, data, rounds)


def build_ranking_dataset(queries: LabelledQueries, gains: Gains, seed: int) -> RankingDataset:
    """All candidates that were worth something to anybody, and some of the others."""
    import lightgbm

    rng = np.random.default_rng(seed)
    asked = queries.is_candidate & (gains.weight > 0)[:, None]
    share = MAX_NEGATIVES / max(int((asked & (gains.total == 0)).sum()), 1)
    is_sampled = asked & (rng.random(asked.shape) < share)
    place = np.nonzero(is_sampled | (gains.total > 0))
    features = _add_noise(queries.features[place], place[0], rng)
    names = list(OFFLINE_FEATURES[: features.shape[1]])
    data = lightgbm.Dataset(
        features, np.zeros(len(features)), feature_name=names, params=PARAMETERS
    )
    return RankingDataset(data.construct(), place, is_sampled[place])


def _add_noise(features: Float32Array, asked: IntpArray, rng: np.random.Generator) -> Float32Array:
    """`features` (n, n_features), changed in place; the asked are alike for all of one of them."""
    n_asked = int(asked.max(initial=-1)) + 1
    for names, n in ((NOISY_ITEM_FEATURES, len(features)), (NOISY_QUERY_FEATURES, n_asked)):
        for name in names:
            column = features[:, COLUMN[name]]
            noise = NOISE_LEVEL * column.std() * rng.standard_normal(n, np.float32)
            column += noise if names == NOISY_ITEM_FEATURES else noise[asked]
    return features


def fit_if_significant(
    queries: LabelledQueries,
    folds: tuple[Gains, Gains],
    blend_scores: Float32Array,
    mix: float,
    seed: int,
) -> tuple[Any, dict[str, Any]]:
    """A model grown on all baskets if models grown on half of them rank better for the others.

    `folds` are what was worth what to the even and to the odd baskets. Models rank together with
    `mix` times the blend; see `mix_scores`. Returns None and why instead when the lower 95 % bound of
    the gain in NDCG@10 over the blend alone is not above 0.
    """
    n_hits = int(queries.hits.sum())
    if n_hits < MIN_HITS:
        why = f"{n_hits} hits are too few to learn from"
        return None, {"pays": False, "gain": None, "why": why, "features": []}
    gains = folds[0] + folds[1]
    dataset = build_ranking_dataset(queries, gains, seed)
    gain = cross_validate(queries, dataset, folds, blend_scores, mix, seed)
    gain -= ndcg(blend_scores, queries)
    found = intervals({"gain": gain}, queries.basket, seed)["gain"]
    pays = found["low"] > 0
    why = (
        f"on validation baskets that it did not learn from it gains {found['mean']:+.4f} "
        f"(95 % {found['low']:+.4f} to {found['high']:+.4f}) over the blend"
    )
    model = dataset.fit(gains, seed) if pays else None
    facts = {"pays": pays, "gain": found, "why": why, "features": compute_importance(model)}
    return model, facts


def cross_validate(
    queries: LabelledQueries, dataset: RankingDataset, folds: tuple[Gains, Gains], blend_scores: Float32Array,
    mix: float, seed: int,
) -> Float64Array:  # fmt: skip
    """NDCG@10 of every question by smaller models grown on the other half of the baskets."""
    found = np.zeros(len(queries))
    for half, other in ((0, 1), (1, 0)):
        mine = queries.basket % 2 == half
        asked = np.unique(queries.asked[mine])
        model = dataset.fit(folds[other], seed, N_TREES // 2)
        predicted, is_candidate = (
            predict(model, queries.features[asked]),
            queries.is_candidate[asked],
        )
        scores = blend_scores.copy()
        scores[asked] = mix_scores(predicted, blend_scores[asked], is_candidate, mix)
        found[mine] = ndcg(scores, queries)[mine]
    return found


def predict(model: Any, features: Float32Array) -> Float32Array:
    """The model's raw scores for `features` (..., n_features), shape (...)."""
    flat = features.reshape(-1, features.shape[-1])
    if not len(flat):
        return np.zeros(features.shape[:-1], np.float32)
    raw = model.predict(flat, raw_score=True, num_threads=1)
    scores: Float32Array = np.asarray(raw, np.float32).reshape(features.shape[:-1])
    return scores


def compute_importance(model: Any, n: int = 12) -> list[list[Any]]:
    """The features that tell most, with their shares of what all tell, largest first."""
    if model is None:
        return []
    gains = model.feature_importance("gain")
    best = np.argsort(-gains)[:n]
    names = model.feature_name()
    return [[names[i], float(gains[i] / max(gains.sum(), 1e-9))] for i in best if gains[i] > 0]


def to_tree_ensemble(model: Any) -> TreeEnsemble:
    """The model as arrays that `components.model.tree_ensemble.predict` reads."""
    trees = [_flatten_tree(one["tree_structure"]) for one in model.dump_model()["tree_info"]]
    width = max(len(tree) for tree in trees)
    padded = [tree + [(0, np.inf, at, at, 0.0) for at in range(len(tree), width)] for tree in trees]
    table = np.array(padded, np.float64)
    feature, threshold, left, right, value = np.moveaxis(table, 2, 0)
    return TreeEnsemble(
        feature.astype(np.int16),
        threshold.astype(np.float64),
        left.astype(np.int16),
        right.astype(np.int16),
        value.astype(np.float32),
    )


def _flatten_tree(root: dict[str, Any]) -> list[tuple[int, float, int, int, float]]:
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
