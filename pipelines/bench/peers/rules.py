"""Association rules of Spark's FP-growth."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.evaluation.baselines import Ranker
from components.model.arrays import Float32Array, Int32Array, Int64Array
from pipelines.bench.peers.peer import Model, Peer, Setting, TrainingData, for_both_tasks
from pipelines.bench.peers.rankers import ScoreRanker
from pipelines.bench.processes import python_command, run_with_cpu_limit

MAX_TRAIN_CPU_S = 60.0
"""Slightly less support can mean many times the item sets."""

LIMIT_CPU_S = 180.0
"""Per setting; Spark's start takes about ten."""

DEEP_STACKS = {"JAVA_TOOL_OPTIONS": "-Xss64m"}
"""FP-growth's trees are as deep as the largest basket and serialised recursively."""


def rules() -> Peer:
    """The antecedent is in the cart; bestsellers fill up."""
    settings = [
        {"min_support": one} for one in (0.05, 0.02, 0.01, 0.007, 0.005, 0.0035, 0.002, 0.001)
    ]
    modes = [
        {"order": order, "min_confidence": least}
        for order in ("confidence", "lift")
        for least in (0.0, 0.1, 0.2)
    ]
    return Peer(
        "association rules",
        _fit,
        for_both_tasks(settings),
        for_both_tasks(modes),
        max_train_cpu_s=MAX_TRAIN_CPU_S,
    )


@dataclass(frozen=True)
class _Rules:
    antecedents: Any
    """Sparse ones (n_rules, n_items)."""
    consequents: Int64Array
    confidence: Float32Array
    lift: Float32Array

    @property
    def n_bytes(self) -> int:
        return int(4 * self.antecedents.nnz + 20 * len(self.consequents))

    def ranker(self, mode: Setting) -> Ranker:
        valid = self.confidence >= mode["min_confidence"]
        values = np.where(valid, getattr(self, mode["order"]), 0)
        by_item = self.antecedents.T.tocsr()
        return ScoreRanker(lambda queries: self._score(queries, values, by_item))

    def _score(
        self, queries: Sequence[Int32Array], values: Float32Array, by_item: Any
    ) -> Float32Array:
        scores = np.zeros((len(queries), by_item.shape[0]), np.float32)
        sizes = np.diff(self.antecedents.indptr)
        for row, query in zip(scores, queries, strict=True):
            rules, n_inside = np.unique(by_item[query].indices, return_counts=True)
            rules = rules[n_inside == sizes[rules]]
            np.maximum.at(row, self.consequents[rules], values[rules])
        return scores


def _fit(data: TrainingData, setting: Setting) -> Model:
    """In a process, which can be killed, unlike Spark's tasks."""
    corpus = data.train.with_at_least(2)
    with tempfile.TemporaryDirectory() as folder:
        lists = pa.ListArray.from_arrays(corpus.offsets.astype(np.int32), corpus.items)
        pq.write_table(pa.table({"items": lists}), Path(folder) / "baskets.parquet")
        call = f"import {__name__} as rules; rules.mine_rules({folder!r}, {dict(setting)!r})"
        run_with_cpu_limit(python_command(call), LIMIT_CPU_S, DEEP_STACKS)
        found = pq.read_table(f"{folder}/rules")
    return _to_rules(found, data.n_items)


def mine_rules(folder: str, setting: Setting) -> None:
    from pyspark.ml.fpm import FPGrowth

    from components.spark import spark_session

    with spark_session("rules") as spark:
        growth = FPGrowth(itemsCol="items", minSupport=setting["min_support"], minConfidence=0.01)
        model = growth.fit(spark.read.parquet(f"{folder}/baskets.parquet"))
        found = model.associationRules.selectExpr(
            "antecedent", "consequent[0] as consequent", "confidence", "lift"
        )
        found.write.parquet(f"{folder}/rules")


def _to_rules(found: pa.Table, n_items: int) -> _Rules:
    from scipy.sparse import csr_array

    antecedents = found["antecedent"].combine_chunks()
    items = pc.list_flatten(antecedents).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(antecedents).to_numpy())])
    ones = np.ones(len(items), np.float32)
    return _Rules(
        csr_array((ones, items, offsets), shape=(len(antecedents), n_items)),
        found["consequent"].to_numpy().astype(np.int64),
        found["confidence"].to_numpy().astype(np.float32),
        found["lift"].to_numpy().astype(np.float32),
    )
