"""The sweep: its plan, its trials (good, failing, pruned), its record, its choice."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kfp import compiler, dsl

from components.baskets.corpus import build_catalogue, read_baskets
from components.contracts import BASKETS, write_table
from components.embeddings import component
from components.embeddings.item2vec import TrainSettings
from components.embeddings.sweep import (
    INITIAL_CONFIG,
    SweepError,
    SweepSettings,
    draw_sample,
    pick,
    plan_shards,
    run_shard,
)

SMALL = {"vector_size": 64, "epochs": 24, "window": 2, "negative": 3, "sample": 0.0}


@pytest.fixture(scope="module")
def baskets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baskets of twenty pairs of products, nothing else; a fifth of them for validation."""
    items = [[f"left {i % 20}", f"right {i % 20}"] for i in range(500)]
    return write_baskets(tmp_path_factory.mktemp("baskets") / "baskets.parquet", items)


def write_baskets(path: Path, items: list[list[str]], weight: float = 1) -> Path:
    columns = {
        "order_id": [str(i) for i in range(len(items))],
        "user_id": pa.nulls(len(items), pa.string()),
        "ts": pa.nulls(len(items), pa.timestamp("us", tz="UTC")),
        "items": pa.array(items, pa.list_(pa.string())),
        "positions": pa.nulls(len(items), pa.list_(pa.int32())),
        "weight": np.full(len(items), weight, np.float32),
        "split": ["train" if i < 0.8 * len(items) else "validation" for i in range(len(items))],
    }
    write_table(pa.table(columns), BASKETS, path)
    return path


def shard(n_trials: int, number: int = 0) -> dict[str, Any]:
    return {"shard": number, "n_trials": n_trials, "seed": 1}


# The plan


def test_trials_are_spread_evenly() -> None:
    assert plan_shards(8, 3, seed=5) == [
        {"shard": 0, "n_trials": 3, "seed": 5},
        {"shard": 1, "n_trials": 3, "seed": 6},
        {"shard": 2, "n_trials": 2, "seed": 7},
    ]


@pytest.mark.parametrize(("trials", "shards"), [(1, 1), (1, 8), (0, 0), (2, 0)])
def test_there_is_always_a_shard_and_never_an_empty_one(trials: int, shards: int) -> None:
    # KFP fails on a loop over nothing.
    planned = plan_shards(trials, shards, seed=0)
    assert planned
    assert all(one["n_trials"] >= 1 for one in planned)


# Trials


def test_a_trial_finds_the_pairs(baskets: Path) -> None:
    settings = SweepSettings(start={**SMALL, "learning_rate": 0.08})
    results = run_shard(shard(1), baskets, settings)
    assert len(results) == 1
    (result,) = results
    assert result["state"] == "complete"
    assert result["ndcg_item"] == pytest.approx(1, abs=0.05)
    assert result["cpu_s"] > 0
    assert {"trial", "shard", "ndcg_cart", "beta_single", "beta_cart", "error"} <= set(result)
    TrainSettings(**result["config"])


def test_the_first_trial_is_the_known_good_one_and_shards_differ(baskets: Path) -> None:
    first = run_shard(shard(1), baskets, SweepSettings(n_queries=20))[0]["config"]
    other = run_shard(shard(1, number=1), baskets, SweepSettings(n_queries=20))[0]["config"]
    assert first == INITIAL_CONFIG
    assert other != INITIAL_CONFIG


def test_a_shard_is_reproducible(baskets: Path) -> None:
    settings = SweepSettings(start=SMALL, n_queries=20)
    one, same = (run_shard(shard(2, number=1), baskets, settings) for _ in range(2))
    for left, right in zip(one, same, strict=True):
        assert {**left, "cpu_s": 0} == {**right, "cpu_s": 0}


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_failing_trial_is_recorded_and_the_shard_goes_on(
    baskets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SweepSettings(start={**SMALL, "learning_rate": 7}, n_queries=20)
    results = run_shard(shard(2), baskets, settings)
    assert [result["state"] for result in results] == ["failed", "complete"]
    assert "learning_rate" in results[0]["error"]
    assert results[0]["ndcg_item"] is None
    assert "trial 1 of 2: failed" in capsys.readouterr().out


def test_when_all_trials_fail_the_error_says_why(tmp_path: Path) -> None:
    # Baskets without weight: there is nothing to learn from.
    weightless = write_baskets(tmp_path / "baskets.parquet", [["a", "b"]] * 50, weight=0)
    with pytest.raises(SweepError, match=r"none of 2 trials.*weight above 0"):
        run_shard(shard(2), weightless, SweepSettings())


def test_a_trial_below_the_median_is_pruned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [
        [f"left {i % 20}", f"right {i % 20}", *rng.choice(list("abcdef"), 2)] for i in range(500)
    ]
    noisy = write_baskets(tmp_path / "baskets.parquet", [sorted(set(basket)) for basket in items])
    results = run_shard(shard(8), noisy, SweepSettings(start={**SMALL, "learning_rate": 0.08}))
    pruned = [result for result in results if result["state"] == "pruned"]
    assert pruned
    assert all(result["ndcg_item"] is None for result in pruned)
    assert "below the median" in pruned[0]["error"]


def test_one_product_only_has_nothing_to_learn(tmp_path: Path) -> None:
    one = write_baskets(tmp_path / "baskets.parquet", [["a"]] * 50)
    with pytest.raises(SweepError, match="holds two products"):
        run_shard(shard(1), one, SweepSettings())


def test_one_order_only_has_no_catalogue(tmp_path: Path) -> None:
    one = write_baskets(tmp_path / "baskets.parquet", [["a", "b"]])
    with pytest.raises(ValueError, match="min_product_orders=5"):
        run_shard(shard(1), one, SweepSettings())


def test_a_catalogue_of_three_can_be_swept(tmp_path: Path) -> None:
    three = write_baskets(tmp_path / "baskets.parquet", [["a", "b", "c"]] * 50)
    (result,) = run_shard(shard(1), three, SweepSettings(start=SMALL))
    assert result["ndcg_item"] == pytest.approx(1)


# The sample


def test_the_sample_has_its_share_of_baskets_and_its_own_catalogue(baskets: Path) -> None:
    settings = SweepSettings(sample_share=0.5, min_baskets=1)
    sample = draw_sample(baskets, settings)
    assert len(sample.train) == 200
    assert sample.validation.n_orders.sum() == 400
    assert (sample.train.items == draw_sample(baskets, settings).train.items).all()


def test_few_baskets_are_all_taken(baskets: Path) -> None:
    sample = draw_sample(baskets, SweepSettings(sample_share=0.1))
    ids, _ = build_catalogue(read_baskets(baskets), 5)
    assert len(sample.train) == 400
    assert sample.validation.product_ids.equals(ids)


# The record


def test_without_an_answering_mlflow_the_sweep_warns_once_and_goes_on(
    baskets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SweepSettings(start=SMALL, n_queries=20)
    results = run_shard(shard(2), baskets, settings, "http://127.0.0.1:9")
    assert len(results) == 2
    assert capsys.readouterr().out.count("going on without it") == 1


def test_every_trial_is_a_run_below_one_parent(baskets: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = SweepSettings(start={**SMALL, "window": 0}, n_queries=20)
    results = run_shard(shard(2), baskets, settings, uri)
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("fbt").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert len(runs) == 3
    names = ("sweep shard 0", "shard 0 trial 0", "shard 0 trial 1")
    parent, failed, complete = (by_name[name] for name in names)
    assert failed.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (failed.info.status, complete.info.status) == ("FAILED", "FINISHED")
    assert complete.data.metrics["ndcg_item"] == results[1]["ndcg_item"]
    assert complete.data.params["window"] == str(results[1]["config"]["window"])


# The choice


def trial(ndcg: float | None, cpu_s: float, state: str = "complete") -> dict[str, Any]:
    return {
        "trial": 0, "shard": 0, "state": state,
        "objective_item": ndcg, "ndcg_item": ndcg, "ndcg_cart": ndcg,
        "cpu_s": cpu_s, "config": {"vector_size": cpu_s}, "beta_single": 0.75, "beta_cart": 0.25,
        "error": "boom",
    }  # fmt: skip


def test_the_cheapest_within_one_percent_is_picked() -> None:
    results = [[trial(0.1, 9), trial(0.0995, 5)], [trial(0.0991, 3), trial(0.0989, 1)]]
    picked = pick(results)
    assert picked["config"] == {"vector_size": 3}
    assert (picked["beta_single"], picked["beta_cart"]) == (0.75, 0.25)
    assert picked["trials"] == [one for shard in results for one in shard]


def test_only_finished_trials_with_a_number_are_picked() -> None:
    others = [trial(None, 1, "failed"), trial(None, 1, "pruned"), trial(math.nan, 1)]
    assert pick([others, [trial(0.05, 9)]])["config"] == {"vector_size": 9}


def test_nothing_to_pick_is_an_error() -> None:
    with pytest.raises(SweepError, match=r"none of 1 trials was completed.*boom"):
        pick([[trial(None, 1, "failed")], []])


# The steps


def test_the_steps_compile_as_the_pipeline_draws_them(tmp_path: Path) -> None:
    @dsl.pipeline(name="sweep")
    def sweep(trials: int = 2, shards: int = 2, seed: int = 1) -> None:
        planned = component.plan_sweep(trials=trials, shards=shards, seed=seed)
        baskets = dsl.importer(artifact_uri="/baskets", artifact_class=dsl.Dataset)
        with dsl.ParallelFor(planned.output) as shard:
            tried = component.sweep(
                shard=shard,
                baskets=baskets.output,
                min_product_orders=5,
                sample_share=0.1,
                popularity_discount=0.75,
            )
        best = component.pick(results=dsl.Collected(tried.output))
        component.train(
            baskets=baskets.output,
            best=best.output,
            weighting={},
            min_product_orders=5,
            popularity_discount=0.75,
            seed=seed,
        )

    compiler.Compiler().compile(sweep, str(tmp_path / "sweep.yaml"))
