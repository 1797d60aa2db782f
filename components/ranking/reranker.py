"""The re-ranker: gradient boosted trees, fitted to the NDCG gains of validation queries.

The pointwise target, NDCG@10 of a candidate in first place, maximises the expected NDCG. Against
LambdaMART it reaches item NDCG .223 to .221 (Online Retail) and .1104 to .1100 (demo data) at about
half of the cost.

Features of one product alone (popularity, trends) identify it, and trees would memorise what sold
during validation. Gaussian noise on them prevents it: after the refit +2 % on demo data, and no
change on Online Retail.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.metrics import intervals
from components.model.arrays import BoolArray, Float32Array, Float64Array, IntpArray
from components.model.features import COLUMN
from components.model.reranking import (
    Calibration,
    compute_gain,
    mix_log_odds,
    standardize,
)
from components.model.tree_ensemble import TreeEnsemble
from components.ranking.feedback import FeedbackCells, PlacedFeedback
from components.ranking.gains import Gains
from components.ranking.queries import OFFLINE_FEATURES, LabelledQueries, ndcg

PARAMETERS = {
    "objective": "cross_entropy",
    "num_leaves": 31,
    "max_depth": 8,
    "learning_rate": 0.2,
    "lambda_l2": 5.0,
    "feature_fraction": 0.5,
    "max_bin": 63,
    "bin_construct_sample_cnt": 20_000,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
N_TREES = 60
MAX_NEGATIVES = 150_000  # Candidates without gain in the data set; more gained nothing
NOISY_ITEM_FEATURES = (
    *("log_popularity", "trend_short", "trend_long", "basket_size", "days_unsold"),
    "category_share",
)
NOISY_QUERY_FEATURES = ("asked_popularity", "asked_trend", "asked_basket_size")
NOISE_LEVEL = 0.3  # Standard deviation of the noise, in standard deviations of the feature
CURVE = (0.0, 0.25, 0.5, 0.75, 1.0)  # Popularity discounts that the report compares
CALIBRATION_STEPS, MIN_CALIBRATION_STEP = 40, 1e-6  # Of Newton's method; 6 are usual
MIN_HITS = 200  # Hits below which no model is fitted

BLEND_WEIGHT = {"item": 0.25, "cart": 0.5}
"""Of the blend beside the trees, both standardised per query; regularises where baskets are few:
+1 % on carts of the demo data and on items of Online Retail."""


@dataclass(frozen=True)
class RankingDataset:
    """Candidates, binned once for all models."""

    data: Any  # `lightgbm.Dataset` of n candidates
    position: tuple[IntpArray, ...]  # Candidate list and place in it, (n,) each
    # (n,): negatives of a fold; drawn at random, because gains of the other fold would leak.
    is_sampled: BoolArray
    share: float
    """Of the negatives that is drawn: they weigh so much more, and gains are not overestimated."""
    feedback: FeedbackCells | None = None
    """Its rows are the last of `data`."""

    def fit(self, gains: Gains, seed: int, n_trees: int = N_TREES) -> Any:
        import lightgbm

        weight, total = gains.weight[self.position[0]], gains.total[self.position]
        chosen = np.flatnonzero((weight > 0) & (self.is_sampled | (total > 0)))
        weight, total = weight[chosen], total[chosen]
        label, weight = total / weight, np.where(total > 0, weight, weight / self.share)
        if self.feedback is not None:
            label = np.concatenate([label, self.feedback.label(gains)])
            weight = np.concatenate([weight, self.feedback.examined])
            n_rows = len(self.position[0])
            chosen = np.append(chosen, n_rows + np.arange(len(self.feedback)))
        data = self.data.subset(chosen).construct()
        data.set_label(label.astype(np.float32))
        data.set_weight((weight / weight.mean()).astype(np.float32))
        min_data_in_leaf = int(np.clip(len(chosen) / 2_000, 20, 200))
        parameters = {**PARAMETERS, "min_data_in_leaf": min_data_in_leaf, "seed": seed}
        return lightgbm.train(parameters, data, n_trees)


def build_ranking_dataset(
    queries: LabelledQueries, gains: Gains, seed: int, feedback: FeedbackCells | None = None
) -> RankingDataset:
    import lightgbm

    rng = np.random.default_rng(seed)
    usable = queries.is_candidate & (gains.weight > 0)[:, None]
    share = min(1.0, MAX_NEGATIVES / max(int((usable & (gains.total == 0)).sum()), 1))
    is_sampled = usable & (rng.random(usable.shape) < share)
    position = np.nonzero(is_sampled | (gains.total > 0))
    features = _add_noise(queries.features[position], position[0], rng)
    feedback = feedback if feedback is not None and len(feedback) else None
    if feedback is not None:
        shown = _add_noise(queries.features[feedback.position], feedback.position[0], rng)
        features = np.concatenate([features, shown])
    names = list(OFFLINE_FEATURES[: features.shape[1]])
    data = lightgbm.Dataset(
        features, np.zeros(len(features)), feature_name=names, params=PARAMETERS
    )
    return RankingDataset(data.construct(), position, is_sampled[position], share, feedback)


def _add_noise(
    features: Float32Array, list_index: IntpArray, rng: np.random.Generator
) -> Float32Array:
    """Changes `features` (n, n_features); query features get one draw per list."""
    n_lists = int(list_index.max(initial=-1)) + 1
    for names, n in ((NOISY_ITEM_FEATURES, len(features)), (NOISY_QUERY_FEATURES, n_lists)):
        for name in names:
            column = features[:, COLUMN[name]]
            noise = NOISE_LEVEL * column.std() * rng.standard_normal(n, np.float32)
            column += noise if names == NOISY_ITEM_FEATURES else noise[list_index]
    return features


def fit_if_significant(
    queries: LabelledQueries, folds: tuple[Gains, Gains], blend_scores: Float32Array, mix: float,
    seed: int, popularity_discount: float = 0.0, feedback: PlacedFeedback | None = None,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """A LightGBM model of all baskets and feedback, and what was measured:

        {"pays", "gain", "why", "calibration", "curve", "features"}

    and with feedback "feedback": its counts, and its "effect" on the cross-validated measure.

    The model is None unless its cross-validated gain over the blend, of `ndcg` with that discount,
    has a lower 95 % bound above 0. `mix` weighs the blend, see `mix_log_odds`. The calibration is
    the model's, or without one that of the standardized blend; the curve is {"popularity_discount",
    "ndcg", "excess"} at several discounts.
    """
    blend = np.stack([standardize(blend_scores, queries.is_candidate)] * len(folds))
    alone = calibrate(blend, queries, folds)
    n_hits = int(queries.hits.sum())
    if n_hits < MIN_HITS:
        why = f"{n_hits} hits are too few to learn from"
        found: dict[str, Any] = {"pays": False, "gain": None, "why": why, "features": []}
        return None, found | _describe(blend, queries, alone)
    gains = folds[0] + folds[1]
    dataset = build_ranking_dataset(queries, gains, seed, feedback and feedback.independent)
    log_odds = cross_validate(queries, dataset, folds, blend_scores, mix, seed)
    calibration = calibrate(log_odds, queries, folds)
    gain = _measure_folds(log_odds, queries, calibration, popularity_discount)
    gain -= _measure_folds(blend, queries, alone, popularity_discount)
    interval = intervals({"gain": gain}, queries.basket, seed)["gain"]
    pays = interval["low"] > 0
    why = (
        f"cross-validated on validation baskets it gains {interval['mean']:+.4f} "
        f"(95 % {interval['low']:+.4f} to {interval['high']:+.4f}) over the blend"
    )
    found = {"pays": pays, "gain": interval, "why": why}
    if feedback is not None:
        effect = _measure_folds(log_odds, queries, calibration, popularity_discount)
        effect -= _measure_without_feedback(
            queries, folds, blend_scores, mix, seed, popularity_discount
        )
        effects = intervals({"effect": effect}, queries.basket, seed)
        found["feedback"] = {**feedback.describe(), **effects}
        dataset = build_ranking_dataset(queries, gains, seed, feedback.all)
    model = dataset.fit(gains, seed) if pays else None
    found["features"] = compute_importance(model)
    used = (log_odds, queries, calibration) if pays else (blend, queries, alone)
    return model, found | _describe(*used)


def _measure_without_feedback(
    queries: LabelledQueries, folds: tuple[Gains, Gains], blend_scores: Float32Array, mix: float,
    seed: int, popularity_discount: float,
) -> Float64Array:  # fmt: skip
    """As `_measure_folds`."""
    dataset = build_ranking_dataset(queries, folds[0] + folds[1], seed)
    log_odds = cross_validate(queries, dataset, folds, blend_scores, mix, seed)
    calibration = calibrate(log_odds, queries, folds)
    return _measure_folds(log_odds, queries, calibration, popularity_discount)


def cross_validate(
    queries: LabelledQueries, dataset: RankingDataset, folds: tuple[Gains, Gains],
    blend_scores: Float32Array, mix: float, seed: int,
) -> Float32Array:  # fmt: skip
    """Mixed log odds (2, n_lists, depth), of each fold by a model of the other."""
    models = (dataset.fit(folds[other], seed, N_TREES * 2 // 3) for other in (1, 0))
    predicted = (predict(model, queries.features) for model in models)
    mixed = [mix_log_odds(one, blend_scores, queries.is_candidate, mix) for one in predicted]
    return np.stack(mixed)


def calibrate(
    log_odds: Float32Array, queries: LabelledQueries, folds: tuple[Gains, Gains]
) -> Calibration:
    """By logistic regression of the folds' gains on `log_odds` (2, n_lists, depth).

    Log odds that fall with the gains are left as they are, as without any gain.
    """
    if not any(one.total.any() for one in folds):
        return Calibration()
    weight = np.stack([np.broadcast_to(one.weight[:, None], one.total.shape) for one in folds])
    known = queries.is_candidate & (weight > 0)
    weight, total = weight[known], np.stack([one.total for one in folds])[known]
    inputs = np.column_stack([log_odds[known], np.ones(len(weight))]).astype(np.float64)
    found, loss, step = np.array(Calibration()), np.inf, np.zeros(2)
    for _ in range(CALIBRATION_STEPS):
        tried = found - step
        tried_loss = _compute_log_loss(inputs @ tried, weight, total)
        if not tried_loss <= loss:
            step /= 2  # Where gains are nearly 0 or 1, a whole step leads far away.
            continue
        found, loss = tried, tried_loss
        step = _find_newton_step(inputs @ found, inputs, weight, total)
        if np.abs(step).max() < MIN_CALIBRATION_STEP:
            break
    return Calibration(*found.tolist()) if found[0] > 0 else Calibration()


def _find_newton_step(
    log_odds: Float64Array, inputs: Float64Array, weight: Float64Array, total: Float64Array
) -> Float64Array:
    gain = np.exp(-np.logaddexp(0, -log_odds))
    slope = inputs.T @ (weight * gain - total)
    curvature = (inputs * (weight * gain * (1 - gain))[:, None]).T @ inputs
    return np.linalg.solve(curvature + 1e-9 * np.eye(2), slope)


def _compute_log_loss(log_odds: Float64Array, weight: Float64Array, total: Float64Array) -> float:
    return float(weight @ np.logaddexp(0, log_odds) - total @ log_odds)


def _describe(
    log_odds: Float32Array, queries: LabelledQueries, calibration: Calibration
) -> dict[str, Any]:
    curve: list[dict[str, float]] = []
    for discount in CURVE if len(queries) else ():
        measured = {
            name: float(_measure_folds(log_odds, queries, calibration, discount, one).mean())
            for name, one in (("ndcg", 0.0), ("excess", 1.0))
        }
        curve.append({"popularity_discount": discount, **measured})
    return {"calibration": list(calibration), "curve": curve}


def _measure_folds(
    log_odds: Float32Array, queries: LabelledQueries, calibration: Calibration,
    popularity_discount: float, measured_discount: float | None = None,
) -> Float64Array:  # fmt: skip
    """`ndcg` (n_queries,) of each query by the model that did not learn from its basket.

    `log_odds` are (2, n_lists, depth).
    """
    measured_discount = popularity_discount if measured_discount is None else measured_discount
    chance = np.float32(popularity_discount) * queries.chance
    even, odd = (
        ndcg(compute_gain(one, calibration) - chance, queries, measured_discount)
        for one in log_odds
    )
    measured: Float64Array = np.where(queries.basket % 2 == 0, even, odd)
    return measured


def predict(model: Any, features: Float32Array) -> Float32Array:
    """Raw scores (...) of `features` (..., n_features)."""
    flat = features.reshape(-1, features.shape[-1])
    if not len(flat):
        return np.zeros(features.shape[:-1], np.float32)
    raw = model.predict(flat, raw_score=True, num_threads=1)
    scores: Float32Array = np.asarray(raw, np.float32).reshape(features.shape[:-1])
    return scores


def compute_importance(model: Any, n: int = 12) -> list[list[Any]]:
    """[feature, share of the total gain], largest first."""
    if model is None:
        return []
    gains = model.feature_importance("gain")
    best = np.argsort(-gains)[:n]
    names = model.feature_name()
    return [[names[i], float(gains[i] / max(gains.sum(), 1e-9))] for i in best if gains[i] > 0]


def to_tree_ensemble(model: Any) -> TreeEnsemble:
    trees = [_flatten_tree(one["tree_structure"]) for one in model.dump_model()["tree_info"]]
    width = max(len(tree) for tree in trees)
    padded = [tree + [(0, np.inf, i, i, 0.0) for i in range(len(tree), width)] for tree in trees]
    feature, threshold, left, right, value = np.moveaxis(np.array(padded, np.float64), 2, 0)
    return TreeEnsemble(
        feature.astype(np.int16), threshold.astype(np.float64), left.astype(np.int16),
        right.astype(np.int16), value.astype(np.float32),
    )  # fmt: skip


def _flatten_tree(root: dict[str, Any]) -> list[tuple[int, float, int, int, float]]:
    """(feature, threshold, left, right, value) of every node, root first.

    A leaf is its own child. Raises ValueError on a split that `TreeScorer` does not know.
    """
    nodes: list[Any] = []

    def add(node: dict[str, Any]) -> int:
        i = len(nodes)
        nodes.append(None)
        if "split_feature" not in node:
            nodes[i] = (0, np.inf, i, i, float(node["leaf_value"]))
            return i
        if node["decision_type"] != "<=" or node["missing_type"] != "None":
            raise ValueError(
                f"re-ranker: found a split {node['decision_type']!r} with missing values "
                f"{node['missing_type']!r}, expected '<=' and 'None'"
            )
        left, right = add(node["left_child"]), add(node["right_child"])
        nodes[i] = (int(node["split_feature"]), float(node["threshold"]), left, right, 0.0)
        return i

    add(root)
    return nodes
