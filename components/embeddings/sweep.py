"""The sweep of hyper-parameters, on a sample of the training baskets, in shards.

A shard is an independent Optuna study, in a process of its own. Trials compete by NDCG@10 of item
queries; beta needs no training and is tuned after each.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from components.baskets.corpus import Corpus, build_catalogue, encode, read_baskets, select_splits
from components.embeddings.item2vec import TrainSettings, Vectors, train
from components.embeddings.tracking import start_tracking
from components.embeddings.validation import (
    ValidationSet,
    draw_validation,
    measure,
    tune_betas,
)
from components.model.manifest import PopularityDiscount
from components.progress import log_progress

INITIAL_CONFIG: dict[str, Any] = {
    "vector_size": 64,
    "epochs": 24,
    "window": 2,
    "negative": 3,
    "ns_exponent": 0.9,
    "learning_rate": 0.06,
    "sample": 0.0,
    "size_exponent": 1.0,
}  # The first trial

BETAS_AT_HALF = (0.5, 1.0)  # The better one is reported to the pruner, half-way
MIN_SHARE_OF_BEST = 0.99  # NDCG within 1 % of the best is a tie, which the cost decides


class SweepError(ValueError):
    """No trial was completed; names the first trial's error."""


MinProductOrders = Annotated[int, Field(ge=1, le=10_000)]
SampleShare = Annotated[float, Field(gt=0, le=1)]


class SweepSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    min_product_orders: MinProductOrders = 5
    """Orders in the sample that a product of the catalogue needs."""
    sample_share: SampleShare = 0.1
    """Share of the training baskets."""
    min_baskets: int = Field(default=5_000, ge=1)
    """Smallest sample, in training baskets."""
    n_queries: int = Field(default=3_000, ge=1)
    """Item queries; an eighth of that for carts."""
    start: dict[str, Any] = Field(default_factory=lambda: dict(INITIAL_CONFIG))
    """First trial of shard 0; the sampler chooses missing values."""
    popularity_discount: PopularityDiscount = 0.0
    """Share of chance that the objective takes off NDCG."""
    seed: int = Field(default=1, ge=0)
    """Of the sample, the same in all shards."""


@dataclass(frozen=True)
class Sample:
    train: Corpus
    validation: ValidationSet


def plan_shards(n_trials: int, n_shards: int, seed: int) -> list[dict[str, int]]:
    """At least one shard {"shard", "n_trials", "seed"}, with the trials spread evenly."""
    n_shards = max(1, min(n_shards, n_trials))
    each, more = divmod(max(1, n_trials), n_shards)
    return [
        {"shard": shard, "n_trials": each + (shard < more), "seed": seed + shard}
        for shard in range(n_shards)
    ]


def run_shard(
    shard: dict[str, Any], baskets_path: str | Path, settings: SweepSettings,
    tracking_uri: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """One result per trial, failed ones included.

    A result is {"trial", "shard", "state": complete, pruned or failed, "objective_item",
    "ndcg_item", "ndcg_cart", "config", "beta_single", "beta_cart", "cpu_s", "error"}, with None for
    the unknown; for the objective see `ValidationSet`.

    Raises SweepError when all trials failed, ValueError when the sample has no catalogue.
    """
    # KFP hands whole numbers over as floats.
    number, n_trials, seed = (int(shard[key]) for key in ("shard", "n_trials", "seed"))
    sample = draw_sample(baskets_path, settings)
    study = _create_study(seed)
    if number == 0:
        study.enqueue_trial(settings.start)
    results = []
    with start_tracking(tracking_uri, f"sweep shard {number}", settings.model_dump()) as track:
        for i in range(n_trials):
            name = f"sweep {number}: trial {i + 1} of {n_trials}"
            result = {"trial": i, "shard": number} | run_trial(study, sample, seed, name)
            log_progress(f"{name}: {_format_result(result)}")
            track(f"shard {number} trial {i}", result)
            results.append(result)
    _check_any_complete(results)
    return results


def run_trial(study: Any, sample: Sample, seed: int, name: str) -> dict[str, Any]:
    from optuna import TrialPruned
    from optuna.trial import TrialState

    trial = study.ask()
    config: dict[str, Any] = {}
    result: dict[str, Any] = {"state": "failed", "config": config, "cpu_s": 0.0, "error": ""}
    result |= dict.fromkeys(
        ("objective_item", "ndcg_item", "ndcg_cart", "beta_single", "beta_cart")
    )
    start = time.process_time()
    try:
        config |= suggest(trial)
        vectors = _train_with_pruning(trial, TrainSettings(**config, seed=seed), sample, name)
        result |= tune_betas(vectors, sample.validation) | {"state": "complete"}
        study.tell(trial, result["objective_item"])
    except TrialPruned as pruned:
        result |= {"state": "pruned", "error": str(pruned)}
        study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:
        # The other trials go on; the result names the error.
        result |= {"error": f"{type(error).__name__}: {error}"}
        study.tell(trial, state=TrialState.FAIL)
    return result | {"cpu_s": round(time.process_time() - start, 2)}


def suggest(trial: Any) -> dict[str, Any]:
    """The search space; trains in at most about twice the time of INITIAL_CONFIG.

    Epochs, negatives and dimensions are never fewer than there: a sample prefers too few.
    """
    return {
        "vector_size": trial.suggest_categorical("vector_size", [64, 96]),
        "epochs": trial.suggest_int("epochs", 24, 28, step=2),
        "window": trial.suggest_categorical("window", [2, 3]),
        "negative": trial.suggest_int("negative", 3, 4),
        "ns_exponent": trial.suggest_categorical("ns_exponent", [-0.5, 0.0, 0.5, 0.75, 0.9, 1.0]),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.08, log=True),
        "sample": trial.suggest_categorical("sample", [0.0, 1e-3]),
        "size_exponent": trial.suggest_categorical("size_exponent", [1.0, 1.25, 1.5]),
    }


def pick(results: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """{"config", "beta_single", "beta_cart", "trials": [all results]}.

    The cheapest trial within 1 % of the best objective. Raises SweepError when no trial
    was completed.
    """
    trials = [trial for shard in results for trial in shard]
    complete = [trial for trial in trials if _is_complete(trial)]
    _check_any_complete(trials)
    best = max(trial["objective_item"] for trial in complete)
    least = best - (1 - MIN_SHARE_OF_BEST) * abs(best)
    near = [trial for trial in complete if trial["objective_item"] >= least]
    picked = min(near, key=lambda trial: (trial["cpu_s"], -trial["objective_item"]))
    chosen = {key: picked[key] for key in ("config", "beta_single", "beta_cart")}
    return {**chosen, "trials": trials}


def draw_sample(baskets_path: str | Path, settings: SweepSettings) -> Sample:
    """A random share of the training baskets with its own catalogue, and queries.

    Its products need as many orders as those of the whole: settings transfer.
    """
    baskets = read_baskets(baskets_path)
    rng = np.random.default_rng(settings.seed)
    train_rows = np.flatnonzero(pc.equal(baskets["split"], "train").to_numpy())
    n = max(round(settings.sample_share * len(train_rows)), settings.min_baskets)
    sampled = np.sort(rng.permutation(train_rows)[:n])
    baskets = pa.concat_tables([baskets.take(sampled), select_splits(baskets, "validation")])
    product_ids, n_orders = build_catalogue(baskets, settings.min_product_orders)
    corpus, validation = (encode(baskets, product_ids, split) for split in ("train", "validation"))
    judged = draw_validation(
        product_ids, n_orders, len(corpus), validation, settings.n_queries, settings.seed,
        settings.popularity_discount,
    )  # fmt: skip
    return Sample(corpus, judged)


def _train_with_pruning(trial: Any, settings: TrainSettings, sample: Sample, name: str) -> Vectors:
    """Prunes half-way below the median of earlier trials."""
    from optuna import TrialPruned

    def compare(n_done: int, vectors: Vectors) -> None:
        if n_done != math.ceil(settings.epochs / 2):
            return
        measured = [measure(vectors, sample.validation, "item", beta) for beta in BETAS_AT_HALF]
        best = max(one.objective for one in measured)
        trial.report(best, step=1)
        if trial.should_prune():
            raise TrialPruned(f"objective {best:.4f} at half of its epochs is below the median")

    return train(sample.train, len(sample.validation.n_orders), settings, compare, name)


def _create_study(seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)


def _check_any_complete(results: Sequence[dict[str, Any]]) -> None:
    if any(_is_complete(result) for result in results):
        return
    errors = [result["error"] for result in results if result["state"] == "failed"]
    raise SweepError(
        f"sweep: none of {len(results)} trials was completed, {len(errors)} failed; the first "
        f"error was: {errors[0] if errors else 'none'}; see the trials' output above"
    )


def _is_complete(result: dict[str, Any]) -> bool:
    return result["state"] == "complete" and math.isfinite(result["objective_item"])


def _format_result(result: dict[str, Any]) -> str:
    cost = f"{result['cpu_s']:.0f} CPU s"
    if result["state"] != "complete":
        return f"{result['state']} after {cost}: {result['error']}"
    return (
        f"NDCG@10 {result['ndcg_item']:.4f} (beta {result['beta_single']}), carts "
        f"{result['ndcg_cart']:.4f} (beta {result['beta_cart']}), {cost}"
    )
